//! Which packed rows belong together, and which of them an attention row sees.

use std::ops::Range;

use crate::error::{Error, Result};

/// Which packed rows form one sequence: segment i is rows `starts[i]..starts[i + 1]`.
/// Segments may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    starts: Vec<u32>,
}

impl Segments {
    /// Segments of these lengths, one after the other. More than 2^32 - 1 rows are refused.
    pub fn new(lengths: &[usize]) -> Result<Self> {
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        let mut rows = 0u32;
        starts.push(rows);
        for &length in lengths {
            rows = u32::try_from(length)
                .ok()
                .and_then(|length| rows.checked_add(length))
                .ok_or_else(|| {
                    let limit = u64::from(u32::MAX);
                    Error::Limit { what: "rows of a batch".into(), limit, found: length as u64 }
                })?;
            starts.push(rows);
        }
        Ok(Self { starts })
    }

    /// One segment of `rows` rows.
    pub fn one(rows: usize) -> Result<Self> {
        Self::new(&[rows])
    }

    /// Rows of all segments.
    pub fn rows(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// True without any segment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first row of each segment, then the number of rows.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The rows of each segment.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|w| w[0] as usize..w[1] as usize)
    }

    /// The position of every row inside its own segment, counted from `first`.
    pub fn positions(&self, first: u32) -> Vec<u32> {
        self.iter().flat_map(|rows| first..first + rows.len() as u32).collect()
    }

    /// The last row of every segment that has one: the rows whose logits are asked most.
    pub fn last_rows(&self) -> Vec<u32> {
        self.iter().filter(|rows| !rows.is_empty()).map(|rows| rows.end as u32 - 1).collect()
    }
}

/// What a row sees of its own segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Itself and the rows before it.
    Causal,
    /// Every row.
    Bidirectional,
}

/// Keys and values computed earlier, seen by every row of every segment: a session's cache, or the
/// prompt that all packed candidates share.
#[derive(Debug)]
pub struct Prefix<'a, T> {
    /// (capacity, num_key_value_heads * head_dim), rows from `len` on unused.
    pub k: &'a T,
    /// As `k`.
    pub v: &'a T,
    /// Rows in use.
    pub len: usize,
}

/// Who sees whom: each row sees the whole prefix, then its own segment under the mask.
/// Decoding is one row over a long prefix, prefill many rows over an empty or shorter one, scoring
/// many short segments over one prompt, training many segments over none.
#[derive(Debug)]
pub struct Attend<'a, T> {
    /// Which rows of q (and, without `keys`, of k and v) belong together.
    pub segments: &'a Segments,
    /// Which rows of k and v belong to each segment of q, where they are not the rows of q itself.
    /// Under [`Mask::Bidirectional`] every row of segment i sees all of segment i here, which has at
    /// least one row where that of q has. Under [`Mask::Causal`] the rows of q are the last of these:
    /// the last sees all, the one before it all but the last.
    pub keys: Option<&'a Segments>,
    /// What a row sees of its own segment.
    pub mask: Mask,
    /// What all rows see besides.
    pub prefix: Option<Prefix<'a, T>>,
    /// Dropout on the attention weights, used while training only.
    pub dropout: f32,
}

impl<'a, T> Attend<'a, T> {
    /// Segments under `mask`, without prefix or dropout.
    pub fn new(segments: &'a Segments, mask: Mask) -> Self {
        Self { segments, keys: None, mask, prefix: None, dropout: 0.0 }
    }

    /// Which rows of k and v belong to each segment of q.
    pub fn key_segments(&self) -> &'a Segments {
        self.keys.unwrap_or(self.segments)
    }

    /// Rows of the prefix.
    pub fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.len)
    }

    /// For each row of q, the rows of k and v it sees besides the prefix: (start, end).
    pub fn visible(&self) -> Vec<[u32; 2]> {
        let mut visible = Vec::with_capacity(self.segments.rows());
        for (rows, keys) in self.segments.iter().zip(self.key_segments().iter()) {
            let seen = |row| [keys.start as u32, self.keys_end(row, &rows, &keys) as u32];
            visible.extend(rows.clone().map(seen));
        }
        visible
    }

    /// Where the keys end that `row` of the segment `rows` sees of `keys`, the segment's.
    pub fn keys_end(&self, row: usize, rows: &Range<usize>, keys: &Range<usize>) -> usize {
        match self.mask {
            Mask::Causal => keys.end + row + 1 - rows.end,
            Mask::Bidirectional => keys.end,
        }
    }
}

/// Grouped-query attention's numbers: `num_attention_heads` queries share `num_key_value_heads`
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadShape {
    /// Query heads, a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head; its own number, not hidden_size / heads.
    pub head_dim: usize,
}

impl HeadShape {
    /// Columns of q.
    pub fn q_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }
    /// Columns of k and of v.
    pub fn kv_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }
    /// Query heads that share one key head.
    pub fn group(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads.max(1)
    }
    /// 1 / sqrt(head_dim).
    pub fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}
