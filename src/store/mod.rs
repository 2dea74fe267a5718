//! Vector stores.

pub mod functions;
pub mod jobs;
pub mod making;
pub mod queued_documents;
pub mod queueing;
pub mod searching;
pub mod store_document;
pub mod vector_store;
pub mod writing;
