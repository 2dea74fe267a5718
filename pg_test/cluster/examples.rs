//! Every example runs by its one command, twice, and shows what it promises.

use std::process::{Command, Stdio};

use crate::database::Database;
use crate::report::skipped;
use crate::server::root;

/// With which an example ends that needs a program this machine does not have.
const CANNOT_RUN_HERE: i32 = 77;

/// What an example says on a database of its own.
fn run_example(name: &str, database: &Database) -> String {
    try_example(name, database).unwrap_or_else(|reason| panic!("expected {name} to run here:\n{reason}"))
}

/// What an example says, or why it cannot run here.
fn try_example(name: &str, database: &Database) -> Result<String, String> {
    let output = Command::new("python3")
        .current_dir(root())
        .arg(format!("examples/{name}/run.py"))
        .arg(database.connection())
        .stdin(Stdio::null())
        .output()
        .expect("python3 is needed");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(CANNOT_RUN_HERE) {
        return Err(errors.into_owned());
    }
    assert!(output.status.success() && errors.is_empty(), "expected {name} to succeed:\n{said}\n{errors}");
    Ok(said.into_owned())
}

/// Whether an example says all this; psql pads its columns.
fn assert_says(said: &str, answers: &[&str]) {
    let is_rule = |word: &str| word.starts_with("--") && word.trim_matches(['-', '+']).is_empty();
    let words: Vec<&str> = said.split_whitespace().filter(|word| !is_rule(word)).collect();
    let words = words.join(" ");
    for answer in answers {
        assert!(words.contains(answer), "expected this answer:\n{answer}\nin:\n{said}");
    }
}

#[test]
fn action_history() {
    let database = Database::empty("example_action_history");
    let first = run_example("action_history", &database);
    assert_says(
        &first,
        &[
            "12 | 12",
            "increase_memory_limit | checkout",
            "scale_deployment | 1 | 0.90",
            "expand_volume | DiskSpaceLow | 0.92",
            "12 | Blocked a flood of requests",
            "12 | The TLS certificate",
        ],
    );
    assert!(
        !first.contains("delete_old_files"),
        "expected actions that did not work to be left out:\n{first}"
    );
    assert_eq!(run_example("action_history", &database), first, "expected a second run to show the same");
}

#[test]
fn cv_ranking() {
    let database = Database::empty("example_cv_ranking");
    let first = run_example("cv_ranking", &database);
    assert_says(
        &first,
        &[
            "1 | 7 | 1536",
            "| 1 | 1 Mentoring |",
            "| 2 | 2 Data warehouse",
            "exact | 7",
            "Fraud model | | 1 Mentoring | | 2",
        ],
    );
    assert!(!first.contains("thesis"), "expected nothing of the other person:\n{first}");
    assert_eq!(run_example("cv_ranking", &database), first, "expected a second run to show the same");
}

#[test]
fn domain_memories() {
    let database = Database::empty("example_domain_memories");
    let first = run_example("domain_memories", &database);
    assert_says(
        &first,
        &[
            "Series A funding round completed: eight million led by Northwind Ventures",
            "Allergic to penicillin: rash on both arms within an hour",
            "Blood pressure: 138/88 after three weeks of little sleep",
            "Two glasses of wine and then hardly any sleep",
            "The office lease in Karlstrasse ends on 31 March",
            "The lease in Karlstrasse was extended by a year | {\"source\": \"mail\", \"importance\": 0.6, \"chunk_index\": 0}",
            "plain-sql | Payroll runs on the 25th of each month",
        ],
    );
    let facts = "SELECT domain, memories, embedded FROM vector_tools.domains ORDER BY domain";
    assert_eq!(database.connect().rows(facts), ["health|12|12", "startup|12|12"]);
    let second = run_example("domain_memories", &database);
    let after_loading = |said: &str| said.split("Questions whose").nth(1).map(str::to_owned);
    assert_eq!(after_loading(&second), after_loading(&first), "expected a second run to show the same");
    assert_eq!(database.connect().rows(facts), ["health|12|12", "startup|12|12"]);
}

#[test]
fn portal_assistant() {
    let database = Database::empty("example_portal_assistant");
    let first = match try_example("portal_assistant", &database) {
        Ok(said) => said,
        Err(reason) => return skipped("portal_assistant", reason.trim()),
    };
    assert_says(
        &first,
        &[
            "batch 1: 100 chunks, 100 written, 100 embedded batch 2: 14 chunks, 14 written, 14 embedded",
            "114 chunks of 12 entities",
            "A refund is requested with POST /refunds",
            "exit code 137 has used more memory than its limit",
            "Lost hardware keys are reported to the security desk",
            "Checkout Web, techdocs: Roll back by promoting",
            "batch 1: 100 chunks, 1 written, 1 embedded batch 2: 14 chunks, 0 written, 0 embedded",
            "A refund is instant",
            "cleared 11 chunks of component:default/payments-api; it has 0, all others 103",
        ],
    );
    let facts = "SELECT count(*), count(vector), count(DISTINCT entity_id) FROM embeddings";
    assert_eq!(database.connect().rows(facts), ["114|114|12"]);
    // A row that somebody else's SQL writes embeds itself.
    database.connect().run(
        "INSERT INTO embeddings (id, chunk_id, entity_id, entity_name, content, source, chunk_index, total_chunks)
         VALUES ('x#0', 'x#0', 'x', 'X', 'plain SQL', 'catalog', 0, 1)",
    );
    assert_eq!(database.connect().rows(facts), ["115|115|13"]);
    database.connect().run("DELETE FROM embeddings WHERE entity_id = 'x'");
    let second = run_example("portal_assistant", &database);
    assert_says(&second, &["batch 1: 100 chunks, 0 written, 0 embedded"]);
    let after_loading = |said: &str| said.split("are stored.").nth(1).map(str::to_owned);
    assert_eq!(after_loading(&second), after_loading(&first), "expected a second run to show the same");
}

#[test]
fn regulation_store() {
    let database = Database::empty("example_regulation_store");
    let first = run_example("regulation_store", &database);
    assert_says(
        &first,
        &[
            "csrd | 4 | 0 | 0 | 0 eudr | 3 | 0 | 0 | 0 cbam | 3 | 0 | 0 | 0",
            "content_preview | similarity An independent auditor gives limited assurance on the statement.",
            "eudr | Importers hand in a due diligence statement",
            "0 | 1 | 2 | 0",
            "UPDATE | They buy certificates for these emissions, at | They buy certificates for these emissions once a year",
            "namespace eudr (1 row)",
        ],
    );
    let second = run_example("regulation_store", &database);
    assert_says(&second, &["csrd | 0 | 0 | 4 | 0 eudr | 0 | 0 | 3 | 0 cbam | 0 | 0 | 3 | 0"]);
    let from_searches = |said: &str| said.split("A search of one").nth(1).map(str::to_owned);
    assert!(from_searches(&first).is_some(), "expected the searches in:\n{first}");
    assert_eq!(from_searches(&second), from_searches(&first), "expected a second run to show the same");
    assert_eq!(database.connect().rows("SELECT count(*) FROM regulations.vector_embeddings"), ["10"]);
}
