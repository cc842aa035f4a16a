//! GPUs for tests: software adapters are welcome here, one device of each kind per test program.

use std::sync::OnceLock;

use tributary_core::backend::gpu::{Gpu, GpuOptions, Needs};

use crate::suite::Subject;

/// A device of its own, or the printed reason why there is none.
pub fn open(options: GpuOptions) -> Option<Gpu> {
    let options = GpuOptions { allow_software: true, ..options };
    match pollster::block_on(Gpu::request(options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The devices the suite runs on: with everything the adapter offers; WebGPU's baseline, guarded;
/// and packed dot products without subgroups, guarded.
pub fn subjects() -> &'static [Subject<Gpu>] {
    static SUBJECTS: OnceLock<Vec<Subject<Gpu>>> = OnceLock::new();
    SUBJECTS.get_or_init(|| {
        let baseline = Needs::default();
        let all = Needs { f16: true, subgroups: true, dot4: true };
        let kinds = [
            ("gpu", all, 0),
            ("gpu baseline", baseline, 64),
            ("gpu dot4", Needs { dot4: true, ..baseline }, 64),
        ];
        let opened = kinds.into_iter().filter_map(|(name, features, guard_words)| {
            let backend = open(GpuOptions { features, guard_words, ..Default::default() })?;
            let int8_activations = backend.features().dot4;
            Some(Subject { name, backend, int8_activations })
        });
        opened.collect()
    })
}
