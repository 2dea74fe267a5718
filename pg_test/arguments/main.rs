//! A function has the same arguments for SQL and for the library: their names, order, types and defaults. The library
//! reads them from places, so what differs would be another argument's value.

mod lists;
mod rust;
#[path = "../sql_text/rust_source.rs"]
mod rust_source;
mod sql;

use std::fs;
use std::path::{Path, PathBuf};

use self::lists::{balanced, split};

/// Where arguments may be read by their number, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/kit/arguments.rs", "reads declared arguments"),
    ("src/types/text_vector.rs", "reads the first argument for each row, without the others"),
];
/// What reads them so.
const READERS: &[&str] = &["pg_getarg", "fcinfo.args", "fcinfo).args", "get_arg"];
/// The function whose arguments others pass on under the same names.
const MASTER: &str = "hybrid_search";

/// The files of the extension: of SQL the install script, of Rust everything.
#[derive(Clone)]
struct Sources {
    rust: Vec<(String, String)>,
    sql: Vec<(String, String)>,
}

impl Sources {
    fn read() -> Sources {
        let mut sources = Sources { rust: vec![], sql: vec![] };
        let mut open = vec![root().join("src")];
        while let Some(folder) = open.pop() {
            for path in entries(&folder) {
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    sources.rust.push(file(&path));
                }
            }
        }
        let scripts = entries(&root().join("sql")).into_iter();
        sources.sql.extend(
            scripts
                .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
                .map(|path| file(&path)),
        );
        sources
    }

    /// The same with another text in the one place where `from` stands after `after`.
    #[track_caller]
    fn with(mut self, after: &str, from: &str, to: &str) -> Sources {
        let mut changed = 0;
        for (_, text) in self.rust.iter_mut().chain(&mut self.sql) {
            let Some(start) = text.find(after) else { continue };
            let (before, rest) = text.split_at(start);
            if rest.contains(from) {
                *text = format!("{before}{}", rest.replacen(from, to, 1));
                changed += 1;
            }
        }
        assert_eq!(changed, 1, "expected {from:?} after {after:?} in one file");
        self
    }

    /// What is wrong, a line each.
    fn problems(&self) -> Vec<String> {
        let (mut declarations, mut functions) = (vec![], vec![]);
        let is_of_use = |text: &str| text.contains("#[pg_extern") || text.contains("arguments! {");
        for (file, text) in self.rust.iter().filter(|(_, text)| is_of_use(text)) {
            let (found, also) = rust::read(file, text);
            declarations.extend(found);
            functions.extend(also);
        }
        let declared: Vec<sql::Function> =
            self.sql.iter().flat_map(|(file, text)| sql::functions(file, text)).collect();
        let in_c = || declared.iter().filter(|function| function.language == "c");
        let symbol = |function: &sql::Function| function.body.trim_end_matches("_wrapper").to_owned();

        let mut problems = self.readings();
        for function in in_c() {
            let name = symbol(function);
            let place = format!("{}: {}", function.file, function.name);
            match functions.iter().find(|known| known.name == name) {
                Some(known) => {
                    let found = problems_of(function, known, &declarations);
                    problems.extend(found.into_iter().map(|problem| format!("{place}: {problem}")));
                }
                None => problems.push(format!("{place}: no function of the library is called {name}")),
            }
        }
        let is_in_sql = |name: &String| in_c().any(|function| symbol(function) == *name);
        let by_hand = functions.iter().filter(|function| function.is_declared_by_hand);
        let missing = by_hand.map(|function| (&function.file, &function.name)).chain(
            declarations.iter().flat_map(|one| one.functions.iter().map(|function| (&one.file, function))),
        );
        problems.extend(
            missing
                .filter(|(_, function)| !is_in_sql(function))
                .map(|(file, function)| format!("{file}: {function}: no CREATE FUNCTION in sql/ is for it")),
        );
        problems.extend(forwarding(&declared));
        problems
    }

    /// Where a number is used that no declaration gives.
    fn readings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (file, text) in &self.rust {
            let is_excepted = EXCEPTIONS.iter().any(|(excepted, _)| file == excepted);
            if is_excepted || !READERS.iter().any(|reader| text.contains(reader)) {
                continue;
            }
            let code = rust_source::read(text).code;
            for (number, line) in code.lines().enumerate() {
                if READERS.iter().any(|reader| line.contains(reader)) {
                    let line = line.trim();
                    found.push(format!("{file}:{}: reads an argument by its number: {line}", number + 1));
                }
            }
        }
        found
    }
}

/// What differs between a function of SQL and that of the library.
fn problems_of(
    function: &sql::Function,
    known: &rust::Function,
    declarations: &[rust::Declaration],
) -> Vec<String> {
    if let Some(arguments) = &known.arguments {
        let mut problems = differences(&function.arguments, arguments, false);
        // Called with NULL, it would have to raise an error.
        let needs_strict = arguments.iter().any(|argument| !argument.is_nullable);
        if needs_strict != (function.is_strict && !arguments.is_empty()) {
            problems.push("STRICT must say whether NULL is read".to_owned());
        }
        return problems;
    }
    if function.is_trigger {
        return vec![];
    }
    let own = |one: &&rust::Declaration| one.functions.contains(&known.name);
    match declarations.iter().filter(own).collect::<Vec<_>>()[..] {
        [one] if known.body.contains(&format!("{}::read(fcinfo)", one.name)) => {
            differences(&function.arguments, &one.arguments, true)
        }
        [one] => vec![format!("{} does not read {}", known.file, one.name)],
        ref others => vec![format!("{} declarations of its arguments in {}", others.len(), known.file)],
    }
}

fn differences(declared: &[sql::Argument], known: &[rust::Argument], has_defaults: bool) -> Vec<String> {
    let names = |names: Vec<&str>| names.join(", ");
    let in_sql = names(declared.iter().map(|argument| argument.name.as_str()).collect());
    let in_library = names(known.iter().map(|argument| argument.name.as_str()).collect());
    if in_sql != in_library {
        return vec![format!("({in_sql}), but in the library ({in_library})")];
    }
    let mut problems = Vec::new();
    for (declared, known) in declared.iter().zip(known) {
        let name = &declared.name;
        if !kinds(&known.kind).contains(&declared.kind) {
            problems.push(format!("{name} is {}, but in the library {}", declared.kind, known.kind));
        }
        let (default, other) = (declared.default.as_deref(), known.default.as_deref());
        if has_defaults && default.map(value) != other.map(value) {
            let shown = |default: Option<&str>| default.unwrap_or("nothing").to_owned();
            let (default, other) = (shown(default), shown(other));
            problems.push(format!("the default of {name} is {default}, but in the library {other}"));
        }
    }
    problems
}

/// The types of SQL that a type of the library reads.
fn kinds(kind: &str) -> Vec<String> {
    let element = kind.strip_prefix("Vec<Option<").and_then(|rest| rest.strip_suffix(">>"));
    let element = element.or_else(|| kind.strip_prefix("Array<").and_then(|rest| rest.strip_suffix('>')));
    if let Some(element) = element {
        return kinds(element).into_iter().map(|kind| format!("{kind}[]")).collect();
    }
    let kinds: &[&str] = match kind {
        "bool" => &["boolean"],
        "i32" => &["integer"],
        "i64" => &["bigint"],
        "f64" => &["double precision"],
        // Both are stored alike.
        "String" | "&str" => &["text", "vector_tools.word_match"],
        "&[u8]" => &["bytea"],
        "pg_sys::Oid" => &["regclass"],
        "JsonbText" | "FilterText" => &["jsonb"],
        "TsVector" => &["tsvector"],
        "Uuid" => &["uuid"],
        "Vector" => &["vector"],
        _ => &[],
    };
    kinds.iter().map(|kind| (*kind).to_owned()).collect()
}

/// A default without the ways to write it.
fn value(default: &str) -> String {
    default.parse::<f64>().map_or_else(|_| default.to_owned(), |number| number.to_string())
}

/// What passes arguments on takes them as they are taken there, and passes on each.
fn forwarding(declared: &[sql::Function]) -> Vec<String> {
    let Some(master) = declared.iter().find(|function| function.name == MASTER) else {
        return vec![format!("expected {MASTER} in sql/")];
    };
    let mut problems = Vec::new();
    let call = format!(".{MASTER}(");
    for function in declared.iter().filter(|function| function.language == "sql") {
        let Some(start) = function.body.find(&call) else { continue };
        let given = split(balanced(&function.body[start + call.len() - 1..]));
        for (place, argument) in function.arguments.iter().enumerate() {
            let name = &argument.name;
            let is_given = given.contains(&format!("{name} => {name}").as_str())
                || given.get(place) == Some(&name.as_str()) && master.arguments.get(place) == Some(argument);
            if !master.arguments.contains(argument) {
                problems.push(format!("{}: {name} is not that of {MASTER}", function.name));
            } else if !is_given {
                problems.push(format!("{}: {name} is not passed on to {MASTER}", function.name));
            }
        }
    }
    problems
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file(path: &Path) -> (String, String) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path.strip_prefix(root()).expect("it is below").display().to_string(), text)
}

#[test]
fn sql_and_the_library_declare_the_same_arguments() {
    let sources = Sources::read();
    let problems = sources.problems();
    assert!(problems.is_empty(), "expected the same arguments in sql/ and src/:\n{}", problems.join("\n"));
    let functions = sources.sql.iter().flat_map(|(file, text)| sql::functions(file, text));
    assert!(functions.filter(|function| function.language == "c").count() > 40, "expected functions in C");
}

#[test]
fn every_exception_is_needed() {
    let sources = Sources::read();
    for (file, reason) in EXCEPTIONS {
        let found = sources.rust.iter().find(|(name, _)| name == file);
        let is_needed = found.is_some_and(|(_, text)| READERS.iter().any(|reader| text.contains(reader)));
        assert!(is_needed, "expected {file} to read arguments by their number ({reason})");
    }
}

#[track_caller]
fn refused(after: &str, from: &str, to: &str, expected: &str) {
    let problems = Sources::read().with(after, from, to).problems();
    let is_told = problems.iter().any(|problem| problem.contains(expected));
    assert!(is_told, "expected a problem with {expected:?} in {problems:?}");
}

#[test]
fn arguments_in_another_order_are_refused() {
    let swapped =
        ("        k1: f64 = 1.2,\n        b: f64 = 0.75,", "        b: f64 = 0.75,\n        k1: f64 = 1.2,");
    refused("struct HybridSearch ", swapped.0, swapped.1, "hybrid_search: (source, query, ");
    refused("struct HybridSearch ", swapped.0, swapped.1, "explain_search: (source, query, ");
    refused("struct Bm25Rank ", swapped.0, swapped.1, "bm25_rank: (document, ");
    let (from, to) = (
        "    k1 double precision DEFAULT 1.2,\n    b double precision DEFAULT 0.75,",
        "    b double precision DEFAULT 0.75,\n    k1 double precision DEFAULT 1.2,",
    );
    for function in ["hybrid_search", "explain_search", "bm25_rank"] {
        refused(&format!("CREATE FUNCTION {function}("), from, to, &format!("{function}: ("));
    }
    let plain = "fn delete_document(\n    schema: Option<&str>,\n    source_type: Option<&str>,";
    let other = "fn delete_document(\n    source_type: Option<&str>,\n    schema: Option<&str>,";
    refused("", plain, other, "delete_document: (schema, source_type, ");
}

#[test]
fn other_names_types_and_defaults_are_refused() {
    let declaration = "struct HybridSearch ";
    refused(declaration, " depth: ", " deep: ", "hybrid_search: (source, ");
    refused(declaration, " fusion: String", " fusion: f64", "fusion is text, but in the library f64");
    refused(
        declaration,
        "\"rrf\"",
        "\"linear\"",
        "the default of fusion is 'rrf', but in the library 'linear'",
    );
    refused(
        declaration,
        "chunks: String = \"best\"",
        "chunks: Option<String>",
        "the default of chunks is 'best'",
    );
    let in_sql = "CREATE FUNCTION explain_search(";
    refused(in_sql, "skip bigint DEFAULT 0,\n", "", "explain_search: (source, ");
    refused(in_sql, "0.75", "0.7", "explain_search: the default of b is 0.7, but in the library 0.75");
    refused("CREATE FUNCTION delete_document(", "source_id uuid", "source_id text", "source_id is text, ");
    refused("CREATE FUNCTION drop_namespace(", " STRICT", "", "drop_namespace: STRICT");
}

#[test]
fn what_is_passed_on_otherwise_is_refused() {
    let function = "CREATE FUNCTION keyword_search(";
    refused(function, "k1 => k1", "k1 => b", "keyword_search: k1 is not passed on");
    refused(
        function,
        "k => k, filter => filter,\n",
        "k => 10, filter => filter,\n",
        "keyword_search: k is not passed",
    );
    refused(function, "DEFAULT 1.2", "DEFAULT 1.5", "keyword_search: k1 is not that of hybrid_search");
}

#[test]
fn what_is_read_by_its_number_is_refused() {
    let read = "StoreMemory::read(fcinfo)";
    refused(
        "",
        read,
        "StoreMemory::default()",
        "store_memory: src/memories/functions.rs does not read StoreMemory",
    );
    let number = "unsafe { pgrx::fcinfo::pg_getarg::<String>(fcinfo, 2) };";
    refused("fn update_memory(", "let id = id?;", number, "reads an argument by its number");
    refused("", "for store_memory {", "for update_memory {", "store_memory: 0 declarations of its arguments");
    refused(
        "",
        "'share_namespaces_wrapper'",
        "'share_wrapper'",
        "no function of the library is called share",
    );
    refused("", "'share_namespaces_wrapper'", "'share_wrapper'", "share_namespaces: no CREATE FUNCTION");
}
