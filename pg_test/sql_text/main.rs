//! Every statement of the extension means the server's own operators, functions and types, whatever the caller's
//! search_path has first: none is written so that PostgreSQL would look one up through it. Tests with shadows
//! (`cluster/attacker.rs`) run what there is; this one reads it.
//!
//! And one place alone may act as somebody else.

mod rules;
mod rust_source;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

/// Statements that are right although a rule refuses them: the file, a part of the text, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("crates/core/src/error/facts.rs", "CALL run_embedding_jobs(), see", "a hint for a person"),
    ("src/kit/spi.rs", "({key})=(", "a part of the server's own message, which is searched for"),
    ("crates/core/src/store/index.rs", "{name}={value}", "options of an index as pg_class lists them"),
    ("crates/core/src/memories/update.rs", "metadata = t.metadata", "a part of SET"),
    (
        "crates/core/src/pipeline/companion.rs",
        "IS DISTINCT FROM",
        "the condition of a trigger: bound for good by CREATE TRIGGER, which runs with a pinned path",
    ),
    ("sql/templates/domain_memories_missing.sql", "{embed}(content", "filled in with its schema"),
];

/// What only `src/kit/rights.rs` may do: whoever changes the user must pin the path, too.
const SWITCHES: &[&str] = &[
    "SetUserIdAndSecContext",
    "SetUserIdAndContext",
    "SetOuterUserId",
    "SetSessionAuthorization",
    "SetCurrentRoleId",
];
const SWITCHES_IN_SQL: &[&str] = &["SECURITY DEFINER", "SET ROLE", "SET LOCAL ROLE", "SESSION AUTHORIZATION"];
const DOOR: &str = "src/kit/rights.rs";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "expected files *.{ending} in {folder}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).expect("it is below").display().to_string()
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sources of the extension, without those of tests.
fn sources() -> Vec<(String, rust_source::Source)> {
    let folders = ["src", "crates/core/src", "crates/embedder/src"];
    let files = folders.into_iter().flat_map(|folder| files(folder, "rs"));
    let files = files.filter(|path| !path.ends_with("tests.rs"));
    files.map(|path| (shown(&path), rust_source::read(&text_of(&path)))).collect()
}

/// One finding.
struct Finding {
    place: String,
    problem: String,
    text: String,
}

fn findings() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |place: String, text: &str, problems: Vec<String>| {
        findings.extend(problems.into_iter().map(|problem| Finding {
            place: place.clone(),
            problem,
            text: text.to_owned(),
        }));
    };
    for (file, source) in sources() {
        // Parts of a statement stand in several literals.
        let own: Vec<String> =
            source.literals.iter().flat_map(|literal| rules::common_tables(&literal.text)).collect();
        for literal in source.literals.iter().filter(|literal| rules::is_sql(&literal.text)) {
            let bare = rules::bare_tables(&literal.text).into_iter().filter(|table| !own.contains(table));
            let problems = bare.map(|table| format!("table {table} without a schema")).collect();
            add(format!("{file}:{}", literal.line), &literal.text, problems);
        }
        for literal in &source.literals {
            if rules::is_sql(&literal.text) {
                add(format!("{file}:{}", literal.line), &literal.text, rules::problems(&literal.text, true));
            }
        }
    }
    for path in files("sql", "sql") {
        let (file, text) = (shown(&path), text_of(&path));
        // Templates run when a function is called; the rest runs in CREATE EXTENSION, which has a path of its own.
        if file.contains("templates") {
            add(file, &text, rules::problems(&text, true));
        } else {
            add(file, &text, rules::problems_of_functions(&text));
        }
    }
    findings
}

fn is_excepted(finding: &Finding) -> bool {
    EXCEPTIONS.iter().any(|(file, part, _)| finding.place.starts_with(file) && finding.text.contains(part))
}

// trust 6, 27
#[test]
fn statements_name_the_schema_of_all_they_use() {
    let bad: Vec<String> = findings()
        .iter()
        .filter(|finding| !is_excepted(finding))
        .map(|finding| {
            let words = finding.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let start: String = words.chars().take(120).collect();
            format!("{}: {}\n    {start}", finding.place, finding.problem)
        })
        .collect();
    assert!(
        bad.is_empty(),
        "expected no statement that the caller's search_path could bend:\n{}",
        bad.join("\n")
    );
}

#[test]
fn every_exception_is_needed() {
    let findings = findings();
    for (file, part, reason) in EXCEPTIONS {
        let is_needed =
            findings.iter().any(|finding| finding.place.starts_with(file) && finding.text.contains(part));
        assert!(is_needed, "expected {file} to need the exception for {part:?} ({reason})");
    }
}

// trust 6, 27
#[test]
fn functions_in_sql_are_bound_when_they_are_made() {
    // A body that is a text is looked up at each call: a function that somebody puts beside what it calls may fit
    // better. One of any type must be a text, and gives rrf_score what it takes to the letter.
    const TEXTS: [&str; 1] = ["rrf_fuse"];
    let mut texts = Vec::new();
    for path in files("sql", "sql") {
        let text = text_of(&path);
        for made in text.split("CREATE FUNCTION ").skip(1) {
            let Some((_, rest)) = made.split_once("LANGUAGE sql") else { continue };
            let head = &made[..made.len() - rest.len()];
            // That of another one, further below.
            if head.contains("LANGUAGE c") || head.contains("LANGUAGE internal") || head.contains("plpgsql") {
                continue;
            }
            let attributes = rest.split_once("$$").map_or(rest, |(before, _)| before);
            if !attributes.contains("\nRETURN ") && !attributes.contains("BEGIN ATOMIC") {
                texts.push(made.split('(').next().unwrap_or_default().to_owned());
            }
        }
    }
    assert_eq!(texts, TEXTS, "expected a body of RETURN or BEGIN ATOMIC");
}

// trust 29
#[test]
fn one_place_alone_reads_results() {
    // There each column's type is looked at before its value is, as Spi::get_one does by itself.
    const READERS: [&str; 2] = ["SPI_getbinval", "SPI_tuptable"];
    let mut others = Vec::new();
    for (file, source) in sources().iter().filter(|(file, _)| file != "src/kit/spi.rs") {
        let lines = source.code.lines().enumerate();
        let found = lines.filter(|(_, line)| READERS.iter().any(|reader| line.contains(reader)));
        others.extend(found.map(|(number, line)| format!("{file}:{}: {}", number + 1, line.trim())));
    }
    assert!(
        others.is_empty(),
        "expected results to be read by Row::get alone, not in\n{}",
        others.join("\n")
    );
}

// trust 27
#[test]
fn one_place_alone_acts_as_somebody_else() {
    let mut others = Vec::new();
    for (file, source) in sources() {
        for (number, line) in source.code.lines().enumerate().filter(|_| file != DOOR) {
            if SWITCHES.iter().any(|switch| line.contains(switch)) {
                others.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
        for literal in &source.literals {
            let upper = literal.text.to_uppercase();
            if rules::is_sql(&literal.text) && SWITCHES_IN_SQL.iter().any(|switch| upper.contains(switch)) {
                others.push(format!("{file}:{}: {}", literal.line, literal.text));
            }
        }
    }
    for path in files("sql", "sql") {
        let text = text_of(&path);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let upper: Vec<String> = lines.map(str::to_uppercase).collect();
        let has_switch = |line: &&String| SWITCHES_IN_SQL.iter().any(|switch| line.contains(switch));
        others.extend(upper.iter().filter(has_switch).map(|line| format!("{}: {line}", shown(&path))));
    }
    assert!(
        others.is_empty(),
        "expected a change of the user in {DOOR} alone, not in\n{}",
        others.join("\n")
    );
    let door = rust_source::read(&text_of(&root().join(DOOR))).code;
    assert!(SWITCHES.iter().any(|switch| door.contains(switch)), "expected {DOOR} to change the user");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(sql: &str) {
        assert!(rules::is_sql(sql), "expected this to be taken for SQL: {sql}");
        assert!(!rules::problems(sql, true).is_empty(), "expected this to be refused: {sql}");
    }

    #[track_caller]
    fn passes(sql: &str) {
        assert_eq!(rules::problems(sql, true), Vec::<String>::new(), "expected this to pass: {sql}");
    }

    #[test]
    fn each_form_that_is_looked_up_is_refused() {
        refused("DELETE FROM s.t AS d WHERE d.id IN (SELECT x.id FROM s.x AS x)");
        refused("DELETE FROM s.t AS d WHERE d.id NOT IN (SELECT x.id FROM s.x AS x)");
        refused("DELETE FROM s.t AS d WHERE d.id IN (1, 2)");
        refused("SELECT NULLIF(t.a, t.b) FROM s.t AS t");
        refused("SELECT t.a IS DISTINCT FROM t.b FROM s.t AS t");
        refused("SELECT t.a IS NOT DISTINCT FROM t.b FROM s.t AS t");
        refused("SELECT CASE t.a WHEN 1 THEN 2 END FROM s.t AS t");
        refused("SELECT 1 FROM s.t AS t JOIN s.u AS u USING (id)");
        refused("SELECT 1 FROM s.t AS t NATURAL JOIN s.u AS u");
        refused("SELECT 1 FROM s.t AS t WHERE t.a BETWEEN 1 AND 2");
        refused("SELECT 1 FROM s.t AS t WHERE t.a LIKE 'x'");
        refused("SELECT 1 FROM s.t AS t WHERE t.a NOT ILIKE $1");
        refused("SELECT 1 FROM s.t AS t WHERE t.a SIMILAR TO 'x'");
        refused("SELECT 1 FROM s.t AS t WHERE t.a = ANY ($1)");
        refused("SELECT 1 FROM s.t AS t WHERE t.a <> ALL ($1)");
        refused("SELECT 1 FROM s.t AS t ORDER BY t.a USING <");
        refused("SELECT 1 FROM s.t AS t WHERE (t.a, t.b) = ROW(1, 2)");
        refused("SELECT 1 FROM s.t AS t WHERE ROW(t.a) < ROW(2)");
        refused("SELECT t.a || 'x' FROM s.t AS t");
        refused("SELECT -t.a FROM s.t AS t");
        refused("SELECT t.a -> 'x' FROM s.t AS t");
        refused("SELECT lower(t.a) FROM s.t AS t");
        refused("SELECT count(*) FROM s.t AS t");
        refused("SELECT 1 FROM unnest($1) AS u(x)");
        refused("SELECT $1::text");
        refused("SELECT CAST($1 AS jsonb)");
        refused("SELECT t.a COLLATE \"C\" FROM s.t AS t");
        refused("UPDATE s.t SET a = b + 1");
        refused("UPDATE s.t SET a = 1 WHERE b = 2");
        refused("UPDATE s.t SET a = (b = 2)");
        refused("SELECT {embedding} <=> {question} FROM {table}");
        refused("{column} = {value}");
        refused("AND lower({column}) OPERATOR(pg_catalog.=) $1");
        refused("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS $$ SELECT lower('a') $$");
        refused("CREATE POLICY p ON s.t USING (a = current_setting('b'))");
    }

    #[test]
    fn what_names_its_schemas_passes() {
        passes(
            "SELECT pg_catalog.count(*), pg_catalog.lower(t.a) FROM s.t AS t WHERE t.a OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT 1))",
        );
        passes("SELECT * FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS u(x, o)");
        passes("UPDATE s.t AS t SET a = 1, b = pg_catalog.now(), (c, d) = (SELECT 1, 2) WHERE t.a IS NULL");
        passes("INSERT INTO s.t (a, b) VALUES ($1, -1) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b, c = 3");
        passes("CREATE INDEX ON s.t USING {pgvector}.hnsw (embedding) WITH (m = 16, ef_construction = 200)");
        passes("SELECT CASE WHEN t.a IS NULL THEN coalesce(t.b, t.c) ELSE greatest(1, 2) END FROM s.t AS t");
        passes("SELECT s.f(a => 1)");
        passes("SELECT t.a::bigint, CAST(t.b AS pg_catalog.text) COLLATE pg_catalog.\"C\" FROM s.t AS t");
        passes("ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({namespace})");
        passes("WITH old(id) AS (DELETE FROM s.t AS t RETURNING t.id) SELECT o.id FROM old AS o");
        passes(
            "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql SET search_path = pg_catalog AS $$ SELECT lower('a') = 'b' $$",
        );
        passes("SET LOCAL vector_tools.namespace = 'x'");
        passes("SELECT 'a = b', \"in (\" FROM s.t -- a = b");
    }

    #[test]
    fn tables_have_a_schema_or_are_of_the_statement() {
        assert_eq!(rules::bare_tables("SELECT 1 FROM t, s.u JOIN v ON true"), ["t", "v"]);
        assert_eq!(
            rules::bare_tables("UPDATE t SET a = 1; INSERT INTO u (a) SELECT 1 FROM ONLY v"),
            ["t", "u", "v"]
        );
        assert_eq!(rules::bare_tables("SELECT 1 FROM s.t FOR UPDATE SKIP LOCKED"), Vec::<String>::new());
        assert_eq!(rules::common_tables("WITH a AS (SELECT 1), b(c, d) AS (SELECT 2) SELECT 3"), ["a", "b"]);
    }

    #[test]
    fn messages_are_no_statements() {
        for message in [
            "{name} = {value} is not a setting",
            "column \"x\" (a number) is missing",
            "between 1 and {limit}: {}",
        ] {
            assert!(!rules::is_sql(message), "expected this to be a message: {message}");
        }
    }

    #[test]
    fn functions_of_scripts_are_read_and_views_are_not() {
        assert_eq!(
            rules::problems_of_functions("CREATE VIEW s.v AS SELECT lower('a') = 'b'"),
            Vec::<String>::new()
        );
        assert_eq!(
            rules::problems_of_functions("DO $$ BEGIN PERFORM lower('a'); END $$"),
            Vec::<String>::new()
        );
        let body = "CREATE FUNCTION s.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN x := lower('a'); END $$";
        assert_eq!(rules::problems_of_functions(body), ["function lower without a schema"]);
    }
}
