//! Domain memories.

pub mod functions;
