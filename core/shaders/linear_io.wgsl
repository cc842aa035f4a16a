// linear_io: parameters, bias and result of every matrix product
//
// grid      set by the kernel
// numerics  y = product * scale + bias, or added to what y holds (the second product of LoRA)
// baseline  2 of the storage buffers

struct LinearParams {
    rows: u32,
    in_size: u32,
    in4: u32,         // groups of four columns in a stored row of the weight
    scale_words: u32, // words of scales in a stored row of the weight
    out_count: u32,   // rows of this chunk of the weight
    out_first: u32,   // its first row
    out_size: u32,    // columns of y
    has_bias: u32,
    accumulate: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: LinearParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, out_size)
@group(0) @binding(2) var<storage, read> bias: array<f32>;    // (out_size), unless has_bias is 0

fn store(row: u32, out: u32, product: f32) {
    if (row >= params.rows || out >= params.out_count) {
        return;
    }
    let column = params.out_first + out;
    let i = row * params.out_size + column;
    var value = product * params.scale;
    if (params.has_bias != 0u) {
        value += bias[column];
    }
    if (params.accumulate != 0u) {
        value += y[i];
    }
    y[i] = value;
}
