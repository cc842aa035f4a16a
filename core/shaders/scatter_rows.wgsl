// scatter_rows: y[list[i]] = source[i]
//
// grid      one lane per value of source; past 65535 workgroups in workgroup_id.y
// numerics  exact; the rows of list are distinct, so no two lanes write one value
// baseline  WebGPU default limits: 3 storage buffers

struct ScatterParams {
    rows: u32, // rows of source
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: ScatterParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (more rows, cols)
@group(0) @binding(2) var<storage, read> source: array<f32>;  // (rows, cols)
@group(0) @binding(3) var<storage, read> list: array<u32>;    // (rows)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let row = i / params.cols;
    if (row < params.rows) {
        y[list[row] * params.cols + i % params.cols] = source[i];
    }
}
