//! The rows that travel through a search.

/// Where a row stands in its table; valid as long as the snapshot that read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The table or partition, `tableoid`.
    pub table: i64,
    /// The row in it, `ctid` as text.
    pub row: String,
}

/// A row that a leg found. Its rank is its place in the leg's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Where the row is.
    pub location: Location,
    /// The primary key as text (a JSON array when it has several columns), the last word on the
    /// order of equal rows.
    pub key: String,
}

/// A row in its final place.
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
}
