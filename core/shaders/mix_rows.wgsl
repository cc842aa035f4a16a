// mix_rows: y[r, c] = sum_e(weights[e] * x[columns[e], c]), e from starts[r] to starts[r + 1]
//
// grid      one lane per value of y; past 65535 workgroups in workgroup_id.y
// numerics  one f32 sum in the order of the entries
// baseline  WebGPU default limits: 5 storage buffers

struct MixParams {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: MixParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (rows, cols)
@group(0) @binding(2) var<storage, read> x: array<f32>;        // (from, cols)
@group(0) @binding(3) var<storage, read> starts: array<u32>;   // (rows + 1)
@group(0) @binding(4) var<storage, read> columns: array<u32>;  // (entries), below from
@group(0) @binding(5) var<storage, read> weights: array<f32>;  // (entries)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let row = i / params.cols;
    if (row >= params.rows) {
        return;
    }
    var sum = 0.0;
    for (var e = starts[row]; e < starts[row + 1u]; e++) {
        sum += weights[e] * x[columns[e] * params.cols + i % params.cols];
    }
    y[i] = sum;
}
