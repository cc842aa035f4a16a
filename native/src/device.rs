//! Choosing a backend at run time: one enum at the roof, no dynamic dispatch below.

#[cfg(not(all(feature = "gpu", feature = "train")))]
use tributary_core::Error;
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use tributary_core::backend::gpu::{Gpu, GpuOptions};

#[cfg(feature = "train")]
use crate::burn_backend::{Burn, BurnDevice, BurnOptions};

/// What a caller may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The real GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// Rust SIMD.
    Cpu,
    /// wgpu on a real GPU.
    Gpu,
    /// wgpu, a software adapter allowed: correct and slow, for tests.
    #[value(name = "gpu:software")]
    GpuSoftware,
    /// The training backend.
    Burn,
}

/// An opened backend. [`with_backend!`](crate::with_backend) runs generic code on it.
#[derive(Clone, Debug)]
pub enum AnyBackend {
    /// Rust SIMD.
    Cpu(Cpu),
    /// wgpu.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
    /// burn.
    #[cfg(feature = "train")]
    Burn(Burn),
}

/// Evaluates `$body` with `$b` bound to the backend inside an [`AnyBackend`], whichever it is.
#[macro_export]
macro_rules! with_backend {
    ($any:expr, $b:ident => $body:expr) => {
        match $any {
            $crate::device::AnyBackend::Cpu($b) => $body,
            #[cfg(feature = "gpu")]
            $crate::device::AnyBackend::Gpu($b) => $body,
            #[cfg(feature = "train")]
            $crate::device::AnyBackend::Burn($b) => $body,
        }
    };
}

impl Device {
    /// Opens the backend. `Auto` without a usable GPU is the CPU, and says so in the log.
    pub fn open(self) -> Result<AnyBackend> {
        match self {
            Self::Cpu => Ok(AnyBackend::Cpu(Cpu::new())),
            Self::Auto => match gpu(false) {
                Ok(gpu) => Ok(gpu),
                Err(error) => {
                    tracing::info!("using the CPU: {error}");
                    Ok(AnyBackend::Cpu(Cpu::new()))
                }
            },
            Self::Gpu => gpu(false),
            Self::GpuSoftware => gpu(true),
            Self::Burn => burn(),
        }
    }
}

#[cfg(feature = "gpu")]
fn gpu(allow_software: bool) -> Result<AnyBackend> {
    let options = GpuOptions { allow_software, ..GpuOptions::default() };
    pollster::block_on(Gpu::request(options)).map(AnyBackend::Gpu)
}

#[cfg(not(feature = "gpu"))]
fn gpu(_allow_software: bool) -> Result<AnyBackend> {
    Err(Error::NoAdapter("this build has no GPU backend; build with the `gpu` feature".into()))
}

#[cfg(feature = "train")]
fn burn() -> Result<AnyBackend> {
    Burn::new(BurnDevice::Cpu, BurnOptions::default()).map(AnyBackend::Burn)
}

#[cfg(not(feature = "train"))]
fn burn() -> Result<AnyBackend> {
    let expected = "a build with the `train` feature";
    Err(Error::argument("device", "device", expected, "burn"))
}
