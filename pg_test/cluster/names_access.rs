//! Hostile names of roles, tables, schemas, namespaces and settings through the functions of access (3).

use crate::names::{check_canary, expect_refusal, guarded, hostile_names, quoted};

/// What PostgreSQL itself takes as the name of a role.
fn is_role_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && !name.starts_with("pg_") && !["public", "none"].contains(&name)
}

// trust 3
#[test]
fn roles_tables_and_namespaces_of_access() {
    let (_database, mut session) = guarded("names_access");
    // Roles belong to the whole server; this one rolls all of them back.
    for name in hostile_names() {
        session.run("BEGIN");
        let is_table = !name.is_empty() && name.len() <= 63 && !["ctid", "tableoid"].contains(&name.as_str());
        let (table, schema) =
            (if is_table { name.clone() } else { "plain table".to_owned() }, "Some \"Schema\"; --");
        session.run(&format!(
            "CREATE SCHEMA {0}; CREATE TABLE {0}.{1} (id int PRIMARY KEY, namespace text, {2} text)",
            quoted(schema),
            quoted(&table),
            quoted(if is_table { &name } else { "c" }).replace("\"id\"", "c").replace("\"namespace\"", "c"),
        ));
        let target = format!("{}.{}", quoted(schema), quoted(&table));
        let grant = "SELECT grant_vector_access($1, 'reader', $2::text::regclass)::text";
        let isolate = "SELECT isolate_namespaces($2::text::regclass, $1, ARRAY[$1])::text";
        session.run("SAVEPOINT s");
        expect_refusal(session.ask(grant, &[&name, &target]), &["42704", "42602"], &name);
        session.run("ROLLBACK TO s");
        if is_role_name(&name) {
            session.run(&format!("CREATE ROLE {}", quoted(&name)));
            for call in [grant, isolate, isolate] {
                let done = session.ask(call, &[&name, &target]);
                assert!(done.is_ok(), "expected {call} for the role {name:?}, not {done:?}");
            }
            let policies = session.ask(
                "SELECT polroles[1]::regrole::text FROM pg_policy WHERE polrelid = $1::text::regclass",
                &[&target],
            );
            assert_eq!(policies.map(|rows| rows.len()), Ok(1), "expected one policy for {name:?}");
            session.run(&format!(
                "INSERT INTO {target} (id, namespace) VALUES (1, 'other'); GRANT SELECT ON {target} TO PUBLIC; SET LOCAL ROLE {}",
                quoted(&name)
            ));
            assert_eq!(
                session.text(&format!("SELECT count(*) FROM {target}")),
                "0",
                "expected no row of another namespace"
            );
            session.run(&format!("RESET ROLE; UPDATE {target} SET namespace = {}", literal(&name)));
            session.run(&format!("SET LOCAL ROLE {}", quoted(&name)));
            assert_eq!(
                session.text(&format!("SELECT count(*) FROM {target}")),
                "1",
                "expected the row of the namespace {name:?}"
            );
            session.run("RESET ROLE");
            let revoked =
                session.ask("SELECT revoke_vector_access($1, $2::text::regclass)::text", &[&name, &target]);
            assert!(revoked.is_ok(), "expected {name:?} to lose its rights, not {revoked:?}");
            let shared = session.ask("SELECT share_namespaces($1::text::regclass)::text", &[&target]);
            assert_eq!(shared, Ok(vec![Some("true".to_owned())]));
        } else if !["public", "none"].contains(&name.as_str()) {
            session.run("SAVEPOINT s");
            expect_refusal(session.ask(isolate, &[&name, &target]), &["42704", "42602", "42939"], &name);
            session.run("ROLLBACK TO s");
        }
        session.run("SAVEPOINT s");
        let level = session.ask(
            "SELECT grant_vector_access(current_user::text, $1, $2::text::regclass)::text",
            &[&name, &target],
        );
        expect_refusal(level, &["22023"], &name);
        session.run("ROLLBACK TO s");
        // The setting is a value, whatever is in it.
        let set = session.ask("SELECT set_config('vector_tools.namespace', $1, true)", &[&name]);
        assert!(set.is_ok(), "expected the setting to take {name:?}");
        let isolated = session.ask("SELECT isolate_namespaces($1::text::regclass)::text", &[&target]);
        assert!(isolated.is_ok(), "expected isolation by the setting {name:?}, not {isolated:?}");
        session.run("ROLLBACK");
        check_canary(&mut session, &name);
    }
    let left = session.text("SELECT count(*) FROM pg_policies");
    assert_eq!(left, "0", "expected no policy to be left");
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
