// layer_norm: y[r, c] = (x[r, c] - mean_c(x)) / sqrt(var_c(x) + eps) * weight[c] + bias[c]
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  sums in f32, in the order of the linked reduction; the variance is the mean square of
//           differences from the mean, never mean(x^2) - mean(x)^2, which cancels
// baseline  WebGPU default limits: 4 storage buffers, no f16; subgroups only in that variant

@group(0) @binding(4) var<storage, read> bias: array<f32>; // (cols)

@compute @workgroup_size(LANES)
fn main(at: At) {
    let row = flat(at.workgroup);
    if (row >= params.rows) {
        return;
    }
    let first = row * params.cols;
    var values = 0.0;
    for (var c = at.lane; c < params.cols; c += LANES) {
        values += x[first + c];
    }
    let mean = reduce_sum(at, vec4<f32>(values, 0.0, 0.0, 0.0)).x / f32(params.cols);
    var squares = 0.0;
    for (var c = at.lane; c < params.cols; c += LANES) {
        let difference = x[first + c] - mean;
        squares += difference * difference;
    }
    let sum = reduce_sum(at, vec4<f32>(squares, 0.0, 0.0, 0.0)).x;
    let factor = 1.0 / sqrt(sum / f32(params.cols) + params.eps);
    for (var c = at.lane; c < params.cols; c += LANES) {
        y[first + c] = (x[first + c] - mean) * factor * weight[c] + bias[c];
    }
}
