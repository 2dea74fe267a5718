//! Documents that wait to be embedded, as the functions of a store see them.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::kit::regclass::Regclass;
use crate::kit::rights;
use crate::kit::rights::with_rights_of_state;
use crate::kit::{catalog, spi};
use crate::pipeline::queue::enqueue_keys;
use crate::pipeline::worker;
use crate::settings;
use crate::store::vector_store::OpenStore;
use vector_tools_core::error::Result;
use vector_tools_core::store::Store;
use vector_tools_core::store::queued::{NewDocument, NewJob, Overtaken, Writer, count_of_collection, forget};

const TABLE: &CStr = c"queued_documents";

/// The setting by which `isolate_namespaces` tells sessions of one role apart.
pub const NAMESPACE: &CStr = c"vector_tools.namespace";

/// Runs fixed statements over the documents with the rights of their owner.
pub fn with_rights_of_documents<T>(work: impl FnOnce() -> T) -> T {
    with_rights_of_state(TABLE, work)
}

/// The role and the setting of this session.
pub fn writer() -> Writer {
    Writer {
        // SAFETY: a variable of this process.
        role: unsafe { pg_sys::GetUserId() }.to_u32(),
        session_namespace: settings::namespace().unwrap_or_default(),
    }
}

/// Adds documents to those that wait, and to the queue.
pub fn queue(job: &NewJob, documents: &[NewDocument]) {
    with_rights_of_documents(|| {
        for statement in job.queue(documents) {
            spi::execute(&statement);
        }
    });
    enqueue_keys(pg_sys::Oid::from(job.source), &job.keys(documents));
    worker::note_queued();
}

/// Has documents forgotten that wait, since the caller has just written or deleted them himself, by a statement
/// that asked for the right to do so. Under row-level security somebody may have changed nothing because
/// what he names is not his: then only what he queued himself is forgotten, unless `is_touched`. Whether he has
/// touched a document in all namespaces cannot be known, so that it is to be asked for each of them.
///
/// # Errors
/// Never in practice: the name is short.
pub fn overtake(open: &OpenStore, overtaken: Overtaken, is_touched: bool) -> Result<()> {
    let is_of_all = matches!(overtaken, Overtaken::Document(document) if document.namespace.is_none());
    let is_sure = is_touched && !is_of_all || !catalog::has_hidden_rows(&open.relation);
    overtake_as(&open.store, overtaken, (!is_sure).then(writer).as_ref())
}

/// Whether the caller may write documents: one who finds his own unchanged has run no statement that asked.
pub fn may_write(open: &OpenStore) -> bool {
    // SAFETY: a variable of this process.
    rights::may_insert(&open.relation, unsafe { pg_sys::GetUserId() })
}

/// Has documents forgotten that wait, whoever queued them; the caller may drop them all.
///
/// # Errors
/// Never in practice: the name is short.
pub fn overtake_all(store: &Store, overtaken: Overtaken) -> Result<()> {
    overtake_as(store, overtaken, None)
}

fn overtake_as(store: &Store, overtaken: Overtaken, writer: Option<&Writer>) -> Result<()> {
    if let Some(jobs) = Regclass::find(&store.tables.jobs()?) {
        let statement = forget(jobs.0.to_u32(), overtaken, writer);
        with_rights_of_documents(|| spi::execute(&statement));
    }
    Ok(())
}

/// How many documents of a collection, by its id, wait.
///
/// # Errors
/// Never in practice: the name is short.
pub fn count(store: &Store, collection: &str) -> Result<i64> {
    let Some(jobs) = Regclass::find(&store.tables.jobs()?) else { return Ok(0) };
    let statement = count_of_collection(jobs.0.to_u32(), collection);
    let counts = with_rights_of_documents(|| spi::query_new_snapshot(&statement, |row| row.get::<i64>(1)));
    Ok(counts.into_iter().flatten().sum())
}
