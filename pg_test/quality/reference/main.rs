//! The models give the vectors that sentence-transformers gives.

mod fixtures;
mod long_texts;
mod setup;
mod vectors;
