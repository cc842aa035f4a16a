// linear_x: reads four columns of an activation
//
// grid      set by the kernel
// numerics  exact; columns and rows past the end read as zero
// baseline  1 storage buffer

@group(0) @binding(3) var<storage, read> x: array<f32>; // (rows, in_size)

fn x4(row: u32, column: u32) -> vec4<f32> {
    if (row >= params.rows || column >= params.in_size) {
        return vec4<f32>();
    }
    let i = row * params.in_size + column;
    let left = params.in_size - column;
    if (left >= 4u) {
        return vec4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]);
    }
    var tail = vec4<f32>(x[i], 0.0, 0.0, 0.0);
    if (left > 1u) {
        tail.y = x[i + 1u];
    }
    if (left > 2u) {
        tail.z = x[i + 2u];
    }
    return tail;
}
