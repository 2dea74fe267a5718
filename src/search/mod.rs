//! Searching: a call to its statements, and what it needs to know of tables and their words.

pub mod call;
pub mod companion;
pub mod database;
pub mod functions;
pub mod statistics;
pub mod statistics_worker;
