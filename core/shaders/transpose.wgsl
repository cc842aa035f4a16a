// transpose: y[g, c, i] = x[g, i, c], for groups g of n rows
//
// grid      one lane per value of y; past 65535 workgroups in workgroup_id.y
// numerics  exact
// baseline  WebGPU default limits: 2 storage buffers

struct TransposeParams {
    len: u32,  // groups * cols * n
    cols: u32, // columns of x
    n: u32,    // rows of a group of x, columns of y
}

@group(0) @binding(0) var<uniform> params: TransposeParams;
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // (groups * cols, n), bits of f32
@group(0) @binding(2) var<storage, read> x: array<u32>;       // (groups * n, cols), bits of f32

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = flat(workgroup) * LANES + lane;
    if (at >= params.len) {
        return;
    }
    let row = at / params.n;
    let group = row / params.cols;
    y[at] = x[(group * params.n + at % params.n) * params.cols + row % params.cols];
}
