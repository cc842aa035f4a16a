// head_2048: attention heads of up to 2048 columns, as TMF's fusion has them
//
// grid      set by the kernel
// numerics  none
// baseline  no binding

// Groups of four columns that a lane of 256 keeps.
const PARTS: u32 = 2u;
