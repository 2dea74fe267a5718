//! The embedding process by itself: real clients, a real model, no PostgreSQL.

mod models;
mod process;
mod vectors;
