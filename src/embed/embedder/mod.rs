//! The embedder process that all sessions share, as PostgreSQL's side of it sees it: a background
//! worker supervises it, sessions connect to it.
//!
//! ```text
//! session ── first call ──> postmaster ──> supervisor (background worker) ── starts ──> process
//!    └──────────── connects to the socket that the supervisor made ─────────────────────┘
//! ```
//!
//! The process is not PostgreSQL's: it has no shared memory, so its death restarts nothing. The
//! socket is the supervisor's, so that calls queue while the process starts or starts anew.

pub mod connection;
pub mod process;
pub mod start;
pub mod statistics;
pub mod supervisor;

use std::path::PathBuf;

use vector_tools_core::embed::protocol::BUILD;

/// A file of the shared embedder, relative to the data folder, where every process of the server
/// is. Base backups leave out what this folder holds, and only the server's account can enter it.
fn file(kind: &str) -> PathBuf {
    PathBuf::from(format!("pg_stat_tmp/vector_tools_embedder.{BUILD}.{kind}"))
}
