//! Searchable tables and the queue: triggers, batches and workers.

pub mod change_model;
pub mod drift;
pub mod enable;
pub mod functions;
pub mod jobs;
pub mod options;
pub mod queue;
pub mod search_index;
pub mod searchable_tables;
pub mod worker;
