//! A recommender of any kind: what a bundle becomes.

use super::bundle::{ALMOST_REC, MLLM_SREC, MLLM4REC, TMF};
use super::{
    BUNDLE_FILE, Bundle, Catalogue, CatalogueItem, Clock, Decoding, GraphModel, GraphRecommender,
    ItemIndex, Mllm4RecRecommender, MllmSrecRecommender, Modality, Prior, Question,
    Recommendations, Recommender, Request, Scorer, Scores, SequenceRecommender, TmfRecommender,
    Written,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::models::sequence::{RepeatedItems, SeenItems};

/// A recommender of any kind on one backend.
pub enum Kind<B: Backend> {
    /// A sequence model.
    Sequence(Box<SequenceRecommender<B>>),
    /// A graph encoder.
    Graph(Box<GraphRecommender<B>>),
    /// Triple Modality Fusion.
    Tmf(Box<TmfRecommender<B>>),
    /// MLLM4Rec, its retriever inside.
    Mllm4Rec(Box<Mllm4RecRecommender<B, SequenceRecommender<B>>>),
    /// MLLM-SRec, its retriever inside.
    MllmSrec(Box<MllmSrecRecommender<B, SequenceRecommender<B>>>),
}

/// Evaluates `$body` with `$r` bound to the recommender inside a [`Kind`].
macro_rules! with_kind {
    ($kind:expr, $r:ident => $body:expr) => {
        match $kind {
            Kind::Sequence($r) => $body,
            Kind::Graph($r) => $body,
            Kind::Tmf($r) => $body,
            Kind::Mllm4Rec($r) => $body,
            Kind::MllmSrec($r) => $body,
        }
    };
}

impl<B: Backend> Kind<B> {
    /// The recommender of a verified bundle.
    ///
    /// # Errors
    /// A component that does not fit the others.
    pub fn load(bundle: &Bundle, backend: &B) -> Result<Self> {
        let kind = if bundle.is_graph() {
            bundle.graph_recommender(backend).map(|r| Self::Graph(Box::new(r)))
        } else if bundle.manifest.recommender == TMF {
            bundle.tmf_recommender(backend).map(|r| Self::Tmf(Box::new(r)))
        } else if bundle.manifest.recommender == MLLM4REC {
            bundle.mllm4rec_recommender(backend).map(|r| Self::Mllm4Rec(Box::new(r)))
        } else if bundle.manifest.recommender == MLLM_SREC {
            bundle.mllm_srec_recommender(backend).map(|r| Self::MllmSrec(Box::new(r)))
        } else if bundle.manifest.recommender == ALMOST_REC {
            bundle.almost_rec_recommender(backend).map(|r| Self::Sequence(Box::new(r)))
        } else {
            bundle.sequence_recommender(backend).map(|r| Self::Sequence(Box::new(r)))
        };
        kind.map_err(of_the_bundle)
    }

    /// The same, with timings from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        match self {
            Self::Sequence(r) => Self::Sequence(Box::new(r.with_clock(clock))),
            Self::Graph(r) => Self::Graph(Box::new(r.with_clock(clock))),
            Self::Tmf(r) => Self::Tmf(Box::new(r.with_clock(clock))),
            Self::Mllm4Rec(r) => Self::Mllm4Rec(Box::new(r.with_clock(clock))),
            Self::MllmSrec(r) => Self::MllmSrec(Box::new(r.with_clock(clock))),
        }
    }

    /// Does now what the first request would have to do once.
    ///
    /// # Errors
    /// A backend that failed.
    pub fn warm_up(&self) -> Result<()> {
        match self {
            Self::Tmf(tmf) => tmf.warm_up(),
            _ => Ok(()),
        }
    }

    /// Adds an item that training never saw; it can be recommended at once. `image` and `text` are what
    /// its picture and its text embed to, for recommenders that read embeddings; others read its words.
    ///
    /// # Errors
    /// A recommender that ranks only what it was trained on; an id that is there already; an embedding of
    /// another width.
    pub fn add_item(
        &mut self,
        item: CatalogueItem,
        image: Option<&[f32]>,
        text: Option<&[f32]>,
    ) -> Result<ItemIndex> {
        match self {
            Self::Tmf(tmf) => tmf.add_item(item, image, text),
            Self::Mllm4Rec(letters) => letters.add_item(item),
            Self::MllmSrec(chain) => chain.add_item(item),
            Self::Sequence(_) | Self::Graph(_) => {
                let expected = "a recommender that takes new items: tmf, mllm4rec, mllm_srec";
                Err(Error::argument("add_item", "model", expected, self.name()))
            }
        }
    }

    /// The modalities it fuses.
    pub fn modalities(&self) -> Vec<Modality> {
        match self {
            Self::Tmf(tmf) => tmf.modalities(),
            _ => Vec::new(),
        }
    }

    /// The behaviours it tells apart; none where one interaction is like another.
    pub fn behaviours(&self) -> &[String] {
        match self {
            Self::Sequence(_) | Self::Mllm4Rec(_) => &[],
            Self::Graph(graph) => graph.behaviours(),
            Self::Tmf(tmf) => &tmf.config().behaviours,
            Self::MllmSrec(chain) => &chain.config().behaviours,
        }
    }

    /// Tokens of a prompt at most; items of a history for recommenders that read items alone. `None`
    /// without a limit.
    pub fn max_input_tokens(&self) -> Option<usize> {
        match self {
            Self::Sequence(sequence) => Some(sequence.model().config().items().max_seq_len),
            Self::Graph(graph) => match graph.model() {
                GraphModel::Mbht(model) => Some(model.config().max_seq_len),
                GraphModel::LightGcn { .. } => None,
            },
            Self::Tmf(tmf) => Some(tmf.config().prompt.max_prompt_tokens),
            Self::Mllm4Rec(letters) => Some(letters.config().prompt.max_prompt_tokens),
            Self::MllmSrec(chain) => Some(chain.config().prompt.max_prompt_tokens),
        }
    }

    /// The recommender under evaluation by the names it writes.
    ///
    /// # Errors
    /// A recommender that writes none.
    pub fn written(&self, decoding: Decoding) -> Result<Written<'_, B, Prior>> {
        match self {
            Self::Tmf(tmf) => Ok(tmf.written(decoding)),
            _ => Err(Error::argument("evaluate", "answers", "tmf", self.name())),
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

/// Parts that do not fit each other are the bundle's fault, not that of who loads it.
fn of_the_bundle(error: Error) -> Error {
    match error {
        Error::Argument { operation, argument, expected, found } => {
            Error::file(BUNDLE_FILE, format!("{operation}: `{argument}`"), expected, found)
        }
        Error::Shape { operation, argument, expected, found } => {
            let (expected, found) = (format!("shape {expected:?}"), format!("{found:?}"));
            Error::file(BUNDLE_FILE, format!("{operation}: `{argument}`"), expected, found)
        }
        other => other,
    }
}
