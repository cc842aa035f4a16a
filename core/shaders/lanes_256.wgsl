// lanes_256: kernels of 256 lanes a workgroup
//
// grid      set by the kernel
// numerics  none
// baseline  no binding

const LANES: u32 = 256u;
