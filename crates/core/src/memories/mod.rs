//! Domain memories: one table for each domain of an assistant's life, and what it does with them.

pub mod count;
pub mod create;
pub mod delete;
pub mod domain;
pub mod metadata;
pub mod search;
pub mod store;
pub mod update;
