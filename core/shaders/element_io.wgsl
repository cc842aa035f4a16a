// element_io: parameters of every kernel that treats values one by one
//
// grid      one lane per value; past 65535 workgroups in workgroup_id.y
// numerics  none
// baseline  1 storage buffer

struct ElementParams {
    len: u32, // rows * cols
}

@group(0) @binding(0) var<uniform> params: ElementParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)
