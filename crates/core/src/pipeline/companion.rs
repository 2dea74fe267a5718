//! The companion table, its indexes, and the triggers of its source.

use crate::error::Result;
use crate::pipeline::{Configuration, IndexKind, KeyColumn, Role, SearchableTable, Storage};
use crate::search::ivfflat::lists_for;
use crate::sql::identifier::{Identifier, Literal, MAX_IDENTIFIER_BYTES};
use crate::sql::template::fill_template;

const TABLE: &str = include_str!("../../../../sql/templates/search_companion.sql");
const TRIGGERS: &str = include_str!("../../../../sql/templates/search_triggers.sql");
const CONFIGURATION_TRIGGER: &str =
    include_str!("../../../../sql/templates/search_configuration_trigger.sql");

/// The name of the foreign key by which a companion is known.
pub const FOREIGN_KEY: &str = "vector_tools_search";

/// The name of the policy of a companion.
pub const POLICY_NAME: &str = "vector_tools_search";

const POLICY: &str = include_str!("../../../../sql/templates/search_policy.sql");

/// An IVFFlat index of fewer rows would not be faster than comparing all of them.
pub const FEWEST_ROWS_IN_LISTS: i64 = 1000;

/// What a trigger of a source watches: its second argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// New rows.
    Rows,
    /// The content columns.
    Content,
    /// The primary key.
    Key,
    /// The column of the text search configuration.
    Configuration,
}

impl Watched {
    /// The argument's values.
    pub const ALL: [Watched; 4] = [Watched::Rows, Watched::Content, Watched::Key, Watched::Configuration];

    /// As the trigger carries it.
    pub fn name(self) -> &'static str {
        match self {
            Watched::Rows => "rows",
            Watched::Content => "content",
            Watched::Key => "key",
            Watched::Configuration => "configuration",
        }
    }

    /// What a trigger carries.
    pub fn from_name(name: &str) -> Option<Watched> {
        Watched::ALL.into_iter().find(|watched| watched.name() == name)
    }
}

/// A name made of another one and an ending, cut where it would be too long, with a number where it
/// is taken.
///
/// # Errors
/// Never in practice: there are fewer than a million such names.
pub fn shortened(
    before: &str,
    name: &str,
    ending: &str,
    is_taken: impl Fn(&Identifier) -> bool,
) -> Result<Identifier> {
    let mut number = 1;
    loop {
        let counted = if number == 1 { String::new() } else { format!("_{number}") };
        let room = MAX_IDENTIFIER_BYTES - before.len() - ending.len() - counted.len();
        let part = &name[..name.floor_char_boundary(room.min(name.len()))];
        let name = Identifier::new(format!("{before}{part}{counted}{ending}"))?;
        if !is_taken(&name) || number >= 1_000_000 {
            return Ok(name);
        }
        number += 1;
    }
}

/// The name of the companion of a table.
///
/// # Errors
/// Never in practice: the name is short enough.
pub fn companion_name(source: &Identifier) -> Result<Identifier> {
    shortened("", source.as_str(), "_search", |_| false)
}

/// The names of the key's columns in a companion.
///
/// # Errors
/// Never in practice: the names are short enough.
pub fn key_names(keys: &[Identifier]) -> Result<Vec<Identifier>> {
    let mut names: Vec<Identifier> = Vec::new();
    for key in keys {
        let name = shortened("row_", key.as_str(), "", |name| names.contains(name))?;
        names.push(name);
    }
    Ok(names)
}

/// What the SQL of a companion needs to know beside its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creation {
    /// Whether the source is not written to the log of the server.
    pub is_unlogged: bool,
    /// What the companion is for.
    pub role: Role,
}

impl SearchableTable {
    /// The SQL that creates the companion, empty, with its indexes, policy and grants.
    ///
    /// # Errors
    /// Never in practice: names are short enough.
    pub fn creation_sql(&self, creation: Creation) -> Result<String> {
        let keys = |part: &dyn Fn(&crate::pipeline::KeyColumn) -> String, joint: &str| {
            self.keys.iter().map(part).collect::<Vec<_>>().join(joint)
        };
        let comment = format!("chunks of {}, for searches; filled by vector_tools", self.source);
        let mut sql = fill_template(
            TABLE,
            &[
                ("{persistence}", if creation.is_unlogged { "UNLOGGED " } else { "" }.to_owned()),
                ("{companion}", self.companion.to_string()),
                ("{source}", self.source.to_string()),
                (
                    "{columns}",
                    keys(&|key| format!("{} {} NOT NULL", key.companion, key.definition), ",\n    "),
                ),
                ("{key}", keys(&|key| key.companion.to_string(), ", ")),
                ("{source_key}", keys(&|key| key.name.to_string(), ", ")),
                ("{foreign_key}", Identifier::new(creation.role.foreign_key())?.to_string()),
                ("{vector}", self.vector_type()),
                ("{comment}", Literal(&comment).to_string()),
            ],
        );
        sql.push_str(&self.policy_sql());
        sql.push_str(&self.index_sql(0));
        Ok(sql)
    }

    /// The SQL that makes the policy of the companion.
    pub fn policy_sql(&self) -> String {
        let keys = self.keys.iter().map(|key| &key.name);
        let watched: Vec<String> = keys.chain(&self.content).map(|column| format!("s.{column}")).collect();
        fill_template(
            POLICY,
            &[
                ("{companion}", self.companion.to_string()),
                ("{from_source}", self.from_source()),
                ("{watched}", watched.join(", ")),
                ("{same_row}", self.same_row("s", &self.companion.name.to_string())),
            ],
        )
    }

    /// The SQL that creates the index by distance of a companion with so many embeddings, where there is
    /// to be one. IVFFlat finds the centres of its lists in what is there when it is created, so that it
    /// has to wait for rows. PostgreSQL gives the index a name that is free.
    pub fn index_sql(&self, embeddings: i64) -> String {
        let (table, indexed) = (&self.companion, self.indexed_embedding());
        match self.options.index_kind {
            // As for other tables of this extension: 97 % of the ten nearest of a million.
            IndexKind::Hnsw => format!(
                "CREATE INDEX ON {table} USING hnsw ({indexed}) WITH (m = 16, ef_construction = 200);\n"
            ),
            IndexKind::Ivfflat if embeddings >= FEWEST_ROWS_IN_LISTS => format!(
                "CREATE INDEX ON {table} USING ivfflat ({indexed}) WITH (lists = {});\n",
                lists_for(embeddings as f64)
            ),
            IndexKind::Ivfflat | IndexKind::None => String::new(),
        }
    }

    /// The SQL that makes the triggers of the source, or changes those there are.
    pub fn triggers_sql(&self) -> String {
        let changed = |columns: &mut dyn Iterator<Item = &Identifier>| {
            // By bytes: a collation may hold different texts for equal.
            let part = |column| {
                format!(
                    "(OLD.{column})::pg_catalog.text COLLATE pg_catalog.\"C\" IS DISTINCT FROM \
                     (NEW.{column})::pg_catalog.text COLLATE pg_catalog.\"C\""
                )
            };
            columns.map(part).collect::<Vec<_>>().join(" OR ")
        };
        // By what the type holds for equal, which is how an entry of the queue finds its row. A key is never
        // NULL, and texts of it would be made for every row of every UPDATE.
        let same_key = |key: &KeyColumn| format!("OLD.{} {} NEW.{}", key.name, key.equality, key.name);
        let key_changed =
            format!("NOT ({})", self.keys.iter().map(same_key).collect::<Vec<_>>().join(" AND "));
        let mut replacements = vec![
            ("{source}", self.source.to_string()),
            ("{options}", Literal(&self.options.to_json()).to_string()),
            ("{content_changed}", changed(&mut self.content.iter())),
            ("{key_changed}", key_changed),
        ];
        let mut template = TRIGGERS.to_owned();
        if let Configuration::Column(column) = &self.configuration {
            replacements.push(("{configuration_changed}", changed(&mut std::iter::once(column))));
            template.push_str(CONFIGURATION_TRIGGER);
        }
        fill_template(&template, &replacements)
    }

    /// The type of the vectors as SQL text.
    pub fn vector_type(&self) -> String {
        format!("{}.{}({})", self.pgvector_schema, self.options.storage.type_name(), self.dimensions)
    }

    /// What the index by distance holds. pgvector's indexes take vectors of 2,000 dimensions, half
    /// vectors of 4,000 and bits beyond.
    fn indexed_embedding(&self) -> String {
        let (vector, dimensions) = (&self.pgvector_schema, self.dimensions);
        match (self.options.storage, dimensions) {
            (Storage::Vector, 0..=2000) => format!("embedding {vector}.vector_cosine_ops"),
            (Storage::Halfvec, 0..=4000) => format!("embedding {vector}.halfvec_cosine_ops"),
            (Storage::Vector, 2001..=4000) => {
                format!("(embedding::{vector}.halfvec({dimensions})) {vector}.halfvec_cosine_ops")
            }
            _ => format!(
                "({vector}.binary_quantize(embedding)::pg_catalog.bit({dimensions})) {vector}.bit_hamming_ops"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::definition::tests::{identifier, table};

    const LOGGED: Creation = Creation { is_unlogged: false, role: Role::Live };

    #[test]
    fn no_placeholder_is_left() {
        let mut table = table("docs");
        table.configuration = Configuration::Column(identifier("lang"));
        let sql = table.creation_sql(LOGGED).expect("valid") + &table.triggers_sql();
        let options = table.options.to_json();
        assert!(!sql.replace(&options, "").contains('{'), "{sql}");
        assert!(sql.contains(r#"FOREIGN KEY ("row_tenant", "row_id")"#), "{sql}");
        assert!(sql.contains(r#"OLD."lang""#), "{sql}");
    }

    #[test]
    fn hostile_names_stay_names() {
        let hostile = "x\"; DROP TABLE y; --'{key}";
        let mut table = table(hostile);
        table.content = vec![identifier(hostile)];
        let sql = table.creation_sql(LOGGED).expect("valid") + &table.triggers_sql();
        assert!(sql.contains(r#""public"."x""; DROP TABLE y; --'{key}""#), "{sql}");
        assert!(sql.contains(r#"OLD."x""; DROP TABLE y; --'{key}""#), "{sql}");
        assert!(!sql.contains("x\"; DROP"), "{sql}");
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let long = "ü".repeat(31);
        assert!(companion_name(&identifier(&long)).expect("short").as_str().ends_with("ü_search"));
        let keys = ["k".repeat(62) + "a", "k".repeat(62) + "b"].map(|name| identifier(&name));
        let names = key_names(&keys).expect("short");
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.as_str().starts_with("row_k") && name.as_str().len() <= 63));
    }

    #[test]
    fn lists_wait_for_rows() {
        let mut table = table("docs");
        table.options.index_kind = IndexKind::Ivfflat;
        assert_eq!(table.index_sql(0), "");
        let sql = table.index_sql(10_000);
        assert!(
            sql.contains("USING ivfflat (embedding \"public\".vector_cosine_ops) WITH (lists = 100)"),
            "{sql}"
        );
    }

    #[test]
    fn the_index_suits_type_and_dimensions() {
        let indexed = |storage, dimensions| {
            let mut table = table("docs");
            (table.options.storage, table.dimensions) = (storage, dimensions);
            table.indexed_embedding()
        };
        assert_eq!(indexed(Storage::Vector, 384), "embedding \"public\".vector_cosine_ops");
        assert_eq!(indexed(Storage::Halfvec, 3072), "embedding \"public\".halfvec_cosine_ops");
        assert!(indexed(Storage::Vector, 3072).contains("halfvec(3072)"));
        assert!(indexed(Storage::Halfvec, 4096).contains("bit(4096)"));
    }
}
