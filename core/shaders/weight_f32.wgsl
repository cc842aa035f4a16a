// weight_f32: four columns of an f32 weight
//
// grid      set by the kernel
// numerics  exact
// baseline  1 storage buffer

@group(0) @binding(4) var<storage, read> values: array<vec4<f32>>; // (out_count, in4)

fn weight4(row: u32, k4: u32) -> vec4<f32> {
    return values[row * params.in4 + k4];
}
