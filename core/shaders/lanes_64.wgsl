// lanes_64: kernels of 64 lanes a workgroup
//
// grid      set by the kernel
// numerics  none
// baseline  no binding

const LANES: u32 = 64u;
