//! Documents that wait to be embedded: the statements over `vector_tools.queued_documents`, which run with
//! the rights of its owner, and those over the jobs of a store.

use std::collections::HashSet;

use crate::chunking::Options;
use crate::embed::Checkpoint;
use crate::error::{Error, Result};
use crate::sql::identifier::QualifiedName;
use crate::sql::{Parameter, Statement};
use crate::store::document::check_size;
use crate::store::question::check_metadata;

/// The table of a store that lists its jobs.
pub const JOBS: &str = "embedding_jobs";

/// What a job is called that nobody wants any more.
const CANCELLED: &str = "cancelled";

/// The most documents of one call: more of them are queued by several.
pub const MOST_DOCUMENTS: usize = 100_000;

/// Documents in a statement, at most.
const DOCUMENTS_IN_A_STATEMENT: usize = 1000;

/// Bytes of content that are read at once; the first document is read however large it is.
const MOST_BYTES: i64 = 4 << 20;

/// A document on its way into the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    /// The source, a UUID as text.
    pub source_id: String,
    /// Its text.
    pub content: String,
    /// Its metadata, a JSON object as text.
    pub metadata: String,
}

/// Checks that one call has not too many documents.
///
/// # Errors
/// [`Error::TooMany`] (54000).
pub fn check_documents(found: usize) -> Result<()> {
    if found <= MOST_DOCUMENTS {
        return Ok(());
    }
    Err(Error::TooMany { subject: "the call", found, unit: "documents", most: MOST_DOCUMENTS })
}

/// The documents of parallel arrays.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) for arrays of other lengths and metadata that is no object,
/// [`Error::NullElement`] (22004), [`Error::DuplicateRow`] (21000), and [`Error::TooLong`] (54000) for a text
/// that is to be one chunk and is too long for it; [`Error::TooMany`] (54000), and those of `checkpoint`.
pub fn read_documents(
    source_ids: Vec<Option<String>>,
    contents: Vec<Option<String>>,
    metadata: Option<Vec<Option<String>>>,
    is_cut: bool,
    checkpoint: Checkpoint,
) -> Result<Vec<NewDocument>> {
    let count = source_ids.len();
    check_documents(count)?;
    let metadata = metadata.unwrap_or_else(|| vec![None; count]);
    for (argument, found) in [("contents", contents.len()), ("metadata", metadata.len())] {
        if found != count {
            let expected = format!("an array of {count} elements, as source_ids is");
            return Err(Error::InvalidArgument { argument, expected, found: format!("one of {found}") });
        }
    }
    let mut known = HashSet::with_capacity(count);
    let mut documents = Vec::with_capacity(count);
    for (place, ((source_id, content), metadata)) in
        source_ids.into_iter().zip(contents).zip(metadata).enumerate()
    {
        checkpoint()?;
        let null = |argument| Error::NullElement { argument, place: place + 1 };
        let source_id = source_id.ok_or_else(|| null("source_ids"))?;
        let content = content.ok_or_else(|| null("contents"))?;
        let metadata = metadata.unwrap_or_else(|| "{}".to_owned());
        check_metadata(&metadata)?;
        if !is_cut {
            check_size(&content, || format!("document {}", place + 1))?;
        }
        if !known.insert(source_id.clone()) {
            return Err(Error::DuplicateRow { key: format!("document {source_id}") });
        }
        documents.push(NewDocument { source_id, content, metadata });
    }
    Ok(documents)
}

/// What the documents of a job have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob<'a> {
    /// The table of the store's jobs.
    pub jobs: &'a QualifiedName,
    /// Its number in the catalogue.
    pub source: u32,
    /// Whether it says which namespace a job is for; one that was made without the extension may not.
    pub has_namespace: bool,
    /// The job, a UUID as text.
    pub id: &'a str,
    /// What kind of sources they are.
    pub source_type: &'a str,
    /// Where they go.
    pub namespace: &'a str,
    /// The collection, a UUID as text.
    pub collection: Option<&'a str>,
    /// How they are cut, if they are.
    pub cut: Option<Options>,
    /// The role that queues them, and the setting by which its session may be told from others.
    pub queued_by: &'a Writer,
}

/// Who queued a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer {
    /// The role, by its number: its name may be another role's when the document is written.
    pub role: u32,
    /// `vector_tools.namespace` of the session.
    pub session_namespace: String,
}

impl NewJob<'_> {
    /// Adds the job to those of the store, with the rights of the caller.
    pub fn create(&self, count: usize) -> Statement {
        let mut statement = Statement::default();
        let id = statement.bind(Parameter::Text(self.id.to_owned()));
        let source_type = statement.bind(Parameter::Text(self.source_type.to_owned()));
        let collection = optional_uuid(&mut statement, self.collection);
        let count = statement.bind(Parameter::Integer(count as i64));
        let (column, namespace) = if self.has_namespace {
            let namespace = statement.bind(Parameter::Text(self.namespace.to_owned()));
            ("namespace, ", format!("{namespace}, "))
        } else {
            ("", String::new())
        };
        // Nothing to do is done.
        statement.push(format_args!(
            "INSERT INTO {} (id, {column}source_type, collection_id, source_count, status, started_at, completed_at) \
             SELECT {id}::pg_catalog.uuid, {namespace}{source_type}, {collection}, n.count, \
                 CASE WHEN n.is_over THEN 'completed' ELSE 'pending' END, \
                 CASE WHEN n.is_over THEN pg_catalog.now() END, CASE WHEN n.is_over THEN pg_catalog.now() END \
             FROM (SELECT {count}::pg_catalog.int4 AS count, {count} OPERATOR(pg_catalog.=) 0 AS is_over) AS n",
            self.jobs
        ));
        statement
    }

    /// Adds its documents to those that wait.
    pub fn queue(&self, documents: &[NewDocument]) -> Vec<Statement> {
        documents.chunks(DOCUMENTS_IN_A_STATEMENT).map(|part| self.queue_part(part)).collect()
    }

    fn queue_part(&self, documents: &[NewDocument]) -> Statement {
        let mut statement = Statement::default();
        let texts = |read: fn(&NewDocument) -> &String| documents.iter().map(read).cloned().collect();
        let ids = statement.bind(Parameter::Texts(texts(|document| &document.source_id)));
        let contents = statement.bind(Parameter::Texts(texts(|document| &document.content)));
        let metadata = statement.bind(Parameter::Texts(texts(|document| &document.metadata)));
        let [job, source_type, namespace, session_namespace] =
            [self.id, self.source_type, self.namespace, &self.queued_by.session_namespace]
                .map(|text| statement.bind(Parameter::Text(text.to_owned())));
        let role = statement.bind(Parameter::Oid(self.queued_by.role));
        let source = statement.bind(Parameter::Oid(self.source));
        let collection = optional_uuid(&mut statement, self.collection);
        let strategy = match self.cut {
            Some(options) => statement.bind(Parameter::Text(options.strategy.name().to_owned())),
            None => "NULL".to_owned(),
        };
        let [max_tokens, overlap] =
            [self.cut.and_then(|options| options.max_tokens), self.cut.and_then(|options| options.overlap)]
                .map(|number| optional_number(&mut statement, number));
        statement.push(format_args!(
            "INSERT INTO vector_tools.queued_documents (source, job, source_type, source_id, namespace, content, \
                 metadata, collection_id, strategy, max_tokens, overlap, queued_by, session_namespace) \
             SELECT {source}::pg_catalog.regclass, {job}::pg_catalog.uuid, {source_type}, \
                 n.id::pg_catalog.uuid, {namespace}, n.content, n.metadata::pg_catalog.jsonb, {collection}, \
                 {strategy}, {max_tokens}, {overlap}, {role}::pg_catalog.regrole, {session_namespace} \
             FROM ROWS FROM (pg_catalog.unnest({ids}), pg_catalog.unnest({contents}), pg_catalog.unnest({metadata})) \
                 AS n(id, content, metadata)"
        ));
        statement
    }

    /// The keys of its documents in the queue.
    pub fn keys(&self, documents: &[NewDocument]) -> Vec<Vec<String>> {
        documents.iter().map(|document| vec![self.id.to_owned(), document.source_id.clone()]).collect()
    }
}

/// Reads documents by their keys (job, source), in the order of the keys, with columns (is to be written,
/// is read, id, content, source_type, namespace, metadata, collection, strategy, max_tokens, overlap,
/// queued_by, session_namespace). One that somebody has written or deleted since is not to be written. One
/// is not read where those before it are large, or where a later version of it is among them: should
/// that one fail, this one stays.
pub fn read(source: u32, keys: &[&[String]]) -> Statement {
    let mut statement = Statement::default();
    let given = given_keys(&mut statement, keys);
    let source = statement.bind(Parameter::Oid(source));
    let most = statement.bind(Parameter::Integer(MOST_BYTES));
    statement.push(format_args!(
        "SELECT r.is_wanted, r.is_read, r.id, CASE WHEN r.is_read THEN r.content END, r.source_type, r.namespace, \
             r.metadata::pg_catalog.text, r.collection_id::pg_catalog.text, r.strategy, r.max_tokens, r.overlap, \
             r.queued_by::pg_catalog.oid, r.session_namespace \
         FROM (SELECT l.*, l.is_last AND (l.place OPERATOR(pg_catalog.=) pg_catalog.min(l.place) \
                          FILTER (WHERE l.is_last) OVER () \
                      OR pg_catalog.sum(pg_catalog.octet_length(l.content)) FILTER (WHERE l.is_last) \
                          OVER (ORDER BY l.place) OPERATOR(pg_catalog.<=) {most}) AS is_read \
               FROM (SELECT w.*, w.is_wanted AND w.id OPERATOR(pg_catalog.=) pg_catalog.max(w.id) \
                            FILTER (WHERE w.is_wanted) \
                            OVER (PARTITION BY w.source_type, w.source_id, w.namespace) AS is_last \
                     FROM (SELECT k.place, d.*, d.content IS NOT NULL AS is_wanted \
                           FROM {given} \
                           LEFT JOIN vector_tools.queued_documents AS d ON d.job OPERATOR(pg_catalog.=) k.job \
                               AND d.source_id OPERATOR(pg_catalog.=) k.source_id \
                               AND d.source OPERATOR(pg_catalog.=) {source}) AS w) AS l) AS r \
         ORDER BY r.place"
    ));
    statement
}

/// Reads which of these jobs are there, and wanted still, with column (id as text).
pub fn wanted_jobs(jobs: &QualifiedName, ids: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Texts(ids));
    let cancelled = statement.bind(Parameter::Text(CANCELLED.to_owned()));
    statement.push(format_args!(
        "SELECT j.id::pg_catalog.text FROM {jobs} AS j \
         WHERE j.id OPERATOR(pg_catalog.=) ANY ({ids}::pg_catalog.uuid[]) \
         AND j.status OPERATOR(pg_catalog.<>) {cancelled}"
    ));
    statement
}

/// Says, to whoever has the lock of a document, whether it is to be written still (one column).
pub fn is_wanted(id: i64) -> Statement {
    let mut statement = Statement::default();
    let id = statement.bind(Parameter::Integer(id));
    statement.push(format_args!(
        "SELECT d.content IS NOT NULL FROM vector_tools.queued_documents AS d \
         WHERE d.id OPERATOR(pg_catalog.=) {id}"
    ));
    statement
}

/// Documents that somebody has written or deleted himself, so that what waits is not wanted any more.
#[derive(Debug, Clone, Copy)]
pub enum Overtaken<'a> {
    /// One document, in one namespace or in all.
    Document(&'a crate::store::statements::DocumentKey<'a>),
    /// All of a namespace.
    Namespace(&'a str),
    /// All of a collection, a UUID as text.
    Collection(&'a str),
}

/// Has documents forgotten that wait; those of `writer` alone where it is given.
pub fn forget(source: u32, overtaken: Overtaken, writer: Option<&Writer>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    // Everybody locks versions in this order.
    statement.push(format_args!(
        "UPDATE vector_tools.queued_documents AS o SET content = NULL WHERE o.id OPERATOR(pg_catalog.=) ANY (ARRAY( \
             SELECT d.id FROM vector_tools.queued_documents AS d \
             WHERE d.source OPERATOR(pg_catalog.=) {source} AND d.content IS NOT NULL"
    ));
    let mut conditions = Vec::new();
    match overtaken {
        Overtaken::Document(document) => {
            conditions.push(("source_type", document.source_type, "text"));
            conditions.push(("source_id", document.source_id, "uuid"));
            conditions.extend(document.namespace.map(|namespace| ("namespace", namespace, "text")));
        }
        Overtaken::Namespace(namespace) => conditions.push(("namespace", namespace, "text")),
        Overtaken::Collection(id) => conditions.push(("collection_id", id, "uuid")),
    }
    if let Some(writer) = writer {
        let role = statement.bind(Parameter::Oid(writer.role));
        statement.push(format_args!(" AND d.queued_by OPERATOR(pg_catalog.=) {role}"));
        conditions.push(("session_namespace", &writer.session_namespace, "text"));
    }
    for (column, value, type_name) in conditions {
        let value = statement.bind(Parameter::Text(value.to_owned()));
        statement
            .push(format_args!(" AND d.{column} OPERATOR(pg_catalog.=) {value}::pg_catalog.{type_name}"));
    }
    statement.push(" ORDER BY d.id FOR UPDATE))");
    statement
}

/// Counts the documents of a collection that wait (one column).
pub fn count_of_collection(source: u32, collection: &str) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let collection = statement.bind(Parameter::Text(collection.to_owned()));
    statement.push(format_args!(
        "SELECT pg_catalog.count(*) FROM vector_tools.queued_documents AS d \
         WHERE d.source OPERATOR(pg_catalog.=) {source} AND d.content IS NOT NULL \
         AND d.collection_id OPERATOR(pg_catalog.=) {collection}::pg_catalog.uuid"
    ));
    statement
}

/// Removes the documents of a store that is gone.
pub fn remove_source(source: u32) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queued_documents AS d \
         WHERE d.source OPERATOR(pg_catalog.=) {source}"
    ));
    statement
}

/// What became of a document in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The store has it.
    Written,
    /// It is not wanted any more.
    Gone,
    /// It will be tried again.
    Failed,
    /// It will not.
    GaveUp,
}

/// Notes what became of documents, and counts it by job, with columns (job as text, done, failed before and
/// done now, failed for the first time), in the order of the jobs. Older versions of those that were written
/// are forgotten, so that none of them comes later.
pub fn note_ends(source: u32, ends: &[(&[String], End)]) -> Statement {
    let mut statement = Statement::default();
    let keys: Vec<&[String]> = ends.iter().map(|(key, _)| *key).collect();
    let given = given_keys(&mut statement, &keys);
    let kinds = ends.iter().map(|(_, end)| *end as i64).collect();
    let kinds = statement.bind(Parameter::Integers(kinds));
    let source = statement.bind(Parameter::Oid(source));
    let [written, failed, dead] = [End::Written, End::Failed, End::GaveUp].map(|end| end as i64);
    // In one order, since others note theirs and forget some of these: who had one of two would wait for ever.
    statement.push(format_args!(
        "WITH own AS MATERIALIZED ( \
             SELECT d.id, d.source, d.source_type, d.source_id, d.namespace, \
                 ({kinds}::pg_catalog.int8[])[k.place] AS kind \
             FROM {given} JOIN vector_tools.queued_documents AS d ON d.job OPERATOR(pg_catalog.=) k.job \
                 AND d.source_id OPERATOR(pg_catalog.=) k.source_id \
                 AND d.source OPERATOR(pg_catalog.=) {source}), \
         older AS ( \
             SELECT DISTINCT o.id FROM own AS w JOIN vector_tools.queued_documents AS o \
                 ON o.source OPERATOR(pg_catalog.=) w.source AND o.source_type OPERATOR(pg_catalog.=) w.source_type \
                 AND o.source_id OPERATOR(pg_catalog.=) w.source_id AND o.namespace OPERATOR(pg_catalog.=) w.namespace \
                 AND o.id OPERATOR(pg_catalog.<) w.id \
             WHERE w.kind OPERATOR(pg_catalog.=) {written} AND o.content IS NOT NULL \
             AND NOT EXISTS (SELECT FROM own AS x WHERE x.id OPERATOR(pg_catalog.=) o.id)), \
         ended AS MATERIALIZED ( \
             SELECT d.id, d.job, d.has_failed, e.kind \
             FROM (SELECT w.id, w.kind FROM own AS w UNION ALL SELECT o.id, NULL FROM older AS o) AS e \
             JOIN vector_tools.queued_documents AS d ON d.id OPERATOR(pg_catalog.=) e.id \
             ORDER BY d.id FOR UPDATE OF d), \
         forgotten AS (UPDATE vector_tools.queued_documents AS d SET content = NULL FROM ended AS e \
             WHERE d.id OPERATOR(pg_catalog.=) e.id AND e.kind IS NULL), \
         removed AS (DELETE FROM vector_tools.queued_documents AS d USING ended AS e \
             WHERE d.id OPERATOR(pg_catalog.=) e.id AND e.kind OPERATOR(pg_catalog.<) {failed}), \
         marked AS (UPDATE vector_tools.queued_documents AS d \
             SET has_failed = true, gave_up = e.kind OPERATOR(pg_catalog.=) {dead} FROM ended AS e \
             WHERE d.id OPERATOR(pg_catalog.=) e.id AND e.kind OPERATOR(pg_catalog.>=) {failed}) \
         SELECT e.job::pg_catalog.text, \
             pg_catalog.count(*) FILTER (WHERE e.kind OPERATOR(pg_catalog.<) {failed}), \
             pg_catalog.count(*) FILTER (WHERE e.kind OPERATOR(pg_catalog.<) {failed} AND e.has_failed), \
             pg_catalog.count(*) FILTER (WHERE e.kind OPERATOR(pg_catalog.>=) {failed} AND NOT e.has_failed) \
         FROM ended AS e WHERE e.kind IS NOT NULL GROUP BY e.job ORDER BY e.job"
    ));
    statement
}

/// Reads which of these jobs have documents that are still to be tried, with column (job as text).
pub fn unfinished_jobs(ids: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Texts(ids));
    statement.push(format_args!(
        "SELECT j.id::pg_catalog.text FROM pg_catalog.unnest({ids}::pg_catalog.uuid[]) AS j(id) \
         WHERE EXISTS (SELECT FROM vector_tools.queued_documents AS d \
                       WHERE d.job OPERATOR(pg_catalog.=) j.id AND NOT d.gave_up)"
    ));
    statement
}

/// What a batch has done for a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The job, a UUID as text.
    pub job: String,
    /// Documents done.
    pub done: i64,
    /// Those of them that had failed before.
    pub recovered: i64,
    /// Documents that have failed for the first time.
    pub failed: i64,
    /// Whether nothing is left to be tried.
    pub is_over: bool,
    /// The message of a failure of this batch.
    pub message: Option<String>,
}

impl Progress {
    /// Adds it to what the store says of the job. A job that was cancelled stays so.
    pub fn add(&self, jobs: &QualifiedName) -> Statement {
        let mut statement = Statement::default();
        let [done, recovered, failed] = [self.done, self.recovered, self.failed]
            .map(|number| format!("{}::pg_catalog.int4", statement.bind(Parameter::Integer(number))));
        let id = statement.bind(Parameter::Text(self.job.clone()));
        let cancelled = statement.bind(Parameter::Text(CANCELLED.to_owned()));
        // An error that nothing suffers from any more is not shown.
        let message = match &self.message {
            Some(message) => statement.bind(Parameter::Text(message.clone())),
            None => "CASE WHEN n.failed OPERATOR(pg_catalog.>) 0 THEN j.error_message END".to_owned(),
        };
        let (ended, status) = if self.is_over {
            (
                "pg_catalog.clock_timestamp()",
                "CASE WHEN n.failed OPERATOR(pg_catalog.>) 0 THEN 'failed' ELSE 'completed' END",
            )
        } else {
            ("NULL", "'running'")
        };
        statement.push(format_args!(
            "UPDATE {jobs} AS j SET processed_count = j.processed_count OPERATOR(pg_catalog.+) {done}, \
                 failed_count = n.failed, error_message = {message}, \
                 started_at = coalesce(j.started_at, pg_catalog.now()), completed_at = {ended}, \
                 status = CASE WHEN j.status OPERATOR(pg_catalog.=) {cancelled} THEN j.status ELSE {status} END \
             FROM (SELECT o.id, GREATEST(o.failed_count OPERATOR(pg_catalog.+) {failed} \
                       OPERATOR(pg_catalog.-) {recovered}, 0) AS failed \
                   FROM {jobs} AS o WHERE o.id OPERATOR(pg_catalog.=) {id}::pg_catalog.uuid FOR UPDATE) AS n \
             WHERE j.id OPERATOR(pg_catalog.=) n.id"
        ));
        statement
    }
}

/// Keys (job, source) as a table `k` with columns (job, source_id, place).
fn given_keys(statement: &mut Statement, keys: &[&[String]]) -> String {
    let column = |place: usize| keys.iter().map(|key| key.get(place).cloned().unwrap_or_default()).collect();
    let jobs = statement.bind(Parameter::Texts(column(0)));
    let sources = statement.bind(Parameter::Texts(column(1)));
    format!(
        "ROWS FROM (pg_catalog.unnest({jobs}::pg_catalog.uuid[]), pg_catalog.unnest({sources}::pg_catalog.uuid[])) \
         WITH ORDINALITY AS k(job, source_id, place)"
    )
}

fn optional_uuid(statement: &mut Statement, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("{}::pg_catalog.uuid", statement.bind(Parameter::Text(id.to_owned()))),
        None => "NULL::pg_catalog.uuid".to_owned(),
    }
}

fn optional_number(statement: &mut Statement, number: Option<i32>) -> String {
    match number {
        Some(number) => {
            format!("{}::pg_catalog.int4", statement.bind(Parameter::Integer(i64::from(number))))
        }
        None => "NULL::pg_catalog.int4".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunking::Strategy;
    use crate::store::statements::DocumentKey;
    use crate::store::tests::identifier;

    const HOSTILE: &str = "x'; DROP TABLE y; --";

    fn check(statement: &Statement) {
        assert!(!statement.text.contains("DROP"), "{}", statement.text);
        let last = format!("${}", statement.parameters.len());
        assert!(statement.text.contains(&last), "{}", statement.text);
        assert!(!statement.text.contains(&format!("${}", statement.parameters.len() + 1)));
    }

    #[test]
    fn values_are_parameters() {
        let hostile = || HOSTILE.to_owned();
        let jobs = QualifiedName { schema: identifier("reg"), name: identifier(JOBS) };
        let writer = Writer { role: 9, session_namespace: hostile() };
        let cut = Options { strategy: Strategy::Fixed, max_tokens: Some(7), overlap: None };
        let job = NewJob {
            jobs: &jobs,
            source: 7,
            has_namespace: true,
            id: HOSTILE,
            source_type: HOSTILE,
            namespace: HOSTILE,
            collection: Some(HOSTILE),
            cut: Some(cut),
            queued_by: &writer,
        };
        let document = NewDocument { source_id: hostile(), content: hostile(), metadata: hostile() };
        let key = DocumentKey { source_type: HOSTILE, source_id: HOSTILE, namespace: Some(HOSTILE) };
        let keys = [hostile(), hostile()];
        let progress = Progress { job: hostile(), message: Some(hostile()), ..Progress::default() };
        let statements = [
            job.create(1),
            NewJob { has_namespace: false, ..job.clone() }.create(1),
            job.queue_part(&[document]),
            read(7, &[&keys]),
            wanted_jobs(&jobs, vec![hostile()]),
            is_wanted(7),
            forget(7, Overtaken::Document(&key), Some(&writer)),
            forget(7, Overtaken::Namespace(HOSTILE), None),
            forget(7, Overtaken::Collection(HOSTILE), None),
            count_of_collection(7, HOSTILE),
            remove_source(7),
            note_ends(7, &[(&keys, End::Written)]),
            unfinished_jobs(vec![hostile()]),
            progress.add(&jobs),
        ];
        statements.iter().for_each(check);
    }

    #[test]
    fn a_job_whose_documents_are_all_tried_is_over() {
        let jobs = QualifiedName { schema: identifier("reg"), name: identifier(JOBS) };
        let progress = |is_over| Progress { is_over, ..Progress::default() }.add(&jobs).text;
        assert!(progress(false).contains("'running'") && progress(false).contains("completed_at = NULL"));
        assert!(progress(true).contains("'completed'") && progress(true).contains("'failed'"));
    }

    #[test]
    fn documents_are_checked() {
        let texts =
            |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>();
        let read_documents = |ids, contents, metadata, is_cut| {
            super::read_documents(ids, contents, metadata, is_cut, &mut || Ok(()))
        };
        let read = |ids: &[&str], contents: &[&str]| read_documents(texts(ids), texts(contents), None, false);
        let documents = read(&["a", "b"], &["x", "y"]).expect("valid");
        assert_eq!((documents[1].content.as_str(), documents[1].metadata.as_str()), ("y", "{}"));
        let refusal = |result: Result<Vec<NewDocument>>| result.expect_err("refused").facts().sqlstate;
        assert_eq!(refusal(read(&["a"], &["x", "y"])), "22023");
        assert_eq!(refusal(read(&["a", "a"], &["x", "y"])), "21000");
        assert_eq!(refusal(read_documents(vec![None], texts(&["x"]), None, false)), "22004");
        assert_eq!(
            refusal(read_documents(texts(&["a"]), texts(&["x"]), Some(texts(&["1"])), false)),
            "22023"
        );
        let long = "x".repeat(crate::store::document::MAX_CHUNK_BYTES + 1);
        assert_eq!(refusal(read(&["a"], &[&long])), "54000");
        assert!(read_documents(texts(&["a"]), texts(&[&long]), None, true).is_ok());
    }
}
