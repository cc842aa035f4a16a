//! A recommender of any kind on whichever backend was chosen.

use std::path::Path;

use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use tributary_core::backend::gpu::Gpu;
pub use tributary_core::recommend::Kind;
use tributary_core::recommend::{
    self, Catalogue, Explanation, ItemId, Recommendations, Recommender, Request,
};

use crate::bundle::{self, Bundle};
#[cfg(feature = "train")]
use crate::burn_backend::Burn;
use crate::device::{AnyBackend, Device};

/// A loaded recommender; the choice of its kind and of the backend is made here, once.
pub enum AnyRecommender {
    /// On the CPU.
    Cpu(Kind<Cpu>),
    /// On the GPU.
    #[cfg(feature = "gpu")]
    Gpu(Kind<Gpu>),
    /// On the training backend.
    #[cfg(feature = "train")]
    Burn(Kind<Burn>),
}

/// Evaluates `$body` with `$r` bound to the recommender inside an [`AnyRecommender`].
macro_rules! with_recommender {
    ($any:expr, $r:ident => $body:expr) => {
        match $any {
            $crate::recommender::AnyRecommender::Cpu($r) => $body,
            #[cfg(feature = "gpu")]
            $crate::recommender::AnyRecommender::Gpu($r) => $body,
            #[cfg(feature = "train")]
            $crate::recommender::AnyRecommender::Burn($r) => $body,
        }
    };
}

pub(crate) use with_recommender;

impl AnyRecommender {
    /// The bundle in `folder`, verified; the word `demo` names the embedded one.
    ///
    /// # Errors
    /// A bundle that is not what its manifest says, or a device that is not there.
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        let bundle =
            if folder == Path::new("demo") { bundle::demo()? } else { bundle::read(folder)? };
        Self::load(&bundle, device)
    }

    /// A verified bundle on `device`.
    ///
    /// # Errors
    /// As for [`AnyRecommender::open`].
    pub fn load(bundle: &Bundle, device: Device) -> Result<Self> {
        Ok(match device.open()? {
            AnyBackend::Cpu(b) => Self::Cpu(Kind::load(bundle, &b)?),
            #[cfg(feature = "gpu")]
            AnyBackend::Gpu(b) => Self::Gpu(Kind::load(bundle, &b)?),
            #[cfg(feature = "train")]
            AnyBackend::Burn(b) => Self::Burn(Kind::load(bundle, &b)?),
        })
    }

    /// The items it knows.
    pub fn catalogue(&self) -> &Catalogue {
        with_recommender!(self, recommender => recommender.catalogue())
    }

    /// The best items for one user. Waits for the answer.
    ///
    /// # Errors
    /// A request that means nothing, or a backend that failed.
    pub fn recommend(&self, request: &Request) -> Result<Recommendations> {
        with_recommender!(self, recommender => pollster::block_on(recommender.recommend(request)))
    }

    /// What the scores of `items` owe to what, see [`explain`](recommend::explain).
    ///
    /// # Errors
    /// As for [`AnyRecommender::recommend`]; an item that the request does not rank.
    pub fn explain(&self, request: &Request, items: &[ItemId]) -> Result<Vec<Explanation>> {
        with_recommender!(self, recommender => {
            let modalities = recommender.modalities();
            pollster::block_on(recommend::explain(recommender, request, items, &modalities))
        })
    }
}
