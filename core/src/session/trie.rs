//! Names as a trie of their tokens: an answer that can only be one of them, and the likelihood of
//! each.
//!
//! Every name ends by a stop token of its own, so a name that begins another one is a path like any
//! other, and its end is weighed against the other's continuation.

use super::{LOGIT_ROWS, Sampler, Session};
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};
use crate::models::llama::{Rows, TokenId};
use crate::nn::KvUse;

/// Most nodes of one trie: tokens of all names, common beginnings counted once.
pub const MAX_TRIE_NODES: usize = 1 << 24;

/// Rows of one packed pass over names; a longer name is a pass of its own.
const PASS_ROWS: usize = 2048;

const ROOT: u32 = 0;

/// Token sequences by their common beginnings.
#[derive(Clone, Debug)]
pub struct Trie {
    /// A parent stands before its children.
    nodes: Vec<Node>,
    /// Where each name ends.
    ends: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Node {
    parent: u32,
    token: TokenId,
    depth: u32,
    /// By token, ascending.
    children: Vec<(TokenId, u32)>,
}

/// What a name's score is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// log P(name, end): the sum over its tokens.
    #[default]
    Sum,
    /// The mean over its tokens, the end among them: long names are no worse than short ones.
    Mean,
    /// log P(name, end) where only the trie's tokens can follow: the probabilities of all names add
    /// up to 1, and are those that [`Session::choose`] draws by. Where no choice is, nothing is
    /// computed.
    Constrained,
}

/// What [`Session::choose`] chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The name's place in the list the trie was made of; several when they are the same name.
    pub names: Vec<usize>,
    /// Its tokens, without the end.
    pub token_ids: Vec<TokenId>,
}

impl Trie {
    /// The trie of `names`, each followed by `end`.
    ///
    /// # Errors
    /// A name that holds `end`; more nodes than [`MAX_TRIE_NODES`].
    pub fn new<N: AsRef<[TokenId]>>(names: &[N], end: TokenId) -> Result<Self> {
        let root = Node { parent: ROOT, token: end, depth: 0, children: Vec::new() };
        let mut trie = Self { nodes: vec![root], ends: Vec::with_capacity(names.len()) };
        for (place, name) in names.iter().enumerate() {
            let name = name.as_ref();
            if name.contains(&end) {
                let expected = format!("names without their end, token {end}");
                return Err(Error::argument("trie", "names", expected, format!("name {place}")));
            }
            let mut node = ROOT;
            for &token in name.iter().chain([&end]) {
                node = trie.child(node, token)?;
            }
            trie.ends.push(node);
        }
        Ok(trie)
    }

    /// The child of `parent` by `token`, made if it is not there.
    fn child(&mut self, parent: u32, token: TokenId) -> Result<u32> {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(parent as usize) else {
            return Err(Error::Internal(format!("trie: no node {parent}")));
        };
        let place = match node.children.binary_search_by_key(&token, |child| child.0) {
            Ok(place) => return Ok(node.children[place].1),
            Err(place) => place,
        };
        if new >= MAX_TRIE_NODES {
            let (limit, found) = (MAX_TRIE_NODES as u64, new as u64 + 1);
            return Err(Error::Limit { what: "trie: nodes".into(), limit, found });
        }
        node.children.insert(place, (token, new as u32));
        let depth = node.depth + 1;
        self.nodes.push(Node { parent, token, depth, children: Vec::new() });
        Ok(new as u32)
    }

    /// Names it was made of.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without any name.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn children(&self, node: u32) -> &[(TokenId, u32)] {
        self.nodes.get(node as usize).map_or(&[], |node| &node.children)
    }

    /// The nodes from `node` up to the root's child.
    fn up(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let above = |node: &u32| Some(self.nodes[*node as usize].parent);
        std::iter::successors(Some(node), above).take_while(|&node| node != ROOT)
    }

    /// Packed segments in which every node that `needed` names has a row, each at most once: its
    /// row is the one of its token, which its children are predicted by.
    fn plan(&self, needed: impl Fn(&Node) -> bool) -> Vec<Pass> {
        let mut passes: Vec<Pass> = Vec::new();
        let mut placed = vec![false; self.nodes.len()];
        // Children stand behind their parents, so the last nodes reach furthest.
        for node in (1..self.nodes.len() as u32).rev() {
            if placed[node as usize] || !needed(&self.nodes[node as usize]) {
                continue;
            }
            let length = self.nodes[node as usize].depth as usize;
            if passes.last().is_none_or(|pass| pass.ids.len() + length > PASS_ROWS) {
                passes.push(Pass::default());
            }
            let Some(pass) = passes.last_mut() else { continue };
            let first = pass.ids.len();
            let mut path: Vec<u32> = self.up(node).collect();
            path.reverse();
            for (row, &node) in (first as u32..).zip(&path) {
                pass.ids.push(self.nodes[node as usize].token);
                if !placed[node as usize] && needed(&self.nodes[node as usize]) {
                    pass.asked.push((row, node));
                }
                placed[node as usize] = true;
            }
            pass.lengths.push(length);
        }
        passes
    }
}

/// One packed pass over beginnings of names.
#[derive(Debug, Default)]
struct Pass {
    lengths: Vec<usize>,
    ids: Vec<TokenId>,
    /// (row, node): which row predicts the children of which node.
    asked: Vec<(u32, u32)>,
}

impl<B: Backend> Session<B> {
    /// Follows the sequence by one name of `trie`, token by token: the sampler sees the logits of
    /// the tokens that may come next and of no others, and where only one may, nothing is computed.
    /// The session stays as it was.
    ///
    /// # Errors
    /// A trie without names, an empty session, a name that does not fit behind the sequence.
    pub async fn choose(&mut self, trie: &Trie, sampler: &mut Sampler) -> Result<Choice> {
        if trie.is_empty() {
            return Err(Error::argument("choose", "trie", "at least one name", "none"));
        }
        let (len, last) = (self.slots.len(), self.last()?.clone());
        let chosen = self.walk(trie, sampler).await;
        self.truncate(len);
        self.last = Some(last);
        let (end, mut token_ids) = chosen?;
        token_ids.pop();
        let names = trie.ends.iter().enumerate().filter(|(_, node)| **node == end);
        Ok(Choice { names: names.map(|(name, _)| name).collect(), token_ids })
    }

    async fn walk(&mut self, trie: &Trie, sampler: &mut Sampler) -> Result<(u32, Vec<TokenId>)> {
        let mut node = ROOT;
        let mut path = Vec::new();
        let mut computed = 0;
        loop {
            let (token, next) = match trie.children(node) {
                [] => return Ok((node, path)),
                [only] => *only,
                children => {
                    self.append(&path[computed..])?;
                    computed = path.len();
                    let asked: Vec<TokenId> = children.iter().map(|child| child.0).collect();
                    let logits = self.model.asked_logits(&self.backend, self.last()?, &asked)?;
                    let place = sampler.next(&self.backend, &logits).await?;
                    let missing = || Error::Internal(format!("trie: no child {place}"));
                    *children.get(place as usize).ok_or_else(missing)?
                }
            };
            path.push(token);
            node = next;
        }
    }

    /// The log-likelihood of every name of `trie`, as if each alone followed the sequence, its end
    /// included. Packed: the sequence is computed once and stays as it is, a common beginning's
    /// logits once for all names that share it.
    pub async fn score_names(&self, trie: &Trie, likelihood: Likelihood) -> Result<Vec<f32>> {
        if trie.is_empty() {
            return Ok(Vec::new());
        }
        let (b, model) = (&self.backend, &self.model);
        let children = match likelihood {
            Likelihood::Constrained => 2,
            Likelihood::Sum | Likelihood::Mean => 1,
        };
        let passes = trie.plan(|node| node.children.len() >= children);
        let longest = passes.iter().flat_map(|pass| &pass.lengths).max().unwrap_or(&0);
        let (limit, found) = (self.cache.max_seq_len(), self.slots.len() + longest);
        if found > limit {
            return Err(Error::InputTooLong { what: "the prompt and a name", limit, found });
        }
        let mut scores = vec![0.0; trie.nodes.len()]; // log P(node | its parent)
        self.weigh(trie, likelihood, self.last()?, &[(0, ROOT)], &mut scores).await?;
        for pass in &passes {
            let segments = Segments::new(&pass.lengths)?;
            let positions = segments.positions(self.next_position());
            let rows = Rows { segments: &segments, positions: &positions };
            let hidden = model.embed(b, &pass.ids)?;
            let hidden = model.forward(b, hidden, rows, KvUse::Share(&self.cache), None)?;
            self.weigh(trie, likelihood, &hidden, &pass.asked, &mut scores).await?;
        }
        let score = |&end: &u32| {
            let sum: f64 = trie.up(end).map(|node| scores[node as usize]).sum();
            let tokens = f64::from(trie.nodes[end as usize].depth);
            (if likelihood == Likelihood::Mean { sum / tokens } else { sum }) as f32
        };
        Ok(trie.ends.iter().map(score).collect())
    }

    /// Fills in log P(child | node) for the children of the asked nodes from their rows of `hidden`.
    async fn weigh(
        &self,
        trie: &Trie,
        likelihood: Likelihood,
        hidden: &B::Tensor,
        asked: &[(u32, u32)],
        scores: &mut [f64],
    ) -> Result<()> {
        let (b, model) = (&self.backend, &self.model);
        for asked in asked.chunks(LOGIT_ROWS) {
            let rows: Vec<u32> = asked.iter().map(|(row, _)| *row).collect();
            let hidden = b.gather_rows(hidden, &rows)?;
            let children = || asked.iter().flat_map(|(_, node)| trie.children(*node));
            let mut tokens: Vec<TokenId> = children().map(|child| child.0).collect();
            tokens.sort_unstable();
            tokens.dedup();
            let logits = b.read(&model.asked_logits(b, &hidden, &tokens)?).await?;
            // The whole vocabulary's share, by the loss of one token whose logit is known.
            let losses = match likelihood {
                Likelihood::Constrained => Vec::new(),
                Likelihood::Sum | Likelihood::Mean => {
                    let first = |(_, node): &(u32, u32)| trie.children(*node).first().map(|c| c.0);
                    let targets: Vec<TokenId> = asked.iter().filter_map(first).collect();
                    b.read(&b.cross_entropy(&model.logits(b, &hidden)?, &targets)?).await?
                }
            };
            for (row, (_, node)) in asked.iter().enumerate() {
                let children = trie.children(*node);
                let logit = |token: &TokenId| match tokens.binary_search(token) {
                    Ok(column) => f64::from(logits[row * tokens.len() + column]),
                    Err(_) => f64::NAN,
                };
                let values: Vec<f64> = children.iter().map(|(token, _)| logit(token)).collect();
                let total = match (losses.get(row), values.first()) {
                    (Some(loss), Some(first)) => first + f64::from(*loss),
                    _ => log_sum_exp(&values),
                };
                for ((_, child), value) in children.iter().zip(&values) {
                    scores[*child as usize] = value - total;
                }
            }
        }
        Ok(())
    }
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let peak = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    peak + values.iter().map(|value| (value - peak).exp()).sum::<f64>().ln()
}
