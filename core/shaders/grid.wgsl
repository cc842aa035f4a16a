// grid: numbers workgroups through the 65535 of one dispatch axis
//
// grid      x up to AXIS workgroups, then y; the number is x + AXIS * y
// numerics  none
// baseline  no binding

const AXIS: u32 = 65535u;

// The number of this workgroup. The last row of the grid may run past the work: kernels compare.
fn flat(workgroup: vec3<u32>) -> u32 {
    return workgroup.x + AXIS * workgroup.y;
}
