//! Keys and values of prompt prefixes, kept by blocks of 64 tokens.
//!
//! A block is found by the hash of its own tokens and of everything before them, so two prompts
//! share the blocks of their common beginning and nothing else. A soft token counts by the identity
//! its caller gave it. Least recently used blocks leave
//! when the byte budget is passed.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::error::Result;
use crate::models::llama::TokenId;
use crate::nn::{AxesPosition, CachedRows, KvCache};

/// Tokens of one block.
pub const BLOCK_TOKENS: usize = 64;

/// What stands at one position: a token, or a soft token over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) token: TokenId,
    /// What the soft token is; equal identities promise equal rows.
    pub(super) soft: Option<u64>,
    /// Where it stands: its place in the sequence, but behind a picture's grid of tokens.
    pub(super) position: AxesPosition,
}

/// The stored blocks of one model. Share it through [`super::SharedPrefixCache`].
#[derive(Debug)]
pub struct PrefixCache<B: Backend> {
    blocks: HashMap<u64, Block<B>>,
    budget: u64,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct Block<B: Backend> {
    /// The hash alone may collide; these settle it.
    parent: u64,
    slots: Vec<Slot>,
    rows: CachedRows<B>,
    bytes: u64,
    last_used: u64,
    depth: usize,
}

/// Hash of the empty prefix.
const ROOT: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over the parent's hash and the slots.
fn chain(parent: u64, slots: &[Slot]) -> u64 {
    let tokens = slots.iter().flat_map(|slot| slot.token.to_le_bytes());
    let soft = slots.iter().filter_map(|slot| slot.soft).flat_map(u64::to_le_bytes);
    parent
        .to_le_bytes()
        .into_iter()
        .chain(tokens)
        .chain(soft)
        .fold(ROOT, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl<B: Backend> PrefixCache<B> {
    /// An empty cache that keeps at most `budget` bytes of keys and values.
    pub fn new(budget: u64) -> Self {
        Self { blocks: HashMap::new(), budget, bytes: 0, clock: 0 }
    }

    /// Bytes of keys and values held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True without any block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The rows of the longest stored prefix of `slots`, block by block.
    pub(super) fn lookup(&mut self, slots: &[Slot]) -> Vec<&CachedRows<B>> {
        self.clock += 1;
        let mut found = Vec::new();
        let mut parent = ROOT;
        for slots in slots.chunks_exact(BLOCK_TOKENS) {
            let key = chain(parent, slots);
            match self.blocks.get_mut(&key) {
                Some(block) if block.parent == parent && block.slots == slots => {
                    block.last_used = self.clock;
                }
                _ => break,
            }
            found.push(key);
            parent = key;
        }
        found.iter().filter_map(|key| self.blocks.get(key)).map(|block| &block.rows).collect()
    }

    /// Stores the whole blocks of `slots` that are not there yet, from the rows of `cache`.
    pub(super) fn insert(&mut self, b: &B, slots: &[Slot], cache: &KvCache<B>) -> Result<()> {
        self.clock += 1;
        let bytes = cache.bytes(b, BLOCK_TOKENS);
        let mut parent = ROOT;
        for (depth, slots) in slots.chunks_exact(BLOCK_TOKENS).enumerate() {
            // A prompt longer than the budget keeps its beginning.
            if (depth as u64 + 1).saturating_mul(bytes) > self.budget {
                break;
            }
            let key = chain(parent, slots);
            if let Some(block) = self.blocks.get_mut(&key) {
                if block.parent != parent || block.slots != slots {
                    break;
                }
                block.last_used = self.clock;
            } else {
                let first = depth * BLOCK_TOKENS;
                let rows = cache.copy_rows(b, first..first + BLOCK_TOKENS)?;
                let (slots, last_used) = (slots.to_vec(), self.clock);
                let block = Block { parent, slots, rows, bytes, last_used, depth };
                self.blocks.insert(key, block);
                self.bytes += bytes;
            }
            parent = key;
        }
        self.evict();
        Ok(())
    }

    /// Removes blocks, longest unused first and children before their parents, down to the budget.
    fn evict(&mut self) {
        while self.bytes > self.budget {
            let oldest = self
                .blocks
                .iter()
                .min_by_key(|(_, block)| (block.last_used, usize::MAX - block.depth))
                .map(|(&key, _)| key);
            let Some(block) = oldest.and_then(|key| self.blocks.remove(&key)) else { return };
            self.bytes -= block.bytes;
        }
    }
}
