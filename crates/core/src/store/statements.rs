//! The statements that write and count the rows of a store.

use crate::error::Result;
use crate::sql::{Parameter, Statement};
use crate::store::Store;
use crate::store::embeddings::NewRow;
use crate::store::hits::PREVIEW_CHARACTERS;

/// No collection, where two must be compared.
const NO_UUID: &str = "'00000000-0000-0000-0000-000000000000'::pg_catalog.uuid";

/// The rows of one document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentKey<'a> {
    /// What kind of source it is.
    pub source_type: &'a str,
    /// The source, a UUID as text.
    pub source_id: &'a str,
    /// The namespace; in any where none is given.
    pub namespace: Option<&'a str>,
}

/// What all rows of a document share.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// The metadata, a JSON object as text.
    pub metadata: &'a str,
    /// The collection, a UUID as text.
    pub collection: Option<&'a str>,
}

/// The statement that writes rows; those that are there already with the same values stay as they
/// are.
pub fn write_rows(store: &Store, rows: impl Iterator<Item = NewRow>, collection: Option<&str>) -> Statement {
    let mut statement = Statement::default();
    let (mut texts, mut places, mut embeddings) = ([const { vec![] }; 6], vec![], vec![]);
    for row in rows {
        let NewRow { source_type, source_id, chunk, namespace, metadata, .. } = row;
        let values = [source_type, source_id, chunk.content, chunk.hash, namespace, metadata];
        texts.iter_mut().zip(values).for_each(|(texts, value)| texts.push(value));
        places.push(i64::from(row.chunk_index));
        embeddings.push(row.embedding);
    }
    let [source_types, source_ids, contents, hashes, namespaces, metadata] =
        texts.map(|texts| statement.bind(Parameter::Texts(texts)));
    let places = statement.bind(Parameter::Integers(places));
    let embeddings = statement.bind(Parameter::Vectors(embeddings));
    let model = statement.bind(Parameter::Text(store.model.clone()));
    let collection = bind_collection(&mut statement, collection);
    let Store { embeddings: table, vector_type, pgvector_schema: vector, .. } = store;
    statement.push(format_args!(
        "INSERT INTO {table} AS t (source_type, source_id, chunk_index, content_hash, content_preview, content, \
         embedding, embedding_model, metadata, namespace, collection_id) \
         SELECT n.source_type, n.source_id::pg_catalog.uuid, n.chunk_index::pg_catalog.int4, n.content_hash, \
         pg_catalog.left(n.content, {PREVIEW_CHARACTERS}), n.content, n.embedding::{vector_type}, {model}, \
         n.metadata::pg_catalog.jsonb, n.namespace, {collection} \
         FROM ROWS FROM (pg_catalog.unnest({source_types}), pg_catalog.unnest({source_ids}), \
         pg_catalog.unnest({places}), pg_catalog.unnest({contents}), pg_catalog.unnest({hashes}), \
         pg_catalog.unnest({embeddings}), pg_catalog.unnest({metadata}), pg_catalog.unnest({namespaces})) \
         AS n(source_type, source_id, chunk_index, content, content_hash, embedding, metadata, namespace) \
         ON CONFLICT (source_type, source_id, chunk_index, embedding_model, namespace) DO UPDATE SET \
         content_hash = excluded.content_hash, content_preview = excluded.content_preview, \
         content = excluded.content, embedding = excluded.embedding, metadata = excluded.metadata, \
         collection_id = excluded.collection_id, updated_at = pg_catalog.now() \
         WHERE NOT (t.content_hash OPERATOR(pg_catalog.=) excluded.content_hash \
         AND t.content IS NOT NULL AND t.embedding OPERATOR({vector}.=) excluded.embedding \
         AND t.metadata OPERATOR(pg_catalog.=) excluded.metadata \
         AND coalesce(t.collection_id, {NO_UUID}) OPERATOR(pg_catalog.=) coalesce(excluded.collection_id, {NO_UUID}))"
    ));
    statement
}

/// SQL for a collection's id, or for none. NULLIF would look its operator up in search_path.
fn bind_collection(statement: &mut Statement, collection: Option<&str>) -> String {
    match collection {
        Some(id) => format!("{}::pg_catalog.uuid", statement.bind(Parameter::Text(id.to_owned()))),
        None => "NULL::pg_catalog.uuid".to_owned(),
    }
}

/// The statement that reads the rows of a document, with columns (chunk_index, content_hash,
/// whether it is described so).
pub fn read_document(store: &Store, document: &DocumentKey, description: &Description) -> Statement {
    let mut statement = Statement::default();
    let metadata = statement.bind(Parameter::Text(description.metadata.to_owned()));
    let collection = statement.bind(Parameter::Text(description.collection.unwrap_or_default().to_owned()));
    statement.push(format_args!(
        "SELECT t.chunk_index::pg_catalog.int8, t.content_hash::pg_catalog.text, \
         t.content IS NOT NULL AND t.metadata OPERATOR(pg_catalog.=) {metadata}::pg_catalog.jsonb \
         AND coalesce(t.collection_id::pg_catalog.text, '') OPERATOR(pg_catalog.=) {collection}"
    ));
    push_document(&mut statement, store, document);
    push_model(&mut statement, store);
    statement
}

/// The statement that reads embeddings of a document, with columns (chunk_index, embedding as
/// `vector`).
pub fn read_embeddings(store: &Store, document: &DocumentKey, places: &[i64]) -> Statement {
    let mut statement = Statement::default();
    let vector = &store.pgvector_schema;
    statement.push(format_args!("SELECT t.chunk_index::pg_catalog.int8, t.embedding::{vector}.vector"));
    push_document(&mut statement, store, document);
    push_model(&mut statement, store);
    push_places(&mut statement, places);
    statement
}

/// The statement that gives rows of a document other metadata and another collection.
pub fn describe_rows(
    store: &Store,
    document: &DocumentKey,
    places: &[i64],
    description: &Description,
) -> Statement {
    let mut statement = Statement::default();
    let metadata = statement.bind(Parameter::Text(description.metadata.to_owned()));
    let collection = bind_collection(&mut statement, description.collection);
    statement.push(format_args!(
        "UPDATE {} AS t SET metadata = {metadata}::pg_catalog.jsonb, \
         collection_id = {collection}, content = coalesce(t.content, t.content_preview), \
         updated_at = pg_catalog.now()",
        store.embeddings
    ));
    push_document_condition(&mut statement, document);
    push_model(&mut statement, store);
    push_places(&mut statement, places);
    statement
}

/// The statement that locks the rows of a document in the order in which all writers take them,
/// before many of them change at once; all places, or those given.
pub fn lock_rows(store: &Store, document: &DocumentKey, places: Option<&[i64]>) -> Statement {
    let mut statement = Statement::default();
    statement.push("SELECT t.chunk_index");
    push_document(&mut statement, store, document);
    if let Some(places) = places {
        push_model(&mut statement, store);
        push_places(&mut statement, places);
    }
    statement.push(" ORDER BY t.chunk_index, t.namespace COLLATE pg_catalog.\"C\" FOR UPDATE");
    statement
}

/// The statement that deletes rows of a document; all places, or those given.
pub fn delete_rows(store: &Store, document: &DocumentKey, places: Option<&[i64]>) -> Statement {
    let mut statement = Statement::default();
    statement.push(format_args!("DELETE FROM {} AS t", store.embeddings));
    push_document_condition(&mut statement, document);
    if let Some(places) = places {
        push_model(&mut statement, store);
        push_places(&mut statement, places);
    }
    statement
}

/// The statement that reads the namespaces of a document.
pub fn read_namespaces(store: &Store, document: &DocumentKey) -> Statement {
    let mut statement = Statement::default();
    statement.push("SELECT DISTINCT t.namespace::pg_catalog.text");
    push_document(&mut statement, store, document);
    statement
}

/// The statement that deletes the rows of a namespace.
pub fn clear_namespace(store: &Store, namespace: &str) -> Statement {
    let mut statement = Statement::default();
    let namespace = statement.bind(Parameter::Text(namespace.to_owned()));
    statement.push(format_args!(
        "DELETE FROM {} AS t WHERE t.namespace OPERATOR(pg_catalog.=) {namespace}",
        store.embeddings
    ));
    statement.depends_on_values = true;
    statement
}

/// The statement that deletes the rows of a collection, a UUID as text.
pub fn delete_collection_rows(store: &Store, collection: &str) -> Statement {
    let mut statement = Statement::default();
    let collection = statement.bind(Parameter::Text(collection.to_owned()));
    statement.push(format_args!(
        "DELETE FROM {} AS t WHERE t.collection_id OPERATOR(pg_catalog.=) {collection}::pg_catalog.uuid",
        store.embeddings
    ));
    statement
}

/// The statement that counts rows.
pub fn count_rows(
    store: &Store,
    namespace: Option<&str>,
    source_type: Option<&str>,
    collection: Option<&str>,
) -> Statement {
    let mut statement = Statement::default();
    statement.push(format_args!("SELECT pg_catalog.count(*) FROM {} AS t WHERE true", store.embeddings));
    for (column, value) in [
        ("namespace", namespace),
        ("source_type", source_type),
        ("collection_id::pg_catalog.text", collection),
    ] {
        if let Some(value) = value {
            let value = statement.bind(Parameter::Text(value.to_owned()));
            statement.push(format_args!(" AND t.{column} OPERATOR(pg_catalog.=) {value}"));
        }
    }
    statement.depends_on_values = true;
    statement
}

/// A search to be logged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoggedSearch {
    /// The question.
    pub query: Option<String>,
    /// Its embedding, where it was given.
    pub embedding: Option<Vec<f32>>,
    /// The namespace.
    pub namespace: Option<String>,
    /// Rows asked for.
    pub top_k: i64,
    /// The least similarity asked for.
    pub threshold: Option<f64>,
    /// Rows found.
    pub results: usize,
    /// How long it took.
    pub milliseconds: f64,
    /// Whom the application searched for, a UUID as text.
    pub user_id: Option<String>,
    /// The role that searched.
    pub caller: String,
}

/// The most characters of a question that the log of searches keeps.
pub const MAX_LOGGED_CHARACTERS: usize = 2000;

/// The statement that logs a search, the question cut to [`MAX_LOGGED_CHARACTERS`].
///
/// # Errors
/// Never in practice: the names are short.
pub fn log_search(store: &Store, search: LoggedSearch) -> Result<Statement> {
    let mut statement = Statement::default();
    let mut values: Vec<(&str, String)> = Vec::new();
    let mut bind = |column: &'static str, parameter: Option<Parameter>, cast: &str| {
        if let Some(parameter) = parameter {
            values.push((column, format!("{}{cast}", statement.bind(parameter))));
        }
    };
    let query = search.query.map(|query| query.chars().take(MAX_LOGGED_CHARACTERS).collect());
    bind("query_text", query.map(Parameter::Text), "");
    bind("query_embedding", search.embedding.map(Parameter::Vector), "");
    bind("namespace", search.namespace.map(Parameter::Text), "");
    bind("top_k", Some(Parameter::Integer(search.top_k)), "::pg_catalog.int4");
    bind("threshold", search.threshold.map(Parameter::Number), "");
    bind("result_count", Some(Parameter::Integer(search.results as i64)), "::pg_catalog.int4");
    bind("latency_ms", Some(Parameter::Integer(search.milliseconds.round() as i64)), "::pg_catalog.int4");
    bind("user_id", search.user_id.map(Parameter::Text), "::pg_catalog.uuid");
    bind("caller", Some(Parameter::Text(search.caller)), "::pg_catalog.name");
    let (columns, values): (Vec<&str>, Vec<String>) = values.into_iter().unzip();
    statement.push(format_args!(
        "INSERT INTO {} ({}) VALUES ({})",
        store.tables.search_logs()?,
        columns.join(", "),
        values.join(", ")
    ));
    Ok(statement)
}

fn push_document(statement: &mut Statement, store: &Store, document: &DocumentKey) {
    statement.push(format_args!(" FROM {} AS t", store.embeddings));
    push_document_condition(statement, document);
}

fn push_document_condition(statement: &mut Statement, document: &DocumentKey) {
    let source_type = statement.bind(Parameter::Text(document.source_type.to_owned()));
    let source_id = statement.bind(Parameter::Text(document.source_id.to_owned()));
    statement.push(format_args!(
        " WHERE t.source_type OPERATOR(pg_catalog.=) {source_type} \
         AND t.source_id OPERATOR(pg_catalog.=) {source_id}::pg_catalog.uuid"
    ));
    if let Some(namespace) = document.namespace {
        let namespace = statement.bind(Parameter::Text(namespace.to_owned()));
        statement.push(format_args!(" AND t.namespace OPERATOR(pg_catalog.=) {namespace}"));
        // A plan for all values would lock the partitions of all namespaces.
        statement.depends_on_values = true;
    }
}

fn push_model(statement: &mut Statement, store: &Store) {
    let model = statement.bind(Parameter::Text(store.model.clone()));
    statement.push(format_args!(" AND t.embedding_model OPERATOR(pg_catalog.=) {model}"));
}

fn push_places(statement: &mut Statement, places: &[i64]) {
    let places = statement.bind(Parameter::Integers(places.to_vec()));
    statement
        .push(format_args!(" AND t.chunk_index OPERATOR(pg_catalog.=) ANY ({places}::pg_catalog.int4[])"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::document::Chunk;
    use crate::store::tests::store;

    const HOSTILE: &str = "x'; DROP TABLE y; --";

    #[test]
    fn values_are_parameters() {
        let document = DocumentKey { source_type: HOSTILE, source_id: HOSTILE, namespace: Some(HOSTILE) };
        let description = Description { metadata: HOSTILE, collection: Some(HOSTILE) };
        let row = NewRow {
            source_type: HOSTILE.to_owned(),
            source_id: HOSTILE.to_owned(),
            chunk_index: 0,
            chunk: Chunk::new(HOSTILE.to_owned()),
            embedding: vec![0.0],
            namespace: HOSTILE.to_owned(),
            metadata: HOSTILE.to_owned(),
        };
        let store = store();
        let search = LoggedSearch {
            query: Some(HOSTILE.to_owned()),
            namespace: Some(HOSTILE.to_owned()),
            user_id: Some(HOSTILE.to_owned()),
            caller: HOSTILE.to_owned(),
            ..LoggedSearch::default()
        };
        let statements = [
            write_rows(&store, std::iter::once(row), Some(HOSTILE)),
            read_document(&store, &document, &description),
            read_embeddings(&store, &document, &[1]),
            describe_rows(&store, &document, &[1], &description),
            lock_rows(&store, &document, Some(&[1])),
            delete_rows(&store, &document, None),
            read_namespaces(&store, &document),
            clear_namespace(&store, HOSTILE),
            count_rows(&store, Some(HOSTILE), Some(HOSTILE), Some(HOSTILE)),
            log_search(&store, search).expect("valid"),
        ];
        for statement in statements {
            assert!(!statement.text.contains("DROP"), "{}", statement.text);
            let last = format!("${}", statement.parameters.len());
            assert!(statement.text.contains(&last), "{}", statement.text);
            assert!(!statement.text.contains(&format!("${}", statement.parameters.len() + 1)));
        }
    }
}
