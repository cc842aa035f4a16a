// cross_entropy: y[r] = log(sum_c(exp(x[r, c] - max_c x))) + max_c x - x[r, target[r]]
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  sums in f32, in the order of the linked reduction
// baseline  WebGPU default limits: 3 storage buffers, no f16; subgroups only in that variant

struct CrossEntropyParams {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: CrossEntropyParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;     // (rows)
@group(0) @binding(2) var<storage, read> x: array<f32>;           // (rows, cols)
@group(0) @binding(3) var<storage, read> expected: array<u32>;    // (rows), below cols

@compute @workgroup_size(LANES)
fn main(at: At) {
    let row = flat(at.workgroup);
    if (row >= params.rows) {
        return;
    }
    let first = row * params.cols;
    var largest = x[first];
    for (var c = at.lane; c < params.cols; c += LANES) {
        largest = max(largest, x[first + c]);
    }
    largest = reduce_max(at, largest);
    var exponentials = 0.0;
    for (var c = at.lane; c < params.cols; c += LANES) {
        exponentials += exp(x[first + c] - largest);
    }
    let sum = reduce_sum(at, vec4<f32>(exponentials, 0.0, 0.0, 0.0)).x;
    if (at.lane == 0u) {
        y[row] = log(sum) + (largest - x[first + expected[row]]);
    }
}
