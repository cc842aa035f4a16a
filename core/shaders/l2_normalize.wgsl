// l2_normalize: y[r, c] = x[r, c] / max(sqrt(sum_c(x[r, c]^2)), eps)
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  sums in f32, in the order of the linked reduction
// baseline  WebGPU default limits: 2 storage buffers, no f16; subgroups only in that variant

struct L2Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: L2Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (rows, cols)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, at: At) {
    let row = flat(workgroup);
    if (row >= params.rows) {
        return;
    }
    let first = row * params.cols;
    var squares = 0.0;
    for (var c = at.lane; c < params.cols; c += LANES) {
        squares += x[first + c] * x[first + c];
    }
    let sum = reduce_sum(at, vec4<f32>(squares, 0.0, 0.0, 0.0)).x;
    let factor = 1.0 / max(sqrt(sum), params.eps);
    for (var c = at.lane; c < params.cols; c += LANES) {
        y[first + c] = x[first + c] * factor;
    }
}
