//! How nearness is measured in a vector column, and which index finds near rows.

use crate::search::source::{Column, TableFacts};
use crate::sql::identifier::Identifier;

/// A measure of distance between vectors, as an operator class of an index fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Cosine distance, 0 to 2.
    Cosine,
    /// Euclidean distance.
    Euclidean,
    /// The negative inner product.
    InnerProduct,
    /// The sum of absolute differences.
    Taxicab,
}

impl Metric {
    /// The metric of one of pgvector's operator classes, such as `vector_cosine_ops`.
    pub fn of_operator_class(name: &str) -> Option<Metric> {
        match name.split_once('_')? {
            ("vector" | "halfvec", "cosine_ops") => Some(Metric::Cosine),
            ("vector" | "halfvec", "l2_ops") => Some(Metric::Euclidean),
            ("vector" | "halfvec", "ip_ops") => Some(Metric::InnerProduct),
            ("vector" | "halfvec", "l1_ops") => Some(Metric::Taxicab),
            _ => None,
        }
    }

    /// pgvector's operator for the distance.
    pub fn operator(self) -> &'static str {
        match self {
            Metric::Cosine => "<=>",
            Metric::Euclidean => "<->",
            Metric::InnerProduct => "<#>",
            Metric::Taxicab => "<+>",
        }
    }

    /// The similarity that belongs to a distance: 1 − distance for cosine (−1 to 1), the inner
    /// product itself, and 1 / (1 + distance) for the others (0 to 1).
    pub fn similarity(self, distance: f64) -> f64 {
        match self {
            Metric::Cosine => 1.0 - distance,
            Metric::InnerProduct => -distance,
            Metric::Euclidean | Metric::Taxicab => 1.0 / (1.0 + distance),
        }
    }

    /// The largest distance that still has a similarity; `None` where none has.
    pub fn distance_at(self, similarity: f64) -> Option<f64> {
        match self {
            Metric::Cosine => Some(1.0 - similarity),
            Metric::InnerProduct => Some(-similarity),
            Metric::Euclidean | Metric::Taxicab if similarity <= 0.0 => Some(f64::INFINITY),
            Metric::Euclidean | Metric::Taxicab => Some(1.0 / similarity - 1.0).filter(|most| *most >= 0.0),
        }
    }
}

/// What an index holds of each vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexedForm {
    /// The vector itself.
    Whole,
    /// `embedding::halfvec(n)`
    HalfPrecision(usize),
    /// `binary_quantize(embedding)::bit(n)`, compared by Hamming distance
    Binary(usize),
}

/// An index that gives rows in the order of their distance, nearly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorIndex {
    /// The vector column.
    pub column: Identifier,
    /// What the index holds of it.
    pub form: IndexedForm,
    /// Its metric; a binary index has that of the exact distances that rank its rows again.
    pub metric: Metric,
    /// Whether it is HNSW; else IVFFlat.
    pub is_hnsw: bool,
    /// Its storage parameters, such as `m=16`.
    pub options: Vec<String>,
}

/// A vector column with its metric and index.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSpace {
    /// The column.
    pub column: Column,
    /// The metric of its index; cosine without one.
    pub metric: Metric,
    /// The index, if there is one.
    pub index: Option<VectorIndex>,
    /// The schema of pgvector.
    schema: Identifier,
}

/// A binary index is asked for so many times the rows wanted, since signs alone order vectors
/// only roughly.
const BINARY_OVERSAMPLING: usize = 4;

impl VectorSpace {
    /// Chooses the index of a column: one that holds whole vectors before one that holds less, HNSW
    /// before IVFFlat, cosine before other metrics.
    pub fn choose(column: Column, facts: &TableFacts) -> VectorSpace {
        let precision = |form: IndexedForm| match form {
            IndexedForm::Whole => 0,
            IndexedForm::HalfPrecision(_) => 1,
            IndexedForm::Binary(_) => 2,
        };
        let indexes = facts.vector_indexes.iter().filter(|index| index.column == column.name);
        let index = indexes
            .min_by_key(|index| (precision(index.form), !index.is_hnsw, index.metric != Metric::Cosine))
            .cloned();
        let metric = index.as_ref().map_or(Metric::Cosine, |index| index.metric);
        VectorSpace { column, metric, index, schema: facts.pgvector_schema.clone() }
    }

    /// SQL for a vector parameter as a value of the column's type.
    pub fn query(&self, placeholder: &str) -> String {
        format!("{placeholder}::{}", self.column.type_name)
    }

    /// SQL for the exact distance of the row `t` to a query, in the column's type.
    pub fn distance(&self, query: &str) -> String {
        format!("t.{} OPERATOR({}.{}) {query}", self.column.name, self.schema, self.metric.operator())
    }

    /// SQL for what the index orders rows by.
    pub fn indexed_distance(&self, placeholder: &str) -> String {
        let (column, schema) = (&self.column.name, &self.schema);
        match self.index.as_ref().map(|index| index.form) {
            None | Some(IndexedForm::Whole) => self.distance(&self.query(placeholder)),
            Some(IndexedForm::HalfPrecision(dimensions)) => format!(
                "t.{column}::{schema}.halfvec({dimensions}) OPERATOR({schema}.{}) \
                 {placeholder}::{schema}.halfvec({dimensions})",
                self.metric.operator()
            ),
            Some(IndexedForm::Binary(dimensions)) => format!(
                "{schema}.binary_quantize(t.{column})::pg_catalog.bit({dimensions}) OPERATOR({schema}.<~>) \
                 {schema}.binary_quantize({})::pg_catalog.bit({dimensions})",
                self.query(placeholder)
            ),
        }
    }

    /// How many rows the index must give so that the `depth` nearest are among them.
    pub fn rows_to_scan(&self, depth: usize) -> usize {
        match self.index.as_ref().map(|index| index.form) {
            Some(IndexedForm::Binary(_)) => BINARY_OVERSAMPLING * depth,
            _ => depth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::source::ColumnKind;
    use crate::search::source::tests::{facts_with, identifier, resolved};

    fn space_with(indexes: &[(IndexedForm, Metric, bool)]) -> VectorSpace {
        let mut facts = facts_with(&[("v", ColumnKind::Vector), ("l", ColumnKind::Lexemes)]);
        facts.vector_indexes = indexes
            .iter()
            .map(|(form, metric, is_hnsw)| VectorIndex {
                column: identifier("v"),
                form: *form,
                metric: *metric,
                is_hnsw: *is_hnsw,
                options: vec![],
            })
            .collect();
        resolved(facts).vectors.expect("a vector column")
    }

    #[test]
    fn the_index_fixes_the_metric() {
        let space = space_with(&[]);
        assert_eq!(space.distance("$1"), "t.\"v\" OPERATOR(\"public\".<=>) $1");
        let space = space_with(&[(IndexedForm::Whole, Metric::Euclidean, true)]);
        assert_eq!(space.distance("$1"), "t.\"v\" OPERATOR(\"public\".<->) $1");
    }

    #[test]
    fn whole_vectors_are_preferred() {
        let space = space_with(&[
            (IndexedForm::Binary(8), Metric::Cosine, true),
            (IndexedForm::Whole, Metric::InnerProduct, false),
        ]);
        assert_eq!(space.metric, Metric::InnerProduct);
        assert_eq!(space.rows_to_scan(10), 10);
    }

    #[test]
    fn expressions_are_those_of_the_index() {
        let half = space_with(&[(IndexedForm::HalfPrecision(8), Metric::Cosine, true)]);
        assert!(half.indexed_distance("$1").starts_with("t.\"v\"::\"public\".halfvec(8) OPERATOR"));
        let binary = space_with(&[(IndexedForm::Binary(8), Metric::Cosine, true)]);
        assert!(binary.indexed_distance("$1").contains("binary_quantize(t.\"v\")::pg_catalog.bit(8)"));
        assert_eq!(binary.rows_to_scan(10), 40);
    }

    #[test]
    fn similarity_and_distance_are_inverse() {
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::InnerProduct, Metric::Taxicab] {
            let distance = metric.distance_at(metric.similarity(0.4)).expect("reachable");
            assert!((distance - 0.4).abs() < 1e-12);
        }
        assert_eq!(Metric::Euclidean.distance_at(1.5), None);
        assert_eq!(Metric::of_operator_class("halfvec_l2_ops"), Some(Metric::Euclidean));
        assert_eq!(Metric::of_operator_class("bit_hamming_ops"), None);
    }
}
