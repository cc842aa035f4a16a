// linear_recurrence: h_t = lambda * h_(t-1) + gamma * x_t, complex, over each segment's rows
//
// grid      one workgroup per segment and 16 channels; past 65535 in workgroup_id.y
// numerics  a scan in two passes: 16 runs of rows each from zero, then what came before each run
//           is carried through it; powers of lambda by repeated products
// baseline  WebGPU default limits: 7 storage buffers, 256 lanes, 4 KiB of workgroup memory

const CHANNELS: u32 = 16u;
const RUNS: u32 = 16u; // CHANNELS * RUNS lanes

struct RecurrenceParams {
    segments: u32,
    channels: u32,
    has_state: u32,
}

@group(0) @binding(0) var<uniform> params: RecurrenceParams;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;     // (rows, 2 * channels)
@group(0) @binding(2) var<storage, read> x: array<f32>;           // (rows, 2 * channels)
@group(0) @binding(3) var<storage, read> nu_log: array<f32>;      // (channels)
@group(0) @binding(4) var<storage, read> theta_log: array<f32>;   // (channels)
@group(0) @binding(5) var<storage, read> gamma_log: array<f32>;   // (channels)
@group(0) @binding(6) var<storage, read> starts: array<u32>;      // (segments + 1)
@group(0) @binding(7) var<storage, read> state: array<f32>;       // (segments, 2 * channels)

var<workgroup> ends: array<vec2<f32>, LANES>; // what each run leaves

fn times(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// (cos x, sin x) to the last bits of an f32; WGSL promises 2^-11 only. x to the nearest quarter
// turn, in two parts, then Cephes' polynomials on [-pi / 4, pi / 4].
fn turn(x: f32) -> vec2<f32> {
    let quarter = round(x * 0.63661975);
    let r = (x - quarter * 1.5703125) - quarter * 4.8382679e-4;
    let z = r * r;
    let s = r + r * z * (-1.6666655e-1 + z * (8.3321609e-3 - z * 1.9515296e-4));
    let c = 1.0 - 0.5 * z + z * z * (4.1666646e-2 + z * (-1.3887316e-3 + z * 2.4433157e-5));
    switch (i32(quarter) & 3) {
        case 0: { return vec2<f32>(c, s); }
        case 1: { return vec2<f32>(-s, c); }
        case 2: { return vec2<f32>(-c, -s); }
        default: { return vec2<f32>(s, -c); }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let blocks = (params.channels + CHANNELS - 1u) / CHANNELS;
    let group = flat(workgroup);
    let segment = group / blocks;
    if (segment >= params.segments) {
        return;
    }
    let channel = (group % blocks) * CHANNELS + lane % CHANNELS;
    let run = lane / CHANNELS;
    let is_real = channel < params.channels; // the last block may be wider than what is left
    let c = min(channel, params.channels - 1u);
    let width = 2u * params.channels;
    let first = starts[segment];
    let end = starts[segment + 1u];
    let length = (end - first + RUNS - 1u) / RUNS;
    let from_row = min(first + run * length, end);
    let to_row = min(from_row + length, end);

    let lambda = exp(-exp(nu_log[c])) * turn(exp(theta_log[c]));
    let gamma = exp(gamma_log[c]);
    var h = vec2<f32>(0.0, 0.0);
    for (var row = from_row; row < to_row; row++) {
        let at = row * width + c;
        h = times(lambda, h) + gamma * vec2<f32>(x[at], x[at + params.channels]);
        if (is_real) {
            y[at] = h.x;
            y[at + params.channels] = h.y;
        }
    }
    ends[lane] = h;
    workgroupBarrier();

    // Every run before this one has `length` rows, or this one has none.
    var over_run = vec2<f32>(1.0, 0.0);
    for (var i = 0u; i < length; i++) {
        over_run = times(over_run, lambda);
    }
    var carried = vec2<f32>(0.0, 0.0);
    if (params.has_state != 0u) {
        carried = vec2<f32>(state[segment * width + c], state[segment * width + c + params.channels]);
    }
    for (var earlier = 0u; earlier < run; earlier++) {
        carried = times(over_run, carried) + ends[earlier * CHANNELS + lane % CHANNELS];
    }
    for (var row = from_row; row < to_row; row++) {
        let at = row * width + c;
        carried = times(lambda, carried);
        if (is_real) {
            y[at] += carried.x;
            y[at + params.channels] += carried.y;
        }
    }
}
