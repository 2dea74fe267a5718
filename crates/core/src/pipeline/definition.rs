//! Ordinary tables made searchable: the companion table that holds their chunks, the triggers that
//! ask for new ones, and the statements that read and write them.

use super::SearchOptions;
use crate::search::request::ChunkChoice;
use crate::search::source::Origin;
use crate::sql::identifier::{Identifier, QualifiedName};

/// A column of the primary key of a source, and where its companion has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name in the source.
    pub name: Identifier,
    /// Its name in the companion.
    pub companion: Identifier,
    /// Its type as SQL text, modifiers left out.
    pub type_name: String,
    /// Its type, modifiers and collation as SQL text, for a column that is to hold the same values.
    pub definition: String,
    /// The equality of its type, such as `OPERATOR(pg_catalog.=)`.
    pub equality: String,
}

/// Where the words of a row's text search configuration come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configuration {
    /// One for all rows.
    Constant(QualifiedName),
    /// The row's own, in this column.
    Column(Identifier),
}

/// A source with its companion.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchableTable {
    /// The source.
    pub source: QualifiedName,
    /// Whether it is partitioned.
    pub is_partitioned: bool,
    /// The companion.
    pub companion: QualifiedName,
    /// The primary key, in the order of the source's columns.
    pub keys: Vec<KeyColumn>,
    /// The columns whose content is searched, in the order in which it is joined.
    pub content: Vec<Identifier>,
    /// How words are read.
    pub configuration: Configuration,
    /// What was asked for.
    pub options: SearchOptions,
    /// The schema of pgvector.
    pub pgvector_schema: Identifier,
    /// The numbers in the vectors of the companion.
    pub dimensions: usize,
}

impl SearchableTable {
    /// The source in a FROM clause.
    pub fn from_source(&self) -> String {
        own_rows(&self.source, self.is_partitioned)
    }

    /// The condition that the row `source` has the key of the row `companion`.
    pub fn same_row(&self, source: &str, companion: &str) -> String {
        let equal =
            |key: &KeyColumn| format!("{source}.{} {} {companion}.{}", key.name, key.equality, key.companion);
        self.keys.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// What a search of the companion needs to know of the source: the columns that an answer shows, whether each chunk
    /// counts only where the caller may read its row, and which chunks of a row are answers.
    pub fn origin(&self, shown: Vec<Identifier>, is_checked: bool, chunks: ChunkChoice) -> Origin {
        let same = self.keys.iter().map(|key| format!("p.{0} {1} t.{0}", key.companion, key.equality));
        Origin {
            from: self.from_source(),
            same_row: self.same_row("s", "t"),
            same_chunks: same.collect::<Vec<_>>().join(" AND "),
            companion: self.companion.clone(),
            key_columns: self.keys.len(),
            needed: self.keys.iter().map(|key| &key.name).chain(&self.content).cloned().collect(),
            shown,
            is_checked,
            chunks,
        }
    }
}

/// A table in a FROM clause. One that others inherit from stands for its own rows alone.
pub fn own_rows(table: &QualifiedName, is_partitioned: bool) -> String {
    if is_partitioned { table.to_string() } else { format!("ONLY {table}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    pub(crate) fn name(schema: &str, name: &str) -> QualifiedName {
        QualifiedName { schema: identifier(schema), name: identifier(name) }
    }

    pub(crate) fn table(source: &str) -> SearchableTable {
        let key = |name: &str, type_name: &str| KeyColumn {
            name: identifier(name),
            companion: identifier(&format!("row_{name}")),
            type_name: type_name.to_owned(),
            definition: type_name.to_owned(),
            equality: "OPERATOR(pg_catalog.=)".to_owned(),
        };
        SearchableTable {
            source: name("public", source),
            is_partitioned: false,
            companion: name("public", "docs_search"),
            keys: vec![key("tenant", "text"), key("id", "bigint")],
            content: vec![identifier("title"), identifier("body")],
            configuration: Configuration::Constant(name("pg_catalog", "english")),
            options: SearchOptions::for_model("m"),
            pgvector_schema: identifier("public"),
            dimensions: 384,
        }
    }

    #[test]
    fn rows_are_joined_by_all_columns_of_the_key() {
        let condition = table("docs").same_row("s", "c");
        assert_eq!(
            condition,
            r#"s."tenant" OPERATOR(pg_catalog.=) c."row_tenant" AND s."id" OPERATOR(pg_catalog.=) c."row_id""#
        );
    }
}
