//! What measures the stages of a recommendation.

/// Milliseconds since some fixed moment. On wasm32 the standard library has no clock, so the page's
/// `performance.now` is passed in.
pub type Clock = fn() -> f64;

#[cfg(not(target_arch = "wasm32"))]
pub(super) fn system_clock() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

#[cfg(target_arch = "wasm32")]
pub(super) fn system_clock() -> f64 {
    0.0
}
