// linear_vec_dot4: y[r, o] = scale * sum_b(sx[r, b] * sw[o, b] * sum_k(x[r, k] * w[o, k])) + bias[o]
// over blocks b of 32 columns, for a few rows of int8 activations
//
// grid      one workgroup per 4 outs and 4 rows, outs first; past 65535 in workgroup_id.y
// numerics  products of four columns in integers, exact; then f32, each lane every LANES-th group,
//           then tree order
// baseline  needs packed 8-bit dot products; 1 KiB of workgroup memory, 64 lanes, 6 storage buffers

fn dots(w: vec4<u32>, x: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(
        dot4I8Packed(w.x, x), dot4I8Packed(w.y, x), dot4I8Packed(w.z, x), dot4I8Packed(w.w, x),
    ));
}

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
    let o1 = min(out + 1u, last);
    let o2 = min(out + 2u, last);
    let o3 = min(out + 3u, last);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var k4 = at.lane; k4 < params.in4; k4 += LANES) {
        let w = vec4<u32>(
            weight_word(out, k4), weight_word(o1, k4), weight_word(o2, k4), weight_word(o3, k4),
        );
        let sw = vec4<f32>(
            weight_scale(out, k4), weight_scale(o1, k4), weight_scale(o2, k4), weight_scale(o3, k4),
        );
        sum0 += x_scale(row, k4) * sw * dots(w, x_word(row, k4));
        if (row + 1u < params.rows) {
            sum1 += x_scale(row + 1u, k4) * sw * dots(w, x_word(row + 1u, k4));
            sum2 += x_scale(row + 2u, k4) * sw * dots(w, x_word(row + 2u, k4));
            sum3 += x_scale(row + 3u, k4) * sw * dots(w, x_word(row + 3u, k4));
        }
    }
    store_sums(at, row, out, sum0, sum1, sum2, sum3);
}
