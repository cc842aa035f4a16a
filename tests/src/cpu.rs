//! The CPU backend for tests, at every level of instructions this machine has.

use tributary_core::backend::cpu::{Cpu, Level};

use crate::suite::Subject;

/// One subject per level, the scalar one included.
pub fn subjects() -> Vec<Subject<Cpu>> {
    let levels = Level::available();
    let subject = |level: &Level| {
        let backend = Cpu::with_level(*level).expect("an available level");
        let name: &'static str = format!("cpu {level}").leak();
        Subject { name, backend, int8_activations: true }
    };
    levels.iter().map(subject).collect()
}
