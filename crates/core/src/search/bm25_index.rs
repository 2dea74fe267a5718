//! The `bm25` indexes of pg_textsearch, which serve the keyword leg where a table has one.

use crate::search::bm25::Bm25;
use crate::sql::identifier::{Identifier, QualifiedName};

/// An index made with `USING bm25 (column)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bm25Index {
    /// Its number.
    pub number: u32,
    /// The index.
    pub name: QualifiedName,
    /// The text column.
    pub column: Identifier,
    /// The parameters it scores with.
    pub bm25: Bm25,
    /// The schema of the operator `<@>` and of `to_bm25query`.
    pub schema: Identifier,
}

impl Bm25Index {
    /// SQL for the score of the row `t`, more being better: the operator gives it negative, since
    /// indexes scan upwards.
    pub fn score(&self, query: &str) -> String {
        format!("OPERATOR(pg_catalog.-) ({})", self.distance(query))
    }

    /// SQL for what the index orders rows by, `query` being a text parameter.
    pub fn distance(&self, query: &str) -> String {
        let (column, schema) = (&self.column, &self.schema);
        format!("t.{column} OPERATOR({schema}.<@>) {schema}.to_bm25query({query}, {})", self.literal())
    }

    // The planner recognises the index only by a constant.
    fn literal(&self) -> String {
        crate::sql::identifier::Literal(&self.name.to_string()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::source::tests::identifier;

    #[test]
    fn names_are_quoted_twice() {
        let index = Bm25Index {
            number: 1,
            name: QualifiedName { schema: identifier("public"), name: identifier("it's") },
            column: identifier("body"),
            bm25: Bm25::default(),
            schema: identifier("text"),
        };
        assert_eq!(
            index.distance("$1"),
            "t.\"body\" OPERATOR(\"text\".<@>) \"text\".to_bm25query($1, '\"public\".\"it''s\"')"
        );
    }
}
