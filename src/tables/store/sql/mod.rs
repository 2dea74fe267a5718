//! The SQL functions of vector stores. Their declarations are in sql/54_store.sql.

mod making;
mod queueing;
mod searching;
mod writing;

use pgrx::Uuid;
use pgrx::prelude::*;

use self::queueing::DocumentsCall;
use self::searching::StoreSearch;
use self::writing::{Content, DocumentCall, Given};
use super::document::{check_chunks, read_chunks};
use super::embeddings::{Columns, rows_from_json};
use super::queued::check_documents;
use crate::chunking::sql::read_options;
use crate::error::Result;
use crate::pg::arguments::Arguments;
use crate::pg::array::one_dimensional;
use crate::pg::embedders::check_interrupts;
use crate::pg::jsonb::JsonbText;
use crate::pg::regclass::Regclass;
use crate::pg::report::OrReport;
use crate::pg::vector::Vector;
use crate::search::source::constant_in;

#[pg_extern(sql = false)]
fn create_vector_store(
    schema: Option<&str>,
    model: Option<&str>,
    preset: Option<&str>,
    storage: Option<&str>,
    index_kind: Option<&str>,
    text_configuration: Option<&str>,
) -> Option<Regclass> {
    let create =
        |schema| making::create_store(schema, model, preset, storage, index_kind, text_configuration);
    schema.map(|schema| create(schema).or_report())
}

#[pg_extern(sql = false)]
fn index_vector_store(schema: &str, index_kind: &str, preset: &str) {
    making::index_store(schema, index_kind, preset).or_report();
}

#[pg_extern(sql = false)]
fn create_namespace(schema: &str, namespace: &str) -> Regclass {
    making::create_namespace(schema, namespace).or_report()
}

#[pg_extern(sql = false)]
fn drop_namespace(schema: &str, namespace: &str) {
    making::drop_namespace(schema, namespace).or_report();
}

/// (schema, name, namespace, description, metadata)
#[pg_extern(sql = false)]
fn create_collection(fcinfo: pg_sys::FunctionCallInfo) -> Option<Uuid> {
    let arguments = Arguments(fcinfo).checked(5).or_report();
    let text = |place| arguments.get::<String>(place);
    let (Some(schema), Some(name)) = (text(0), text(1)) else { return None };
    let metadata = arguments.get::<JsonbText>(4).map_or_else(|| "{}".to_owned(), |json| json.0);
    making::create_collection(&schema, &name, text(2).as_deref(), text(3).as_deref(), &metadata).or_report()
}

#[pg_extern(sql = false)]
fn drop_collection(schema: &str, name: &str, delete_embeddings: bool) -> i64 {
    making::drop_collection(schema, name, delete_embeddings).or_report()
}

/// (expression)
#[pg_extern(sql = false)]
fn text_of_default(expression: &str) -> Option<String> {
    constant_in(expression)
}

/// (schema, source_type, source_id, content, namespace, metadata, collection, strategy, max_tokens,
/// overlap)
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn upsert_text(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (name!(inserted, i32), name!(updated, i32), name!(unchanged, i32), name!(deleted, i32)),
> {
    let content = |arguments: Arguments| {
        let text: Option<String> = arguments.get(3);
        match (arguments.get::<String>(7), text) {
            (Some(strategy), Some(text)) => {
                let options = read_options(Some(&strategy), arguments.get(8), arguments.get(9))?;
                Content::to_cut(text, options)
            }
            (_, text) => Ok(Content::Chunks(read_chunks(vec![text], &mut check_interrupts)?)),
        }
    };
    TableIterator::new(upsert(fcinfo, 10, content).or_report())
}

/// The same with chunks instead of the content.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn upsert_chunks(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (name!(inserted, i32), name!(updated, i32), name!(unchanged, i32), name!(deleted, i32)),
> {
    let content = |arguments: Arguments| {
        let chunks = arguments.get::<Array<&str>>(3);
        check_chunks(chunks.as_ref().map_or(1, Array::len))?;
        let chunks = chunks.map(one_dimensional).transpose()?;
        let chunks = read_chunks(chunks.unwrap_or_else(|| vec![None]), &mut check_interrupts)?;
        Ok(Content::Chunks(chunks))
    };
    TableIterator::new(upsert(fcinfo, 7, content).or_report())
}

fn upsert(
    fcinfo: pg_sys::FunctionCallInfo,
    count: usize,
    content: impl FnOnce(Arguments) -> Result<Content>,
) -> Result<Option<(i32, i32, i32, i32)>> {
    let arguments = Arguments(fcinfo).checked(count)?;
    let (Some(schema), Some(source_type), Some(source_id)) =
        (arguments.get::<String>(0), arguments.get::<String>(1), arguments.get::<Uuid>(2))
    else {
        return Ok(None);
    };
    let call = DocumentCall {
        schema,
        source_type,
        source_id: source_id.to_string(),
        content: content(arguments)?,
        given: read_given(arguments, 4),
    };
    let plan = call.run()?;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let counts = [plan.inserted, plan.updated(), plan.unchanged, plan.deleted.len()].map(number);
    Ok(Some((counts[0], counts[1], counts[2], counts[3])))
}

/// Namespace, metadata and collection, from a place on.
fn read_given(arguments: Arguments, place: usize) -> Given {
    Given {
        namespace: arguments.get(place),
        metadata: arguments.get::<JsonbText>(place + 1).map_or_else(|| "{}".to_owned(), |json| json.0),
        collection: arguments.get(place + 2),
    }
}

/// (schema, source_type, source_ids, contents, namespace, metadata, collection, strategy, max_tokens, overlap)
#[pg_extern(sql = false)]
fn queue_documents(fcinfo: pg_sys::FunctionCallInfo) -> Option<Uuid> {
    let queued = || -> Result<Option<Uuid>> {
        let arguments = Arguments(fcinfo).checked(10)?;
        let (Some(schema), Some(source_type)) = (arguments.get::<String>(0), arguments.get::<String>(1))
        else {
            return Ok(None);
        };
        let (Some(ids), Some(contents)) = (arguments.get::<Array<Uuid>>(2), arguments.get::<Array<&str>>(3))
        else {
            return Ok(None);
        };
        check_documents(ids.len().max(contents.len()))?;
        // The metadata is written out only where there is as much of it as of the documents.
        check_documents(arguments.get::<Array<JsonbText>>(5).map_or(0, |metadata| metadata.len()))?;
        let metadata = arguments.get::<Vec<Option<JsonbText>>>(5);
        let cut = arguments.get::<String>(7);
        let options = |strategy: String| read_options(Some(&strategy), arguments.get(8), arguments.get(9));
        let call = DocumentsCall {
            schema,
            source_type,
            source_ids: ids.iter().map(|id| id.map(|id| id.to_string())).collect(),
            contents: one_dimensional(contents)?,
            metadata: metadata.map(|all| all.into_iter().map(|one| one.map(|json| json.0)).collect()),
            given: Given {
                namespace: arguments.get(4),
                metadata: "{}".to_owned(),
                collection: arguments.get(6),
            },
            cut: cut.map(options).transpose()?,
        };
        call.run()
    };
    queued().or_report()
}

/// (schema, source_types, source_ids, chunk_indexes, contents, embeddings, namespaces, metadata,
/// collection)
#[pg_extern(sql = false)]
fn upsert_embeddings(fcinfo: pg_sys::FunctionCallInfo) -> Option<i64> {
    let written = || -> Result<Option<i64>> {
        let arguments = Arguments(fcinfo).checked(9)?;
        let Some(schema) = arguments.get::<String>(0) else { return Ok(None) };
        let texts = |place| arguments.get::<Array<&str>>(place).map(one_dimensional).transpose();
        let ids = arguments.get::<Vec<Option<Uuid>>>(2).unwrap_or_default();
        let vectors = arguments.get::<Vec<Option<Vector>>>(5).unwrap_or_default();
        let metadata = arguments.get::<Vec<Option<JsonbText>>>(7);
        let columns = Columns {
            source_types: texts(1)?.unwrap_or_default(),
            source_ids: ids.into_iter().map(|id| id.map(|id| id.to_string())).collect(),
            chunk_indexes: arguments.get(3).unwrap_or_default(),
            contents: texts(4)?.unwrap_or_default(),
            embeddings: vectors.into_iter().map(|vector| vector.map(|vector| vector.0)).collect(),
            namespaces: texts(6)?,
            metadata: metadata.map(|all| all.into_iter().map(|one| one.map(|json| json.0)).collect()),
        };
        writing::upsert_rows(&schema, columns.into_rows()?, arguments.get(8)).map(Some)
    };
    written().or_report()
}

/// (schema, rows, collection)
#[pg_extern(sql = false)]
fn upsert_embedding_rows(fcinfo: pg_sys::FunctionCallInfo) -> Option<i64> {
    let written = || -> Result<Option<i64>> {
        let arguments = Arguments(fcinfo).checked(3)?;
        let (Some(schema), Some(rows)) = (arguments.get::<String>(0), arguments.get::<JsonbText>(1)) else {
            return Ok(None);
        };
        writing::upsert_rows(&schema, rows_from_json(&rows.0)?, arguments.get(2)).map(Some)
    };
    written().or_report()
}

#[pg_extern(sql = false)]
fn delete_document(
    schema: Option<&str>,
    source_type: Option<&str>,
    source_id: Option<Uuid>,
    namespace: Option<&str>,
) -> Option<i64> {
    let source_id = source_id?.to_string();
    Some(writing::delete_document(schema?, source_type?, &source_id, namespace).or_report())
}

#[pg_extern(sql = false)]
fn clear_namespace(schema: &str, namespace: &str) -> i64 {
    writing::clear_namespace(schema, namespace).or_report()
}

#[pg_extern(sql = false)]
fn count_embeddings(
    schema: Option<&str>,
    namespace: Option<&str>,
    source_type: Option<&str>,
    collection: Option<&str>,
) -> Option<i64> {
    Some(searching::count(schema?, namespace, source_type, collection).or_report())
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn search_embeddings(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(id, Uuid),
        name!(source_type, String),
        name!(source_id, Uuid),
        name!(chunk_index, i32),
        name!(content_preview, Option<String>),
        name!(similarity, Option<f64>),
        name!(score, f64),
        name!(metadata, JsonbText),
        name!(namespace, String),
        name!(content, Option<String>),
    ),
> {
    let search = Arguments(fcinfo).checked(SEARCH_ARGUMENTS).and_then(StoreSearch::read).or_report();
    let found = search.map_or(vec![], |search| search.run().or_report());
    TableIterator::new(found.into_iter().map(|(hit, found)| {
        (
            Uuid::from_bytes(found.id),
            found.source_type,
            Uuid::from_bytes(found.source_id),
            found.chunk_index,
            found.content_preview,
            hit.similarity,
            hit.ranked.score,
            JsonbText(found.metadata),
            found.namespace,
            hit.fetched.content,
        )
    }))
}

const SEARCH_ARGUMENTS: usize = 14;
