//! What nests, grows or is missing is refused by a limit that has a name, with a short text, and the server goes on (23, 26).

use postgres::error::DbError;

use crate::database::{Database, MODEL};
use crate::process::peak_kib;
use crate::session::Session;

/// The most bytes of everything that an error says, the statement that was running aside.
const MOST_ERROR_BYTES: usize = 3000;

fn started(session: &mut Session) -> String {
    session.text("SELECT pg_postmaster_start_time()")
}

fn check_short(error: &DbError, call: &str) {
    let parts = [Some(error.message()), error.detail(), error.hint(), error.where_()];
    let bytes = parts.into_iter().flatten().map(str::len).sum::<usize>();
    let call: String = call.chars().take(200).collect();
    assert!(bytes <= MOST_ERROR_BYTES, "expected a short error, not {bytes} bytes, of {call}");
    assert_ne!(
        error.code().code(),
        "XX000",
        "expected an error with a SQLSTATE of its own, not {error} of {call}"
    );
}

// trust 23, 26, 28
#[test]
fn what_nests_or_grows_in_a_search_is_bounded() {
    let database = Database::with_extension("bounds_search");
    let mut session = database.connect();
    let started_at = started(&mut session);
    session.run("CREATE TABLE tt (id int PRIMARY KEY, j jsonb, l tsvector)");
    session.run(
        "INSERT INTO tt VALUES (1, '{\"a\": {\"a\": 1}}', to_tsvector('english', 'a pump and a valve'))",
    );
    let filter = |json: &str| format!("SELECT id FROM keyword_search('tt', 'pump', filter => {json})");
    let path = |parts: usize| filter(&format!("jsonb_build_object(repeat('a.', {}) || 'a', 1)", parts - 1));
    let or = |count: usize| {
        filter(&format!(
            "jsonb_build_object('$or', (SELECT jsonb_agg('{{\"id\": 1}}'::jsonb) FROM generate_series(1, {count})))"
        ))
    };
    let values = |key: &str, operator: &str, count: usize| {
        filter(&format!(
            "jsonb_build_object('{key}', jsonb_build_object('{operator}', (SELECT jsonb_agg(n) FROM generate_series(1, {count}) n)))"
        ))
    };
    let deep = |depth: usize| {
        filter(&format!("(repeat('{{\"$not\":', {depth}) || '{{\"id\":2}}' || repeat('}}', {depth}))::jsonb"))
    };
    let value = |depth: usize| filter(&format!("(repeat('[', {depth}) || repeat(']', {depth}))::jsonb"));
    assert_eq!(session.text(&filter("'{\"a.a\": 1}'")), "1");
    for allowed in [
        path(64),
        or(1000),
        deep(62),
        filter(
            "jsonb_build_object('id', jsonb_build_object('$in', (SELECT jsonb_agg(n) FROM generate_series(1, 100000) n)))",
        ),
        values("id", "$in", 100_000),
        values("a.b", "$nin", 100_000),
    ] {
        session.rows(&allowed);
    }
    let mut refused: Vec<(&str, &str, String)> = vec![];
    for key in ["id", "a.b"] {
        for operator in ["$in", "$nin"] {
            refused.push(("22023", "100000 values", values(key, operator, 100_001)));
            refused.push(("22023", "8388608 are allowed", values(key, operator, 1_100_000)));
        }
    }
    for more in [1, 60_000, 1_000_000] {
        refused.push(("22023", "64 parts", path(64 + more)));
        // Beyond that it is not even read.
        let limit = if more < 1_000_000 { "1000 conditions" } else { "8388608 are allowed" };
        refused.push(("22023", limit, or(1000 + more)));
    }
    for depth in [64, 127, 128, 1000] {
        refused.push(("22023", "at most 64", deep(depth)));
    }
    refused.push(("22023", "at most 64", value(65)));
    // PostgreSQL itself reads no deeper jsonb.
    refused.push(("54001", "stack depth", deep(1_000_000)));
    let query = |text: &str| format!("SELECT id FROM keyword_search('tt', {text})");
    for part in ["\"pump x\" ", "-common ", "pump OR "] {
        session.rows(&query(&format!("repeat('{part}', 1000)")));
        refused.push(("54000", "more than 1000", query(&format!("repeat('{part}', 1001)"))));
        refused.push(("54000", "more than 1000", query(&format!("repeat('{part}', 50000)"))));
        refused.push(("54000", "more than 1000000", query(&format!("repeat('{part}', 1000000)"))));
    }
    session.rows(&query("repeat('pump ', 200000)"));
    refused.push(("54000", "more than 1000000", query("repeat('x', 1000001)")));
    refused.push(("54000", "more than 100000", query("'\"' || repeat('x ', 60000) || '\"'")));
    refused.push((
        "42704",
        "does not exist",
        "SELECT id FROM keyword_search('tt', 'x', text_configuration => repeat('x', 1000000))".to_owned(),
    ));
    refused.push((
        "54000",
        "more than 1000",
        "SELECT bm25_rank(l, repeat('-common ', 1001), 'tt') FROM tt".to_owned(),
    ));
    for (sqlstate, limit, call) in &refused {
        let error = session.fails(sqlstate, call);
        let said = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(said.contains(limit), "expected {limit:?} in {said:?}");
        check_short(&error, call);
    }
    // Long words are words: formulas of them stay below what PostgreSQL reads.
    let words = "(SELECT string_agg(repeat(md5(n::text), 60), ' ') FROM generate_series(1, 250) n)";
    for matching in ["any", "all", "125"] {
        session.rows(&format!(
            "SELECT id FROM keyword_search('tt', {words}, match => '{matching}', highlight => true)"
        ));
    }
    assert_eq!(session.text(&query("'pump'")), "1");
    assert_eq!(started(&mut session), started_at, "expected the server not to restart");
}

// trust 23, 26, 28
#[test]
fn documents_of_a_call_and_their_chunks_are_bounded() {
    let database = Database::with_extension("bounds_store");
    let mut session = database.connect();
    let started_at = started(&mut session);
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    let upsert = |chunks: usize| {
        format!(
            "SELECT upsert_document('reg', 'report', '00000000-0000-0000-0000-000000000001', chunks => array_fill('a'::text, ARRAY[{chunks}]))"
        )
    };
    let queue = |documents: usize, metadata: usize| {
        format!(
            "SELECT queue_documents('reg', 'report', (SELECT array_agg(lpad(n::text, 32, '0')::uuid) FROM generate_series(1, {documents}) n),
                 array_fill('a'::text, ARRAY[{documents}]), metadata => array_fill('{{}}'::jsonb, ARRAY[{metadata}]))"
        )
    };
    let write = |rows: usize| {
        format!(
            "SELECT upsert_embeddings('reg', array_fill('report'::text, ARRAY[{rows}]),
                 array_fill('00000000-0000-0000-0000-000000000001'::uuid, ARRAY[{rows}]), ARRAY(SELECT generate_series(1, {rows})),
                 array_fill('a'::text, ARRAY[{rows}]), array_fill(NULL::vector, ARRAY[{rows}]))"
        )
    };
    let write_json = |rows: usize| {
        format!(
            "SELECT upsert_embeddings('reg', (SELECT jsonb_agg(jsonb_build_object('source_type', 'report', 'source_id', 'x', 'content', '',
                 'embedding', '[]'::jsonb)) FROM generate_series(1, {rows})))"
        )
    };
    session.run("BEGIN");
    session.run(&queue(100_000, 100_000));
    session.run("ROLLBACK");
    // As many as may be are read, up to the first one that is wrong.
    session.fails("22004", &write(100_000));
    for more in [1, 1_000_000] {
        let found = 100_000 + more;
        for (call, limit) in [
            (upsert(found), format!("the document has {found} chunks, more than 100000")),
            (queue(found, found), format!("the call has {found} documents, more than 100000")),
            (queue(1, found), format!("the call has {found} documents, more than 100000")),
            (write(found), format!("the call has {found} rows, more than 100000")),
            (write_json(found), format!("the call has {found} rows, more than 100000")),
        ] {
            let error = session.fails("54000", &call);
            assert_eq!(error.message(), limit);
            check_short(&error, &call);
        }
    }
    let call = "SELECT upsert_document('reg', 'report', '00000000-0000-0000-0000-000000000001', repeat('a ', 850000),
        strategy => 'fixed', max_tokens => 10, overlap => 0)";
    assert_eq!(session.fails("54000", call).message().split(" has ").next(), Some("the document"));
    assert_eq!(started(&mut session), started_at, "expected the server not to restart");
}

/// What anybody may set is no means to have the server run out of memory.
// trust 28
#[test]
fn tokens_at_once_are_bounded() {
    let database = Database::with_extension("bounds_tokens");
    let mut session = database.connect();
    session.run("LOAD 'vector_tools'; SET vector_tools.backend_batch_tokens = 16384");
    session.fails("22023", "SET vector_tools.backend_batch_tokens = 16385");
}

/// The planner makes no value of each in a list.
// trust 28
#[test]
fn long_lists_of_values_take_little_memory() {
    let database = Database::with_extension("bounds_memory");
    let mut session = database.connect();
    session.run("CREATE TEMP TABLE few (id int PRIMARY KEY, j jsonb, l tsvector)");
    session.run(
        "INSERT INTO few SELECT n, jsonb_build_object('a', CASE n % 3 WHEN 0 THEN to_jsonb(n) WHEN 1 THEN to_jsonb(n::text) END), 'x'
             FROM generate_series(1, 9) n; INSERT INTO few VALUES (10, '{}', 'x'), (11, '{\"a\": [1, 2]}', 'x')",
    );
    let found = |operator: &str, values: &str| {
        format!(
            "SELECT array_agg(id ORDER BY id::int) FROM keyword_search('few', 'x', 100, filter => jsonb_build_object('j.a', jsonb_build_object('{operator}', {values})))"
        )
    };
    let long = "(SELECT jsonb_agg(CASE n % 2 WHEN 0 THEN to_jsonb(n) ELSE to_jsonb(n::text) END) || '[[1, 2], 3]' FROM generate_series(1, 99998) n)";
    let short = "'[2, 4, 6, 8, \"1\", \"3\", \"5\", \"7\", \"9\", [1, 2], 3]'::jsonb";
    session.run(&found("$in", short));
    let before = peak_kib(session.pid);
    for operator in ["$in", "$nin"] {
        assert_eq!(session.text(&found(operator, long)), session.text(&found(operator, short)));
    }
    assert_eq!(session.text(&found("$in", long)), "{1,3,6,7,11}");
    let grown = peak_kib(session.pid).saturating_sub(before);
    assert!(grown < 131_072, "expected a hundred thousand values to take less than 128 MB, not {grown} kB");
}

// trust 23, 26, 28
#[test]
fn options_of_models_are_bounded() {
    let database = Database::with_extension("bounds_options");
    let mut session = database.connect();
    let register =
        |options: &str| format!("SELECT register_model('m', 'all-MiniLM-L6-v2-int8', options => {options})");
    for options in [
        "'{\"id\": 1e999}'",
        "'{\"max_tokens\": 1e999}'",
        "(repeat('[', 128) || repeat(']', 128))::jsonb",
        "('{\"file\": ' || repeat('[', 2000) || repeat(']', 2000) || '}')::jsonb",
        "jsonb_build_object('query_prefix', repeat('x', 70000))",
        "jsonb_build_object('query_prefix', repeat('x', 1000000))",
        "jsonb_build_object(repeat('x', 60000), 1)",
        "jsonb_build_object('pooling', repeat('x', 60000))",
        "'7'",
    ] {
        let call = register(options);
        check_short(&session.fails("22023", &call), &call);
    }
    for missing in ["NULL, 'x'", "'m', 'x', NULL", "'m', 'x', 'onnx', NULL", "NULL, NULL, NULL, NULL"] {
        let call = format!("SELECT register_model({missing})");
        check_short(&session.fails("22004", &call), &call);
    }
    session.fails("42602", "SELECT register_model(repeat('x', 1000000))");
    session.still_embeds();
}

// trust 23
#[test]
fn trigger_functions_are_called_by_triggers_only() {
    let database = Database::with_extension("bounds_triggers");
    let mut session = database.connect();
    let functions = session.rows(
        "SELECT p.oid::regproc FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
             JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
         WHERE e.extname = 'vector_tools' AND p.prorettype = 'trigger'::regtype ORDER BY 1",
    );
    assert!(functions.len() >= 6, "expected the trigger functions of the extension, not {functions:?}");
    for function in functions {
        let call = format!("SELECT {function}()");
        let error = session.ask_rows(&call).expect_err("no trigger has called it");
        let state = error.code().code();
        assert!(
            ["39P01", "0A000"].contains(&state),
            "expected 39P01 or 0A000, not {state} {error} of {call}"
        );
    }
    session.run("CREATE TABLE t (id int, a text)");
    for (function, arguments) in [("embed_row", "'a', 'v', 'm'"), ("touch_row", "'a'")] {
        for timing in [
            "AFTER INSERT ON t FOR EACH ROW",
            "BEFORE INSERT ON t FOR EACH STATEMENT",
            "BEFORE DELETE ON t FOR EACH ROW",
        ] {
            session.run(&format!(
                "CREATE OR REPLACE TRIGGER x {timing} EXECUTE FUNCTION vector_tools.{function}({arguments})"
            ));
            session.run("ALTER TABLE t DISABLE TRIGGER x; INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ENABLE TRIGGER x");
            session.fails(
                "39P01",
                if timing.contains("DELETE") { "DELETE FROM t" } else { "INSERT INTO t VALUES (2, 'b')" },
            );
            session.run("DROP TRIGGER x ON t");
        }
    }
}

/// Values of a type: one that is meant, and odd ones. Each stands for a kind of mistake.
fn values(type_name: &str) -> Vec<String> {
    let odd: &[&str] = match type_name {
        "text" | "name" => &["'x'", "''", "repeat('x', 1000000)", "'tt'"],
        "jsonb" => &[
            "'{}'",
            "'[]'",
            "'{\"id\": 1e999}'",
            "'null'",
            "(repeat('[', 1000) || repeat(']', 1000))::jsonb",
            "jsonb_build_object(repeat('x', 1000000), 1)",
            "jsonb_build_array(jsonb_build_object('source_type', repeat('x', 1000000)))",
        ],
        "regclass" | "oid" => {
            &["'tt'::regclass", "0", "'pg_class'::regclass", "'pg_class_oid_index'::regclass"]
        }
        "integer" | "smallint" => &["1", "0", "-1", "2147483647"],
        "bigint" => &["1", "0", "-1", "9223372036854775807"],
        "double precision" | "real" => &["0.5", "'NaN'", "'-Infinity'", "1e300"],
        "boolean" => &["true", "false"],
        "uuid" => &["'00000000-0000-0000-0000-000000000001'"],
        "tsvector" => &["'a:1 b:2'", "''", "'a'"],
        "timestamp with time zone" => &["now()", "'infinity'"],
        "interval" => &["'1 second'", "'-1 day'"],
        "anyelement" => &["1"],
        "bytea" => &["'\\x6100'", "''", "'\\xff'"],
        "vector_tools.word_match" => &["'any'", "'all'", "'3'", "'0'", "repeat('x', 1000000)"],
        "anyarray" => &["ARRAY[1, NULL]", "ARRAY[[1], [2]]", "ARRAY[]::int[]"],
        other if other.ends_with("[]") => {
            let element = other.trim_end_matches("[]");
            let one = values(element).into_iter().nth(1).unwrap_or("NULL".to_owned());
            return vec![
                format!("NULL::{other}"),
                format!("ARRAY[{one}]::{other}"),
                format!("ARRAY[{one}, NULL]::{other}"),
                format!("ARRAY[NULL]::{other}"),
                format!("ARRAY[]::{other}"),
                format!("ARRAY[[{one}], [{one}]]::{other}"),
            ];
        }
        other if other.ends_with("vector") => &["'[1,2,3]'", "'[1]'", "'[0,0,0]'"],
        other if other.ends_with("halfvec") => &["'[1,2,3]'"],
        _ => return vec![],
    };
    let null = if type_name.starts_with("any") { "NULL::int[]" } else { "NULL" };
    let cast = |value: &str| match type_name.starts_with("any") {
        true => value.to_owned(),
        false => format!("{value}::{type_name}"),
    };
    std::iter::once(null).chain(odd.iter().copied()).map(cast).collect()
}

// trust 23, 26, 28
#[test]
fn every_function_answers_odd_arguments_with_an_error_of_its_own() {
    let database = Database::with_extension("bounds_functions");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE tt (id int PRIMARY KEY, body text, j jsonb, v vector(3), l tsvector);
         INSERT INTO tt VALUES (1, 'a pump', '{}', '[1,2,3]', 'a:1')",
    );
    let started_at = started(&mut session);
    let functions = session.rows(
        "SELECT p.prokind, p.oid::regproc, array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS u(t, o) ORDER BY o), ';')
         FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
             JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
         WHERE e.extname = 'vector_tools' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) ORDER BY 2, 3",
    );
    assert!(functions.len() > 60, "expected the functions of the extension, not {}", functions.len());
    session.run("SET statement_timeout = '20s'");
    let (mut wrong, mut called, mut skipped) = (vec![], 0, vec![]);
    for function in &functions {
        let parts: Vec<&str> = function.split('|').collect();
        let [kind, name, types] = parts[..] else { panic!("expected three columns, not {function}") };
        let types: Vec<Vec<String>> = types.split(';').filter(|name| !name.is_empty()).map(values).collect();
        if types.iter().any(Vec::is_empty) {
            skipped.push(function);
            continue;
        }
        let usual: Vec<&String> = types.iter().map(|values| &values[1]).collect();
        let mut calls: Vec<Vec<&String>> =
            vec![usual.clone(), types.iter().map(|values| &values[0]).collect()];
        for (place, values) in types.iter().enumerate() {
            for value in values {
                let mut arguments = usual.clone();
                arguments[place] = value;
                calls.push(arguments);
            }
        }
        for arguments in calls {
            let arguments: Vec<&str> = arguments.into_iter().map(String::as_str).collect();
            let verb = if kind == "p" { "CALL" } else { "SELECT" };
            let call = format!("{verb} {name}({})", arguments.join(", "));
            called += 1;
            session.run("BEGIN");
            if let Err(error) = session.ask_rows(&call) {
                let parts = [Some(error.message()), error.detail(), error.hint(), error.where_()];
                let bytes = parts.into_iter().flatten().map(str::len).sum::<usize>();
                if error.code().code() == "XX000" || bytes > MOST_ERROR_BYTES {
                    let said: String = error.to_string().chars().take(200).collect();
                    wrong.push(format!("{call}: {} {said} ({bytes} bytes)", error.code().code()));
                }
            }
            session.run("ROLLBACK");
        }
    }
    assert!(skipped.len() < 4, "expected values for the types of all functions but few, not of {skipped:?}");
    assert!(called > 1000, "expected many calls, not {called}");
    assert!(wrong.is_empty(), "expected short errors with SQLSTATEs of their own, not\n{}", wrong.join("\n"));
    assert_eq!(started(&mut session), started_at, "expected the server not to restart");
    session.run("SET statement_timeout = 0");
    session.still_embeds();
}

// trust 23
#[test]
fn words_and_weights_of_a_score_are_there() {
    let database = Database::with_extension("bounds_score");
    let mut session = database.connect();
    let score = |words: &str, weights: &str| {
        format!("SELECT vector_tools.bm25_score('a:1'::tsvector, {words}, {weights}, 1, 1.2, 0.75, 1)")
    };
    assert_ne!(session.text(&score("ARRAY['a']", "ARRAY[1.0]")), "");
    let error = session.fails("22004", &score("ARRAY['a', 'b']", "ARRAY[1.0, NULL]"));
    assert_eq!(error.message(), "element 2 of weights is NULL");
    let error = session.fails("22004", &score("ARRAY[NULL, 'b']", "ARRAY[1.0, 2.0]"));
    assert_eq!(error.message(), "element 1 of lexemes is NULL");
}
