//! Which columns of a table a search reads.

use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};

/// The types a search tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// pgvector's `vector`
    Vector,
    /// `tsvector`
    Lexemes,
    /// `jsonb`
    Json,
    /// `text`, `varchar` and the like
    Text,
    /// anything else
    Other,
}

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Identifier,
    /// Its type as `format_type` writes it, modifiers left out; safe as SQL text.
    pub type_name: String,
    /// Which of the types that matter here it has.
    pub kind: ColumnKind,
    /// The dimensions declared for a vector column.
    pub dimensions: Option<usize>,
}

/// What the catalogue says about a table, before anything is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFacts {
    /// Schema and name.
    pub table: QualifiedName,
    /// The name as `regclass` writes it, for messages.
    pub display: String,
    /// The columns, dropped ones left out.
    pub columns: Vec<Column>,
    /// The columns of the primary key.
    pub primary_key: Vec<Identifier>,
    /// The schema of pgvector's operators.
    pub pgvector_schema: Identifier,
    /// The model, content column and embedding column of the table's own embedding trigger.
    pub embedding_trigger: Option<EmbeddingTrigger>,
}

/// What an embedding trigger keeps true: `embedding` is always the vector of `content`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingTrigger {
    /// The column that is embedded.
    pub content: String,
    /// The column that holds the vector.
    pub embedding: String,
    /// The model.
    pub model: String,
}

/// Columns a caller named; each must exist and have the right type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnChoice {
    /// The vector column.
    pub embedding: Option<String>,
    /// The tsvector column.
    pub lexemes: Option<String>,
    /// The column returned as content.
    pub content: Option<String>,
}

/// A table with the columns a search reads.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSource {
    /// Everything the catalogue says.
    pub facts: TableFacts,
    /// The vector column.
    pub embedding: Column,
    /// The tsvector column.
    pub lexemes: Column,
    /// The column returned as content, if there is an obvious one.
    pub content: Option<Identifier>,
    /// The jsonb column in which a filter looks up what is not a column.
    pub metadata: Option<Identifier>,
    /// The model that embedded the rows, where the table says so.
    pub model: Option<String>,
}

/// Columns that hold the content when none is named, best first.
const CONTENT_NAMES: [&str; 4] = ["content", "body", "text", "description"];

impl TableFacts {
    /// The column of that name.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] (42703).
    pub fn column(&self, name: &str) -> Result<&Column> {
        self.find(name)
            .ok_or_else(|| Error::UnknownColumn { table: self.display.clone(), column: name.to_owned() })
    }

    /// The column of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.as_str() == name)
    }

    fn of_kind(&self, kind: ColumnKind) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |column| column.kind == kind)
    }

    /// The column named, which must be of `kind`, else the only one of that kind.
    fn choose(
        &self,
        named: Option<&str>,
        kind: ColumnKind,
        role: &'static str,
        argument: &'static str,
    ) -> Result<Column> {
        if let Some(name) = named {
            let column = self.column(name)?;
            if column.kind == kind {
                return Ok(column.clone());
            }
            return Err(Error::WrongColumnType {
                table: self.display.clone(),
                column: name.to_owned(),
                expected: role,
                found: column.type_name.clone(),
            });
        }
        let columns: Vec<&Column> = self.of_kind(kind).collect();
        match columns.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Error::MissingColumn { table: self.display.clone(), role }),
            several => {
                let names: Vec<String> = several.iter().map(|column| column.name.to_string()).collect();
                Err(Error::AmbiguousColumn {
                    table: self.display.clone(),
                    role,
                    count: several.len(),
                    columns: names.join(", "),
                    argument,
                })
            }
        }
    }
}

impl SearchSource {
    /// Chooses the columns of a search: those named, else the table's only vector and tsvector
    /// column, a content column by the embedding trigger or by its name, and `metadata` or the
    /// only jsonb column.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] and [`Error::UnknownColumn`] (42703), [`Error::AmbiguousColumn`]
    /// (42702), [`Error::WrongColumnType`] (42804).
    pub fn resolve(facts: TableFacts, choice: &ColumnChoice) -> Result<SearchSource> {
        let trigger = facts.embedding_trigger.as_ref();
        let trigger_embedding = trigger.map(|trigger| trigger.embedding.as_str());
        let embedding = facts.choose(
            choice.embedding.as_deref().or(trigger_embedding),
            ColumnKind::Vector,
            "vector",
            "vector_column",
        )?;
        let lexemes =
            facts.choose(choice.lexemes.as_deref(), ColumnKind::Lexemes, "tsvector", "text_column")?;
        let content = match &choice.content {
            Some(name) => Some(facts.column(name)?.name.clone()),
            None => content_column(&facts),
        };
        let metadata = metadata_column(&facts);
        let model = trigger
            .filter(|trigger| trigger.embedding == embedding.name.as_str())
            .map(|trigger| trigger.model.clone());
        Ok(SearchSource { embedding, lexemes, content, metadata, model, facts })
    }

    /// SQL for the primary key of the row `t` as text; without a primary key, its place.
    pub fn key_expression(&self) -> String {
        match self.facts.primary_key.as_slice() {
            [] => "pg_catalog.concat(t.tableoid, t.ctid)".to_owned(),
            [column] => format!("t.{column}::pg_catalog.text"),
            columns => format!("pg_catalog.jsonb_build_array({})::pg_catalog.text", listed(columns)),
        }
    }

    /// SQL to order rows that are otherwise equal.
    pub fn key_order(&self) -> String {
        match self.facts.primary_key.as_slice() {
            [] => "t.tableoid, t.ctid".to_owned(),
            columns => listed(columns),
        }
    }

    /// pgvector's cosine distance operator, schema and all.
    pub fn distance_operator(&self) -> String {
        format!("OPERATOR({}.<=>)", self.facts.pgvector_schema)
    }
}

/// The text search configuration in the expression of a generated tsvector column, such as
/// `to_tsvector('english'::regconfig, body)`.
pub fn configuration_in(expression: &str) -> Option<String> {
    let start = expression.find("to_tsvector('")? + "to_tsvector('".len();
    let rest = &expression[start..];
    let end = rest.find("'::regconfig")?;
    Some(rest[..end].replace("''", "'"))
}

fn listed(columns: &[Identifier]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
    columns.join(", ")
}

fn metadata_column(facts: &TableFacts) -> Option<Identifier> {
    let named = facts.find("metadata").filter(|column| column.kind == ColumnKind::Json);
    let mut all = facts.of_kind(ColumnKind::Json);
    named.or_else(|| all.next().filter(|_| all.next().is_none())).map(|column| column.name.clone())
}

fn content_column(facts: &TableFacts) -> Option<Identifier> {
    if let Some(trigger) = &facts.embedding_trigger {
        return facts.find(&trigger.content).map(|column| column.name.clone());
    }
    let is_key = |column: &&Column| facts.primary_key.contains(&column.name);
    let named = CONTENT_NAMES.iter().find_map(|name| facts.find(name));
    let mut texts = facts.of_kind(ColumnKind::Text).filter(|column| !is_key(column));
    named
        .filter(|column| column.kind == ColumnKind::Text)
        .or_else(|| texts.next().filter(|_| texts.next().is_none()))
        .map(|column| column.name.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    pub(crate) fn facts_with(columns: &[(&str, ColumnKind)]) -> TableFacts {
        let column = |(name, kind): &(&str, ColumnKind)| Column {
            name: identifier(name),
            type_name: match kind {
                ColumnKind::Vector => "public.vector",
                ColumnKind::Lexemes => "tsvector",
                ColumnKind::Json => "jsonb",
                ColumnKind::Text => "text",
                ColumnKind::Other => "integer",
            }
            .to_owned(),
            kind: *kind,
            dimensions: None,
        };
        TableFacts {
            table: QualifiedName { schema: identifier("public"), name: identifier("docs") },
            display: "docs".to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: vec![identifier("id")],
            pgvector_schema: identifier("public"),
            embedding_trigger: None,
        }
    }

    use ColumnKind::{Json, Lexemes, Other, Text, Vector};

    #[test]
    fn the_only_columns_are_chosen() {
        let facts = facts_with(&[
            ("id", Other),
            ("title", Text),
            ("body", Text),
            ("v", Vector),
            ("l", Lexemes),
            ("j", Json),
        ]);
        let source = SearchSource::resolve(facts, &ColumnChoice::default()).expect("searchable");
        assert_eq!(source.embedding.name, identifier("v"));
        assert_eq!(source.lexemes.name, identifier("l"));
        assert_eq!(source.content, Some(identifier("body")));
        assert_eq!(source.metadata, Some(identifier("j")));
    }

    #[test]
    fn several_or_no_columns_are_an_error_unless_named() {
        let two = facts_with(&[("id", Other), ("v", Vector), ("w", Vector), ("l", Lexemes)]);
        let error = SearchSource::resolve(two.clone(), &ColumnChoice::default()).expect_err("two");
        assert_eq!(error.facts().sqlstate, "42702");
        let named = ColumnChoice { embedding: Some("w".into()), ..ColumnChoice::default() };
        let source = SearchSource::resolve(two, &named).expect("named");
        assert_eq!(source.embedding.name, identifier("w"));
        let none = facts_with(&[("id", Other), ("l", Lexemes)]);
        let error = SearchSource::resolve(none, &ColumnChoice::default()).expect_err("none");
        assert_eq!(error.facts().sqlstate, "42703");
    }

    #[test]
    fn the_configuration_is_read_from_a_generated_column() {
        let read = configuration_in("setweight(to_tsvector('english'::regconfig, body), 'A')");
        assert_eq!(read.as_deref(), Some("english"));
        let quoted = configuration_in(r#"to_tsvector('"My ''Conf"'::regconfig, body)"#);
        assert_eq!(quoted.as_deref(), Some(r#""My 'Conf""#));
        assert_eq!(configuration_in("to_tsvector(lang, body)"), None);
    }

    #[test]
    fn a_named_column_must_have_the_type() {
        let facts = facts_with(&[("id", Other), ("v", Vector), ("l", Lexemes)]);
        let wrong = ColumnChoice { embedding: Some("l".into()), ..ColumnChoice::default() };
        let error = SearchSource::resolve(facts, &wrong).expect_err("not a vector");
        assert_eq!(error.facts().sqlstate, "42804");
    }

    #[test]
    fn composite_keys_become_json_and_no_key_the_place() {
        let mut facts = facts_with(&[("v", Vector), ("l", Lexemes)]);
        facts.primary_key = vec![identifier("a"), identifier("b")];
        let source = SearchSource::resolve(facts.clone(), &ColumnChoice::default()).expect("searchable");
        assert!(source.key_expression().contains("jsonb_build_array(t.\"a\", t.\"b\")"));
        facts.primary_key.clear();
        let source = SearchSource::resolve(facts, &ColumnChoice::default()).expect("searchable");
        assert_eq!(source.key_order(), "t.tableoid, t.ctid");
    }
}
