//! A recommender of any kind on whichever backend was chosen.

use std::path::Path;

use tributary_core::backend::Backend;
use tributary_core::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use tributary_core::backend::gpu::Gpu;
use tributary_core::models::sasrec::{RepeatedItems, SeenItems};
use tributary_core::recommend::{
    Catalogue, Decoding, GraphRecommender, ItemIndex, Prior, Question, Recommendations,
    Recommender, Request, Scorer, Scores, SequenceRecommender, TmfRecommender, Written,
};

use tributary_core::{Error, Result};

use crate::bundle::{Bundle, demo};
use crate::device::{AnyBackend, Device};
use crate::tmf::TMF;
#[cfg(feature = "train")]
use crate::train::Burn;

/// A recommender of any kind on one backend.
pub enum Kind<B: Backend> {
    /// SASRec.
    Sequence(Box<SequenceRecommender<B>>),
    /// A graph encoder.
    Graph(Box<GraphRecommender<B>>),
    /// Triple Modality Fusion.
    Tmf(Box<TmfRecommender<B>>),
}

/// Evaluates `$body` with `$r` bound to the recommender inside a [`Kind`].
macro_rules! with_kind {
    ($kind:expr, $r:ident => $body:expr) => {
        match $kind {
            Kind::Sequence($r) => $body,
            Kind::Graph($r) => $body,
            Kind::Tmf($r) => $body,
        }
    };
}

impl<B: Backend> Kind<B> {
    fn load(bundle: &Bundle, backend: &B) -> Result<Self> {
        if bundle.is_graph() {
            return bundle.graph_recommender(backend).map(|r| Self::Graph(Box::new(r)));
        }
        if bundle.manifest.recommender == TMF {
            return bundle.tmf_recommender(backend).map(|r| Self::Tmf(Box::new(r)));
        }
        bundle.sequence_recommender(backend).map(|r| Self::Sequence(Box::new(r)))
    }

    /// The recommender under evaluation by the names it writes.
    ///
    /// # Errors
    /// A recommender that writes none.
    pub fn written(&self, decoding: Decoding) -> Result<Written<'_, B, Prior>> {
        match self {
            Self::Tmf(tmf) => Ok(tmf.written(decoding)),
            _ => Err(Error::argument("evaluate", "answers", TMF, self.name())),
        }
    }
}

impl<B: Backend> Recommender for Kind<B> {
    fn name(&self) -> &str {
        with_kind!(self, recommender => recommender.name())
    }

    fn catalogue(&self) -> &Catalogue {
        with_kind!(self, recommender => recommender.catalogue())
    }

    async fn recommend(&self, request: &Request) -> Result<Recommendations> {
        with_kind!(self, recommender => recommender.recommend(request).await)
    }
}

impl<B: Backend> Scorer for Kind<B> {
    fn num_items(&self) -> usize {
        with_kind!(self, scorer => scorer.num_items())
    }

    fn seen_items(&self) -> SeenItems {
        with_kind!(self, scorer => scorer.seen_items())
    }

    fn repeated_items(&self) -> RepeatedItems {
        with_kind!(self, scorer => scorer.repeated_items())
    }

    async fn score_batch(&self, histories: &[&[ItemIndex]]) -> Result<Vec<f32>> {
        with_kind!(self, scorer => scorer.score_batch(histories).await)
    }

    async fn answer_batch(&self, questions: &[Question<'_>]) -> Result<Vec<Scores>> {
        with_kind!(self, scorer => scorer.answer_batch(questions).await)
    }
}

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
#[macro_export]
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
}
