//! Sessions of the server, as a client has them.

use postgres::{Client, NoTls, Statement};

use crate::server::Server;

const DATABASE: &str = "vector_tools";

/// Stores passages with their embeddings, as an application that ingests many texts does.
const INGEST: &str = "WITH embedded AS MATERIALIZED (SELECT $1::text[] AS texts, embed($1::text[]) AS vectors) \
                      INSERT INTO passages (content, embedding) \
                      SELECT passage.* FROM embedded, unnest(texts, vectors) AS passage";

/// Opens a session.
pub fn connect(server: &Server) -> Client {
    let connection = server.connection(DATABASE, "postgres");
    Client::connect(&connection, NoTls).expect("the server accepts a connection")
}

/// Opens a session that runs `model` itself on `threads` threads.
pub fn connect_for(server: &Server, model: &str, threads: usize) -> Client {
    let mut client = connect(server);
    run(
        &mut client,
        &format!(
            "SET vector_tools.embedder = 'backend'; SET vector_tools.default_model = '{model}'; \
             SET vector_tools.backend_threads = {threads}"
        ),
    );
    client
}

/// Creates the extension, and a table to ingest into.
pub fn create_extension(server: &Server) {
    let mut client = connect(server);
    client
        .batch_execute("CREATE EXTENSION vector_tools CASCADE")
        .expect("the extension is installed in the PostgreSQL of the tests (`make bench` does it)");
    run(&mut client, "CREATE TABLE passages (content text, embedding vector)");
}

/// Runs statements that return nothing of interest.
pub fn run(client: &mut Client, statements: &str) {
    client.batch_execute(statements).expect("the statement succeeds");
}

/// Prepares a statement.
pub fn prepare(client: &mut Client, statement: &str) -> Statement {
    client.prepare(statement).expect("the statement can be prepared")
}

/// Prepares the ingest of an array of texts.
pub fn prepare_ingest(client: &mut Client) -> Statement {
    prepare(client, INGEST)
}

/// The only number of the only row.
pub fn number(client: &mut Client, query: &str) -> i32 {
    client.query_one(query, &[]).expect("the query gives one row").get(0)
}
