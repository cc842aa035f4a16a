// gather_rows: y[i] = source[list[i] - first], for the rows that source holds
//
// grid      one lane per word of y; past 65535 workgroups in workgroup_id.y
// numerics  exact: words are copied, whatever they mean
// baseline  WebGPU default limits: 3 storage buffers
//
// A weight is split into chunks of rows, one dispatch each: rows of other chunks are left alone.

struct GatherParams {
    rows: u32,  // rows of y
    words: u32, // words of a row
    first: u32, // first row that source holds
    count: u32, // rows that source holds
}

@group(0) @binding(0) var<uniform> params: GatherParams;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;   // (rows, words)
@group(0) @binding(2) var<storage, read> source: array<u32>;    // (count, words)
@group(0) @binding(3) var<storage, read> list: array<u32>;      // (rows)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let row = i / params.words;
    if (row >= params.rows) {
        return;
    }
    // Wraps far past count for rows before the chunk.
    let held = list[row] - params.first;
    if (held < params.count) {
        y[i] = source[held * params.words + i % params.words];
    }
}
