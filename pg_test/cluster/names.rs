//! Hostile names through every argument that takes one: they stay names, or are refused (3).

use postgres::error::DbError;

use crate::database::Database;
use crate::session::Session;

/// Names that would do harm if they ever became part of a statement unquoted.
pub fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "plain",
        "MixedCase",
        "with blank",
        " leading",
        "trailing ",
        "a.b",
        "a..b",
        "",
        ".",
        "..",
        "/etc/passwd",
        "../../x",
        "'",
        "''",
        "\"",
        "\"\"",
        "a\"b",
        "a'b",
        "a\"; DROP TABLE canary; --",
        "a'; DROP TABLE canary; --",
        "'); DELETE FROM canary; --",
        "\" CASCADE; DROP TABLE canary; --",
        "$$",
        "$$; DROP TABLE canary; $$",
        "$1",
        "$tag$",
        "a;b",
        "a--b",
        "/* a */",
        "a\\b",
        "\\",
        "\\'",
        "%",
        "%s%n",
        "%1$I",
        "{model}",
        "{table}",
        "{comment}",
        "select",
        "user",
        "table",
        "public",
        "pg_catalog",
        "ctid",
        "tableoid",
        "ünïcödé",
        "東京",
        "😀",
        "\u{202e}abc",
        "tab\there",
        "line\nbreak",
        "\u{1}",
        "$or",
        "$where",
        "*",
        "a::text",
        "E'\\x41'",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend([
        "x".repeat(40),
        "x".repeat(41),
        "x".repeat(63),
        "x".repeat(64),
        "ü".repeat(31),
        "ü".repeat(32),
    ]);
    names
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A database with a table that a successful injection would harm.
pub fn guarded(name: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    session.run("CREATE TABLE canary AS SELECT generate_series(1, 3) AS id");
    (database, session)
}

pub fn check_canary(session: &mut Session, name: &str) {
    let found = session.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM canary");
    assert_eq!(found, "1,2,3", "expected the canary to be whole after the name {name:?}");
}

pub fn expect_refusal(result: Result<Vec<Option<String>>, Box<DbError>>, allowed: &[&str], name: &str) {
    match result {
        Ok(rows) => panic!("expected one of {allowed:?} for the name {name:?}, not {rows:?}"),
        Err(error) => {
            let found = error.code().code();
            assert!(
                allowed.contains(&found),
                "expected one of {allowed:?} for the name {name:?}, not {found}: {}",
                error.message()
            );
        }
    }
}

// trust 3
#[test]
fn domains_of_memories_tables() {
    let (_database, mut session) = guarded("names_domains");
    for name in hostile_names() {
        let created = session.ask("SELECT create_domain_memories_table($1)::text", &[&name]);
        if name.is_empty() || name.len() > 40 {
            expect_refusal(created, &["42602"], &name);
        } else {
            let table = format!("{name}_memories");
            created.unwrap_or_else(|error| panic!("expected a table for {name:?}, not {error:?}"));
            let exists = session.ask(
                "SELECT count(*)::text FROM pg_class AS c WHERE relname = $1 AND relkind = 'r' \
                 AND relnamespace = 'public'::regnamespace",
                &[&table],
            );
            assert_eq!(exists, Ok(vec![Some("1".to_owned())]), "expected a table called {table:?}");
            let insert = format!("INSERT INTO {} (content) VALUES ('kept')", quoted(&table));
            session.run(&insert);
            let found = session
                .ask("SELECT content FROM hybrid_search($1::text::regclass, 'kept')", &[&quoted(&table)]);
            assert_eq!(found, Ok(vec![Some("kept".to_owned())]), "expected the memory of {name:?}");
            let listed = session.ask(
                "SELECT model FROM vector_tools.embedded_tables WHERE source = $1::text::regclass",
                &[&quoted(&table)],
            );
            assert_eq!(
                listed.map(|rows| rows.len()),
                Ok(1),
                "expected {table:?} among the searchable tables"
            );
            let counted = session.ask(
                "SELECT rows::text FROM vector_tools.search_drift WHERE source = $1::text::regclass",
                &[&quoted(&table)],
            );
            assert_eq!(
                counted,
                Ok(vec![Some("1".to_owned())]),
                "expected the row of {table:?} to be counted"
            );
        }
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn domains_of_memories() {
    let (_database, mut session) = guarded("names_memories");
    for name in hostile_names() {
        let search = "SELECT content FROM search_memories('kept', $1)";
        for call in [
            "SELECT store_memory('kept', $1)",
            "SELECT update_memory('a', 'kept', $1)::text",
            "SELECT delete_memory('a', $1)::text",
            search,
        ] {
            expect_refusal(session.ask(call, &[&name]), &["42602", "42704"], &name);
        }
        if !name.is_empty() && name.len() <= 40 {
            let mut ask = |call: &str| {
                let answer = session.ask(call, &[&name]);
                let rows =
                    answer.unwrap_or_else(|error| panic!("expected {call} for {name:?}, not {error:?}"));
                rows.into_iter().flatten().collect::<String>()
            };
            ask("SELECT create_domain_memories_table($1)::text");
            assert_eq!(ask("SELECT store_memory('kept', $1, id => 'a')"), "a");
            assert_eq!(ask(search), "kept", "expected the memory of {name:?}");
            assert_eq!(ask("SELECT update_memory('a', 'changed', $1)::text"), "true");
            assert_eq!(ask("SELECT memories::text FROM vector_tools.domains WHERE domain = $1"), "1");
            let by_default = "SELECT set_config('vector_tools.default_domain', $1, false)";
            ask(by_default);
            session.run("SELECT store_memory('by default')");
            let table = format!("SELECT count(*) FROM {}", quoted(&format!("{name}_memories")));
            assert_eq!(session.text(&table), "2", "expected two memories of {name:?}");
            session.run("RESET vector_tools.default_domain");
            let dropped = session.ask("SELECT drop_domain($1)::text", &[&name]);
            assert_eq!(dropped, Ok(vec![Some("true".to_owned())]), "expected {name:?} to be dropped");
        }
        check_canary(&mut session, &name);
    }
    let left = session.text("SELECT count(*) FROM vector_tools.domains");
    assert_eq!(left, "0", "expected no domain to be left");
}

// trust 3
#[test]
fn ids_and_metadata_of_memories() {
    let (_database, mut session) = guarded("names_ids");
    session.run("SELECT create_domain_memories_table('d')");
    for name in hostile_names().into_iter().filter(|name| name.chars().count() <= 50) {
        let stored = session.ask(
            "SELECT store_memory($1, 'd', $1, metadata => jsonb_build_object($1::text, $1::text), id => $1)",
            &[&name],
        );
        assert_eq!(stored, Ok(vec![Some(name.clone())]), "expected the id {name:?}");
        let kept = session.ask(
            "SELECT (content = $1 AND metadata->>$1 = $1 AND metadata->>'source' = $1)::text FROM d_memories WHERE id = $1",
            &[&name],
        );
        assert_eq!(kept, Ok(vec![Some("true".to_owned())]), "expected content and metadata {name:?}");
        let deleted = session.ask("SELECT delete_memory($1, 'd')::text", &[&name]);
        assert_eq!(deleted, Ok(vec![Some("true".to_owned())]), "expected {name:?} to be deleted");
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn models_configurations_and_sources() {
    let (_database, mut session) = guarded("names_models");
    for name in hostile_names() {
        for call in [
            "SELECT embed('a', $1)::text",
            "SELECT embed(ARRAY['a'], $1)::text",
            "SELECT embed_query('a', $1)::text",
            "SELECT count_tokens('a', $1)::text",
            "SELECT drop_model($1)::text",
            "SELECT create_domain_memories_table('d', $1)::text",
        ] {
            expect_refusal(session.ask(call, &[&name]), &["42602", "42704"], &name);
        }
        let as_setting = session.ask("SELECT set_config('vector_tools.default_model', $1, false)", &[&name]);
        assert!(as_setting.is_ok(), "expected the setting to take {name:?}, as it takes any text");
        expect_refusal(session.ask("SELECT embed('a')::text", &[]), &["42602", "42704"], &name);
        session.run("RESET vector_tools.default_model");
        let source = session.ask("SELECT register_model('m', $1)::text", &[&name]);
        expect_refusal(source, &["58P01", "58030", "42501", "58000"], &name);
        let configuration = session.ask("SELECT create_domain_memories_table('d', NULL, $1)::text", &[&name]);
        expect_refusal(configuration, &["42704", "42602", "3F000", "0A000", "22023", "42601"], &name);
        check_canary(&mut session, &name);
    }
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.models"), "2", "expected no new model");
}

// trust 3
#[test]
fn names_of_new_models() {
    let (_database, mut session) = guarded("names_register");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    for name in hostile_names() {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 63
            && name.chars().all(allowed);
        let registered = session.ask("SELECT register_model($1, 'no such folder')::text", &[&name]);
        expect_refusal(registered, if is_name { &["58P01"] } else { &["42602"] }, &name);
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn columns_that_are_searched() {
    let (_database, mut session) = guarded("names_columns");
    session.run("CREATE TABLE vectors AS SELECT embed('kept') AS v");
    // A column cannot have these names: empty, too long, or of PostgreSQL's own.
    let is_column = |name: &String| {
        !name.is_empty() && name.len() <= 63 && !["ctid", "tableoid"].contains(&name.as_str())
    };
    for name in hostile_names() {
        let call = |argument: &str| {
            format!(
                "SELECT id FROM hybrid_search('searched', 'kept', {argument} => $1::text, text_configuration => 'simple')"
            )
        };
        session.run("DROP TABLE IF EXISTS searched");
        if !is_column(&name) {
            session.run("CREATE TABLE searched (id int PRIMARY KEY, body text, v vector(384), l tsvector)");
            for argument in ["vector_column", "text_column", "content_column"] {
                expect_refusal(session.ask(&call(argument), &[&name]), &["42602", "42703"], &name);
            }
            continue;
        }
        let column = quoted(&name);
        let found = Ok(vec![Some("7".to_owned())]);
        for (argument, others, value) in [
            ("vector_column", "body text, l tsvector, w vector(384)", "(SELECT v FROM vectors)"),
            ("text_column", "body text, v vector(384), k tsvector", "to_tsvector('simple', 'kept')"),
            ("content_column", "body text, v vector(384), l tsvector", "'kept'"),
        ] {
            let kind = match argument {
                "vector_column" => "vector(384)",
                "text_column" => "tsvector",
                _ => "text",
            };
            let id = if name == "id" { "key" } else { "id" };
            session.run(&format!(
                "DROP TABLE IF EXISTS searched;
                 CREATE TABLE searched ({id} int PRIMARY KEY, {others}, {column} {kind});
                 INSERT INTO searched ({id}, {column}) VALUES (7, {value});"
            ));
            if argument == "content_column" {
                session.run("UPDATE searched SET v = (SELECT v FROM vectors)");
            }
            assert_eq!(
                session.ask(&call(argument), &[&name]),
                found,
                "expected row 7 by {argument} {name:?}"
            );
        }
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn keys_and_values_of_filters() {
    let (_database, mut session) = guarded("names_filters");
    session.run(
        "CREATE TABLE plain (id int PRIMARY KEY, v vector(384), l tsvector);
         INSERT INTO plain VALUES (1, embed('kept'), to_tsvector('kept'))",
    );
    let search = "SELECT id FROM hybrid_search($1::text::regclass, 'kept', filter => $2::text::jsonb)";
    for name in hostile_names() {
        let filter = serde_json::json!({ name.as_str(): "x" }).to_string();
        // No such column, and no jsonb column to look into.
        let refused = session.ask(search, &[&"plain", &filter]);
        let allowed: &[&str] = if name.starts_with('$') { &["22023"] } else { &["42703"] };
        expect_refusal(refused, allowed, &name);
        // A column of that name, and the name as a value.
        let column = name.as_str();
        if !column.is_empty()
            && column.len() <= 63
            && !column.starts_with('$')
            && !["ctid", "tableoid"].contains(&column)
        {
            session.run(&format!(
                "DROP TABLE IF EXISTS filtered;
                 CREATE TABLE filtered (key int PRIMARY KEY, v vector(384), l tsvector, {0} text);
                 INSERT INTO filtered (key, v, l, {0}) SELECT 7, v, l, 'x' FROM plain UNION ALL SELECT 8, v, l, 'y' FROM plain",
                quoted(column)
            ));
            let found = session.ask(search, &[&"filtered", &filter]);
            assert_eq!(
                found,
                Ok(vec![Some("7".to_owned())]),
                "expected row 7 by a filter on column {name:?}"
            );
            for operator in ["$eq", "$ne", "$gt", "$like"] {
                let by_value = serde_json::json!({ column: { operator: name } }).to_string();
                let answer = session.ask(search, &[&"filtered", &by_value]);
                assert!(
                    answer.as_ref().is_ok_and(|rows| rows.len() <= 2)
                        || answer.is_err_and(|e| e.code().code() == "22025"),
                    "expected some of two rows for {by_value}"
                );
            }
        }
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn keys_that_are_looked_up_in_the_metadata() {
    let (_database, mut session) = guarded("names_metadata");
    session.run(
        "CREATE TABLE documents (id int PRIMARY KEY, metadata jsonb, v vector(384), l tsvector);
         INSERT INTO documents VALUES (1, '{}', embed('kept'), to_tsvector('kept'))",
    );
    let search = "SELECT id FROM hybrid_search('documents', 'kept', filter => $1::text::jsonb)";
    for name in hostile_names().into_iter().filter(|name| !name.starts_with('$')) {
        let metadata = name
            .split('.')
            .rev()
            .fold(serde_json::json!(name), |inner, part| serde_json::json!({ part: inner }));
        let stored = session.ask(
            "UPDATE documents SET metadata = $1::text::jsonb RETURNING id::text",
            &[&metadata.to_string()],
        );
        assert!(stored.is_ok(), "expected jsonb to hold {name:?}");
        let filter = serde_json::json!({ name.as_str(): name }).to_string();
        let found = session.ask(search, &[&filter]);
        assert_eq!(found, Ok(vec![Some("1".to_owned())]), "expected the row by its metadata {metadata}");
        check_canary(&mut session, &name);
    }
}

// trust 3
#[test]
fn logs_of_audits_and_audited_tables() {
    let (_database, mut session) = guarded("names_audits");
    let log_name = "SELECT enable_audit('audited', $1)::oid::text";
    for name in hostile_names() {
        session.run("DROP TABLE IF EXISTS audited; CREATE TABLE audited (id int PRIMARY KEY, body text)");
        let log = session.ask(log_name, &[&name]);
        if name.is_empty() || name.len() > 63 {
            expect_refusal(log, &["42602"], &name);
            continue;
        }
        let log = log.unwrap_or_else(|error| panic!("expected a log {name:?}, not {error:?}"));
        session.run("INSERT INTO audited VALUES (1, 'kept'); TRUNCATE audited");
        let found = session.ask(
            "SELECT c.relname::text || ' ' || (SELECT count(*) FROM audit_history('audited')) FROM pg_class AS c \
             WHERE c.oid = (SELECT log FROM vector_tools.audited_tables)",
            &[],
        );
        assert_eq!(found, Ok(vec![Some(format!("{name} 2"))]), "expected the log to be called {name:?}");
        session.run(&format!("DROP TABLE {}", quoted(&name)));
        assert_eq!(log.len(), 1);
        check_canary(&mut session, &name);
        // The same as a table, a column and a key.
        if ["ctid", "tableoid"].contains(&name.as_str()) {
            continue;
        }
        session.run(&format!("CREATE TABLE {0} ({0} text PRIMARY KEY)", quoted(&name)));
        let kept = session.ask("SELECT enable_audit($1::text::regclass, 'the log')::text", &[&quoted(&name)]);
        assert_eq!(kept, Ok(vec![Some("\"the log\"".to_owned())]), "expected {name:?} to be audited");
        let insert = format!("INSERT INTO {} VALUES ($1) RETURNING 'done'", quoted(&name));
        assert!(session.ask(&insert, &[&name]).is_ok(), "expected to insert into {name:?}");
        let history = "SELECT new_data->>$1 FROM audit_history($2::text::regclass, $1)";
        let found = session.ask(history, &[&name, &quoted(&name)]);
        assert_eq!(found, Ok(vec![Some(name.clone())]), "expected the row of {name:?}");
        session.run(&format!("DROP TABLE {}, \"the log\"", quoted(&name)));
        check_canary(&mut session, &name);
    }
}

#[test]
fn strategies_and_models_of_chunks() {
    let (_database, mut session) = guarded("names_chunks");
    for name in hostile_names() {
        let by_strategy = session.ask("SELECT content FROM chunk_text('x', $1)", &[&name]);
        expect_refusal(by_strategy, &["22023"], &name);
        let by_model = session.ask("SELECT content FROM chunk_text('x', model => $1)", &[&name]);
        expect_refusal(by_model, &["42704"], &name);
        // As a text it is only a text.
        let found = session.ask("SELECT string_agg(content, '') FROM chunk_text($1)", &[&name]);
        let expected = Some(name.trim()).filter(|name| !name.is_empty()).map(str::to_owned);
        assert_eq!(found, Ok(vec![expected]), "expected the chunk of {name:?}");
    }
    check_canary(&mut session, "of a strategy");
}
