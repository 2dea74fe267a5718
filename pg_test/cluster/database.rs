//! A database of its own for each test, on a server that most of them share.

use std::sync::OnceLock;
use std::thread;

use crate::server::Server;
use crate::session::{Schemas, Session};

/// The model that tests embed with when they do not care: the quicker one to load.
pub const MODEL: &str = "all-MiniLM-L6-v2-int8";
const TEMPLATE: &str = "with_vector_tools";

/// A database that lives as long as its server.
pub struct Database<'server> {
    /// The server it is on.
    pub server: &'server Server,
    /// Its name.
    pub name: String,
}

/// The server that tests share when they neither stop nor break it.
pub fn shared_server() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        // What is queued stays queued until a test embeds it; tests of workers have servers of their own.
        let settings = [("max_connections", "100"), ("vector_tools.max_workers", "0")];
        let server = Server::start("test-cluster", &settings);
        make_template(&server);
        server
    })
}

/// Makes the database that others are copied from: the extension, and a quick default model.
pub fn make_template(server: &Server) {
    Database::create(server, TEMPLATE, "template0");
    let mut session = Session::open(server, TEMPLATE, "postgres");
    let Schemas { extension, pgvector } = Schemas::in_use();
    session.run(&format!(
        "CREATE SCHEMA IF NOT EXISTS {pgvector}; CREATE SCHEMA IF NOT EXISTS {extension};
         CREATE EXTENSION vector SCHEMA {pgvector}; CREATE EXTENSION vector_tools SCHEMA {extension};
         GRANT USAGE ON SCHEMA {pgvector}, {extension} TO PUBLIC"
    ));
    let models = session.text("SELECT count(*) FROM vector_tools.models WHERE bundled");
    assert_eq!(models, "2", "expected CREATE EXTENSION to register both bundled models");
}

impl<'server> Database<'server> {
    /// A new database on the shared server, in which the extension has been created.
    pub fn with_extension(name: &str) -> Database<'static> {
        Database::create(shared_server(), name, TEMPLATE)
    }

    /// A new database on the shared server, without the extension.
    pub fn empty(name: &str) -> Database<'static> {
        Database::create(shared_server(), name, "template0")
    }

    /// A new database on `server` in which the extension has been created.
    pub fn with_extension_on(server: &'server Server, name: &str) -> Database<'server> {
        Database::create(server, name, TEMPLATE)
    }

    fn create(server: &'server Server, name: &str, template: &str) -> Database<'server> {
        let mut session = Session::open(server, "postgres", "postgres");
        session.run(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        session.run(&format!("ALTER DATABASE {name} SET vector_tools.default_model = '{MODEL}'"));
        let Schemas { extension, pgvector } = Schemas::in_use();
        session.run(&format!(
            "ALTER DATABASE {name} SET search_path = \"$user\", public, {extension}, {pgvector}"
        ));
        Database { server, name: name.to_owned() }
    }

    /// A session as superuser.
    pub fn connect(&self) -> Session {
        self.connect_as("postgres")
    }

    /// A session of a role.
    pub fn connect_as(&self, role: &str) -> Session {
        Session::open(self.server, &self.name, role)
    }

    /// Makes a role that may log in and nothing else. Roles belong to the whole server, so its
    /// name should begin with that of the test.
    pub fn create_role(&self, role: &str) {
        self.connect().run(&format!("CREATE ROLE {role} LOGIN"));
    }

    /// The connection string for programs such as pg_dump.
    pub fn connection(&self) -> String {
        self.server.connection(&self.name, "postgres")
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the database of this failure was {}", self.name);
            self.server.keep_files();
        }
    }
}
