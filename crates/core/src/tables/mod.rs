//! The tables the extension makes for people, from templates.

pub mod access;
pub mod audit;
pub mod lock;
pub mod memories;
pub mod searchable;
pub mod store;
pub mod template;
