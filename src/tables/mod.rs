//! The tables the extension makes for people, from templates.

pub mod memories;
pub mod template;
#[cfg(feature = "pg")]
pub mod triggers;
