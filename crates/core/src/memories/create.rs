//! Creating a domain's table, and mending one that has lost its triggers or was made without the
//! extension.

use crate::error::{Error, Result};
use crate::memories::domain::{check_new_domain, check_shape, table_name};
use crate::search::TableFacts;
use crate::search::source::ColumnKind;
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::lock::lock_key;
use crate::sql::template::fill_template;

const TABLE: &str = include_str!("../../../../sql/templates/domain_memories.sql");
const TRIGGERS: &str = include_str!("../../../../sql/templates/domain_memories_triggers.sql");
const LEXEMES: &str = include_str!("../../../../sql/templates/domain_memories_lexemes.sql");
const MISSING: &str = include_str!("../../../../sql/templates/domain_memories_missing.sql");

/// The endings of the index names, after that of the table.
const INDEX_ENDINGS: [&str; 5] =
    ["_embedding_idx", "_metadata_idx", "_updated_idx", "_content_idx", "_lexemes_idx"];

/// What stands before the model in the comment of a table.
const EMBEDDED_WITH: &str = ", embedded with ";

/// A new id: a UUID of version 7, which grows with time, so that new rows lie together.
pub const NEW_ID: &str = "pg_catalog.uuidv7()::pg_catalog.text";

/// The same for servers before PostgreSQL 18: the milliseconds in front of a random UUID, whose
/// version 4 (0100) becomes 7 (0111) by its bits 52 and 53.
pub const NEW_ID_BEFORE_18: &str = "pg_catalog.encode(pg_catalog.set_bit(pg_catalog.set_bit(pg_catalog.overlay(\
     pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), pg_catalog.substring(pg_catalog.int8send(pg_catalog.floor(\
     pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8), 3), \
     1, 6), 52, 1), 53, 1), 'hex')::pg_catalog.uuid::pg_catalog.text";

/// A domain-memories table to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoriesTable {
    /// Where the table goes, `{domain}_memories`.
    pub table: QualifiedName,
    domain: String,
}

/// What the SQL of a table needs to know beside its name.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The model that embeds the rows.
    pub model: &'a str,
    /// The numbers in its vectors.
    pub dimensions: usize,
    /// The schema of pgvector.
    pub pgvector_schema: Identifier,
    /// The schema of the extension's own functions.
    pub extension_schema: Identifier,
    /// How the words of the content are read.
    pub text_configuration: QualifiedName,
    /// The SQL expression for ids.
    pub new_id: &'static str,
}

/// What a table in the place of a new one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A memories table of the model asked for.
    Whole,
    /// One that needs something.
    Incomplete {
        /// It has no lexemes, as a table that the domain-memories system's own script has made.
        lexemes: bool,
        /// It has no triggers, as such a table, or after DROP EXTENSION … CASCADE.
        triggers: bool,
    },
}

impl MemoriesTable {
    /// The table for `domain` in `schema`.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602) when the domain is empty or too long for the names made
    /// from it.
    pub fn new(schema: Identifier, domain: &str) -> Result<MemoriesTable> {
        check_new_domain(domain)?;
        Ok(MemoriesTable {
            table: QualifiedName { schema, name: table_name(domain)? },
            domain: domain.to_owned(),
        })
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The key of the lock under which it is made or mended.
    pub fn creation_lock(&self) -> i64 {
        lock_key(&["memories", self.table.schema.as_str(), self.table.name.as_str()])
    }

    /// The names of its indexes.
    ///
    /// # Errors
    /// Never: the domain's length leaves room for them.
    pub fn index_names(&self) -> Result<Vec<QualifiedName>> {
        let name = |ending: &&str| {
            let name = self.table.name.with_suffix(ending)?;
            Ok(QualifiedName { schema: self.table.schema.clone(), name })
        };
        INDEX_ENDINGS.iter().map(name).collect()
    }

    /// The SQL that creates the table, its indexes and its triggers.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602).
    pub fn creation_sql(&self, around: &Surroundings) -> Result<String> {
        Ok(fill_template(&format!("{TABLE}\n{TRIGGERS}"), &self.replacements(around)?))
    }

    /// The SQL that gives an incomplete table its lexemes, embeds those of its rows which have no
    /// embedding, and gives it its triggers.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602).
    pub fn mending_sql(&self, around: &Surroundings, lexemes: bool, triggers: bool) -> Result<String> {
        let lexemes = if lexemes { LEXEMES } else { "" };
        let (missing, triggers) = if triggers { (MISSING, TRIGGERS) } else { ("", "") };
        Ok(fill_template(&format!("{lexemes}\n{missing}\n{triggers}"), &self.replacements(around)?))
    }

    fn replacements(&self, around: &Surroundings) -> Result<Vec<(&'static str, String)>> {
        let index = |ending: &str| Ok(self.table.name.with_suffix(ending)?.to_string());
        let comment = format!("memories of the domain {}{EMBEDDED_WITH}{}", self.domain, around.model);
        let embed =
            QualifiedName { schema: around.extension_schema.clone(), name: Identifier::new("embed")? };
        Ok(vec![
            ("{table}", self.table.to_string()),
            ("{embedding_index}", index("_embedding_idx")?),
            ("{metadata_index}", index("_metadata_idx")?),
            ("{updated_index}", index("_updated_idx")?),
            ("{content_index}", index("_content_idx")?),
            ("{lexemes_index}", index("_lexemes_idx")?),
            ("{indexed_embedding}", indexed_embedding(around)),
            ("{vector}", around.pgvector_schema.to_string()),
            ("{dimensions}", around.dimensions.to_string()),
            ("{configuration}", Literal(&around.text_configuration.to_string()).to_string()),
            ("{model}", Literal(around.model).to_string()),
            ("{embed}", embed.to_string()),
            ("{comment}", Literal(&comment).to_string()),
            ("{new_id}", around.new_id.to_owned()),
        ])
    }

    /// Judges a table that is there already.
    ///
    /// # Errors
    /// [`Error::RelationExists`] (42P07) when it is no memories table or one of another model,
    /// [`Error::WrongDimensions`] (22000) when it has no triggers and the model asked for
    /// cannot have embedded it.
    pub fn judge(
        &self,
        found: &TableFacts,
        comment: Option<&str>,
        model: &str,
        dimensions: usize,
    ) -> Result<Standing> {
        let other = |what: &str| Error::RelationExists { relation: format!("{}{what}", self.table) };
        let of_other_model = |found: &str| other(&format!(", which model \"{found}\" embeds,"));
        let lexemes = found.find("lexemes");
        if check_shape(found).is_err() || lexemes.is_some_and(|column| column.kind != ColumnKind::Lexemes) {
            return Err(other(""));
        }
        let lexemes = lexemes.is_none();
        if let Some(trigger) = &found.embedding_trigger {
            return match (trigger.content.as_str(), trigger.embedding.as_str()) {
                ("content", "embedding") if trigger.model == model && lexemes => {
                    Ok(Standing::Incomplete { lexemes, triggers: false })
                }
                ("content", "embedding") if trigger.model == model => Ok(Standing::Whole),
                ("content", "embedding") => Err(of_other_model(&trigger.model)),
                _ => Err(other("")),
            };
        }
        // Nothing but the comment still says which model it was.
        if let Some(before) = comment.and_then(model_in).filter(|before| *before != model) {
            return Err(of_other_model(before));
        }
        match found.find("embedding").and_then(|column| column.dimensions) {
            Some(expected) if expected != dimensions => Err(Error::WrongDimensions {
                expected,
                found: dimensions,
                subject: format!("column embedding of {} has other vectors than \"{model}\"", found.display),
            }),
            _ => Ok(Standing::Incomplete { lexemes, triggers: true }),
        }
    }
}

/// The model that the comment of a memories table names.
fn model_in(comment: &str) -> Option<&str> {
    comment.rsplit_once(EMBEDDED_WITH).map(|(_, model)| model)
}

/// What the distance index holds. pgvector's HNSW takes vectors of 2,000 dimensions, half vectors
/// of 4,000 and bits beyond; a search ranks by the exact distances whichever it is.
fn indexed_embedding(around: &Surroundings) -> String {
    let (vector, dimensions) = (&around.pgvector_schema, around.dimensions);
    match dimensions {
        0..=2000 => format!("embedding {vector}.vector_cosine_ops"),
        2001..=4000 => {
            format!("(embedding::{vector}.halfvec({dimensions})) {vector}.halfvec_cosine_ops")
        }
        _ => format!(
            "({vector}.binary_quantize(embedding)::pg_catalog.bit({dimensions})) {vector}.bit_hamming_ops"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memories::domain::tests::memories_facts;
    use crate::search::source::EmbeddingTrigger;

    fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    fn around(dimensions: usize) -> Surroundings<'static> {
        Surroundings {
            model: "m",
            dimensions,
            pgvector_schema: identifier("public"),
            extension_schema: identifier("public"),
            text_configuration: QualifiedName {
                schema: identifier("pg_catalog"),
                name: identifier("english"),
            },
            new_id: NEW_ID,
        }
    }

    fn table(domain: &str) -> MemoriesTable {
        MemoriesTable::new(identifier("public"), domain).expect("valid")
    }

    fn sql_for(domain: &str) -> String {
        table(domain).creation_sql(&around(384)).expect("valid")
    }

    #[test]
    fn no_placeholder_is_left() {
        let sql =
            sql_for("startup") + &table("startup").mending_sql(&around(384), true, true).expect("valid");
        assert!(sql.contains(r#"CREATE TABLE "public"."startup_memories""#), "{sql}");
        assert!(sql.contains(r#""public".vector(384)"#), "{sql}");
        assert!(!sql.replace("'{}'", "").contains('{'), "{sql}");
    }

    #[test]
    fn hostile_domains_stay_names() {
        let sql = sql_for("x\"; DROP TABLE y; --");
        assert!(sql.contains(r#""x""; DROP TABLE y; --_memories""#), "{sql}");
        let sql = sql_for("{model}");
        assert!(sql.contains(r#""{model}_memories""#), "{sql}");
    }

    #[test]
    fn long_and_empty_domains_are_refused() {
        for domain in ["", &"d".repeat(41)] {
            assert!(MemoriesTable::new(identifier("public"), domain).is_err());
        }
        assert!(table(&"d".repeat(40)).index_names().is_ok());
    }

    #[test]
    fn the_index_suits_the_dimensions() {
        let indexed = |dimensions| indexed_embedding(&around(dimensions));
        assert_eq!(indexed(2000), "embedding \"public\".vector_cosine_ops");
        assert_eq!(indexed(3072), "(embedding::\"public\".halfvec(3072)) \"public\".halfvec_cosine_ops");
        assert!(indexed(4096).contains("bit(4096)"), "{}", indexed(4096));
    }

    #[test]
    fn tables_are_judged() {
        let judge = |facts: &TableFacts, comment: Option<&str>, dimensions| {
            table("x").judge(facts, comment, "m", dimensions).map_err(|error| error.facts().sqlstate)
        };
        let mut facts = memories_facts();
        let ours = Some("memories of the domain a, embedded with b, embedded with m");
        let incomplete = |lexemes, triggers| Ok(Standing::Incomplete { lexemes, triggers });
        assert_eq!(judge(&facts, ours, 384), incomplete(false, true));
        assert_eq!(judge(&facts, None, 384), incomplete(false, true));
        assert_eq!(judge(&facts, None, 8), Err("22000"));
        assert_eq!(judge(&facts, Some("memories of the domain a, embedded with n"), 384), Err("42P07"));
        let trigger = |content: &str, model: &str| {
            let (content, embedding) = (content.to_owned(), "embedding".to_owned());
            Some(EmbeddingTrigger { content, embedding, model: model.to_owned() })
        };
        facts.embedding_trigger = trigger("content", "m");
        assert_eq!(judge(&facts, None, 384), Ok(Standing::Whole));
        facts.embedding_trigger = trigger("content", "n");
        assert_eq!(judge(&facts, None, 384), Err("42P07"));
        facts.embedding_trigger = trigger("id", "m");
        assert_eq!(judge(&facts, None, 384), Err("42P07"));
        facts.columns.retain(|column| column.name.as_str() != "lexemes");
        facts.embedding_trigger = trigger("content", "m");
        assert_eq!(judge(&facts, None, 384), incomplete(true, false));
        facts.embedding_trigger = None;
        assert_eq!(judge(&facts, None, 384), incomplete(true, true));
        facts.columns.retain(|column| column.name.as_str() != "metadata");
        assert_eq!(judge(&facts, None, 384), Err("42P07"));
    }
}
