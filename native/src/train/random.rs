//! The order of examples, which depends on the seed and the epoch alone, so a resumed run and another
//! device take the same ones.

use tributary_core::random::Random;

/// The order of an epoch's `len` examples (Fisher and Yates).
pub(super) fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let mut random = Random::stream(seed, epoch);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for last in (1..len).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}
