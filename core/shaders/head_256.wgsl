// head_256: attention heads of up to 256 columns
//
// grid      set by the kernel
// numerics  none
// baseline  no binding

// Groups of four columns that a lane of 64 keeps.
const PARTS: u32 = 1u;
