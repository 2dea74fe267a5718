//! The two sides: models in the embedding process, and in each session.

use std::fs;

use postgres::{Client, NoTls, Statement};

use crate::server::Server;

const DATABASE: &str = "vector_tools";

/// Where models run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Shared,
    Backend,
}

impl Side {
    /// Both, in the order of their turns.
    pub fn in_turn(turn: usize) -> [Side; 2] {
        if turn.is_multiple_of(2) { [Side::Shared, Side::Backend] } else { [Side::Backend, Side::Shared] }
    }

    /// A session that has not embedded yet.
    pub fn connect(self, server: &Server, model: &str) -> Client {
        let mut client = connect(server);
        let place = if self == Side::Shared { "shared" } else { "backend" };
        let settings =
            format!("SET vector_tools.embedder = '{place}'; SET vector_tools.default_model = '{model}'");
        client.batch_execute(&settings).expect("settings can be set");
        client
    }

    /// A session whose model is loaded, with a prepared query.
    pub fn connect_warm(self, server: &Server, model: &str) -> (Client, Statement) {
        let mut client = self.connect(server, model);
        client.batch_execute("SELECT warm_up()").expect("the model can be loaded");
        let query = client.prepare("SELECT embed_query($1)").expect("the statement can be prepared");
        (client, query)
    }

    /// The version of the server.
    pub fn version(self, server: &Server) -> String {
        connect(server).query_one("SHOW server_version", &[]).expect("it answers").get(0)
    }
}

/// A session.
pub fn connect(server: &Server) -> Client {
    let connection = server.connection(DATABASE, "postgres");
    Client::connect(&connection, NoTls).expect("the server accepts a connection")
}

/// Creates the extension.
pub fn create_extension(server: &Server) {
    connect(server)
        .batch_execute("CREATE EXTENSION vector_tools CASCADE")
        .expect("the extension is installed in the PostgreSQL of the tests");
}

/// The value below which so many hundredths of some numbers lie, 0 of none.
pub fn percentile(numbers: &mut [f64], hundredths: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let place = (numbers.len() * hundredths / 100).min(numbers.len().saturating_sub(1));
    numbers.get(place).copied().unwrap_or_default()
}

/// The first process of the server.
pub fn postmaster(server: &Server) -> i32 {
    connect(server)
        .query_one("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int", &[])
        .expect("the server knows its process")
        .get(0)
}

/// A process and all that descend from it.
pub fn with_descendants(process: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let numbers = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(process).chain(numbers.flat_map(with_descendants)).collect()
}
