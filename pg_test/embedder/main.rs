//! The embedding process by itself: real clients, a real model, no PostgreSQL.

mod errors;
mod lifetime;
mod memory;
mod misuse;
mod models;
mod process;
mod vectors;
