// weight_f16_native: four columns of an f16 weight, read as f16
//
// grid      set by the kernel
// numerics  exact: every f16 is an f32
// baseline  needs `f16`; 1 storage buffer

@group(0) @binding(4) var<storage, read> values: array<vec4<f16>>; // (out_count, in4)

fn weight4(row: u32, k4: u32) -> vec4<f32> {
    return vec4<f32>(values[row * params.in4 + k4]);
}
