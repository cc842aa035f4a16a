//! The self-check on whatever runs the tests: another processor's kernels are checked by running
//! this there.

#![expect(clippy::unwrap_used, reason = "a test")]

use tributary_core::backend::cpu::Cpu;

#[test]
fn the_fastest_level_agrees_with_the_scalar_one() {
    let (level, worst) = (Cpu::new().level(), tributary_wasm::self_check().unwrap());
    assert!(worst <= 1e-10, "{level}: nmse {worst:.1e}");
}
