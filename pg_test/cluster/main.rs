//! Tests on real servers, as clients meet them: cancelling, rights, hostile names, broken models,
//! dump and restore, a standby. Numbers in their comments are those of the trust document.
//!
//! `python3 tools/test.py cluster` installs the extension into the PostgreSQL for tests and runs
//! them all; `UPDATE_EXPECTED=1` writes the expected lists anew.

mod database;
mod embedder;
mod models;
mod process;
mod replication;
mod report;
mod schema;
mod searchable;
mod server;
mod session;

mod access;
mod adoption;
mod altered_columns;
mod audit;
mod audit_rights;
mod bad_input;
mod bad_models;
mod bounds;
mod cancel;
mod cancel_search;
mod concurrency;
mod dimensions;
mod drift;
mod dump;
mod dump_tables;
mod embedder_crash;
mod embedder_lack;
mod embedder_rights;
mod embedder_settings;
mod embedder_shared;
mod embedder_shutdown;
mod embedder_waiting;
mod embedding_cache;
mod embedding_jobs;
mod examples;
mod install;
mod isolation;
mod lifecycle;
mod lock_order;
mod memories;
mod names;
mod names_access;
mod objects;
mod other_rights;
mod parallel;
mod pipeline;
mod pipeline_entries;
mod pipeline_kills;
mod pipeline_model_change;
mod pipeline_poison;
mod pipeline_rights;
mod pipeline_shapes;
mod pipeline_workers;
mod recall;
mod recreated;
mod registry;
mod rights;
mod running_batches;
mod shadows;
mod shadows_rights;
mod shadows_store;
mod standby;
mod statistics;
mod store;
mod store_rights;
mod stress;
mod threads;
mod unbroken_lists;
mod upgrade;
mod views;
