// similarity: y[r, o] = sum_c(a[r, c] * b[o, c])
//
// grid      one lane per value of y; past 65535 workgroups in workgroup_id.y
// numerics  four f32 sums, every fourth column in each
// baseline  WebGPU default limits: 3 storage buffers

struct SimilarityParams {
    rows: u32,
    out: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: SimilarityParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, out)
@group(0) @binding(2) var<storage, read> a: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read> b: array<f32>;       // (out, cols)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    let row = i / params.out;
    if (row >= params.rows) {
        return;
    }
    let own = row * params.cols;
    let other = i % params.out * params.cols;
    let whole = params.cols - params.cols % 4u;
    var sums = vec4<f32>();
    for (var c = 0u; c < whole; c += 4u) {
        sums += vec4<f32>(a[own + c], a[own + c + 1u], a[own + c + 2u], a[own + c + 3u])
            * vec4<f32>(b[other + c], b[other + c + 1u], b[other + c + 2u], b[other + c + 3u]);
    }
    for (var c = whole; c < params.cols; c++) {
        sums.x += a[own + c] * b[other + c];
    }
    y[i] = (sums.x + sums.y) + (sums.z + sums.w);
}
