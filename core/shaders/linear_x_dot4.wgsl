// linear_x_dot4: int8 activations, as quantize_rows.wgsl writes them
//
// grid      set by the kernel
// numerics  exact; rows past the end read as zero
// baseline  2 storage buffers

@group(0) @binding(3) var<storage, read> x: array<u32>;        // (rows, in4), four bytes each
@group(0) @binding(6) var<storage, read> x_scales: array<f32>; // (rows, in4 / 8)

fn x_word(row: u32, k4: u32) -> u32 {
    if (row >= params.rows || k4 >= params.in4) {
        return 0u;
    }
    return x[row * params.in4 + k4];
}

fn x_scale(row: u32, k4: u32) -> f32 {
    if (row >= params.rows) {
        return 0.0;
    }
    return x_scales[row * (params.in4 / 8u) + k4 / 8u];
}
