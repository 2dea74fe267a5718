//! Every error the extension raises; `facts` has the SQLSTATE, the detail and the hint of each.

mod facts;
mod shortening;

pub use facts::Facts;
pub use shortening::shortened;

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, in terms a person at a psql prompt can act on.
///
/// The message (`Display`) is one lower-case sentence without a full stop; [`Error::facts`] adds
/// the SQLSTATE, the detail and the hint.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("model \"{name}\" is not registered")]
    UnknownModel { name: String, nearest: Option<String> },
    #[error("model \"{name}\" is already registered")]
    ModelExists { name: String },
    #[error("model \"{name}\" is still used by {users}")]
    ModelInUse { name: String, users: String },
    #[error("\"{name}\" is not a valid model name")]
    InvalidModelName { name: String },
    #[error("provider \"{provider}\" is not known")]
    UnknownProvider { provider: String },
    #[error("model options are not valid")]
    InvalidModelOptions { reason: String },

    #[error("could not find the ONNX Runtime library")]
    LibraryMissing { tried: Vec<String> },
    #[error("could not use \"{path}\" as the ONNX Runtime library")]
    LibraryUnusable { path: String, reason: String },

    #[error("could not find \"{path}\"")]
    FileMissing { path: PathBuf, role: &'static str },
    #[error("could not read \"{path}\"")]
    FileUnreadable { path: PathBuf, reason: String, denied: bool },
    #[error("\"{path}\" is not a model that ONNX Runtime can load")]
    ModelFileCorrupt { path: PathBuf, reason: String },
    #[error("\"{path}\" is not a tokenizer that can be loaded")]
    TokenizerCorrupt { path: PathBuf, reason: String },
    #[error("\"{path}\" is not the file that was registered for model \"{model}\"")]
    FileChanged { model: String, path: PathBuf, registered: String, found: String },
    #[error("\"{path}\" is not a valid configuration file")]
    InvalidConfiguration { path: PathBuf, reason: String },
    #[error("the inputs of the model fit no known shape")]
    UnknownInputs { found: String },
    #[error("the outputs of the model fit no known shape")]
    UnknownOutputs { found: String },
    #[error("the model needs the module \"{module}\", which its ONNX file does not contain")]
    UnsupportedModule { module: String },
    #[error("the model could not embed the text")]
    InferenceFailed { reason: String },
    #[error("expected {expected} dimensions, not {found}")]
    WrongDimensions { expected: usize, found: usize, subject: String },
    #[error("arrays of texts must have one dimension, not {found}")]
    WrongArrayShape { found: i32 },

    #[error("\"{name}\" cannot be used as a name")]
    InvalidName { name: String, reason: String },
    #[error("{argument} must be {expected}, not {found}")]
    InvalidArgument { argument: &'static str, expected: String, found: String },
    #[error("{subject} is not a table that can be searched")]
    NotSearchable { subject: String, kind: &'static str },
    #[error("table {table} has no {role} column")]
    MissingColumn { table: String, role: &'static str },
    #[error("table {table} has {count} {role} columns")]
    AmbiguousColumn {
        table: String,
        role: &'static str,
        count: usize,
        columns: String,
        argument: &'static str,
    },
    #[error("column \"{column}\" of table {table} does not exist")]
    UnknownColumn { table: String, column: String },
    #[error("column \"{column}\" of table {table} has type {found}, not {expected}")]
    WrongColumnType { table: String, column: String, expected: &'static str, found: String },
    #[error("column \"{column}\" is of type {found}, not of type {expected}")]
    UnexpectedColumnType { column: String, expected: String, found: String },
    #[error("the query has {found} {unit}, more than {most}")]
    QueryTooLarge { found: usize, most: usize, unit: &'static str },
    #[error("text search configuration \"{name}\" does not exist")]
    UnknownConfiguration { name: String },
    #[error("filter is not valid at {part}")]
    InvalidFilter { part: String, reason: String },
    #[error("filter has a value at {part} that is not of type {type_name}")]
    InvalidFilterValue { part: String, type_name: String, sqlstate: &'static str, reason: String },
    #[error("filter has an operator at {part} that type {type_name} does not have")]
    InvalidFilterOperator { part: String, type_name: String },
    #[error("the query could not be embedded; its words alone are searched")]
    AnsweredByWords { reason: String },
    #[error("the library of vector_tools has another version than its functions in this database")]
    OtherVersion,
    #[error("the table with OID {table} does not exist any more")]
    TableGone { table: u32 },
    #[error("role {role} does not exist")]
    RoleNotFound { role: String },
    #[error("permission denied for {object}")]
    NotGrantable { object: String },
    #[error("role with OID {role} does not exist")]
    WriterGone { role: u32 },
    #[error("namespaces of {table} are isolated by role")]
    IsolatedByRole { table: String },
    #[error("must be owner of table {table}")]
    NotOwner { table: String },
    #[error("partition {partition} of table {table} belongs to another role")]
    PartitionOfOther { table: String, partition: String },
    #[error("relation {relation} already exists and is not the table asked for")]
    RelationExists { relation: String },
    #[error("domain \"{domain}\" does not exist")]
    UnknownDomain { domain: String, nearest: Vec<String> },
    #[error("table {table} does not hold the memories of a domain")]
    NotMemories { table: String, missing: String },
    #[error("table {table} does not embed its rows")]
    NotEmbedding { table: String, domain: String },
    #[error("table {table} has no tsvector column")]
    WithoutWords { table: String, domain: String },
    #[error("memory \"{id}\" already exists in table {table}")]
    MemoryExists { id: String, table: String },
    #[error("{argument} cannot be NULL")]
    MissingArgument { argument: &'static str },
    #[error("no schema has been selected to create in")]
    NoSchema,
    #[error("the embedding trigger cannot use column \"{column}\"")]
    UnusableTriggerColumn { column: String, reason: String },
    #[error("there is no vector store in schema \"{schema}\"")]
    UnknownStore { schema: String, nearest: Option<String> },
    #[error("table {table} is not that of a vector store")]
    NotAStore { table: String, reason: String },
    #[error("vector store {store} already exists and is another one")]
    StoreDiffers { store: String, found: String },
    #[error("namespace \"{namespace}\" has no partition in {store}")]
    UnknownNamespace { namespace: String, schema: String, store: String },
    #[error("collection \"{name}\" does not exist in schema \"{schema}\"")]
    UnknownCollection { name: String, schema: String, nearest: Option<String> },
    #[error("collection \"{name}\" already exists in the namespace \"{namespace}\"")]
    CollectionExists { name: String, namespace: String },
    #[error("collection \"{name}\" already exists")]
    CollectionHidden { name: String },
    #[error("collection \"{name}\" still has {count} embeddings")]
    CollectionInUse { name: String, schema: String, count: i64 },
    #[error("element {place} of {argument} is NULL")]
    NullElement { argument: &'static str, place: usize },
    #[error("{subject} has {bytes} bytes, and a chunk has at most {most}")]
    TooLong { subject: String, bytes: usize, most: usize },
    #[error("{subject} has {found} {unit}, more than {most}")]
    TooMany { subject: &'static str, found: usize, unit: &'static str, most: usize },
    #[error("the embedding of {subject} contains {found}")]
    InvalidVector { subject: String, found: String },
    #[error("a row stands twice in one call")]
    DuplicateRow { key: String },
    #[error("function {function} was not called by a {expected} trigger")]
    NotATrigger { function: &'static str, expected: &'static str },
    #[error("must be owner of table {table} to change its audit")]
    NotOwnerToAudit { table: String },
    #[error("{subject} cannot be audited")]
    NotAuditable { subject: String, kind: &'static str },
    #[error("table {table} is audited as a partition of {parent}")]
    AuditedWithParent { table: String, parent: String },
    #[error("table {table} is not audited")]
    NotAudited { table: String },
    #[error("relation {relation} already exists and is not an audit log")]
    NotAnAuditLog { relation: String },
    #[error("the changes of table {table} cannot be written to the audit log {log}")]
    UnusableAuditLog { table: String, log: String, sqlstate: &'static str, reason: String },
    #[error("only audit triggers write to the audit log {log}")]
    ProtectedAuditLog { log: String },
    #[error("must be owner of table {table} to make it searchable")]
    NotOwnerToSearch { table: String },
    #[error("{subject} cannot be made searchable")]
    NotEnableable { subject: String, kind: &'static str },
    #[error("table {table} has no primary key")]
    NoPrimaryKey { table: String },
    #[error("table {table} is searched as a partition of another one")]
    SearchedWithParent { table: String },
    #[error("table {table} was not made searchable")]
    NotSearched { table: String },
    #[error("the companion of table {table} is gone")]
    CompanionGone { table: String },
    #[error("{companion}, the companion of table {table}, belongs to another role")]
    CompanionNotOwned { table: String, companion: String },
    #[error("relation {relation} already exists and is not the companion of table {table}")]
    CompanionExists { relation: String, table: String },
    #[error("a column that searches of table {table} read is gone")]
    SearchedColumnGone { table: String },
    #[error("a change of the model of table {table} is under way")]
    ModelChangeUnderWay { table: String, next: String },
    #[error("no change of the model of table {table} is under way")]
    NoModelChange { table: String },
    #[error("the change of the model of table {table} is not complete")]
    ModelChangeIncomplete { table: String, model: String, behind: i64, rows: i64 },
    #[error("there is nothing to go back to for table {table}")]
    NoPreviousModel { table: String },
    #[error("row {key} of table {table} could not be embedded")]
    RowNotEmbedded { key: String, table: String, sqlstate: String, reason: String },

    #[error("{message}")]
    Reported { sqlstate: &'static str, message: String, detail: Option<String>, hint: Option<String> },
    #[error("the embedding process ended before it had answered")]
    EmbedderLost { reason: String },
    #[error("the embedding process died twice over the same text")]
    EmbedderKilled { reason: String },
    #[error("the embedding process could not be reached")]
    EmbedderUnavailable { reason: String },
    #[error("the embedding process does not answer")]
    EmbedderSilent { seconds: u64 },
    #[error("the cache of embeddings could not be used")]
    CacheFailed { reason: String },
    #[error("this session loads models itself, because the embedding process could not be reached")]
    EmbeddingInSession { reason: String },
    #[error("model \"{model}\" does not fit into the memory of the embedding process")]
    EmbedderMemory { model: String, needed: u64, limit: u64 },
    #[error("the embedding process and the session do not understand each other")]
    ProtocolViolation { reason: String },
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most bytes of a message; what is longer repeats a text of the user's.
pub const MOST_MESSAGE_BYTES: usize = 400;

impl Error {
    /// The message as it is reported: that of `Display`, shortened where it repeats a long text.
    pub fn message(&self) -> String {
        shortened(self.to_string(), MOST_MESSAGE_BYTES)
    }

    /// An error that the embedding process reports.
    pub fn reported(sqlstate: &str, message: String, detail: Option<String>, hint: Option<String>) -> Error {
        let known = REPORTED_STATES.iter().find(|known| **known == sqlstate);
        Error::Reported { sqlstate: known.unwrap_or(&"58000"), message, detail, hint }
    }

    /// The error for a file that could not be opened or read, by the operating system's reason.
    pub fn from_io(path: &Path, role: &'static str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => Error::FileMissing { path: path.to_owned(), role },
            kind => Error::FileUnreadable {
                path: path.to_owned(),
                reason: error.to_string(),
                denied: kind == io::ErrorKind::PermissionDenied,
            },
        }
    }
}

/// The SQLSTATEs of what the embedding process reports; an unknown one would be a bug there.
const REPORTED_STATES: [&str; 13] = [
    "08P01", "0A000", "22000", "22P02", "22P03", "38000", "42501", "53200", "55000", "58000", "58030",
    "58P01", "XX001",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_keep_their_kind() {
        let path = Path::new("/m/model.onnx");
        let missing = Error::from_io(path, "model", &io::ErrorKind::NotFound.into());
        let denied = Error::from_io(path, "model", &io::ErrorKind::PermissionDenied.into());
        assert_eq!(missing.facts().sqlstate, "58P01");
        assert_eq!(denied.facts().sqlstate, "42501");
    }

    #[test]
    fn each_model_error_has_its_own_sqlstate() {
        let path = PathBuf::from("m");
        let (reason, found) = (String::new(), String::new());
        let errors = [
            Error::UnknownModel { name: reason.clone(), nearest: None },
            Error::WrongDimensions { expected: 1, found: 2, subject: reason.clone() },
            Error::LibraryMissing { tried: vec![] },
            Error::LibraryUnusable { path: reason.clone(), reason: reason.clone() },
            Error::FileMissing { path: path.clone(), role: "model" },
            Error::ModelFileCorrupt { path: path.clone(), reason: reason.clone() },
            Error::TokenizerCorrupt { path: path.clone(), reason: reason.clone() },
            Error::FileChanged {
                model: reason.clone(),
                path: path.clone(),
                registered: reason.clone(),
                found: found.clone(),
            },
            Error::FileUnreadable { path: path.clone(), reason: reason.clone(), denied: false },
            Error::FileUnreadable { path, reason, denied: true },
            Error::UnknownOutputs { found },
        ];
        let mut states: Vec<_> = errors.iter().map(|e| e.facts().sqlstate).collect();
        states.sort_unstable();
        let count = states.len();
        states.dedup();
        assert_eq!(states.len(), count, "two errors share a SQLSTATE: {states:?}");
    }
}
