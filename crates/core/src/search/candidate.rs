//! The rows that travel through a search.

use std::fmt;

/// Where a row stands in its table; valid as long as the snapshot that read it. `Display` writes
/// the row's `ctid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The table or partition, `tableoid`.
    pub table: u32,
    /// The block of its `ctid`.
    pub block: u32,
    /// The offset of its `ctid`.
    pub offset: u16,
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({},{})", self.block, self.offset)
    }
}

/// A row that a leg found. Its rank is its place in the leg's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where the row is.
    pub location: Location,
    /// The primary key as text (a JSON array when it has several columns), the last word on the
    /// order of equal rows.
    pub key: String,
    /// What the leg thinks of it, more is better: the similarity or the BM25 score.
    pub score: f64,
}

/// What both legs think of a row, and where it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedRow {
    /// Where the row is.
    pub location: Location,
    /// The primary key as text.
    pub key: String,
    /// The fused score.
    pub score: f64,
    /// Its place in the vector leg, from 1.
    pub vector_rank: Option<usize>,
    /// Its place in the keyword leg, from 1.
    pub text_rank: Option<usize>,
    /// Its similarity to the query's embedding, as far as it is known.
    pub similarity: Option<f64>,
    /// Its BM25 score, as far as it is known.
    pub text_score: Option<f64>,
}

impl RankedRow {
    /// The better of its two ranks.
    pub fn best_rank(&self) -> usize {
        let ranks = [self.vector_rank, self.text_rank];
        ranks.into_iter().flatten().min().unwrap_or(usize::MAX)
    }

    /// Whether both legs have scored it.
    pub fn is_complete(&self) -> bool {
        self.similarity.is_some() && self.text_score.is_some()
    }
}
