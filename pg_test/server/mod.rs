//! Tests inside the server: what the SQL functions promise.

mod audit;
mod chunking;
mod drift;
mod embedding;
mod filters;
mod kept;
mod keyword;
mod memories;
mod models;
mod plans;
mod search;
mod store;
mod textsearch;
mod triggers;
mod vectors;

use pgrx::prelude::*;

/// The one value that a query gives.
fn one<T: FromDatum + IntoDatum>(sql: &str) -> T {
    Spi::get_one(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .unwrap_or_else(|| panic!("{sql}: NULL"))
}

/// Runs statements.
fn run(sql: &str) {
    Spi::run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The SQLSTATE, message, detail and hint of the error that a statement raises. The session must
/// go on afterwards, since the statement runs in a subtransaction.
fn error_of(sql: &str) -> (String, String, String, String) {
    run("CREATE TEMP TABLE IF NOT EXISTS raised (state text, message text, detail text, hint text)");
    run("TRUNCATE raised");
    run(&format!(
        "DO $body$ DECLARE state text; message text; detail text; hint text; BEGIN
             EXECUTE $sql${sql}$sql$;
         EXCEPTION WHEN OTHERS THEN
             GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                 detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
             INSERT INTO raised VALUES (state, message, detail, hint);
         END $body$"
    ));
    let column =
        |name: &str| one::<String>(&format!("SELECT coalesce((SELECT {name} FROM raised), 'no error')"));
    (column("state"), column("message"), column("detail"), column("hint"))
}

/// Checks the SQLSTATE of an error, and that it says what to do.
fn assert_error(sql: &str, sqlstate: &str) {
    let (state, message, _, hint) = error_of(sql);
    assert_eq!(state, sqlstate, "{sql}: {message}");
    assert!(!hint.is_empty(), "{sql}: no hint with: {message}");
    let first = message.chars().next().unwrap_or('A');
    assert!(!first.is_uppercase() && !message.ends_with('.'), "{sql}: {message}");
}
