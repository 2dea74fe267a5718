//! Embeddings that were computed before, by what they are of.
//!
//! An entry is found by the sha256 of the model and the text together. The model is what decides its
//! vectors, not its name: the files' own hashes, and the settings that were registered with them. So a
//! model that is registered anew under the same name finds nothing of the one before.
//!
//! Nobody waits for anybody: entries have no unique key, since a second writer of the same key would
//! have to wait for the first one's transaction. Two transactions that embed the same text at the same
//! time leave two entries, either of which is right, and eviction takes them.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::model::ModelRecord;
use crate::sql::{Parameter, Statement};

/// Bytes of an entry beside the numbers of its vector: headers, hash, time, and its places in two
/// indexes.
const BYTES_BESIDE: usize = 200;

/// So many entries are evicted at once at most.
const MOST_EVICTED: usize = 10_000;

/// The texts of a batch, each once.
#[derive(Debug, PartialEq, Eq)]
pub struct DistinctTexts<'a> {
    /// The texts, in the order in which they first appear.
    pub texts: Vec<&'a str>,
    /// Of each text that was given, its place among them.
    pub places: Vec<usize>,
}

impl<'a> DistinctTexts<'a> {
    /// Finds the texts that are equal.
    pub fn new(given: &[&'a str]) -> DistinctTexts<'a> {
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        let place = |text: &&'a str| {
            *known.entry(text).or_insert_with(|| {
                texts.push(*text);
                texts.len() - 1
            })
        };
        let places = given.iter().map(place).collect();
        DistinctTexts { texts, places }
    }
}

/// The keys of texts that are embedded as passages by one model.
pub struct CacheKeys(Sha256);

impl CacheKeys {
    /// The keys of a model.
    pub fn new(record: &ModelRecord) -> CacheKeys {
        let ModelRecord { provider, sha256, tokenizer_sha256, dimensions, settings, .. } = record;
        // Debug writes texts quoted, so that no two of them run into one another.
        let identity = format!("{:?}", (provider, sha256, tokenizer_sha256, dimensions, settings));
        CacheKeys(Sha256::new_with_prefix(Sha256::digest(identity)))
    }

    /// The key of a text, in hexadecimal digits.
    pub fn of(&self, text: &str) -> String {
        let digest = self.0.clone().chain_update(text).finalize();
        digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// How large the cache may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the table with its indexes.
    pub bytes: u64,
    /// Entries that fit.
    pub entries: usize,
}

impl Bounds {
    /// The bounds for vectors of so many dimensions; `None` where there is no cache.
    pub fn new(megabytes: usize, dimensions: usize) -> Option<Bounds> {
        let bytes = (megabytes as u64) << 20;
        let entries = (bytes / (4 * dimensions + BYTES_BESIDE) as u64) as usize;
        (entries > 0).then_some(Bounds { bytes, entries })
    }

    /// Whether somebody who adds `new` entries shall see whether the cache is full, by a number from 0
    /// to 1: as often that the cache grows by a sixteenth meanwhile, whoever adds how many.
    pub fn is_checked(&self, new: usize, chance: f64) -> bool {
        chance * ((self.entries / 16).max(1) as f64) < new as f64
    }

    /// How many of `count` entries go now: down to nine tenths, in steps.
    pub fn excess(&self, count: usize) -> usize {
        if count <= self.entries { 0 } else { (count - self.entries / 10 * 9).min(MOST_EVICTED) }
    }
}

/// Reads entries by their keys, with columns (place from 1, embedding, whether it was long not used).
pub fn find(keys: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let keys = statement.bind(Parameter::Texts(keys));
    statement.push(format_args!(
        "SELECT k.place, f.embedding, f.is_old \
         FROM pg_catalog.unnest({keys}) WITH ORDINALITY AS k(key, place) \
         CROSS JOIN LATERAL (SELECT c.embedding, c.last_used OPERATOR(pg_catalog.<) \
                 (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '10 minutes'::pg_catalog.interval) AS is_old \
             FROM vector_tools.embedding_cache AS c \
             WHERE c.key OPERATOR(pg_catalog.=) pg_catalog.decode(k.key, 'hex') LIMIT 1) AS f"
    ));
    statement
}

/// Notes that entries are used.
pub fn touch(keys: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let keys = statement.bind(Parameter::Texts(keys));
    statement.push(format_args!(
        "UPDATE vector_tools.embedding_cache AS c SET last_used = pg_catalog.clock_timestamp() \
         WHERE c.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT o.ctid FROM vector_tools.embedding_cache AS o \
             WHERE o.key OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.decode(k.key, 'hex') \
                 FROM pg_catalog.unnest({keys}) AS k(key))) \
             FOR UPDATE SKIP LOCKED))"
    ));
    statement
}

/// Adds entries.
pub fn add(keys: Vec<String>, embeddings: Vec<Vec<f32>>) -> Statement {
    let mut statement = Statement::default();
    let keys = statement.bind(Parameter::Texts(keys));
    let embeddings = statement.bind(Parameter::Vectors(embeddings));
    statement.push(format_args!(
        "INSERT INTO vector_tools.embedding_cache (key, embedding) \
         SELECT pg_catalog.decode(n.key, 'hex'), n.embedding \
         FROM ROWS FROM (pg_catalog.unnest({keys}), pg_catalog.unnest({embeddings})) AS n(key, embedding)"
    ));
    statement
}

/// Counts texts that were found, and those that were not.
pub fn count_uses(hits: usize, misses: usize) -> Statement {
    let mut statement = Statement::default();
    let [hits, misses] = [hits, misses].map(|count| statement.bind(Parameter::Integer(count as i64)));
    statement
        .push(format_args!("INSERT INTO vector_tools.cache_uses (hits, misses) VALUES ({hits}, {misses})"));
    statement
}

/// Joins the lines of [`count_uses`] that nobody else is joining.
pub fn join_uses() -> Statement {
    let text = "WITH old AS (DELETE FROM vector_tools.cache_uses AS u \
             WHERE u.ctid OPERATOR(pg_catalog.=) ANY ( \
                 ARRAY(SELECT o.ctid FROM vector_tools.cache_uses AS o FOR UPDATE SKIP LOCKED)) \
             RETURNING u.hits, u.misses) \
         INSERT INTO vector_tools.cache_uses (hits, misses) \
         SELECT pg_catalog.sum(o.hits), pg_catalog.sum(o.misses) FROM old AS o \
         HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0";
    Statement { text: text.to_owned(), ..Statement::default() }
}

/// Reads how many bytes the cache has, its indexes included.
pub fn size() -> Statement {
    let text =
        "SELECT pg_catalog.pg_total_relation_size('vector_tools.embedding_cache'::pg_catalog.regclass)";
    Statement { text: text.to_owned(), ..Statement::default() }
}

/// Reads how many entries it has.
pub fn count() -> Statement {
    let text = "SELECT pg_catalog.count(*) FROM vector_tools.embedding_cache";
    Statement { text: text.to_owned(), ..Statement::default() }
}

/// Removes the entries that were not used for longest, but for those that somebody holds.
pub fn evict(count: usize) -> Statement {
    let mut statement = Statement::default();
    let count = statement.bind(Parameter::Integer(count as i64));
    statement.push(format_args!(
        "DELETE FROM vector_tools.embedding_cache AS c \
         WHERE c.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT o.ctid FROM vector_tools.embedding_cache AS o \
             ORDER BY o.last_used LIMIT {count} FOR UPDATE SKIP LOCKED))"
    ));
    statement
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pooling;
    use crate::model::manifest::EncodingSettings;
    use proptest::prelude::*;

    fn record() -> ModelRecord {
        ModelRecord {
            name: "m".into(),
            provider: "onnx".into(),
            source: "folder".into(),
            file: None,
            sha256: "a".into(),
            tokenizer_sha256: "b".into(),
            dimensions: 3,
            settings: EncodingSettings {
                max_tokens: 256,
                pooling: Pooling::Mean,
                normalize: true,
                query_prefix: String::new(),
                passage_prefix: String::new(),
                output: None,
            },
        }
    }

    #[test]
    fn equal_texts_are_one() {
        let distinct = DistinctTexts::new(&["b", "a", "b", "b", "c", "a"]);
        assert_eq!(distinct, DistinctTexts { texts: vec!["b", "a", "c"], places: vec![0, 1, 0, 0, 2, 1] });
    }

    #[test]
    fn whatever_decides_a_vector_is_in_its_key() {
        let key = |record: &ModelRecord| CacheKeys::new(record).of("text");
        let plain = key(&record());
        assert_eq!(plain.len(), 64);
        let moved = ModelRecord { name: "other".into(), source: "elsewhere".into(), ..record() };
        assert_eq!(key(&moved), plain, "expected the same files to share");
        let changed = [
            ModelRecord { sha256: "c".into(), ..record() },
            ModelRecord { tokenizer_sha256: "c".into(), ..record() },
            ModelRecord { sha256: "ab".into(), tokenizer_sha256: String::new(), ..record() },
            ModelRecord { dimensions: 4, ..record() },
            ModelRecord {
                settings: EncodingSettings { passage_prefix: "passage: ".into(), ..record().settings },
                ..record()
            },
            ModelRecord { settings: EncodingSettings { max_tokens: 128, ..record().settings }, ..record() },
            ModelRecord {
                settings: EncodingSettings { pooling: Pooling::Cls, ..record().settings },
                ..record()
            },
            ModelRecord { settings: EncodingSettings { normalize: false, ..record().settings }, ..record() },
            ModelRecord {
                settings: EncodingSettings { output: Some("o".into()), ..record().settings },
                ..record()
            },
        ];
        for other in changed {
            assert_ne!(key(&other), plain, "{other:?}");
        }
        assert_ne!(CacheKeys::new(&record()).of("text "), plain);
    }

    #[test]
    fn a_cache_that_is_too_small_for_an_entry_is_none() {
        assert_eq!(Bounds::new(0, 384), None);
        let bounds = Bounds::new(64, 384).expect("some megabytes hold some entries");
        assert_eq!(bounds.entries, 38_657);
    }

    #[test]
    fn what_is_too_much_goes_in_steps() {
        let bounds = Bounds { bytes: 1 << 20, entries: 100 };
        assert_eq!([0, 100, 101, 250].map(|count| bounds.excess(count)), [0, 0, 11, 160]);
        assert_eq!(bounds.excess(1_000_000), MOST_EVICTED);
    }

    proptest! {
        #[test]
        fn a_full_cache_is_noticed_before_it_has_grown_by_a_sixteenth(chance in 0.0..1.0) {
            let bounds = Bounds { bytes: 1 << 20, entries: 600 };
            prop_assert!(bounds.is_checked(600 / 16, chance));
            prop_assert_eq!(bounds.is_checked(1, chance), chance * 37.0 < 1.0);
        }
    }
}
