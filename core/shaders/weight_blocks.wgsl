// weight_blocks: a quantised weight as floats, from weight_word of weight_q8 or weight_q4
//
// grid      set by the kernel
// numerics  value = integer * scale, one rounding in f32
// baseline  1 storage buffer

@group(0) @binding(5) var<storage, read> scales: array<u32>; // (out_count, scale_words), f16 pairs

// The scale of the block of 32 columns that holds columns 4 k4 .. 4 k4 + 3.
fn weight_scale(row: u32, k4: u32) -> f32 {
    let block = k4 / 8u;
    let pair = unpack2x16float(scales[row * params.scale_words + block / 2u]);
    return select(pair.x, pair.y, (block & 1u) == 1u);
}

fn weight4(row: u32, k4: u32) -> vec4<f32> {
    let word = bitcast<i32>(weight_word(row, k4));
    // Each byte to the top, then back with its sign.
    let integers = vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u);
    return vec4<f32>(integers) * weight_scale(row, k4);
}
