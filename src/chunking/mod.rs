//! Cutting texts into chunks.

pub mod functions;
