// weight_f16: four columns of an f16 weight, read as words
//
// grid      set by the kernel
// numerics  exact: every f16 is an f32
// baseline  1 storage buffer, no f16 feature

@group(0) @binding(4) var<storage, read> values: array<vec2<u32>>; // (out_count, in4)

fn weight4(row: u32, k4: u32) -> vec4<f32> {
    let words = values[row * params.in4 + k4];
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
