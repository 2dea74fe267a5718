//! The SQL functions of vector stores. Their declarations are in sql/store.sql.

use crate::store::{making, searching, writing};
use pgrx::Uuid;
use pgrx::prelude::*;

use crate::chunking::functions::read_options;
use crate::kit::arguments::arguments;
use crate::kit::jsonb::{FilterText, JsonbText};
use crate::kit::regclass::Regclass;
use crate::kit::report::OrReport;
use crate::kit::waiting::checkpoint;
use crate::store::queueing::DocumentsCall;
use crate::store::searching::StoreSearch;
use crate::store::writing::{Content, DocumentCall, Given};
use crate::types::array::one_dimensional;
use crate::types::vector::Vector;
use vector_tools_core::error::Result;
use vector_tools_core::search::source::constant_in;
use vector_tools_core::store::document::{check_chunks, read_chunks};
use vector_tools_core::store::embeddings::{Columns, check_rows, rows_from_json};
use vector_tools_core::store::queued::check_documents;

arguments! {
    /// A collection to create.
    struct CreateCollection for create_collection {
        schema: Option<String>,
        name: Option<String>,
        namespace: String = "default",
        description: Option<String> = None,
        metadata: JsonbText = "{}",
    }
}

arguments! {
    /// A document, whole or to be cut.
    struct UpsertText for upsert_text {
        schema: Option<String>,
        source_type: Option<String>,
        source_id: Option<Uuid>,
        content: Option<String>,
        namespace: Option<String> = None,
        metadata: JsonbText = "{}",
        collection: Option<String> = None,
        strategy: Option<String> = None,
        max_tokens: Option<i64> = Some(512),
        overlap: Option<i64> = None,
    }
}

arguments! {
    /// A document in chunks.
    struct UpsertChunks<'call> for upsert_chunks {
        schema: Option<String>,
        source_type: Option<String>,
        source_id: Option<Uuid>,
        chunks: Option<Array<'call, &'call str>>,
        namespace: Option<String> = None,
        metadata: JsonbText = "{}",
        collection: Option<String> = None,
    }
}

arguments! {
    /// Documents to be written by a job.
    struct QueueDocuments<'call> for queue_documents {
        schema: Option<String>,
        source_type: Option<String>,
        source_ids: Option<Array<'call, Uuid>>,
        contents: Option<Array<'call, &'call str>>,
        namespace: Option<String> = None,
        metadata: Option<Array<'call, JsonbText>> = None,
        collection: Option<String> = None,
        strategy: Option<String> = None,
        max_tokens: Option<i64> = Some(512),
        overlap: Option<i64> = None,
    }
}

arguments! {
    /// Rows with their embeddings, column by column.
    struct UpsertEmbeddings<'call> for upsert_embeddings {
        schema: Option<String>,
        source_types: Option<Array<'call, &'call str>>,
        source_ids: Option<Vec<Option<Uuid>>>,
        chunk_indexes: Option<Vec<Option<i32>>>,
        contents: Option<Array<'call, &'call str>>,
        embeddings: Option<Vec<Option<Vector>>>,
        namespaces: Option<Array<'call, &'call str>> = None,
        metadata: Option<Vec<Option<JsonbText>>> = None,
        collection: Option<String> = None,
    }
}

arguments! {
    /// A question to a store.
    pub(crate) struct SearchEmbeddings for search_embeddings {
        schema: Option<String>,
        query: Option<String> = None,
        namespace: Option<String> = None,
        top_k: i64 = 10,
        threshold: Option<f64> = None,
        source_type: Option<String> = None,
        collection: Option<String> = None,
        metadata: Option<FilterText> = None,
        filter: Option<FilterText> = None,
        fusion: String = "rrf",
        query_embedding: Option<Vector> = None,
        vector_weight: f64 = 1.0,
        text_weight: f64 = 1.0,
        user_id: Option<Uuid> = None,
    }
}

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

#[pg_extern(sql = false)]
fn create_collection(fcinfo: pg_sys::FunctionCallInfo) -> Option<Uuid> {
    let CreateCollection { schema, name, namespace, description, metadata } =
        CreateCollection::read(fcinfo).or_report();
    let (schema, name) = (schema?, name?);
    making::create_collection(&schema, &name, &namespace, description.as_deref(), &metadata.0).or_report()
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

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn upsert_text(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (name!(inserted, i32), name!(updated, i32), name!(unchanged, i32), name!(deleted, i32)),
> {
    let upsert = || {
        let arguments = UpsertText::read(fcinfo)?;
        let (Some(schema), Some(source_type), Some(source_id)) =
            (arguments.schema, arguments.source_type, arguments.source_id)
        else {
            return Ok(None);
        };
        let content = match (arguments.strategy, arguments.content) {
            (Some(strategy), Some(text)) => {
                let options = read_options(Some(&strategy), arguments.max_tokens, arguments.overlap)?;
                Content::to_cut(text, options)?
            }
            (_, text) => Content::Chunks(read_chunks(vec![text], &mut checkpoint)?),
        };
        let given = given(arguments.namespace, arguments.metadata, arguments.collection);
        let source_id = source_id.to_string();
        upsert(&DocumentCall { schema, source_type, source_id, content, given }).map(Some)
    };
    TableIterator::new(upsert().or_report())
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
    let upsert = || {
        let arguments = UpsertChunks::read(fcinfo)?;
        let (Some(schema), Some(source_type), Some(source_id)) =
            (arguments.schema, arguments.source_type, arguments.source_id)
        else {
            return Ok(None);
        };
        check_chunks(arguments.chunks.as_ref().map_or(1, Array::len))?;
        let chunks = arguments.chunks.map(one_dimensional).transpose()?;
        let content = Content::Chunks(read_chunks(chunks.unwrap_or_else(|| vec![None]), &mut checkpoint)?);
        let given = given(arguments.namespace, arguments.metadata, arguments.collection);
        let source_id = source_id.to_string();
        upsert(&DocumentCall { schema, source_type, source_id, content, given }).map(Some)
    };
    TableIterator::new(upsert().or_report())
}

fn upsert(call: &DocumentCall) -> Result<(i32, i32, i32, i32)> {
    let plan = call.run()?;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let counts = [plan.inserted, plan.updated(), plan.unchanged, plan.deleted.len()].map(number);
    Ok((counts[0], counts[1], counts[2], counts[3]))
}

fn given(namespace: Option<String>, metadata: JsonbText, collection: Option<String>) -> Given {
    Given { namespace, metadata: metadata.0, collection }
}

#[pg_extern(sql = false)]
fn queue_documents(fcinfo: pg_sys::FunctionCallInfo) -> Option<Uuid> {
    let queued = || -> Result<Option<Uuid>> {
        let arguments = QueueDocuments::read(fcinfo)?;
        let (Some(schema), Some(source_type), Some(ids), Some(contents)) =
            (arguments.schema, arguments.source_type, arguments.source_ids, arguments.contents)
        else {
            return Ok(None);
        };
        check_documents(ids.len().max(contents.len()))?;
        // The metadata is written out only where there is as much of it as of the documents.
        check_documents(arguments.metadata.as_ref().map_or(0, Array::len))?;
        let options =
            |strategy: String| read_options(Some(&strategy), arguments.max_tokens, arguments.overlap);
        let call = DocumentsCall {
            schema,
            source_type,
            source_ids: ids.iter().map(|id| id.map(|id| id.to_string())).collect(),
            contents: one_dimensional(contents)?,
            metadata: arguments.metadata.map(|metadata| json_texts(metadata.iter().collect())),
            given: given(arguments.namespace, JsonbText("{}".to_owned()), arguments.collection),
            cut: arguments.strategy.map(options).transpose()?,
        };
        call.run()
    };
    queued().or_report()
}

#[pg_extern(sql = false)]
fn upsert_embeddings(fcinfo: pg_sys::FunctionCallInfo) -> Option<i64> {
    let written = || -> Result<Option<i64>> {
        let arguments = UpsertEmbeddings::read(fcinfo)?;
        let Some(schema) = arguments.schema else { return Ok(None) };
        let texts = |array: Option<Array<&str>>| array.map(one_dimensional).transpose();
        check_rows(arguments.source_types.as_ref().map_or(0, Array::len))?;
        let ids = arguments.source_ids.unwrap_or_default();
        let vectors = arguments.embeddings.unwrap_or_default();
        let columns = Columns {
            source_types: texts(arguments.source_types)?.unwrap_or_default(),
            source_ids: ids.into_iter().map(|id| id.map(|id| id.to_string())).collect(),
            chunk_indexes: arguments.chunk_indexes.unwrap_or_default(),
            contents: texts(arguments.contents)?.unwrap_or_default(),
            embeddings: vectors.into_iter().map(|vector| vector.map(|vector| vector.0)).collect(),
            namespaces: texts(arguments.namespaces)?,
            metadata: arguments.metadata.map(json_texts),
        };
        writing::upsert_rows(&schema, columns.into_rows()?, arguments.collection).map(Some)
    };
    written().or_report()
}

fn json_texts(all: Vec<Option<JsonbText>>) -> Vec<Option<String>> {
    all.into_iter().map(|one| one.map(|json| json.0)).collect()
}

#[pg_extern(sql = false)]
fn upsert_embedding_rows(
    schema: Option<&str>,
    rows: Option<JsonbText>,
    collection: Option<String>,
) -> Option<i64> {
    let upsert = |schema, rows: JsonbText| writing::upsert_rows(schema, rows_from_json(&rows.0)?, collection);
    Some(upsert(schema?, rows?).or_report())
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
    let search = SearchEmbeddings::read(fcinfo).and_then(StoreSearch::new).or_report();
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
