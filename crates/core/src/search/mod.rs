//! From a question to ranked rows: legs that are plain SQL statements, and their fusion.

pub mod bm25;
pub mod bm25_index;
pub mod candidate;
pub mod diversity;
pub mod filter;
pub mod fusion;
pub mod hybrid;
pub mod ivfflat;
pub mod json_depth;
pub mod keyword_leg;
mod leg;
pub mod lexemes;
pub mod measure;
pub mod query_text;
pub mod request;
pub mod source;
pub mod steps;
pub mod text_vector;
pub mod threshold;
pub mod trace;
pub mod vector_leg;
pub mod vector_space;

pub use candidate::{Candidate, RankedRow};
pub use filter::Filter;
pub use request::SearchRequest;
pub use source::{SearchSource, TableFacts};
