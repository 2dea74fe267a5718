//! One session of a client, with the checks that tests repeat.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use postgres::error::DbError;
use postgres::types::ToSql;
use postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};

use crate::process::wait_until;
use crate::server::Server;

/// Where the extension and pgvector are in the databases of tests, quoted as SQL needs it.
pub struct Schemas {
    /// The schema of the extension's functions.
    pub extension: &'static str,
    /// That of pgvector.
    pub pgvector: &'static str,
}

impl Schemas {
    /// Elsewhere than usual where `TEST_SCHEMAS` says so: the stage `elsewhere` of `tools/test.py`.
    pub fn in_use() -> Schemas {
        match std::env::var_os("TEST_SCHEMAS") {
            Some(_) => Schemas { extension: "\"My Schema\"", pgvector: "\"Vector's\"" },
            None => Schemas { extension: "public", pgvector: "public" },
        }
    }

    /// A statement of a test, with these schemas in every search_path that it sets.
    fn in_path(sql: &str) -> String {
        let Schemas { extension, pgvector } = Schemas::in_use();
        if extension == "public" || !sql.contains("search_path = ") {
            return sql.to_owned();
        }
        sql.replace(", public", &format!(", public, {extension}, {pgvector}"))
    }
}

/// A session, and the process that serves it.
pub struct Session {
    client: Client,
    /// The backend's process id.
    pub pid: i32,
    notices: Arc<Mutex<Vec<DbError>>>,
}

impl Session {
    /// Connects to a database as a role.
    pub fn open(server: &Server, database: &str, role: &str) -> Session {
        let connection = server.connection(database, role);
        let mut config: Config = connection.parse().expect("the connection string of a server is one");
        let notices: Arc<Mutex<Vec<DbError>>> = Arc::default();
        let heard = notices.clone();
        config.notice_callback(move |notice| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
        });
        let client = config
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("expected a connection to {connection}, not {error:?}"));
        let mut session = Session { client, pid: 0, notices };
        session.pid = session.text("SELECT pg_backend_pid()").parse().expect("a process id is a number");
        session
    }

    /// The rows of the last statement that gave any, NULL as `None`.
    pub fn try_rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
        let messages = self.client.simple_query(&Schemas::in_path(sql))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let values = |index, row: &postgres::SimpleQueryRow| row.get(index).map(str::to_owned);
        Ok(rows.map(|row| (0..row.len()).map(|index| values(index, row)).collect()).collect())
    }

    /// Runs statements that must succeed.
    pub fn run(&mut self, sql: &str) {
        if let Err(error) = self.try_rows(sql) {
            panic!("expected this to succeed, not {}:\n{sql}", described(&error));
        }
    }

    /// Changes a setting of the whole server, and waits until this session has heard of it. The postmaster, which new
    /// processes have it from, has heard of it then; other sessions may not have.
    pub fn change_setting(&mut self, setting: &str, value: &str) {
        // The setting is known to a session that has loaded the library.
        self.run("LOAD 'vector_tools'");
        self.run(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
        self.run("SELECT pg_reload_conf()");
        wait_until("the setting has changed", || self.text(&format!("SHOW {setting}")) == value);
    }

    /// The rows of a statement that must succeed, one line each, columns parted by `|`, NULL as `∅`.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        let rows = self.try_rows(sql);
        let rows = rows.unwrap_or_else(|error| panic!("expected rows, not {}:\n{sql}", described(&error)));
        rows.into_iter().map(line).collect()
    }

    /// The rows of a statement like [`rows`](Self::rows), or the server's error.
    pub fn ask_rows(&mut self, sql: &str) -> Result<Vec<String>, Box<DbError>> {
        match self.try_rows(sql) {
            Ok(rows) => Ok(rows.into_iter().map(line).collect()),
            Err(error) => Err(server_error(&error, sql)),
        }
    }

    /// The only row of a statement that must succeed.
    pub fn text(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "expected one row, not {rows:?}:\n{sql}");
        rows.concat()
    }

    /// The first column of a statement with parameters, as text, or the server's error.
    pub fn ask(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Option<String>>, Box<DbError>> {
        match self.client.query(sql, parameters) {
            Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
            Err(error) => Err(server_error(&error, sql)),
        }
    }

    /// The error of a statement that must fail with this SQLSTATE.
    pub fn fails(&mut self, sqlstate: &str, sql: &str) -> DbError {
        match self.try_rows(sql) {
            Ok(rows) => panic!("expected SQLSTATE {sqlstate}, but this succeeded with {rows:?}:\n{sql}"),
            Err(error) => match error.as_db_error() {
                Some(found) if found.code().code() == sqlstate => found.clone(),
                _ => panic!("expected SQLSTATE {sqlstate}, not {}:\n{sql}", described(&error)),
            },
        }
    }

    /// The SQLSTATE with which a statement fails, or what it gives when it succeeds.
    pub fn refusal(&mut self, sql: &str) -> String {
        match self.ask_rows(sql) {
            Ok(rows) => format!("success with {rows:?}"),
            Err(error) => error.code().code().to_owned(),
        }
    }

    /// What the server has said beside its answers since the last call.
    pub fn take_notices(&mut self) -> Vec<DbError> {
        mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks that the session still works, by embedding something.
    pub fn still_embeds(&mut self) {
        let Schemas { extension, pgvector } = Schemas::in_use();
        let dimensions = self.text(&format!(
            "SELECT {pgvector}.vector_dims({extension}.embed('does this session still work?'))"
        ));
        assert_eq!(dimensions, "384", "expected the session to embed after what happened before");
    }

    /// What a client sends to cancel the running statement, as Ctrl-C in psql does.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }
}

fn server_error(error: &postgres::Error, sql: &str) -> Box<DbError> {
    let found = error.as_db_error().cloned().map(Box::new);
    found.unwrap_or_else(|| panic!("expected an answer of the server, not {error:?}:\n{sql}"))
}

fn line(row: Vec<Option<String>>) -> String {
    let values: Vec<String> = row.into_iter().map(|value| value.unwrap_or("∅".to_owned())).collect();
    values.join("|")
}

/// An error with everything the server said of it.
pub fn described(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(found) => format!(
            "{} {} (detail: {}; hint: {})",
            found.code().code(),
            found.message(),
            found.detail().unwrap_or("none"),
            found.hint().unwrap_or("none")
        ),
        None => format!("{error:?}"),
    }
}
