// weight_q4: four signed bytes from the nibbles of a q4 weight
//
// grid      set by the kernel
// numerics  exact
// baseline  1 storage buffer

// A block of 32 columns is 4 words: element i in the low nibble of byte i, element i + 16 in the
// high nibble.
@group(0) @binding(4) var<storage, read> values: array<u32>; // (out_count, in4 / 2)

// Columns 4 k4 .. 4 k4 + 3 as signed bytes, the first in the low byte.
fn weight_word(row: u32, k4: u32) -> u32 {
    let word = values[(row * params.in4 + (k4 & ~7u)) / 2u + (k4 & 3u)];
    let nibbles = (word >> (k4 & 4u)) & 0x0f0f0f0fu;
    // Bytes n -> n - 8 in two's complement: the set top bit keeps borrows inside each byte.
    return ((nibbles | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}
