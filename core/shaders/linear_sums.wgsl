// linear_sums: adds the lanes' sums of up to four rows and stores them
//
// grid      set by the kernel
// numerics  order of the linked reduction
// baseline  no binding

fn store_sums(at: At, row: u32, out: u32, s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>) {
    let y0 = reduce_sum(at, s0);
    if (at.lane < 4u) {
        store(row, out + at.lane, y0[at.lane]);
    }
    if (row + 1u >= params.rows) {
        return;
    }
    let y1 = reduce_sum(at, s1);
    let y2 = reduce_sum(at, s2);
    let y3 = reduce_sum(at, s3);
    if (at.lane < 4u) {
        store(row + 1u, out + at.lane, y1[at.lane]);
        store(row + 2u, out + at.lane, y2[at.lane]);
        store(row + 3u, out + at.lane, y3[at.lane]);
    }
}
