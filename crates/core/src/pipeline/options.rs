//! What was asked of `enable_search`, as the triggers of the source carry it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pipeline::companion::Watched;

/// The most bytes of options in a trigger, more than those of a table with all columns there can be.
pub const MAX_OPTION_BYTES: usize = 16 << 10;

/// When rows are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the statement that writes them.
    Sync,
    /// Soon afterwards, by a worker or by `run_embedding_jobs`.
    Async,
    /// When somebody calls `run_embedding_jobs`.
    Manual,
}

/// The type of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// pgvector's `vector`, four bytes a number.
    Vector,
    /// pgvector's `halfvec`, two bytes a number.
    Halfvec,
}

/// The index by distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// A graph.
    Hnsw,
    /// Lists.
    Ivfflat,
    /// None: every search compares all vectors.
    None,
}

/// How a row becomes chunks, where it does not become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// The strategy of `chunk_text`.
    pub strategy: String,
    /// The most tokens of a chunk; `None` for its default.
    pub max_tokens: Option<i32>,
    /// The tokens that two chunks share; `None` for its default.
    pub overlap: Option<i32>,
}

/// What the triggers of a source say, as JSON. Columns are not in it: PostgreSQL knows them from the
/// conditions of the triggers, and follows their renames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchOptions {
    /// The model.
    pub model: String,
    /// When rows are embedded.
    pub mode: Mode,
    /// How rows become chunks; `None` for one chunk a row.
    pub chunking: Option<Chunking>,
    /// The text search configuration, quoted and with its schema; `None` where a column says it.
    pub text_configuration: Option<String>,
    /// The type of the vectors.
    pub storage: Storage,
    /// The index by distance.
    pub index_kind: IndexKind,
    /// For each content column in the order of joining, its place among them in the order of the
    /// table's columns.
    pub order: Vec<usize>,
    /// The model that a change under way leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The model whose vectors are kept, for going back to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// What must be done when the options of a searched table change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In words, for a NOTICE.
    pub words: Vec<String>,
    /// Whether all rows must be chunked, embedded or their words read again.
    pub is_for_rows: bool,
    /// Whether the vectors get another type, which empties the companion.
    pub is_for_type: bool,
    /// Whether the index by distance is another one.
    pub is_for_index: bool,
}

impl SearchOptions {
    /// The defaults for a model, and one content column.
    pub fn for_model(model: &str) -> SearchOptions {
        SearchOptions {
            model: model.to_owned(),
            mode: Mode::Async,
            chunking: None,
            text_configuration: None,
            storage: Storage::Vector,
            index_kind: IndexKind::Hnsw,
            order: vec![0],
            next: None,
            previous: None,
        }
    }

    /// The same for another model, in a companion that is not the one that is searched.
    pub fn with_model(&self, model: &str) -> SearchOptions {
        SearchOptions { model: model.to_owned(), next: None, previous: None, ..self.clone() }
    }

    /// As a trigger carries it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a trigger carries; `None` when it is something else.
    pub fn from_json(json: &str) -> Option<SearchOptions> {
        let options: SearchOptions =
            serde_json::from_str(json).ok().filter(|_| json.len() <= MAX_OPTION_BYTES)?;
        let texts = [Some(&options.model), options.text_configuration.as_ref()];
        let models = [options.next.as_ref(), options.previous.as_ref()];
        let strategy = options.chunking.as_ref().map(|chunking| &chunking.strategy);
        // No text of PostgreSQL's has one.
        let has_zero =
            texts.iter().chain(&models).chain([&strategy]).flatten().any(|text| text.contains('\0'));
        (!has_zero).then_some(options)
    }

    /// What a trigger that watches the content says, by `pg_trigger.tgargs`: its arguments one after another,
    /// each ended by a zero byte. `None` for any other, and for more than [`MAX_OPTION_BYTES`].
    pub fn from_trigger(arguments: &[u8]) -> Option<SearchOptions> {
        let mut arguments = std::str::from_utf8(arguments).ok()?.strip_suffix('\0')?.split('\0');
        let (options, watched) = (arguments.next()?, arguments.next()?);
        let is_about_content = watched == Watched::Content.name() && arguments.next().is_none();
        is_about_content.then(|| SearchOptions::from_json(options)).flatten()
    }

    /// What decides the chunks of a row beside its content, so that a hash of both tells whether they
    /// are still true.
    pub fn signature(&self) -> String {
        let Chunking { strategy, max_tokens, overlap } = self.chunking.clone().unwrap_or(Chunking {
            strategy: String::new(),
            max_tokens: None,
            overlap: None,
        });
        let number = |number: Option<i32>| number.map_or(String::new(), |number| number.to_string());
        format!("{}\n{strategy}\n{}\n{}\n", self.model, number(max_tokens), number(overlap))
    }

    /// What changes from `before` to these options.
    pub fn changes_from(&self, before: &SearchOptions) -> Changes {
        let mut changes = Changes::default();
        let mut say = |is_changed: bool, words: String| {
            if is_changed {
                changes.words.push(words);
            }
            is_changed
        };
        let mode = |mode: Mode| match mode {
            Mode::Sync => "in the statement that writes them",
            Mode::Async => "in the background",
            Mode::Manual => "when run_embedding_jobs is called",
        };
        say(self.mode != before.mode, format!("rows are embedded {} from now on", mode(self.mode)));
        let other_model = say(
            self.model != before.model,
            format!("all rows are embedded again, with \"{}\" instead of \"{}\"", self.model, before.model),
        );
        let other_chunks = say(self.chunking != before.chunking, "all rows are chunked again".to_owned());
        let other_words = say(
            self.text_configuration != before.text_configuration,
            "the words of all rows are read again".to_owned(),
        );
        let other_type = say(
            self.storage != before.storage,
            "all rows are embedded again into vectors of another type".to_owned(),
        );
        let other_index = say(
            self.index_kind != before.index_kind && !other_type,
            "the index by distance is built anew".to_owned(),
        );
        changes.is_for_rows = other_model || other_chunks || other_words || other_type;
        changes.is_for_type = other_type;
        changes.is_for_index = other_index;
        changes
    }
}

/// Reads one of the words of an argument.
fn read_word<T: for<'de> Deserialize<'de>>(argument: &'static str, expected: &str, found: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(found.to_owned())).map_err(|_| Error::InvalidArgument {
        argument,
        expected: expected.to_owned(),
        found: format!("'{found}'"),
    })
}

impl Mode {
    /// Reads the argument `mode`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn from_name(name: &str) -> Result<Mode> {
        read_word("mode", "'sync', 'async' or 'manual'", name)
    }
}

impl Storage {
    /// Reads the argument `storage`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn from_name(name: &str) -> Result<Storage> {
        read_word("storage", "'vector' or 'halfvec'", name)
    }

    /// The name of pgvector's type.
    pub fn type_name(self) -> &'static str {
        match self {
            Storage::Vector => "vector",
            Storage::Halfvec => "halfvec",
        }
    }
}

impl IndexKind {
    /// Reads the argument `index_kind`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn from_name(name: &str) -> Result<IndexKind> {
        read_word("index_kind", "'hnsw', 'ivfflat' or 'none'", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_their_way_through_a_trigger() {
        let options = SearchOptions {
            chunking: Some(Chunking { strategy: "semantic".into(), max_tokens: Some(64), overlap: None }),
            text_configuration: Some("\"pg_catalog\".\"english\"".into()),
            order: vec![1, 0],
            ..SearchOptions::for_model("a'b\\c")
        };
        assert_eq!(SearchOptions::from_json(&options.to_json()), Some(options.clone()));
        assert_eq!(SearchOptions::from_json("{}"), None);
        assert!(!options.to_json().contains("next"), "{}", options.to_json());
        let changing = SearchOptions { next: Some("b".into()), previous: Some("c".into()), ..options };
        assert_eq!(SearchOptions::from_json(&changing.to_json()), Some(changing));
    }

    /// The arguments of a trigger as the catalogue has them.
    fn stored(arguments: &[&str]) -> Vec<u8> {
        arguments.iter().flat_map(|argument| argument.bytes().chain([0])).collect()
    }

    #[test]
    fn arguments_of_a_trigger_are_read_within_bounds() {
        let options = SearchOptions::for_model("m");
        let json = options.to_json();
        assert_eq!(SearchOptions::from_trigger(&stored(&[&json, "content"])), Some(options.clone()));
        let padded = |bytes: usize| json.clone() + &" ".repeat(bytes - json.len());
        let read = |json: &str| SearchOptions::from_trigger(&stored(&[json, "content"]));
        assert_eq!(read(&padded(MAX_OPTION_BYTES)), Some(options));
        assert_eq!(read(&padded(MAX_OPTION_BYTES + 1)), None);
        assert_eq!(read(&padded(1_000_000)), None);
        for depth in [100, 1_000, 100_000, 1_000_000] {
            let deep = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(read(&deep), None);
            let inside = json.replacen('{', &format!("{{\"more\":{deep},"), 1);
            assert!(depth <= 1_000 || read(&inside).is_none());
        }
        let with = |from: &str, to: &str| json.replacen(from, to, 1);
        let odd = [
            with("[0]", "[1e999999]"),
            with("[0]", "[-1]"),
            with("[0]", "[99999999999999999999]"),
            with("[0]", "[\"x\"]"),
            with("[0]", "{}"),
            with("\"m\"", "\"\\u0000\""),
            with("\"m\"", "\"\\ud800\""),
            with("\"m\"", "null"),
            with("{", "{\"model\":\"other\","),
            with("async", "never"),
            json[1..].to_owned(),
        ];
        for json in odd {
            assert_eq!(read(&json), None, "{json}");
        }
        for arguments in
            [&[][..], &[&*json], &[&*json, "rows"], &[&*json, "content", "more"], &["content", &*json]]
        {
            assert_eq!(SearchOptions::from_trigger(&stored(arguments)), None, "{arguments:?}");
        }
        assert_eq!(SearchOptions::from_trigger(b"\xff\0content\0"), None);
        assert_eq!(SearchOptions::from_trigger(json.as_bytes()), None);
    }

    #[test]
    fn words_of_arguments_are_read() {
        assert_eq!(Mode::from_name("sync"), Ok(Mode::Sync));
        assert_eq!(Storage::from_name("halfvec"), Ok(Storage::Halfvec));
        assert_eq!(IndexKind::from_name("none"), Ok(IndexKind::None));
        for wrong in ["", "SYNC", "now"] {
            assert_eq!(Mode::from_name(wrong).map_err(|error| error.facts().sqlstate), Err("22023"));
        }
    }

    #[test]
    fn changes_say_what_they_cost() {
        let before = SearchOptions::for_model("m");
        assert_eq!(before.changes_from(&before), Changes::default());
        let mode = SearchOptions { mode: Mode::Sync, ..before.clone() }.changes_from(&before);
        assert!(!mode.is_for_rows && mode.words.len() == 1, "{mode:?}");
        let model = SearchOptions { model: "n".into(), ..before.clone() }.changes_from(&before);
        assert!(model.is_for_rows && !model.is_for_type, "{model:?}");
        let index = SearchOptions { index_kind: IndexKind::None, ..before.clone() }.changes_from(&before);
        assert!(index.is_for_index && !index.is_for_rows, "{index:?}");
        let storage = SearchOptions { storage: Storage::Halfvec, ..before.clone() }.changes_from(&before);
        assert!(storage.is_for_type && storage.is_for_rows, "{storage:?}");
    }

    #[test]
    fn the_signature_tells_chunks_apart() {
        let plain = SearchOptions::for_model("m");
        let chunking = Chunking { strategy: "fixed".into(), max_tokens: Some(64), overlap: None };
        let chunked = SearchOptions { chunking: Some(chunking), ..plain.clone() };
        let sync = SearchOptions { mode: Mode::Sync, ..plain.clone() };
        assert_ne!(plain.signature(), chunked.signature());
        assert_eq!(plain.signature(), sync.signature());
    }
}
