// rope: of each head's halves a, b: y = (a cos - b sin, b cos + a sin)
//
// grid      one lane per pair (a, b); past 65535 workgroups in workgroup_id.y
// numerics  f32; cosines and sines come from the host, since WGSL's are only good near zero
// baseline  WebGPU default limits: 3 storage buffers

struct RopeParams {
    pairs: u32, // rows * cols / 2
    cols: u32,
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> params: RopeParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read> angles: array<f32>;  // (rows, head_dim): cosines, sines

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = flat(workgroup) * LANES + lane;
    if (pair >= params.pairs) {
        return;
    }
    let half = params.head_dim / 2u;
    let row = pair / (params.cols / 2u);
    let i = pair % half;
    let first = pair / half * params.head_dim + i;
    let cosine = angles[row * params.head_dim + i];
    let sine = angles[row * params.head_dim + half + i];
    let a = x[first];
    let b = x[first + half];
    y[first] = a * cosine - b * sine;
    y[first + half] = b * cosine + a * sine;
}
