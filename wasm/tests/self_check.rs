//! The self-check on whatever runs the tests: another processor's kernels are checked by running
//! this there.

#![expect(clippy::unwrap_used, reason = "a test")]

use tributary_core::backend::cpu::Cpu;
use tributary_wasm::self_check::{CPU_BOUND, worst};

#[test]
fn the_fastest_level_agrees_with_the_scalar_one() {
    let cpu = Cpu::new();
    let worst = pollster::block_on(worst(&cpu)).unwrap();
    assert!(worst <= CPU_BOUND, "{}: nmse {worst:.1e}", cpu.level());
}
