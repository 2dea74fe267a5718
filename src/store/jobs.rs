//! The queued documents of vector stores: the steps of their batches, and what their jobs say of them.
//!
//! A document is written with the rights of the role that queued it, under the setting that its session had, so
//! that grants and policies hold as if it wrote now. A role that has the rights of the store's owner
//! writes as the owner, and not with more.

use std::collections::{HashMap, HashSet};

use pgrx::{PgRelation, pg_sys};

use crate::chunking::functions::chunks;
use crate::kit::regclass::Regclass;
use crate::kit::spi;
use crate::kit::spi::Row;
use crate::kit::subtransaction::attempt;
use crate::kit::waiting::checkpoint;
use crate::kit::{catalog, rights};
use crate::pipeline::jobs::kind::Kind;
use crate::store::queued_documents::{NAMESPACE, with_rights_of_documents};
use crate::store::store_document::{StoreDocument, embed_chunks_in_parts};
use crate::store::vector_store;
use crate::store::vector_store::OpenStore;
use vector_tools_core::chunking::{Options, Strategy};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::assembly::Assembly;
use vector_tools_core::pipeline::requeue::{QueueChanges, State};
use vector_tools_core::pipeline::{Failure, Found, Job, Outcome, RetryDecision, Steps, run_batch};
use vector_tools_core::sql::identifier::QualifiedName;
use vector_tools_core::store::document::{Chunk, check_chunks};
use vector_tools_core::store::queued;
use vector_tools_core::store::queued::{
    End, JOBS, Progress, Writer, note_ends, read, unfinished_jobs, wanted_jobs,
};
use vector_tools_core::store::statements::Description;
use vector_tools_core::store::{Store, StoreTables};

/// The queued documents of stores, as the queue embeds them.
pub struct QueuedDocuments;

impl Kind for QueuedDocuments {
    fn is_it(&self, relation: &PgRelation) -> Option<bool> {
        is_job_list(relation)
    }

    fn run(&self, relation: &PgRelation, keys: &[&[String]]) -> Result<Option<Vec<Outcome>>> {
        find(relation).map(|jobs| run_batch(keys, &DocumentSteps(&jobs))).transpose()
    }

    fn note_progress(&self, source: pg_sys::Oid, jobs: &[Job], outcomes: &[Outcome], changes: &QueueChanges) {
        note_progress(source, jobs, outcomes, changes);
    }

    fn forget(&self, source: pg_sys::Oid) {
        with_rights_of_documents(|| spi::execute(&queued::remove_source(source.to_u32())));
    }
}

/// The jobs of a store.
struct StoreJobs {
    table: pg_sys::Oid,
    name: QualifiedName,
    owner: pg_sys::Oid,
    store: Store,
    store_owner: pg_sys::Oid,
}

/// The jobs of a store, where that is what a table is.
fn find(relation: &PgRelation) -> Option<StoreJobs> {
    if relation.name() != JOBS {
        return None;
    }
    let OpenStore { store, relation: embeddings, .. } =
        vector_store::open_to_write(relation.namespace()).ok()?;
    Some(StoreJobs {
        table: relation.oid(),
        name: store.tables.jobs().ok()?,
        owner: rights::owner(relation),
        store_owner: rights::owner(&embeddings),
        store,
    })
}

/// Whether a table is the jobs of a store; `None` where somebody keeps writers of the store away, to have it for himself or
/// to build an index. With the lock of a writer from the first look on: of two that have opened the store to read,
/// neither could go on when one builds an index and the other begins to write.
fn is_job_list(relation: &PgRelation) -> Option<bool> {
    if relation.name() != JOBS {
        return Some(false);
    }
    let schema = relation.namespace();
    let embeddings = StoreTables::new(schema).and_then(|tables| tables.embeddings());
    let Some(embeddings) = embeddings.ok().and_then(|name| Regclass::find(&name)) else { return Some(false) };
    match catalog::open_table_to_write_now(embeddings.0) {
        Ok(None) => None,
        _ => Some(vector_store::open(schema).is_ok()),
    }
}

/// A document that waits.
struct QueuedDocument {
    id: i64,
    content: String,
    source_type: String,
    source_id: String,
    namespace: String,
    metadata: String,
    collection: Option<String>,
    strategy: Option<String>,
    max_tokens: Option<i32>,
    overlap: Option<i32>,
    queued_by: Writer,
}

impl QueuedDocument {
    fn read(row: &Row, source_id: &str) -> Option<QueuedDocument> {
        Some(QueuedDocument {
            id: row.get(3)?,
            content: row.get(4)?,
            source_type: row.get(5)?,
            source_id: source_id.to_owned(),
            namespace: row.get(6)?,
            metadata: row.get(7)?,
            collection: row.get(8),
            strategy: row.get(9),
            max_tokens: row.get(10),
            overlap: row.get(11),
            queued_by: Writer { role: row.get::<pg_sys::Oid>(12)?.to_u32(), session_namespace: row.get(13)? },
        })
    }

    fn in_store<'a>(&'a self, store: &'a Store, chunks: &'a [Chunk]) -> StoreDocument<'a> {
        StoreDocument {
            store,
            source_type: &self.source_type,
            source_id: &self.source_id,
            namespace: &self.namespace,
            description: Description { metadata: &self.metadata, collection: self.collection.as_deref() },
            chunks,
        }
    }
}

/// The steps of a batch of documents.
struct DocumentSteps<'a>(&'a StoreJobs);

impl DocumentSteps<'_> {
    /// Runs work with the rights of whoever queued a document.
    fn as_writer<T>(&self, document: &QueuedDocument, work: impl FnOnce() -> T) -> Result<T> {
        let Writer { role, session_namespace } = &document.queued_by;
        let writer = pg_sys::Oid::from(*role);
        if !rights::is_role(writer) {
            return Err(Error::WriterGone { role: *role });
        }
        let owner = self.0.store_owner;
        let writer = if rights::has_rights_of(writer, owner) { owner } else { writer };
        let settings = [(NAMESPACE, session_namespace.clone())];
        Ok(spi::with_settings(&settings, || rights::acting_as(writer, work)))
    }

    /// The chunks of documents that the model has to embed, with whose rights each may be compared with
    /// what is stored.
    fn to_embed<'a>(&self, documents: &'a [(&QueuedDocument, Vec<Chunk>)]) -> Result<Vec<Vec<&'a Chunk>>> {
        let of_document = |(document, chunks): &'a (&QueuedDocument, Vec<Chunk>)| {
            let places: HashSet<String> = self.as_writer(document, || {
                let document = document.in_store(&self.0.store, chunks);
                document.to_embed(&document.plan()).into_iter().map(|chunk| chunk.hash.clone()).collect()
            })?;
            Ok(chunks.iter().filter(|chunk| places.contains(&chunk.hash)).collect())
        };
        documents.iter().map(of_document).collect()
    }

    /// Writes a document; `None` where it has to wait, or is not wanted any more.
    fn write_one(&self, document: &QueuedDocument, embedded: &EmbeddedDocument) -> Result<Option<usize>> {
        let in_store = document.in_store(&self.0.store, &embedded.chunks);
        let is_written = self.as_writer(document, || {
            // Whoever waited here could have what others wait for.
            if !in_store.try_lock() || !is_wanted(document.id) {
                return false;
            }
            let plan = in_store.plan();
            let vector = |chunk: &Chunk| embedded.vectors.get(&chunk.hash).cloned();
            let vectors: Option<Vec<Vec<f32>>> = in_store.to_embed(&plan).into_iter().map(vector).collect();
            vectors.map(|vectors| in_store.write(&plan, vectors.into_iter())).is_some()
        })?;
        Ok(is_written.then_some(embedded.chunks.len()))
    }
}

/// Whether a document whose lock this transaction has is wanted still.
fn is_wanted(id: i64) -> bool {
    let found = with_rights_of_documents(|| {
        spi::query_new_snapshot(&queued::is_wanted(id), |row| row.get::<bool>(1))
    });
    found == [Some(true)]
}

/// The chunks of a document, and the embeddings of those that the store does not have, by their hash.
struct EmbeddedDocument {
    chunks: Vec<Chunk>,
    vectors: HashMap<String, Vec<f32>>,
}

impl Steps for DocumentSteps<'_> {
    type Row = QueuedDocument;
    type Chunks = Vec<Chunk>;
    type Embedded = EmbeddedDocument;

    fn read(&self, keys: &[&[String]]) -> Result<Vec<Found<QueuedDocument>>, Failure> {
        let mut places = keys.iter();
        let found = attempt(|| {
            with_rights_of_documents(|| {
                spi::query_new_snapshot(&read(self.0.table.to_u32(), keys), |row| {
                    let source_id = places.next().and_then(|key| key.get(1));
                    let is_true = |column| row.get::<bool>(column).unwrap_or(false);
                    match (is_true(1), is_true(2)) {
                        (false, _) => Found::Gone,
                        (true, false) => Found::Later,
                        (true, true) => source_id
                            .and_then(|id| QueuedDocument::read(row, id))
                            .map_or(Found::Gone, Found::New),
                    }
                })
            })
        })?;
        let jobs: HashSet<String> = keys.iter().filter_map(|key| key.first().cloned()).collect();
        let wanted = attempt(|| {
            rights::acting_as(self.0.owner, || {
                let statement = wanted_jobs(&self.0.name, jobs.into_iter().collect());
                spi::query_new_snapshot(&statement, |row| row.get::<String>(1))
            })
        })?;
        let wanted: HashSet<String> = wanted.into_iter().flatten().collect();
        let is_wanted = |key: &&&[String]| key.first().is_some_and(|job| wanted.contains(job));
        let keep = |(key, found)| if is_wanted(&key) { found } else { Found::Gone };
        Ok(keys.iter().zip(found).map(keep).collect())
    }

    fn length(&self, document: &QueuedDocument) -> usize {
        document.content.len()
    }

    fn chunk(&self, document: &QueuedDocument) -> Result<Vec<Chunk>, Failure> {
        let content = &document.content;
        let Some(strategy) = &document.strategy else {
            return Ok(vec![Chunk::new(content.clone())]);
        };
        let cut = || {
            let strategy = Strategy::from_name(strategy)?;
            let options = Options { strategy, max_tokens: document.max_tokens, overlap: document.overlap };
            chunks(content, &options, &self.0.store.model)
        };
        let found = cut().and_then(|found| check_chunks(found.len()).map(|()| found));
        let found = found.map_err(|error| Failure::from_error(&error))?;
        Ok(found.into_iter().map(|chunk| Chunk::new(content[chunk.bytes].to_owned())).collect())
    }

    fn embed(
        &self,
        documents: &[(&QueuedDocument, Vec<Chunk>)],
        hand_over: &mut dyn FnMut(Vec<EmbeddedDocument>),
    ) -> Result<(), Failure> {
        let failure = |error: Error| Failure::from_error(&error);
        let new = attempt(|| self.to_embed(documents))?.map_err(failure)?;
        let texts: Vec<&str> = new.iter().flatten().map(|chunk| chunk.content.as_str()).collect();
        let chunked = documents.iter().zip(&new);
        let mut assembly = Assembly::new(chunked.map(|((_, chunks), new)| ((chunks, new), new.len())));
        let mut assemble = |vectors| {
            let complete = assembly.add(vectors).into_iter();
            let embedded = complete.map(|((chunks, new), vectors)| EmbeddedDocument {
                chunks: chunks.clone(),
                vectors: new.iter().map(|chunk| chunk.hash.clone()).zip(vectors).collect(),
            });
            hand_over(embedded.collect());
        };
        embed_chunks_in_parts(&self.0.store, &texts, &mut assemble).map_err(failure)?;
        // Documents that are stored already have nothing to wait for.
        assemble(vec![]);
        Ok(())
    }

    fn write(
        &self,
        documents: &[(&[String], &QueuedDocument, &EmbeddedDocument)],
    ) -> Result<Vec<Option<usize>>, Failure> {
        let write = || -> Result<Vec<Option<usize>>> {
            documents.iter().map(|(_, document, embedded)| self.write_one(document, embedded)).collect()
        };
        attempt(write)?.map_err(|error| Failure::from_error(&error))
    }

    fn checkpoint(&self) -> Result<()> {
        checkpoint()
    }
}

/// Has the jobs say what became of documents.
fn note_progress(source: pg_sys::Oid, jobs: &[Job], outcomes: &[Outcome], changes: &QueueChanges) {
    let Some(found) = catalog::open_table(source).ok().and_then(|relation| find(&relation)) else { return };
    let Ends { ends, messages } = Ends::new(jobs, outcomes, changes);
    if ends.is_empty() {
        return;
    }
    let counted = with_rights_of_documents(|| {
        let counted = spi::query_new_snapshot(&note_ends(source.to_u32(), &ends), |row| {
            let number = |column| row.get::<i64>(column).unwrap_or(0);
            Some((row.get::<String>(1)?, number(2), number(3), number(4)))
        });
        let counted: Vec<_> = counted.into_iter().flatten().collect();
        let ids = counted.iter().map(|(job, ..)| job.clone()).collect();
        let unfinished = spi::query_new_snapshot(&unfinished_jobs(ids), |row| row.get::<String>(1));
        let unfinished: HashSet<String> = unfinished.into_iter().flatten().collect();
        let progress = |(job, done, recovered, failed): (String, i64, i64, i64)| Progress {
            is_over: !unfinished.contains(&job),
            message: messages.get(job.as_str()).map(|message| (*message).to_owned()),
            job,
            done,
            recovered,
            failed,
        };
        counted.into_iter().map(progress).collect::<Vec<Progress>>()
    });
    // A store whose jobs cannot be written is no reason to embed its documents again and again.
    let written = attempt(|| {
        rights::acting_as(found.owner, || {
            for progress in counted {
                spi::execute(&progress.add(&found.name));
            }
        })
    });
    if let Err(failure) = written {
        pgrx::log!(
            "vector_tools: could not note the progress of the jobs in {}: {}",
            found.name,
            failure.message
        );
    }
}

/// What became of the documents that are done or have failed.
struct Ends<'a> {
    ends: Vec<(&'a [String], End)>,
    /// The last message of each job that has one.
    messages: HashMap<&'a str, &'a str>,
}

impl<'a> Ends<'a> {
    fn new(jobs: &'a [Job], outcomes: &'a [Outcome], changes: &QueueChanges) -> Ends<'a> {
        let gave_up = |state: &State| matches!(state, State::Failed { verdict: RetryDecision::GiveUp, .. });
        let dead: HashSet<&[String]> = changes
            .kept
            .iter()
            .filter(|remainder| gave_up(&remainder.state))
            .flat_map(|remainder| remainder.keys.iter().map(Vec::as_slice))
            .collect();
        let (mut ends, mut messages) = (Vec::new(), HashMap::new());
        for (job, outcome) in jobs.iter().zip(outcomes) {
            let key = job.key.as_slice();
            match outcome {
                Outcome::Embedded(_) | Outcome::Unchanged => ends.push((key, End::Written)),
                Outcome::Gone => ends.push((key, End::Gone)),
                Outcome::Later | Outcome::Overtaken => {}
                Outcome::Failed(failure) => {
                    ends.push((key, if dead.contains(key) { End::GaveUp } else { End::Failed }));
                    if let Some(id) = key.first() {
                        messages.insert(id.as_str(), failure.message.as_str());
                    }
                }
            }
        }
        Ends { ends, messages }
    }
}
