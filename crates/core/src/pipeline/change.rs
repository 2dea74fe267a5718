//! Changing the model of a searched table: a second companion beside the one that is searched, and how
//! the two change places.
//!
//! Another model may have other dimensions and read fewer tokens, so that chunks differ too. So the new
//! vectors are a companion of their own, of the same shape, and everything that reads or writes one
//! serves the other. Which of them is which is said by the name of their foreign key.

use crate::error::Result;
use crate::pipeline::SearchableTable;
use crate::pipeline::companion::{FOREIGN_KEY, shortened};
use crate::pipeline::rows::{hash_of, joined};
use crate::pipeline::{Configuration, KeyColumn};
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::{Parameter, Statement};

/// What a companion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is searched.
    Live,
    /// It is being filled, and will be searched.
    Next,
    /// It was searched, and is kept for going back.
    Previous,
}

impl Role {
    /// The name of the foreign key of such a companion.
    pub fn foreign_key(self) -> String {
        format!("{FOREIGN_KEY}{}", self.ending())
    }

    /// What its name has more than that of the companion that is searched.
    pub fn ending(self) -> &'static str {
        match self {
            Role::Live => "",
            Role::Next => "_next",
            Role::Previous => "_previous",
        }
    }

    /// The word in `vector_tools.search_drift`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Live => "live",
            Role::Next => "next",
            Role::Previous => "previous",
        }
    }
}

/// The name of a companion that is not searched, beside the one that is.
///
/// # Errors
/// Never in practice: the name is short enough.
pub fn shadow_name(
    live: &QualifiedName,
    role: Role,
    is_taken: impl Fn(&QualifiedName) -> bool,
) -> Result<QualifiedName> {
    let in_schema = |name: &Identifier| QualifiedName { schema: live.schema.clone(), name: name.clone() };
    let name = shortened("", live.name.as_str(), role.ending(), |name| is_taken(&in_schema(name)))?;
    Ok(in_schema(&name))
}

/// The SQL that gives a companion another role and name, and its indexes names that go with it, where
/// they have those that PostgreSQL gave them.
///
/// # Errors
/// Never in practice: names are short enough.
pub fn rename_sql(
    from: (&QualifiedName, Role),
    to: (&Identifier, Role),
    indexes: &[Identifier],
    is_taken: impl Fn(&QualifiedName) -> bool,
) -> Result<String> {
    let (table, name) = (from.0, to.0);
    let schema = &table.schema;
    let (key, new_key) = (Identifier::new(from.1.foreign_key())?, Identifier::new(to.1.foreign_key())?);
    let mut sql = String::new();
    if key != new_key {
        sql.push_str(&format!("ALTER TABLE {table} RENAME CONSTRAINT {key} TO {new_key};\n"));
    }
    let is_taken =
        |name: &Identifier| is_taken(&QualifiedName { schema: schema.clone(), name: name.clone() });
    for ending in ["_embedding_idx", "_lexemes_idx", "_pkey"] {
        let index = format!("{}{ending}", table.name.as_str());
        if let Some(index) = indexes.iter().find(|known| known.as_str() == index) {
            let new_index = shortened("", name.as_str(), ending, is_taken)?;
            sql.push_str(&format!("ALTER INDEX {schema}.{index} RENAME TO {new_index};\n"));
        }
    }
    sql.push_str(&format!("ALTER TABLE {table} RENAME TO {name};\n"));
    Ok(sql)
}

impl SearchableTable {
    /// The same source with another companion, which has its own model and may have its own names of the
    /// key's columns.
    pub fn with_companion(
        &self,
        model: &str,
        companion: QualifiedName,
        keys: Vec<KeyColumn>,
        dimensions: usize,
    ) -> SearchableTable {
        SearchableTable {
            companion,
            keys,
            dimensions,
            options: self.options.with_model(model),
            ..self.clone()
        }
    }

    /// Reads the keys of all rows as texts, one column each, whose chunks are not there, or not those of
    /// the row's content and of these options.
    pub fn list_untrue_keys(&self) -> Statement {
        let keys: Vec<String> =
            self.keys.iter().map(|key| format!("s.{}::pg_catalog.text", key.name)).collect();
        let mut statement = Statement::default();
        let is_true = self.is_true(&mut statement, "c");
        statement.push(format_args!(
            "SELECT {keys} FROM {source} AS s LEFT JOIN {companion} AS c \
             ON {same} AND c.chunk_index OPERATOR(pg_catalog.=) 0 WHERE NOT {is_true}",
            keys = keys.join(", "),
            source = self.from_source(),
            companion = self.companion,
            same = self.same_row("s", "c"),
        ));
        statement
    }

    /// Counts the rows whose chunks are true, and those of them whose chunks in the companion of `next`
    /// are not, with columns (true, of them untrue in the other).
    pub fn count_behind(&self, next: &SearchableTable) -> Statement {
        let mut statement = Statement::default();
        let (is_true, is_true_there) = (self.is_true(&mut statement, "c"), next.is_true(&mut statement, "n"));
        statement.push(format_args!(
            "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT {is_true_there}) \
             FROM {source} AS s \
             JOIN {companion} AS c ON {same} AND c.chunk_index OPERATOR(pg_catalog.=) 0 \
             LEFT JOIN {next} AS n ON {same_there} AND n.chunk_index OPERATOR(pg_catalog.=) 0 \
             WHERE {is_true}",
            source = self.from_source(),
            companion = self.companion,
            same = self.same_row("s", "c"),
            next = next.companion,
            same_there = next.same_row("s", "n"),
        ));
        statement
    }

    /// The condition that the first chunk `chunk` is of the content that the row `s` has now.
    fn is_true(&self, statement: &mut Statement, chunk: &str) -> String {
        let signature = statement.bind(Parameter::Text(self.options.signature()));
        let content: Vec<String> = self.content.iter().map(|column| format!("s.{column}")).collect();
        let configuration = match &self.configuration {
            Configuration::Constant(name) => Literal(&name.to_string()).to_string(),
            Configuration::Column(column) => format!("s.{column}::pg_catalog.text"),
        };
        // The hash is not computed where there is nothing to compare it with.
        format!(
            "CASE WHEN {chunk}.content_hash IS NULL THEN false \
             ELSE pg_catalog.encode({chunk}.content_hash, 'hex') OPERATOR(pg_catalog.=) {} END",
            hash_of(&signature, &configuration, &joined(&content))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::definition::tests::{identifier, name, table};

    #[test]
    fn roles_have_foreign_keys_of_their_own() {
        let keys = [Role::Live, Role::Next, Role::Previous].map(Role::foreign_key);
        assert_eq!(keys, ["vector_tools_search", "vector_tools_search_next", "vector_tools_search_previous"]);
    }

    #[test]
    fn a_shadow_is_named_after_the_companion() {
        let shadow = |live: &str, taken: &str| {
            let found = shadow_name(&name("s", live), Role::Next, |name| name.name.as_str() == taken);
            found.expect("short").name.as_str().to_owned()
        };
        assert_eq!(shadow("docs_search", ""), "docs_search_next");
        assert_eq!(shadow("docs_search", "docs_search_next"), "docs_search_2_next");
        assert_eq!(shadow(&"d".repeat(63), "").len(), 63);
    }

    #[test]
    fn indexes_are_renamed_with_their_table() {
        let indexes = ["docs_search_pkey", "docs_search_embedding_idx", "mine"].map(identifier);
        let to = identifier("a\"; DROP TABLE x; --");
        let table = name("s", "docs_search");
        let taken = |name: &QualifiedName| name.name.as_str().ends_with("--_embedding_idx");
        let sql = rename_sql((&table, Role::Live), (&to, Role::Previous), &indexes, taken).expect("short");
        assert!(sql.contains(r#"ALTER TABLE "s"."docs_search" RENAME TO "a""; DROP TABLE x; --";"#), "{sql}");
        assert!(sql.contains(r#"RENAME CONSTRAINT "vector_tools_search" TO "vector_tools_search_previous""#));
        assert!(sql.contains(r#"ALTER INDEX "s"."docs_search_pkey" RENAME TO "a""; DROP TABLE x; --_pkey""#));
        assert!(sql.contains("--_2_embedding_idx"), "{sql}");
        assert!(!sql.contains("mine") && !sql.contains("lexemes"), "{sql}");
        assert!(!sql.replace("\"\"", "").contains("\"; DROP"), "{sql}");
    }

    #[test]
    fn each_companion_is_compared_by_its_own_model() {
        let live = table("docs");
        let mut keys = live.keys.clone();
        keys[1].companion = identifier("row_number");
        let next = live.with_companion("n", name("public", "docs_search_next"), keys, 768);
        let statement = live.count_behind(&next);
        assert_eq!(statement.parameters[0], Parameter::Text(live.options.signature()));
        assert_eq!(statement.parameters[1], Parameter::Text(next.options.signature()));
        assert!(statement.text.contains(r#"n."row_number""#), "{}", statement.text);
        assert!(next.list_untrue_keys().text.contains(r#""docs_search_next" AS c"#));
    }
}
