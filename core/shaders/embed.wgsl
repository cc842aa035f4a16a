// embed: y[i] = table[ids[i]], for the rows that this chunk of the table holds
//
// grid      one lane per four columns of y; past 65535 workgroups in workgroup_id.y
// numerics  the value of the stored format, exact but for one rounding of quantised ones
// baseline  WebGPU default limits: 3 or 4 storage buffers

struct EmbedParams {
    ids: u32, // rows of y
    cols: u32,
    in4: u32,         // groups of four columns in a stored row
    scale_words: u32, // words of scales in a stored row
    first: u32,       // first row of the chunk
    count: u32,       // its rows
}

@group(0) @binding(0) var<uniform> params: EmbedParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (ids, cols)
@group(0) @binding(2) var<storage, read> ids: array<u32>;     // (ids)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let id = i / params.in4;
    if (id >= params.ids) {
        return;
    }
    // Wraps far past count for rows before the chunk.
    let held = ids[id] - params.first;
    if (held >= params.count) {
        return;
    }
    let k4 = i % params.in4;
    let value = weight4(held, k4);
    for (var c = 0u; c < 4u; c++) {
        if (k4 * 4u + c < params.cols) {
            y[id * params.cols + k4 * 4u + c] = value[c];
        }
    }
}
