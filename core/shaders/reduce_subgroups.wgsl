// reduce_subgroups: sum and maximum over the lanes of a workgroup, by subgroups
//
// grid      set by the kernel; every lane must call
// numerics  subgroup order, then the subgroups in ascending order; fixed for one adapter
// baseline  needs `subgroups`; LANES / 4 * 16 bytes of workgroup memory, no binding
//
// Lanes of a one-dimensional workgroup fill subgroups in order on every driver, though the
// specification leaves it open: a subgroup's number is its first lane / its size.

struct At {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

// The smallest subgroup has 4 lanes.
var<workgroup> partial: array<vec4<f32>, LANES / 4u>;

fn reduce_sum(at: At, value: vec4<f32>) -> vec4<f32> {
    let own = subgroupAdd(value);
    if (at.subgroup_lane == 0u) {
        partial[at.lane / at.subgroup_size] = own;
    }
    workgroupBarrier();
    var sum = partial[0];
    let subgroups = (LANES + at.subgroup_size - 1u) / at.subgroup_size;
    for (var i = 1u; i < subgroups; i++) {
        sum += partial[i];
    }
    workgroupBarrier();
    return sum;
}

fn reduce_max(at: At, value: f32) -> f32 {
    let own = subgroupMax(value);
    if (at.subgroup_lane == 0u) {
        partial[at.lane / at.subgroup_size].x = own;
    }
    workgroupBarrier();
    var largest = partial[0].x;
    let subgroups = (LANES + at.subgroup_size - 1u) / at.subgroup_size;
    for (var i = 1u; i < subgroups; i++) {
        largest = max(largest, partial[i].x);
    }
    workgroupBarrier();
    return largest;
}
