// linear_vec: y[r, o] = scale * sum_k(x[r, k] * w[o, k]) + bias[o], for a few rows
//
// grid      one workgroup per 4 outs and 4 rows, outs first; past 65535 in workgroup_id.y
// numerics  f32; each lane sums every LANES-th group of four columns, then tree order
// baseline  WebGPU default limits: 1 KiB of workgroup memory, 64 lanes, 4 or 5 storage buffers
//
// Decoding is bound by reading the weight: each of its values is read once for 4 rows.

@compute @workgroup_size(LANES)
fn main(at: At) {
    let groups_out = (params.out_count + 3u) / 4u;
    let group = flat(at.workgroup);
    let row = group / groups_out * 4u;
    let out = group % groups_out * 4u;
    if (row >= params.rows) {
        return;
    }
    let last = params.out_count - 1u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var k4 = at.lane; k4 < params.in4; k4 += LANES) {
        let w0 = weight4(out, k4);
        let w1 = weight4(min(out + 1u, last), k4);
        let w2 = weight4(min(out + 2u, last), k4);
        let w3 = weight4(min(out + 3u, last), k4);
        let x0 = x4(row, k4 * 4u);
        sum0 += vec4<f32>(dot(w0, x0), dot(w1, x0), dot(w2, x0), dot(w3, x0));
        if (row + 1u < params.rows) {
            let x1 = x4(row + 1u, k4 * 4u);
            let x2 = x4(row + 2u, k4 * 4u);
            let x3 = x4(row + 3u, k4 * 4u);
            sum1 += vec4<f32>(dot(w0, x1), dot(w1, x1), dot(w2, x1), dot(w3, x1));
            sum2 += vec4<f32>(dot(w0, x2), dot(w1, x2), dot(w2, x2), dot(w3, x2));
            sum3 += vec4<f32>(dot(w0, x3), dot(w1, x3), dot(w2, x3), dot(w3, x3));
        }
    }
    store_sums(at, row, out, sum0, sum1, sum2, sum3);
}
