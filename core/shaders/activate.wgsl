// activate: y = f(x)
//
// grid      one lane per value; past 65535 workgroups in workgroup_id.y
// numerics  see activation.wgsl
// baseline  WebGPU default limits: 2 storage buffers

@group(0) @binding(2) var<storage, read> x: array<f32>; // (rows, cols)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = flat(workgroup) * LANES + lane;
    if (i < params.len) {
        y[i] = activation(x[i]);
    }
}
