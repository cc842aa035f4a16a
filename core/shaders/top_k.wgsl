// top_k: y[r] = the k largest of x[r], largest first, then their columns
//
// grid      one workgroup per row; past 65535 in workgroup_id.y
// numerics  exact: floats are compared as integers, -0 equal to 0, NaN below everything, equal
//           values in column order; columns are f32, exact below 2^24
// baseline  WebGPU default limits: 2 KiB of workgroup memory, 2 storage buffers
//
// Each lane keeps the best of its columns that is not taken yet. A round picks the best of the
// lanes; only the lane that lost its column looks again, so k rounds read the row about once plus
// k / LANES times.

struct TopKParams {
    rows: u32,
    cols: u32,
    k: u32,
}

@group(0) @binding(0) var<uniform> params: TopKParams;
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // (rows, 2 k), bits of f32
@group(0) @binding(2) var<storage, read> x: array<u32>;       // (rows, cols), bits of f32

// No column.
const NONE: u32 = 0xffffffffu;

struct Best {
    key: u32,
    column: u32,
}

var<workgroup> best: array<Best, LANES>;

// An integer that orders like the float of these bits.
fn order(bits: u32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0u;
    }
    if ((bits & 0x7fffffffu) == 0u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn better(a: Best, b: Best) -> bool {
    return a.column != NONE
        && (b.column == NONE || a.key > b.key || (a.key == b.key && a.column < b.column));
}

// The best of this lane's columns that comes after `taken`.
fn find(first: u32, lane: u32, taken: Best) -> Best {
    var found = Best(0u, NONE);
    for (var c = lane; c < params.cols; c += LANES) {
        let candidate = Best(order(x[first + c]), c);
        let free = taken.column == NONE || better(taken, candidate);
        if (free && better(candidate, found)) {
            found = candidate;
        }
    }
    return found;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = flat(workgroup);
    if (row >= params.rows) {
        return;
    }
    let first = row * params.cols;
    var own = find(first, lane, Best(0u, NONE));
    for (var i = 0u; i < params.k; i++) {
        best[lane] = own;
        workgroupBarrier();
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            if (lane < half && better(best[lane + half], best[lane])) {
                best[lane] = best[lane + half];
            }
            workgroupBarrier();
        }
        let winner = best[0];
        workgroupBarrier();
        if (lane == 0u) {
            y[row * 2u * params.k + i] = x[first + winner.column];
            y[row * 2u * params.k + params.k + i] = bitcast<u32>(f32(winner.column));
        }
        if (own.column == winner.column) {
            own = find(first, lane, winner);
        }
    }
}
