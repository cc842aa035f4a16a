//! Dropout that depends on the seed and the place in the run alone, so a resumed run and another
//! device drop the same elements.

use tributary_core::random::Random;

/// A dropout mask of `len` values: zero with `probability`, else 1 / (1 - probability).
/// `call` counts the masks of one step.
pub(super) fn mask([seed, step, call]: [u64; 3], len: usize, probability: f32) -> Vec<f32> {
    let mut random = Random::stream(Random::stream(seed, step).next_u64(), call);
    let keep = (1.0 - probability).recip();
    // Two elements from one draw; an element is dropped when its half is below the threshold.
    let threshold = (f64::from(probability) * 4_294_967_296.0) as u64;
    let mut mask = vec![0.0; len];
    for pair in mask.chunks_mut(2) {
        let bits = random.next_u64();
        for (element, half) in pair.iter_mut().zip([bits >> 32, bits & 0xffff_ffff]) {
            *element = if half < threshold { 0.0 } else { keep };
        }
    }
    mask
}
