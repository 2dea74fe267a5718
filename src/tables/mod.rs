//! The tables the extension makes for people, from templates.

pub mod memories;
#[cfg(feature = "pg")]
pub mod sql;
pub mod store;
pub mod template;
