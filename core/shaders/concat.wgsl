// concat: y[r, first + c] = part[r, c], for one part of the columns
//
// grid      one lane per value of part; past 65535 workgroups in workgroup_id.y
// numerics  exact
// baseline  WebGPU default limits: 2 storage buffers

struct ConcatParams {
    rows: u32,
    cols: u32,      // columns of y
    part_cols: u32, // columns of part
    first: u32,     // the column of y that part starts at
}

@group(0) @binding(0) var<uniform> params: ConcatParams;
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // (rows, cols), bits of f32
@group(0) @binding(2) var<storage, read> part: array<u32>;    // (rows, part_cols), bits of f32

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let row = i / params.part_cols;
    if (row < params.rows) {
        y[row * params.cols + params.first + i % params.part_cols] = part[i];
    }
}
