//! Random numbers by a counter: draw i depends on the key and i alone, so a resumed run and another
//! device draw the same ones.

/// 2^64 divided by the golden ratio, odd: the increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draw `i` of the stream of `key`.
fn draw(key: u64, i: u64) -> u64 {
    mix(key.wrapping_add(i.wrapping_mul(GOLDEN)))
}

fn fold(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |state, &part| mix(state ^ mix(part)))
}

/// A dropout mask of `len` values: zero with `probability`, else 1 / (1 - probability).
/// `key` is (seed, step, call).
pub(super) fn dropout_mask(key: [u64; 3], len: usize, probability: f32) -> Vec<f32> {
    let key = fold(&key);
    let keep = (1.0 - probability).recip();
    // Two elements from one draw; an element is dropped when its half is below the threshold.
    let threshold = (f64::from(probability) * 4_294_967_296.0) as u64;
    let mut mask = vec![0.0; len];
    for (pair, i) in mask.chunks_mut(2).zip(0..) {
        let bits = draw(key, i);
        for (element, half) in pair.iter_mut().zip([bits >> 32, bits & 0xffff_ffff]) {
            *element = if half < threshold { 0.0 } else { keep };
        }
    }
    mask
}

/// The order of an epoch's `len` examples (Fisher and Yates).
pub(super) fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let key = fold(&[seed, epoch]);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for last in (1..len).rev() {
        // The bias of a 64-bit remainder is below 2^-32.
        order.swap(last, (draw(key, last as u64) % (last as u64 + 1)) as usize);
    }
    order
}
