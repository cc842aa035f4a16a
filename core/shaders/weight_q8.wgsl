// weight_q8: four signed bytes of a q8 weight
//
// grid      set by the kernel
// numerics  exact
// baseline  1 storage buffer

@group(0) @binding(4) var<storage, read> values: array<u32>; // (out_count, in4)

// Columns 4 k4 .. 4 k4 + 3 as signed bytes, the first in the low byte.
fn weight_word(row: u32, k4: u32) -> u32 {
    return values[row * params.in4 + k4];
}
