// norm_io: parameters of the norms
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  none
// baseline  3 storage buffers

struct NormParams {
    rows: u32,
    cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: NormParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read> weight: array<f32>;  // (cols)
