//! The SQL functions that embed text.

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

use crate::embed::embedder::statistics;
use crate::embed::embedders::with_embedder;
use crate::kit::report::OrReport;
use crate::kit::waiting::checkpoint;
use crate::settings::default_model;
use crate::types::array::one_dimensional;
use crate::types::vector::Vector;
use vector_tools_core::embed::Purpose;
use vector_tools_core::embed::protocol::{ModelStatistics, ProcessStatistics};
use vector_tools_core::error::Result;

#[pg_extern(sql = false)]
fn embed_default(input: &str) -> Vector {
    embed_one(input, &default_model(), Purpose::Passage).or_report()
}

// Immutable as to_tsvector(regconfig, text) is: a registered model never changes under its name,
// and its sha256 is checked at load.
#[pg_extern(sql = false)]
fn embed(input: &str, model: &str) -> Vector {
    embed_one(input, model, Purpose::Passage).or_report()
}

#[pg_extern(sql = false)]
fn embed_array_default(inputs: Array<'_, &str>) -> Vec<Option<Vector>> {
    embed_array(inputs, &default_model()).or_report()
}

#[pg_extern(sql = false)]
fn embed_array_with(inputs: Array<'_, &str>, model: &str) -> Vec<Option<Vector>> {
    embed_array(inputs, model).or_report()
}

#[pg_extern(sql = false)]
fn embed_query_default(input: &str) -> Vector {
    embed_one(input, &default_model(), Purpose::Query).or_report()
}

#[pg_extern(sql = false)]
fn embed_query(input: &str, model: &str) -> Vector {
    embed_one(input, model, Purpose::Query).or_report()
}

#[pg_extern(sql = false)]
fn count_tokens_default(input: &str) -> i32 {
    count(input, &default_model()).or_report()
}

#[pg_extern(sql = false)]
fn count_tokens(input: &str, model: &str) -> i32 {
    count(input, model).or_report()
}

#[pg_extern(sql = false)]
fn warm_up(model: Option<&str>) -> i32 {
    run_once(model.unwrap_or(&default_model())).or_report()
}

/// One row for each model that the embedding process knows, or one without a model.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "a row has as many columns")]
fn embedder_statistics() -> TableIterator<
    'static,
    (
        name!(process_id, i32),
        name!(started_at, i64),
        name!(restarts, i64),
        name!(threads, i32),
        name!(connections, i32),
        name!(memory_bytes, i64),
        name!(memory_limit_bytes, i64),
        name!(model, Option<String>),
        name!(dimensions, Option<i32>),
        name!(loaded, Option<bool>),
        name!(loads, Option<i64>),
        name!(model_memory_bytes, Option<i64>),
        name!(requests, Option<i64>),
        name!(failures, Option<i64>),
        name!(texts, Option<i64>),
        name!(batches, Option<i64>),
        name!(batch_tokens, Option<i64>),
        name!(queued, Option<i64>),
        name!(p50_ms, Option<f64>),
        name!(p99_ms, Option<f64>),
    ),
> {
    let process = statistics::read().or_report();
    let rows = process.into_iter().flat_map(|process| {
        let models: Vec<Option<ModelStatistics>> = match process.models.as_slice() {
            [] => vec![None],
            models => models.iter().cloned().map(Some).collect(),
        };
        models.into_iter().map(move |model| statistics_row(&process, model.as_ref()))
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}

/// The vector of one text.
///
/// # Errors
/// Those of loading the model and of running it.
pub fn embed_one(input: &str, model: &str, purpose: Purpose) -> Result<Vector> {
    with_embedder(model, |embedder| {
        let embeddings = embedder.embed(&[input], purpose, &mut checkpoint)?;
        Ok(Vector(embeddings.vector(0).to_vec()))
    })
}

fn embed_array(inputs: Array<'_, &str>, model: &str) -> Result<Vec<Option<Vector>>> {
    let inputs = one_dimensional(inputs)?;
    let texts: Vec<&str> = inputs.iter().flatten().map(String::as_str).collect();
    with_embedder(model, |embedder| {
        let embeddings = embedder.embed(&texts, Purpose::Passage, &mut checkpoint)?;
        let mut vectors = embeddings.iter();
        let mut next = || vectors.next().map(|vector| Vector(vector.to_vec()));
        let place = |input: &Option<String>| input.as_ref().and_then(|_| next());
        Ok(inputs.iter().map(place).collect())
    })
}

/// Has a model loaded where it will run, and returns its dimensions.
fn run_once(model: &str) -> Result<i32> {
    with_embedder(model, |embedder| {
        embedder.embed(&["warm"], Purpose::Query, &mut checkpoint)?;
        Ok(embedder.dimensions() as i32)
    })
}

#[rustfmt::skip]
#[allow(clippy::type_complexity, reason = "a row has as many columns")]
fn statistics_row(
    process: &ProcessStatistics,
    model: Option<&ModelStatistics>,
) -> (
    i32, i64, i64, i32, i32, i64, i64, Option<String>, Option<i32>, Option<bool>, Option<i64>, Option<i64>, Option<i64>,
    Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<f64>, Option<f64>,
) {
    let count = |read: fn(&ModelStatistics) -> u64| model.map(|model| read(model) as i64);
    (
        process.process_id as i32,
        process.started_at,
        process.restarts as i64,
        process.threads as i32,
        process.connections as i32,
        process.memory_bytes as i64,
        process.memory_limit_bytes as i64,
        model.map(|model| model.name.clone()),
        model.map(|model| model.dimensions as i32),
        model.map(|model| model.loaded),
        count(|model| model.loads),
        count(|model| model.memory_bytes),
        count(|model| model.requests),
        count(|model| model.failures),
        count(|model| model.texts),
        count(|model| model.batches),
        count(|model| model.batch_tokens),
        count(|model| model.queued),
        model.and_then(|model| model.p50_ms),
        model.and_then(|model| model.p99_ms),
    )
}

fn count(input: &str, model: &str) -> Result<i32> {
    with_embedder(model, |embedder| {
        let tokens = embedder.count_tokens(input, &mut checkpoint)?;
        Ok(i32::try_from(tokens).unwrap_or(i32::MAX))
    })
}
