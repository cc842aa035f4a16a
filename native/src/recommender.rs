//! A recommender on whichever backend was chosen.

use std::path::Path;

use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use tributary_core::backend::gpu::Gpu;
use tributary_core::recommend::{
    Catalogue, GraphRecommender, Recommendations, Recommender, Request, SequenceRecommender,
};

use crate::bundle::{Bundle, demo};
use crate::device::{AnyBackend, Device};
#[cfg(feature = "train")]
use crate::train::Burn;

/// A loaded recommender; the choice of its kind and of the backend is made here, once.
pub enum AnyRecommender {
    /// SASRec on the CPU.
    Cpu(SequenceRecommender<Cpu>),
    /// SASRec on the GPU.
    #[cfg(feature = "gpu")]
    Gpu(SequenceRecommender<Gpu>),
    /// SASRec on the training backend.
    #[cfg(feature = "train")]
    Burn(SequenceRecommender<Burn>),
    /// A graph encoder on the CPU.
    GraphCpu(GraphRecommender<Cpu>),
    /// A graph encoder on the GPU.
    #[cfg(feature = "gpu")]
    GraphGpu(GraphRecommender<Gpu>),
    /// A graph encoder on the training backend.
    #[cfg(feature = "train")]
    GraphBurn(GraphRecommender<Burn>),
}

/// Evaluates `$body` with `$r` bound to the recommender inside an [`AnyRecommender`].
#[macro_export]
macro_rules! with_recommender {
    ($any:expr, $r:ident => $body:expr) => {
        match $any {
            $crate::recommender::AnyRecommender::Cpu($r) => $body,
            #[cfg(feature = "gpu")]
            $crate::recommender::AnyRecommender::Gpu($r) => $body,
            #[cfg(feature = "train")]
            $crate::recommender::AnyRecommender::Burn($r) => $body,
            $crate::recommender::AnyRecommender::GraphCpu($r) => $body,
            #[cfg(feature = "gpu")]
            $crate::recommender::AnyRecommender::GraphGpu($r) => $body,
            #[cfg(feature = "train")]
            $crate::recommender::AnyRecommender::GraphBurn($r) => $body,
        }
    };
}

impl AnyRecommender {
    /// The bundle in `folder`, verified; the word `demo` names the embedded one.
    ///
    /// # Errors
    /// A bundle that is not what its manifest says, or a device that is not there.
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        let bundle = if folder == Path::new("demo") { demo()? } else { Bundle::read(folder)? };
        Self::load(&bundle, device)
    }

    /// A verified bundle on `device`.
    ///
    /// # Errors
    /// As for [`AnyRecommender::open`].
    pub fn load(bundle: &Bundle, device: Device) -> Result<Self> {
        if bundle.is_graph() {
            return Ok(match device.open()? {
                AnyBackend::Cpu(b) => Self::GraphCpu(bundle.graph_recommender(&b)?),
                #[cfg(feature = "gpu")]
                AnyBackend::Gpu(b) => Self::GraphGpu(bundle.graph_recommender(&b)?),
                #[cfg(feature = "train")]
                AnyBackend::Burn(b) => Self::GraphBurn(bundle.graph_recommender(&b)?),
            });
        }
        Ok(match device.open()? {
            AnyBackend::Cpu(b) => Self::Cpu(bundle.sequence_recommender(&b)?),
            #[cfg(feature = "gpu")]
            AnyBackend::Gpu(b) => Self::Gpu(bundle.sequence_recommender(&b)?),
            #[cfg(feature = "train")]
            AnyBackend::Burn(b) => Self::Burn(bundle.sequence_recommender(&b)?),
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
}
