// reduce_tree: sum and maximum over the lanes of a workgroup, by halving
//
// grid      set by the kernel; every lane must call
// numerics  tree order from the number of lanes: the result does not depend on scheduling
// baseline  LANES * 16 bytes of workgroup memory, no binding, no subgroups

struct At {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial: array<vec4<f32>, LANES>;

fn reduce_sum(at: At, value: vec4<f32>) -> vec4<f32> {
    partial[at.lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (at.lane < half) {
            partial[at.lane] += partial[at.lane + half];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    // The next call overwrites partial[0].
    workgroupBarrier();
    return sum;
}

fn reduce_max(at: At, value: f32) -> f32 {
    partial[at.lane].x = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (at.lane < half) {
            partial[at.lane].x = max(partial[at.lane].x, partial[at.lane + half].x);
        }
        workgroupBarrier();
    }
    let largest = partial[0].x;
    workgroupBarrier();
    return largest;
}
