//! What users write is read by parsers: of any text each gives a value or an error, never a panic, never more stack than
//! a quarter of a megabyte, and never an output that grows with what it repeats.
//!
//! A few thousand texts for each by default; `FUZZ_CASES=1000000` for a long run. A text that fails is printed.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use vector_tools_core::error::Error;
use vector_tools_core::memories::metadata::Described;
use vector_tools_core::model::{Manifest, ModelOptions};
use vector_tools_core::pipeline::SearchOptions;
use vector_tools_core::search::SearchSource;
use vector_tools_core::search::filter::{ColumnTypes, Comparisons, Filter};
use vector_tools_core::search::lexemes::join_conditions;
use vector_tools_core::search::query_text::QueryText;
use vector_tools_core::search::source::{Column, ColumnChoice, ColumnKind, Legs, TableFacts};
use vector_tools_core::search::text_vector::TextVector;
use vector_tools_core::sql::Statement;
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};

const CASES: u32 = 2000;
/// Far less than a session has, of which PostgreSQL and a caller's functions take their part.
const STACK_BYTES: usize = 256 * 1024;
/// The most bytes of the parts of an error, and of the SQL for a filter.
const MOST_ERROR_BYTES: usize = 3000;
const MOST_SQL_BYTES: usize = 1_000_000;

fn cases() -> u32 {
    std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

/// Has `check` look at ever new values, each with a small stack.
fn fuzz<S>(strategy: S, check: impl Fn(&S::Value) + Sync)
where
    S: Strategy,
    S::Value: Sync,
{
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let run = |value: S::Value| {
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            let thread = builder.spawn_scoped(scope, || check(&value)).expect("a thread starts");
            thread.join().map_err(|_| TestCaseError::fail("the parser panicked, or its output is wrong"))
        })
    };
    TestRunner::new(config).run(&strategy, run).unwrap_or_else(|error| panic!("{error}"));
}

/// What an error says is short, whatever was wrong.
fn check_error(error: &Error) {
    let facts = error.facts();
    let bytes =
        [Some(error.message()), facts.detail, facts.hint].iter().flatten().map(String::len).sum::<usize>();
    assert!(bytes <= MOST_ERROR_BYTES, "expected a short text, not {bytes} bytes");
    assert_eq!(facts.sqlstate.len(), 5);
    assert_ne!(facts.sqlstate, "XX000");
}

/// Pieces of what the parsers read, and of what they do not.
const PIECES: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "{\"a\":",
    "[{",
    "}]",
    "{\"$and\":[",
    "{\"$or\":[{",
    "{\"$not\":",
    "\"$in\":[1,2]",
    "\"$gte\":7",
    "\"$like\":\"%\"",
    "\"year\":1",
    "\"a.b.c\":null",
    ".",
    "a.",
    "metadata.",
    "null",
    "true",
    "1e999",
    "-0",
    "12345678901234567890",
    "\"pooling\":\"cls\"",
    "\"max_tokens\":",
    "\"importance\":",
    "\"model\":\"m\"",
    "\"mode\":\"sync\"",
    "-",
    "OR",
    " OR ",
    "a ",
    "-a ",
    "\"a b\" ",
    "-\"",
    "''",
    "\0",
    "\u{fe0f}",
    "水泵",
    "🙂",
    "\u{202e}",
    "\n",
    "\\u0000",
    "\\ud800",
];

/// Any text; a soup of pieces; pieces many times; pieces inside of each other.
fn text() -> impl Strategy<Value = String> {
    let piece = || prop::sample::select(PIECES.to_vec());
    let pieces = move || prop::collection::vec(piece(), 1..5).prop_map(|pieces| pieces.concat());
    prop_oneof![
        4 => any::<String>(),
        8 => prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..60).prop_map(|pieces| pieces.concat()),
        1 => (pieces(), 0usize..100_000, pieces()).prop_map(|(text, times, end)| text.repeat(times) + &end),
        2 => nested(),
    ]
}

/// Brackets that close: a core inside of up to 100,000 of them.
fn nested() -> impl Strategy<Value = String> {
    let brackets = prop::sample::select(vec![
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"$not\":", "}"),
        ("{\"$and\":[", "]}"),
        ("{\"$or\":[{},", "]}"),
        ("{\"year\":{\"$not\":", "}}"),
    ]);
    let core = prop::sample::select(vec!["1", "{}", "{\"year\":1}", "{\"a\":[1]}", "null", "\"x\""]);
    let depth = prop_oneof![0usize..150, 0usize..100_000];
    let outer = prop::sample::select(vec![
        ("", ""),
        ("{\"a\":", "}"),
        ("{\"importance\":", "}"),
        ("{\"file\":", "}"),
    ]);
    (brackets, core, depth, outer).prop_map(|((open, close), core, depth, (before, after))| {
        format!("{before}{}{core}{}{after}", open.repeat(depth), close.repeat(depth))
    })
}

/// JSON with keys that filters, options and configuration files have.
fn json() -> impl Strategy<Value = String> {
    let key = || {
        prop::sample::select(vec![
            "year",
            "v",
            "l",
            "metadata",
            "metadata.a",
            "a.b",
            ".",
            "..",
            "",
            "$and",
            "$or",
            "$not",
            "$eq",
            "$ne",
            "$in",
            "$nin",
            "$like",
            "$exists",
            "$gt",
            "$near",
            "file",
            "pooling",
            "normalize",
            "max_tokens",
            "query_prefix",
            "importance",
            "model",
            "mode",
            "chunking",
            "order",
            "type",
            "path",
            "prompts",
            "default_prompt_name",
            "pooling_mode_x",
            "pooling_mode",
            "max_seq_length",
            "model_max_length",
            "max_position_embeddings",
        ])
    };
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        prop::sample::select(vec![
            "1e999", "-1e-999", "1E400", "0.1", "\"cls\"", "\"mean\"", "\"%\"", "\"sync\"", "\"a.b\""
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((key(), inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<String> =
                    pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

fn text_or_json() -> impl Strategy<Value = String> {
    prop_oneof![text(), json()]
}

fn source() -> SearchSource {
    let identifier = |name: &str| Identifier::new(name).expect("a valid name");
    let column = |(name, kind): (&str, ColumnKind)| Column {
        name: identifier(name),
        type_name: "integer".to_owned(),
        compared_as: "integer".to_owned(),
        kind,
        type_oid: 0,
        dimensions: None,
        configuration: None,
    };
    let columns = [
        ("id", ColumnKind::Other),
        ("year", ColumnKind::Other),
        ("v", ColumnKind::Vector),
        ("l", ColumnKind::Lexemes),
        ("metadata", ColumnKind::Json),
    ];
    let facts = TableFacts {
        table: QualifiedName { schema: identifier("public"), name: identifier("docs") },
        display: "docs".to_owned(),
        columns: columns.map(column).into(),
        primary_key: vec![identifier("id")],
        pgvector_schema: identifier("public"),
        embedding_trigger: None,
        vector_indexes: vec![],
        bm25_indexes: vec![],
        default_model: None,
        partition_key: vec![],
    };
    SearchSource::resolve(facts, &ColumnChoice::default(), Legs::BOTH).expect("searchable")
}

/// Every type that takes any value but a very long one, and repeats it.
struct AnyValue;

impl ColumnTypes for AnyValue {
    fn check_value(&self, _: &Column, text: &str) -> Result<(), (&'static str, String)> {
        if text.len() < 100 { Ok(()) } else { Err(("22P02", format!("invalid input syntax: \"{text}\""))) }
    }

    fn comparisons(&self, _: &Column) -> Comparisons {
        Comparisons { equality: true, order: true }
    }
}

fn check_filter(source: &SearchSource, json: &str) {
    match Filter::parse(json, source, &AnyValue) {
        Ok(filter) => {
            let mut statement = Statement::default();
            filter.push_conditions(&mut statement);
            let bytes = statement.text.len();
            assert!(bytes <= MOST_SQL_BYTES, "expected short SQL, not {bytes} bytes");
            filter.columns();
            assert!(filter.on_columns(&[]).is_empty());
        }
        Err(error) => check_error(&error),
    }
}

// trust 26
#[test]
fn any_filter_is_read_or_refused() {
    let source = source();
    fuzz(text_or_json(), |json| check_filter(&source, json));
}

// trust 26
#[test]
fn any_path_is_read_or_refused() {
    let source = source();
    let operand =
        prop::sample::select(vec!["1", "null", "[1]", "{\"b\":{}}", "{\"$gte\":1}", "{\"$like\":\"%\"}"]);
    fuzz((text(), operand), |(path, operand)| {
        let key = serde_json::Value::from(path.as_str());
        check_filter(&source, &format!("{{{key}:{operand}}}"));
        check_filter(&source, &format!("{{\"metadata.{}\":{operand}}}", path.replace(['"', '\\'], ".")));
    });
}

// trust 26
#[test]
fn any_question_is_read_or_refused() {
    fuzz(text(), |query| match QueryText::parse(query) {
        Ok(parsed) => {
            let phrases: Vec<String> =
                parsed.required.iter().flatten().chain(&parsed.excluded).cloned().collect();
            match join_conditions(&parsed, phrases) {
                Ok(condition) => assert!(condition.unwrap_or_default().len() < 1 << 20),
                Err(error) => check_error(&error),
            }
        }
        Err(error) => check_error(&error),
    });
}

// trust 26
#[test]
fn any_options_are_read_or_refused() {
    fuzz(text_or_json(), |json| {
        if let Err(error) = ModelOptions::from_json(json) {
            check_error(&error);
        }
        let described = Described { metadata: Some(json.clone()), ..Described::default() };
        if let Err(error) = described.check() {
            check_error(&error);
        }
        if let Some(options) = SearchOptions::from_json(json) {
            assert_eq!(SearchOptions::from_json(&options.to_json()), Some(options));
        }
    });
}

// trust 26
#[test]
fn any_bytes_are_read_as_a_tsvector() {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        // As many entries as there are, or one more or less.
        (prop::collection::vec(any::<u8>(), 0..300), -1i32..2).prop_map(|(rest, more)| {
            let count = (rest.len() / 8) as i32 + more;
            [count.to_ne_bytes().as_slice(), &rest].concat()
        }),
        (any::<i32>(), 0usize..100_000)
            .prop_map(|(count, zeros)| { [count.to_ne_bytes().as_slice(), &vec![0; zeros]].concat() }),
    ];
    fuzz((bytes, prop::collection::vec(any::<u8>(), 0..9)), |(bytes, lexeme)| {
        if let Some(vector) = TextVector::new(bytes) {
            assert!(vector.lexeme_count() <= bytes.len() / 4);
            vector.occurrences(lexeme);
            vector.length();
            assert!(vector.lexemes().count() <= vector.lexeme_count());
        }
    });
}

const FILES: [&str; 7] = [
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config.json",
    "elsewhere/config.json",
];

fn read_manifest(folder: &Path, files: &[(&str, String)], options: &ModelOptions) {
    for name in FILES {
        let _ = fs::remove_file(folder.join(name));
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a file");
    }
    if let Err(error) = Manifest::read(folder, options) {
        check_error(&error);
    }
}

// trust 26
#[test]
fn any_configuration_of_a_model_is_read_or_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["1_Pooling", "elsewhere"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    for name in ["model.onnx", "tokenizer.json"] {
        fs::write(folder.path().join(name), "").expect("a file");
    }
    let modules = prop_oneof![
        Just(r#"[{"path": "elsewhere", "type": "a.Pooling"}]"#.to_owned()),
        Just(r#"[{"path": "../../../../etc", "type": "a.Pooling"}, {"type": "Dense"}]"#.to_owned()),
        text_or_json(),
    ];
    let file = (prop::sample::select(FILES.to_vec()), text_or_json());
    fuzz((prop::collection::vec(file, 1..4), modules), |(files, modules)| {
        let mut files = files.clone();
        files.push(("modules.json", modules.clone()));
        read_manifest(folder.path(), &files, &ModelOptions::default());
    });
}
