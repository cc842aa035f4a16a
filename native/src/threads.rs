//! Threads that wait at hand.

use std::sync::atomic::{AtomicBool, Ordering};

/// Runs `f`, which must be inside the rayon pool, while the pool's other threads look for its work
/// without going to sleep. Decoding hands over hundreds of small pieces a token, and waking a thread
/// takes as long as a piece: measured, decoding is a tenth faster. The threads are busy meanwhile,
/// so this is for short calls that somebody waits for.
pub fn with_ready_threads<R>(f: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| {
                while !done.load(Ordering::Relaxed) {
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        // Also when `f` panics: the scope waits for its threads.
        let _done = SetOnDrop(&done);
        f()
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
