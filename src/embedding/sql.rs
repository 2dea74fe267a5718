//! The SQL functions that embed text.

use pgrx::prelude::*;

use super::{Embedder, Purpose};
use crate::error::Result;
use crate::pg::array::one_dimensional;
use crate::pg::embedders::{check_interrupts, with_embedder};
use crate::pg::report::OrReport;
use crate::pg::settings::default_model;
use crate::pg::vector::Vector;

#[pg_extern(name = "embed", stable, strict, parallel_safe, cost = 10000)]
fn embed_default(input: &str) -> Vector {
    embed_one(input, &default_model(), Purpose::Passage).or_report()
}

// Immutable as to_tsvector(regconfig, text) is: a registered model never changes under its name,
// and its sha256 is checked at load.
#[pg_extern(immutable, strict, parallel_safe, cost = 10000)]
fn embed(input: &str, model: &str) -> Vector {
    embed_one(input, model, Purpose::Passage).or_report()
}

#[pg_extern(name = "embed", stable, strict, parallel_safe, cost = 100000)]
fn embed_array_default(inputs: Array<'_, &str>) -> Vec<Option<Vector>> {
    embed_array(inputs, &default_model()).or_report()
}

#[pg_extern(name = "embed", immutable, strict, parallel_safe, cost = 100000)]
fn embed_array_with(inputs: Array<'_, &str>, model: &str) -> Vec<Option<Vector>> {
    embed_array(inputs, model).or_report()
}

#[pg_extern(name = "embed_query", stable, strict, parallel_safe, cost = 10000)]
fn embed_query_default(input: &str) -> Vector {
    embed_one(input, &default_model(), Purpose::Query).or_report()
}

#[pg_extern(immutable, strict, parallel_safe, cost = 10000)]
fn embed_query(input: &str, model: &str) -> Vector {
    embed_one(input, model, Purpose::Query).or_report()
}

#[pg_extern(name = "count_tokens", stable, strict, parallel_safe, cost = 100)]
fn count_tokens_default(input: &str) -> i32 {
    count(input, &default_model()).or_report()
}

#[pg_extern(immutable, strict, parallel_safe, cost = 100)]
fn count_tokens(input: &str, model: &str) -> i32 {
    count(input, model).or_report()
}

/// The vector of one text.
///
/// # Errors
/// Those of loading the model and of running it.
pub fn embed_one(input: &str, model: &str, purpose: Purpose) -> Result<Vector> {
    with_embedder(model, |embedder| {
        let embeddings = embedder.embed(&[input], purpose, &mut check_interrupts)?;
        Ok(Vector(embeddings.vector(0).to_vec()))
    })
}

fn embed_array(inputs: Array<'_, &str>, model: &str) -> Result<Vec<Option<Vector>>> {
    let inputs = one_dimensional(inputs)?;
    let texts: Vec<&str> = inputs.iter().flatten().map(String::as_str).collect();
    with_embedder(model, |embedder| {
        let embeddings = embedder.embed(&texts, Purpose::Passage, &mut check_interrupts)?;
        let mut vectors = embeddings.iter();
        let mut next = || vectors.next().map(|vector| Vector(vector.to_vec()));
        let place = |input: &Option<String>| input.as_ref().and_then(|_| next());
        Ok(inputs.iter().map(place).collect())
    })
}

fn count(input: &str, model: &str) -> Result<i32> {
    with_embedder(model, |embedder| {
        let tokens = embedder.count_tokens(input, &mut check_interrupts)?;
        Ok(i32::try_from(tokens).unwrap_or(i32::MAX))
    })
}
