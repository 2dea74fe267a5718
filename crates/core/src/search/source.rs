//! Which columns of a table a search reads.

use crate::error::{Error, Result};
use crate::search::Filter;
use crate::search::bm25_index::Bm25Index;
use crate::search::request::ChunkChoice;
use crate::search::vector_space::{VectorIndex, VectorSpace};
use crate::sql::Statement;
use crate::sql::identifier::{Identifier, QualifiedName};

/// The types a search tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// pgvector's `vector` or `halfvec`
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
    /// The type that its values are compared as: its own, or that which its domain is over, whose checks would
    /// run again for every question. Safe as SQL text.
    pub compared_as: String,
    /// Which of the types that matter here it has.
    pub kind: ColumnKind,
    /// Its type's number in the catalogue.
    pub type_oid: u32,
    /// The dimensions declared for a vector column.
    pub dimensions: Option<usize>,
    /// The text search configuration in the expression of a generated tsvector column.
    pub configuration: Option<String>,
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
    /// The indexes that order rows by distance.
    pub vector_indexes: Vec<VectorIndex>,
    /// The indexes of pg_textsearch.
    pub bm25_indexes: Vec<Bm25Index>,
    /// The model that is the default of a column `embedding_model`.
    pub default_model: Option<String>,
    /// The columns by whose values the table is partitioned.
    pub partition_key: Vec<Identifier>,
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

/// The legs that a search is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Legs {
    /// Whether the table must have a vector column.
    pub vector: bool,
    /// Whether it must have a tsvector column.
    pub keyword: bool,
}

impl Legs {
    /// Both legs.
    pub const BOTH: Legs = Legs { vector: true, keyword: true };
}

/// A table with the columns a search reads.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSource {
    /// Everything the catalogue says.
    pub facts: TableFacts,
    /// The vector column, and how rows near to a query are found in it.
    pub vectors: Option<VectorSpace>,
    /// The tsvector column.
    pub lexemes: Option<Column>,
    /// The column returned as content, if there is an obvious one.
    pub content: Option<Identifier>,
    /// The jsonb column in which a filter looks up what is not a column.
    pub metadata: Option<Identifier>,
    /// The model that embedded the rows, where the table says so.
    pub model: Option<String>,
    /// The table whose chunks these are, where it is a companion.
    pub origin: Option<Origin>,
}

/// The table that a companion holds the chunks of.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The table in a FROM clause.
    pub from: String,
    /// The condition that the row `s` of the table is that of the chunk `t`.
    pub same_row: String,
    /// The condition that the chunks `p` and `t` are of one row.
    pub same_chunks: String,
    /// The companion.
    pub companion: QualifiedName,
    /// How many columns the key of the table has.
    pub key_columns: usize,
    /// What must be readable: the key, and the columns whose content is searched.
    pub needed: Vec<Identifier>,
    /// The columns that an answer shows: those that the caller may read.
    pub shown: Vec<Identifier>,
    /// Whether each chunk counts only where the caller may read its row.
    pub is_checked: bool,
    /// Which chunks of a row are answers.
    pub chunks: ChunkChoice,
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

    /// The columns that an answer shows: all but vectors and tsvectors.
    pub fn shown_columns(&self) -> impl Iterator<Item = &Identifier> {
        let shown = |column: &&Column| !matches!(column.kind, ColumnKind::Vector | ColumnKind::Lexemes);
        self.columns.iter().filter(shown).map(|column| &column.name)
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
    /// only jsonb column. A column that no leg needs is left out where there is no obvious one.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] and [`Error::UnknownColumn`] (42703), [`Error::AmbiguousColumn`]
    /// (42702), [`Error::WrongColumnType`] (42804).
    pub fn resolve(facts: TableFacts, choice: &ColumnChoice, legs: Legs) -> Result<SearchSource> {
        let trigger = facts.embedding_trigger.as_ref();
        let trigger_embedding = trigger.map(|trigger| trigger.embedding.as_str());
        let embedding = facts.choose(
            choice.embedding.as_deref().or(trigger_embedding),
            ColumnKind::Vector,
            "vector",
            "vector_column",
        );
        let embedding = if legs.vector { Some(embedding?) } else { embedding.ok() };
        let lexemes = facts.choose(choice.lexemes.as_deref(), ColumnKind::Lexemes, "tsvector", "text_column");
        let lexemes = if legs.keyword { Some(lexemes?) } else { lexemes.ok() };
        let content = match &choice.content {
            Some(name) => Some(facts.column(name)?.name.clone()),
            None => content_column(&facts),
        };
        let metadata = metadata_column(&facts);
        let model = trigger
            .zip(embedding.as_ref())
            .filter(|(trigger, embedding)| trigger.embedding == embedding.name.as_str())
            .map(|(trigger, _)| trigger.model.clone())
            .or_else(|| facts.default_model.clone());
        let vectors = embedding.map(|column| VectorSpace::choose(column, &facts));
        Ok(SearchSource { vectors, lexemes, content, metadata, model, facts, origin: None })
    }

    /// Appends the conditions of a filter to a statement whose row is called `t`. The columns of a
    /// companion's filter are those of its table.
    pub fn push_filter(&self, filter: &Filter, statement: &mut Statement) {
        let Some(origin) = &self.origin else {
            return filter.push_conditions(statement);
        };
        if filter.is_empty() && !origin.is_checked {
            return;
        }
        // What must be readable is named.
        let needed: Vec<String> = origin.needed.iter().map(|column| format!("s.{column}")).collect();
        statement.push(format_args!(
            " AND EXISTS (SELECT {} FROM {} AS s WHERE {}",
            needed.join(", "),
            origin.from,
            origin.same_row,
        ));
        filter.push_conditions_on("s", statement);
        statement.push(")");
    }

    /// How many columns of the key name a row to the caller: of a chunk, all but its place.
    pub fn shown_key_columns(&self) -> usize {
        self.origin.as_ref().map_or(self.facts.primary_key.len(), |origin| origin.key_columns)
    }

    /// The columns of the primary key of the row `t`; without a primary key, its place.
    pub fn key_columns(&self) -> Vec<String> {
        match self.facts.primary_key.as_slice() {
            [] => vec!["t.tableoid".to_owned(), "t.ctid".to_owned()],
            columns => columns.iter().map(|column| format!("t.{column}")).collect(),
        }
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

/// What stands around the constant of a default: its length is checked, or its type becomes that of the column.
const AROUND_CONSTANTS: [&str; 3] = ["{RELABELTYPE :arg ", "{COERCETODOMAIN :arg ", "{FUNCEXPR :funcid 669 "];

/// The text that is the default of a column, from the tree that PostgreSQL keeps of it in `pg_attrdef.adbin`; `None` for
/// any other expression. So its table need not be opened, as it is where PostgreSQL writes the expression out.
pub fn constant_in(tree: &str) -> Option<String> {
    /// `text` and `varchar`
    const TYPES: [&str; 2] = ["25", "1043"];
    /// The bytes of the length before a value that is not short.
    const HEADER: usize = 4;
    let mut tree = tree;
    while let Some(around) = AROUND_CONSTANTS.iter().find(|around| tree.starts_with(**around)) {
        tree = &tree[around.len()..];
        if around.starts_with("{FUNCEXPR") {
            tree = tree.split_once(" :args (")?.1;
        }
    }
    let constant = tree.strip_prefix("{CONST :consttype ")?;
    let (type_oid, rest) = constant.split_once(' ')?;
    let (_, value) = rest.split_once(" :constvalue ")?;
    let (length, bytes) = value.split_once(" [ ")?;
    let (bytes, _) = bytes.split_once(']')?;
    // Signed where the machine's characters are.
    let byte = |text: &str| text.parse::<i16>().ok().and_then(|byte| u8::try_from(byte & 0xFF).ok());
    let bytes: Vec<u8> = bytes.split_ascii_whitespace().map(byte).collect::<Option<_>>()?;
    let is_text = TYPES.contains(&type_oid) && length.parse() == Ok(bytes.len());
    let text = bytes.get(HEADER..).filter(|_| is_text)?.to_vec();
    String::from_utf8(text).ok()
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
        let column = |(name, kind): &(&str, ColumnKind)| {
            let type_name = match kind {
                ColumnKind::Vector => "public.vector",
                ColumnKind::Lexemes => "tsvector",
                ColumnKind::Json => "jsonb",
                ColumnKind::Text => "text",
                ColumnKind::Other => "integer",
            };
            Column {
                name: identifier(name),
                type_name: type_name.to_owned(),
                compared_as: type_name.to_owned(),
                kind: *kind,
                type_oid: 0,
                dimensions: None,
                configuration: None,
            }
        };
        TableFacts {
            table: QualifiedName { schema: identifier("public"), name: identifier("docs") },
            display: "docs".to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: vec![identifier("id")],
            pgvector_schema: identifier("public"),
            embedding_trigger: None,
            vector_indexes: vec![],
            bm25_indexes: vec![],
            default_model: None,
            partition_key: vec![],
        }
    }

    pub(crate) fn resolved(facts: TableFacts) -> SearchSource {
        SearchSource::resolve(facts, &ColumnChoice::default(), Legs::BOTH).expect("searchable")
    }

    use ColumnKind::{Json, Lexemes, Other, Text, Vector};

    #[test]
    fn models_are_read_from_defaults() {
        let constant = |type_oid: u32, bytes: &str| {
            format!(
                "{{CONST :consttype {type_oid} :consttypmod -1 :constcollid 100 :constlen -1 :constbyval false \
                 :constisnull false :location 5 :constvalue {} [ {bytes} ]}}",
                bytes.split(' ').count()
            )
        };
        let model = constant(1043, "28 0 0 0 97 47 -61");
        assert_eq!(constant_in(&model), None, "expected no half of a letter");
        let model = constant(1043, "28 0 0 0 97 47 98");
        let checked = format!(
            "{{FUNCEXPR :funcid 669 :funcresulttype 1043 :funcformat 2 :args ({model} {{CONST :consttype 23}}) :location -1}}"
        );
        let relabelled =
            format!("{{RELABELTYPE :arg {} :resulttype 1043}}", constant(25, "24 0 0 0 -61 -68"));
        assert_eq!(constant_in(&model).as_deref(), Some("a/b"));
        assert_eq!(constant_in(&checked).as_deref(), Some("a/b"));
        assert_eq!(constant_in(&relabelled).as_deref(), Some("\u{fc}"));
        let others = [
            String::new(),
            "{FUNCEXPR :funcid 871 :args (".to_owned() + &model,
            constant(23, "28 0 0 0 97 47 98"),
            constant(25, "1 x"),
            constant(25, "7"),
            model.replace(":constvalue 7 [ 28 0 0 0 97 47 98 ]", ":constvalue <>"),
            model.replace(":constvalue 7", ":constvalue 9"),
            model[..model.len() - 9].to_owned(),
        ];
        for other in others {
            assert_eq!(constant_in(&other), None, "{other}");
        }
    }

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
        let source = resolved(facts);
        assert_eq!(source.vectors.map(|vectors| vectors.column.name), Some(identifier("v")));
        assert_eq!(source.lexemes.map(|lexemes| lexemes.name), Some(identifier("l")));
        assert_eq!(source.content, Some(identifier("body")));
        assert_eq!(source.metadata, Some(identifier("j")));
    }

    #[test]
    fn several_or_no_columns_are_an_error_unless_named() {
        let two = facts_with(&[("id", Other), ("v", Vector), ("w", Vector), ("l", Lexemes)]);
        let error =
            SearchSource::resolve(two.clone(), &ColumnChoice::default(), Legs::BOTH).expect_err("two");
        assert_eq!(error.facts().sqlstate, "42702");
        let named = ColumnChoice { embedding: Some("w".into()), ..ColumnChoice::default() };
        let source = SearchSource::resolve(two, &named, Legs::BOTH).expect("named");
        assert_eq!(source.vectors.map(|vectors| vectors.column.name), Some(identifier("w")));
        let none = facts_with(&[("id", Other), ("l", Lexemes)]);
        let keyword_only = Legs { vector: false, keyword: true };
        assert!(SearchSource::resolve(none.clone(), &ColumnChoice::default(), keyword_only).is_ok());
        let error = SearchSource::resolve(none, &ColumnChoice::default(), Legs::BOTH).expect_err("none");
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
        let error = SearchSource::resolve(facts, &wrong, Legs::BOTH).expect_err("not a vector");
        assert_eq!(error.facts().sqlstate, "42804");
    }

    #[test]
    fn without_a_key_the_place_stands_for_it() {
        let mut facts = facts_with(&[("v", Vector), ("l", Lexemes)]);
        facts.primary_key = vec![identifier("a"), identifier("b")];
        let source = resolved(facts.clone());
        assert_eq!(source.key_columns(), ["t.\"a\"", "t.\"b\""]);
        facts.primary_key.clear();
        let source = resolved(facts);
        assert_eq!(source.key_columns(), ["t.tableoid", "t.ctid"]);
    }
}
