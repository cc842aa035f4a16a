//! Which instructions the kernels may use, found at run time.

use std::fmt;

use pulp::WithSimd;

/// A level of instructions. Every level computes the same function; tests run all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust at the target's baseline.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, DQ, VL) and its int8 dot products.
    Avx512Vnni,
    /// 64-bit Arm.
    Neon,
    /// WebAssembly's 128-bit vectors.
    Simd128,
}

impl Level {
    /// All levels of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only some targets add levels")]
        let mut levels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                levels.push(Self::Avx2);
                let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq");
                if wide && has!("avx512vl") && has!("avx512vnni") {
                    levels.push(Self::Avx512Vnni);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Self::Neon);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        levels.push(Self::Simd128);
        levels
    }

    /// The fastest level of this machine.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }

    /// Runs `f` compiled for this level: an inlined closure over plain loops is vectorised for it.
    #[inline]
    pub(super) fn run<R>(self, f: impl FnOnce() -> R) -> R {
        self.with_simd(f)
    }

    /// Runs `f` with this level's vectors, for what no loop says well.
    #[inline]
    pub(super) fn with_simd<F: WithSimd>(self, f: F) -> F::Output {
        match self {
            Self::Scalar => f.with_simd(pulp::Scalar),
            // pulp alone would take AVX-512 wherever it finds it.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => match pulp::x86::V3::try_new() {
                Some(v3) => pulp::Arch::V3(v3).dispatch(f),
                None => f.with_simd(pulp::Scalar),
            },
            _ => pulp::Arch::new().dispatch(f),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "AVX2",
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Neon => "NEON",
            Self::Simd128 => "simd128",
        })
    }
}
