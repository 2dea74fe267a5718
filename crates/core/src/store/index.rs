//! The vector index of a store: its kind, and its presets.

use crate::error::{Error, Result};
use crate::search::ivfflat::lists_for;
use crate::sql::identifier::{Identifier, QualifiedName};
use crate::sql::template::fill_template;

const HNSW: &str = include_str!("../../../../sql/templates/vector_store_hnsw.sql");
const IVFFLAT: &str = include_str!("../../../../sql/templates/vector_store_ivfflat.sql");
const IVFFLAT_PARTITION: &str = include_str!("../../../../sql/templates/vector_store_ivfflat_partition.sql");

/// How an HNSW index is built and searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name in SQL.
    pub name: &'static str,
    /// Connections of a node.
    pub m: u32,
    /// Width of the search while building.
    pub ef_construction: u32,
    /// Width of the search while searching.
    pub ef_search: usize,
}

/// The presets of the regulation store.
const PRESETS: [Preset; 3] = [
    Preset { name: "dev", m: 8, ef_construction: 100, ef_search: 40 },
    Preset { name: "staging", m: 16, ef_construction: 200, ef_search: 100 },
    Preset { name: "production", m: 24, ef_construction: 400, ef_search: 200 },
];

impl Preset {
    /// The preset of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn named(name: &str) -> Result<Preset> {
        PRESETS.into_iter().find(|preset| preset.name == name).ok_or_else(|| Error::InvalidArgument {
            argument: "preset",
            expected: "'dev', 'staging' or 'production'".to_owned(),
            found: format!("'{name}'"),
        })
    }

    /// The preset with which an index was made, by its storage parameters such as `m=16`.
    pub fn of_options(options: &[String]) -> Option<Preset> {
        let has = |name: &str, value: u32| options.contains(&format!("{name}={value}"));
        PRESETS
            .into_iter()
            .find(|preset| has("m", preset.m) && has("ef_construction", preset.ef_construction))
    }
}

/// How near vectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// A graph.
    Hnsw,
    /// Lists around centres.
    IvfFlat,
    /// By the distances of all rows.
    None,
}

impl IndexKind {
    /// The kind of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn named(name: &str) -> Result<IndexKind> {
        match name {
            "hnsw" => Ok(IndexKind::Hnsw),
            "ivfflat" => Ok(IndexKind::IvfFlat),
            "none" => Ok(IndexKind::None),
            _ => Err(Error::InvalidArgument {
                argument: "index_kind",
                expected: "'hnsw', 'ivfflat' or 'none'".to_owned(),
                found: format!("'{name}'"),
            }),
        }
    }
}

/// The type of a store's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Four bytes for each number.
    Vector,
    /// Two bytes.
    HalfVector,
}

impl Storage {
    /// The storage of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn named(name: &str) -> Result<Storage> {
        match name {
            "vector" => Ok(Storage::Vector),
            "halfvec" => Ok(Storage::HalfVector),
            _ => Err(Error::InvalidArgument {
                argument: "storage",
                expected: "'vector' or 'halfvec'".to_owned(),
                found: format!("'{name}'"),
            }),
        }
    }

    /// The name of pgvector's type.
    pub fn type_name(self) -> &'static str {
        match self {
            Storage::Vector => "vector",
            Storage::HalfVector => "halfvec",
        }
    }
}

/// The vector index of a store's table.
#[derive(Debug, Clone, Copy)]
pub struct VectorIndexSql<'a> {
    /// The table.
    pub table: &'a QualifiedName,
    /// The schema of pgvector.
    pub pgvector_schema: &'a Identifier,
    /// The type of its vectors.
    pub storage: Storage,
}

impl VectorIndexSql<'_> {
    /// The SQL that creates an HNSW index on every partition.
    pub fn hnsw(&self, preset: Preset) -> String {
        let mut replacements = self.replacements();
        replacements.push(("{m}", preset.m.to_string()));
        replacements.push(("{ef_construction}", preset.ef_construction.to_string()));
        fill_template(HNSW, &replacements)
    }

    /// The SQL that creates an IVFFlat index, and on every partition that has none yet.
    pub fn ivfflat(&self) -> String {
        fill_template(IVFFLAT, &self.replacements())
    }

    /// The SQL that creates an IVFFlat index on one partition, for so many rows.
    pub fn ivfflat_partition(&self, partition: &QualifiedName, rows: f64) -> String {
        let mut replacements = self.replacements();
        replacements.push(("{partition}", partition.to_string()));
        replacements.push(("{lists}", lists_for(rows).to_string()));
        fill_template(IVFFLAT_PARTITION, &replacements)
    }

    /// The SQL that takes the names of indexes away, and the one that drops them: an index serves
    /// until its successor is there.
    pub fn replacement(&self, indexes: &[QualifiedName]) -> (String, String) {
        let schema = &self.table.schema;
        let name = |place: usize| format!("idx_embeddings_replaced_{place}");
        let rename = |(place, index): (usize, &QualifiedName)| {
            format!("ALTER INDEX {index} RENAME TO {};", name(place))
        };
        let drop = |place: usize| format!("DROP INDEX {schema}.{};", name(place));
        (indexes.iter().enumerate().map(rename).collect(), (0..indexes.len()).map(drop).collect())
    }

    fn replacements(&self) -> Vec<(&'static str, String)> {
        vec![
            ("{table}", self.table.to_string()),
            ("{vector}", self.pgvector_schema.to_string()),
            ("{storage}", self.storage.type_name().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    #[test]
    fn presets_are_found_again_by_their_parameters() {
        for preset in PRESETS {
            assert_eq!(Preset::named(preset.name), Ok(preset));
            let options = [format!("m={}", preset.m), format!("ef_construction={}", preset.ef_construction)];
            assert_eq!(Preset::of_options(&options), Some(preset));
        }
        assert_eq!(Preset::of_options(&["m=16".to_owned()]), None);
        assert!(Preset::named("Production").is_err());
    }

    #[test]
    fn no_placeholder_is_left() {
        let store = store();
        for storage in [Storage::Vector, Storage::HalfVector] {
            let sql =
                VectorIndexSql { table: &store.embeddings, pgvector_schema: &store.pgvector_schema, storage };
            let partition = store.tables.default_partition().expect("valid");
            let preset = Preset::named("production").expect("known");
            let all = [sql.hnsw(preset), sql.ivfflat(), sql.ivfflat_partition(&partition, 100.0)];
            assert!(all.iter().all(|text| !text.contains('{')), "{all:?}");
            assert!(all[0].contains("WITH (m = 24, ef_construction = 400)"), "{}", all[0]);
            assert!(all[0].contains(&format!("\"public\".{}_cosine_ops", storage.type_name())), "{}", all[0]);
        }
    }
}
