// quantize_rows: values[r, b] = round(x[r, b] / scales[r, b]), scales[r, b] = max |x[r, b]| / 127,
// for every block b of 32 columns
//
// grid      one lane per block; past 65535 workgroups in workgroup_id.y
// numerics  f32, halves to even; a block of zeros has scale 0 and values 0
// baseline  WebGPU default limits: 3 storage buffers

struct QuantizeParams {
    rows: u32,
    cols: u32,
    blocks: u32, // of a row; the last may be shorter, its rest is zero
}

@group(0) @binding(0) var<uniform> params: QuantizeParams;
@group(0) @binding(1) var<storage, read_write> values: array<u32>; // (rows, blocks, 8), four bytes each
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // (rows, blocks)
@group(0) @binding(3) var<storage, read> x: array<f32>;            // (rows, cols)

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = flat(workgroup) * LANES + lane;
    let row = block / params.blocks;
    if (row >= params.rows) {
        return;
    }
    let column = block % params.blocks * 32u;
    let first = row * params.cols + column;
    let count = min(32u, params.cols - column);
    var largest = 0.0;
    for (var i = 0u; i < count; i++) {
        largest = max(largest, abs(x[first + i]));
    }
    let scale = largest / 127.0;
    scales[block] = scale;
    for (var word = 0u; word < 8u; word++) {
        var packed = 0u;
        for (var byte = 0u; byte < 4u; byte++) {
            let i = word * 4u + byte;
            if (i < count && scale > 0.0) {
                let rounded = clamp(round(x[first + i] / scale), -127.0, 127.0);
                packed |= (bitcast<u32>(i32(rounded)) & 0xffu) << (byte * 8u);
            }
        }
        values[block * 8u + word] = packed;
    }
}
