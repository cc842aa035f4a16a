// attention: y[r, h] = sum_j(softmax_j(q[r, h] . k[j, g] * scale) * v[j, g]), g the key head of h,
// j over the prefix and then over the rows that r sees
//
// grid      one workgroup per row and head, heads first; past 65535 in workgroup_id.y
// numerics  online softmax over blocks of LANES keys, f32; sums in the order of the linked reduction
// baseline  WebGPU default limits: 7 storage buffers; head_dim <= 4 * PARTS * LANES; 2.3 KiB of workgroup
//           memory with 64 lanes and 1 part, 13 KiB with 256 and 2

struct AttentionParams {
    rows: u32,
    num_attention_heads: u32,
    num_key_value_heads: u32,
    head_dim: u32,
    prefix_len: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;    // (rows, heads * head_dim)
@group(0) @binding(2) var<storage, read> q: array<f32>;          // (rows, heads * head_dim)
@group(0) @binding(3) var<storage, read> k: array<f32>;          // (rows, key heads * head_dim)
@group(0) @binding(4) var<storage, read> v: array<f32>;          // (rows, key heads * head_dim)
@group(0) @binding(5) var<storage, read> prefix_k: array<f32>;   // (capacity, key heads * head_dim)
@group(0) @binding(6) var<storage, read> prefix_v: array<f32>;   // (capacity, key heads * head_dim)
@group(0) @binding(7) var<storage, read> visible: array<u32>;    // (rows, 2): first row, end

const MAX_HEAD_DIM: u32 = 4u * PARTS * LANES;
// Below every score, and far enough from the end of f32 that differences stay finite.
const LOWEST: f32 = -1e30;

var<workgroup> query: array<f32, MAX_HEAD_DIM>;
var<workgroup> weights: array<f32, LANES>;

// The first value of key `key` (prefix first, then rows from `first`) for the key head at `head`.
fn place(key: u32, first: u32, head: u32) -> u32 {
    let row = select(first + key - params.prefix_len, key, key < params.prefix_len);
    return row * params.num_key_value_heads * params.head_dim + head;
}

fn score(key: u32, first: u32, head: u32) -> f32 {
    let i = place(key, first, head);
    var sum = 0.0;
    if (key < params.prefix_len) {
        for (var d = 0u; d < params.head_dim; d++) {
            sum += query[d] * prefix_k[i + d];
        }
    } else {
        for (var d = 0u; d < params.head_dim; d++) {
            sum += query[d] * k[i + d];
        }
    }
    return sum;
}

fn value(key: u32, i: u32, d: u32) -> f32 {
    if (d >= params.head_dim) {
        return 0.0;
    }
    if (key < params.prefix_len) {
        return prefix_v[i + d];
    }
    return v[i + d];
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, at: At) {
    let id = flat(workgroup);
    let row = id / params.num_attention_heads;
    if (row >= params.rows) {
        return;
    }
    let own = id * params.head_dim;
    let group = params.num_attention_heads / params.num_key_value_heads;
    let head = id % params.num_attention_heads / group * params.head_dim;
    for (var d = at.lane; d < params.head_dim; d += LANES) {
        query[d] = q[own + d] * params.scale;
    }
    workgroupBarrier();

    let first = visible[row * 2u];
    let count = params.prefix_len + visible[row * 2u + 1u] - first;
    var largest = LOWEST;
    var total = 0.0;
    // Columns lane, lane + LANES, lane + 2 LANES and so on of this head.
    var context: array<vec4<f32>, PARTS>;
    for (var k0 = 0u; k0 < count; k0 += LANES) {
        let key = k0 + at.lane;
        var own_score = LOWEST;
        if (key < count) {
            own_score = score(key, first, head);
        }
        let now = max(largest, reduce_max(at, own_score));
        let shrink = exp(largest - now);
        largest = now;
        var weight = 0.0;
        if (key < count) {
            weight = exp(own_score - now);
        }
        weights[at.lane] = weight;
        // Its barriers also publish the weights; those of the next round's maximum protect them.
        let sum = reduce_sum(at, vec4<f32>(weight, 0.0, 0.0, 0.0)).x;
        total = total * shrink + sum;
        for (var part = 0u; part < PARTS; part++) {
            context[part] *= shrink;
        }
        for (var j = 0u; j < min(LANES, count - k0); j++) {
            let i = place(k0 + j, first, head);
            for (var part = 0u; part < PARTS; part++) {
                let d = at.lane + 4u * LANES * part;
                context[part] += weights[j] * vec4<f32>(
                    value(k0 + j, i, d),
                    value(k0 + j, i, d + LANES),
                    value(k0 + j, i, d + 2u * LANES),
                    value(k0 + j, i, d + 3u * LANES),
                );
            }
        }
    }
    for (var part = 0u; part < 4u * PARTS; part++) {
        let d = at.lane + part * LANES;
        if (d < params.head_dim) {
            y[own + d] = context[part / 4u][part % 4u] / total;
        }
    }
}
