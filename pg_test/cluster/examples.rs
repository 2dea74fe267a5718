//! Every example runs by its one command, twice, and shows what it promises.

use std::process::{Command, Stdio};

use crate::database::Database;
use crate::server::root;

/// What an example says on a database of its own.
fn run_example(name: &str, database: &Database) -> String {
    let output = Command::new("python3")
        .current_dir(root())
        .arg(format!("examples/{name}/run.py"))
        .arg(database.connection())
        .stdin(Stdio::null())
        .output()
        .expect("python3 is needed");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && errors.is_empty(), "expected {name} to succeed:\n{said}\n{errors}");
    said.into_owned()
}

/// Whether an example says all this; psql pads its columns.
fn assert_says(said: &str, answers: &[&str]) {
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
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
