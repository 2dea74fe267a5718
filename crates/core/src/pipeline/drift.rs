//! How many rows of a searched table there are, and how many of a table that is embedded in any way are
//! so with which model.

use crate::pipeline::SearchableTable;
use crate::pipeline::definition::own_rows;
use crate::sql::Statement;
use crate::sql::identifier::{Identifier, QualifiedName};

/// From so many rows on, they are estimated as the planner does, from the pages that they fill now.
pub const COUNTED_ROWS: f64 = 100_000.0;

impl SearchableTable {
    /// Reads the rows of the source.
    pub fn all_rows(&self) -> Statement {
        Statement { text: format!("SELECT 1 FROM {} AS s", self.from_source()), ..Statement::default() }
    }

    /// Reads the first chunks of the companion, one for each embedded row.
    pub fn all_embedded_rows(&self) -> Statement {
        // Without chunking the place says nothing, and a planner without statistics would be misled.
        let first = if self.options.chunking.is_some() {
            " WHERE c.chunk_index OPERATOR(pg_catalog.=) 0"
        } else {
            ""
        };
        Statement { text: format!("SELECT 1 FROM {} AS c{first}", self.companion), ..Statement::default() }
    }

    /// Counts the embeddings of the companion.
    pub fn count_embeddings(&self) -> Statement {
        let text =
            format!("SELECT pg_catalog.count(*) FROM {} AS c WHERE c.embedding IS NOT NULL", self.companion);
        Statement { text, ..Statement::default() }
    }

    /// Counts the rows and the chunks of the companion by model, with columns (model, rows, chunks).
    pub fn count_by_model(&self) -> Statement {
        let text = format!(
            "SELECT c.model, pg_catalog.count(*) FILTER (WHERE c.chunk_index OPERATOR(pg_catalog.=) 0), \
             pg_catalog.count(*) FROM {} AS c GROUP BY c.model ORDER BY c.model",
            self.companion
        );
        Statement { text, ..Statement::default() }
    }
}

/// The statement that counts the rows of another statement.
pub fn count_of(rows: &Statement) -> Statement {
    Statement { text: format!("SELECT pg_catalog.count(*) FROM ({}) AS r", rows.text), ..rows.clone() }
}

/// Counts the rows of a table that have an embedding in a column of their own.
pub fn count_embedded(table: &QualifiedName, is_partitioned: bool, embedding: &Identifier) -> Statement {
    let rows = own_rows(table, is_partitioned);
    let text = format!("SELECT pg_catalog.count(t.{embedding}) FROM {rows} AS t");
    Statement { text, ..Statement::default() }
}

/// Counts the first chunks and all chunks of a vector store by model, with columns (model, rows, chunks).
/// To tell its documents apart would cost a sort. The model is not cast, as that of a companion is not: a cast
/// could run code, and the type is looked at where it is read.
pub fn count_store(embeddings: &QualifiedName) -> Statement {
    let text = format!(
        "SELECT e.embedding_model, \
         pg_catalog.count(*) FILTER (WHERE e.chunk_index OPERATOR(pg_catalog.=) 0), \
         pg_catalog.count(*) FROM {embeddings} AS e GROUP BY 1 ORDER BY 1"
    );
    Statement { text, ..Statement::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::definition::tests::{identifier, name, table};
    use crate::pipeline::options::Chunking;

    #[test]
    fn only_chunked_rows_are_told_by_their_first_chunk() {
        let mut table = table("docs");
        assert!(table.all_embedded_rows().text.ends_with("AS c"));
        let chunking = Chunking { strategy: "fixed".into(), max_tokens: None, overlap: None };
        table.options.chunking = Some(chunking);
        assert!(
            count_of(&table.all_embedded_rows()).text.ends_with("chunk_index OPERATOR(pg_catalog.=) 0) AS r")
        );
    }

    #[test]
    fn a_table_that_others_inherit_from_is_counted_alone() {
        let (tickets, column) = (name("public", "tickets"), identifier("my \"v"));
        assert_eq!(
            count_embedded(&tickets, false, &column).text,
            r#"SELECT pg_catalog.count(t."my ""v") FROM ONLY "public"."tickets" AS t"#
        );
        assert!(!count_embedded(&tickets, true, &column).text.contains("ONLY"));
    }
}
