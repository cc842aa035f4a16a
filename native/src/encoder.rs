//! Encoders from folders, on whichever backend was chosen.

use std::path::Path;

use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use tributary_core::backend::gpu::Gpu;
pub use tributary_core::encoder::{Encoder, normalize};
use tributary_core::{Context, Result};

#[cfg(feature = "train")]
use crate::burn_backend::Burn;
use crate::device::{AnyBackend, Device};
use crate::files;

/// What is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Modality {
    /// Pictures.
    Image,
    /// Texts.
    Text,
}

impl Modality {
    /// What tables and bundles call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

/// The encoder of a Hugging Face style folder: a CLIP, a ViT or a BERT sentence encoder.
///
/// # Errors
/// Whatever a file of the folder does not hold as it should, by file and field.
pub fn open<B: Backend>(backend: B, folder: &Path) -> Result<Encoder<B>> {
    let name = folder.display().to_string();
    let files = files::open_model(folder).at(|| name.clone())?;
    Encoder::load(backend, Box::new(files), name.clone()).at(|| name)
}

/// An encoder on whichever backend was chosen.
#[derive(Debug)]
pub enum AnyEncoder {
    /// On the CPU.
    Cpu(Encoder<Cpu>),
    /// On the GPU.
    #[cfg(feature = "gpu")]
    Gpu(Encoder<Gpu>),
    /// On the training backend.
    #[cfg(feature = "train")]
    Burn(Encoder<Burn>),
}

/// Evaluates `$body` with `$e` bound to the encoder inside an [`AnyEncoder`].
#[macro_export]
macro_rules! with_encoder {
    ($any:expr, $e:ident => $body:expr) => {
        match $any {
            $crate::encoder::AnyEncoder::Cpu($e) => $body,
            #[cfg(feature = "gpu")]
            $crate::encoder::AnyEncoder::Gpu($e) => $body,
            #[cfg(feature = "train")]
            $crate::encoder::AnyEncoder::Burn($e) => $body,
        }
    };
}

impl AnyEncoder {
    /// The encoder in `folder` on `device`.
    ///
    /// # Errors
    /// As for [`open`]; a device that is not there.
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        Ok(match device.open()? {
            AnyBackend::Cpu(b) => Self::Cpu(open(b, folder)?),
            #[cfg(feature = "gpu")]
            AnyBackend::Gpu(b) => Self::Gpu(open(b, folder)?),
            #[cfg(feature = "train")]
            AnyBackend::Burn(b) => Self::Burn(open(b, folder)?),
        })
    }
}
