// rms_norm: y[r, c] = x[r, c] * weight[c] / sqrt(mean_c(x[r, c]^2) + eps)
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  sums in f32, in the order of the linked reduction
// baseline  WebGPU default limits: 3 storage buffers, no f16; subgroups only in that variant

@compute @workgroup_size(LANES)
fn main(at: At) {
    let row = flat(at.workgroup);
    if (row >= params.rows) {
        return;
    }
    let first = row * params.cols;
    var squares = 0.0;
    for (var c = at.lane; c < params.cols; c += LANES) {
        squares += x[first + c] * x[first + c];
    }
    let sum = reduce_sum(at, vec4<f32>(squares, 0.0, 0.0, 0.0)).x;
    let factor = 1.0 / sqrt(sum / f32(params.cols) + params.eps);
    for (var c = at.lane; c < params.cols; c += LANES) {
        y[first + c] = x[first + c] * factor * weight[c];
    }
}
