//! From a question to ranked rows: legs that are plain SQL statements, and their fusion.

pub mod candidate;
pub mod fetch;
pub mod filter;
pub mod fusion;
pub mod hybrid;
pub mod keyword_leg;
pub mod request;
pub mod source;
#[cfg(feature = "pg")]
pub mod sql;
pub mod statement;
pub mod vector_leg;

pub use candidate::{Candidate, RankedRow};
pub use filter::Filter;
pub use request::SearchRequest;
pub use source::{SearchSource, TableFacts};
pub use statement::{Parameter, Statement};
