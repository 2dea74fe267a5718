//! Passages embedded for jobs, each text once, and those not at all that were embedded before.
//!
//! The cache is for work that is nobody's own, so it is read and written with the rights of its owner,
//! and nobody else may look into it. What it costs must not be more than what it saves: a failure in it
//! is a warning, and the text is embedded.

use pgrx::pg_sys;

use super::chance::chance;
use super::embedders::{check_interrupts, registered, with_embedder};
use super::report::warn;
use super::rights::with_rights_of_state;
use super::subtransaction::attempt;
use super::vector::Vector;
use super::{settings, spi};
use crate::embedding::Purpose;
use crate::error::{Error, Result};
use crate::jobs::Failure;
use crate::jobs::embedding_cache::{
    Bounds, CacheKeys, DistinctTexts, add, count, count_uses, evict, find, join_uses, size, touch,
};
use crate::model::ModelRecord;

/// One call in so many joins the counts of all.
const JOINED_ONCE_IN: f64 = 256.0;

/// The vectors of texts, in their order.
///
/// # Errors
/// Those of the registry, and of loading and running the model.
pub fn embed_passages(model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let distinct = DistinctTexts::new(texts);
    let vectors = embed_distinct(model, &distinct.texts)?;
    Ok(distinct.places.iter().map(|place| vectors[*place].clone()).collect())
}

fn embed_distinct(model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let record = registered(model)?;
    let Some(bounds) = bounds(&record).filter(|_| !texts.is_empty()) else {
        return run(model, texts);
    };
    let keys = CacheKeys::new(&record);
    let keys: Vec<String> = texts.iter().map(|text| keys.of(text)).collect();
    let mut vectors = find_all(&keys, record.dimensions);
    let missing: Vec<usize> = (0..texts.len()).filter(|place| vectors[*place].is_none()).collect();
    let computed = match missing.as_slice() {
        [] => vec![],
        missing => run(model, &missing.iter().map(|place| texts[*place]).collect::<Vec<_>>())?,
    };
    // Somebody has registered the model anew meanwhile: what was found may be the other one's.
    if registered(model)? != record {
        return run(model, texts);
    }
    add_all(&bounds, missing.iter().map(|place| keys[*place].clone()).collect(), &computed, texts.len());
    for (place, vector) in missing.into_iter().zip(computed) {
        vectors[place] = Some(vector);
    }
    Ok(vectors.into_iter().flatten().collect())
}

fn run(model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    with_embedder(model, |embedder| {
        let embeddings = embedder.embed(texts, Purpose::Passage, &mut check_interrupts)?;
        Ok(embeddings.iter().map(<[f32]>::to_vec).collect())
    })
}

/// The bounds of the cache, where it is to be used. A transaction that keeps its snapshot could fail for
/// what others do with the cache.
fn bounds(record: &ModelRecord) -> Option<Bounds> {
    // SAFETY: a variable of this process.
    let keeps_snapshot = unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32;
    if keeps_snapshot { None } else { Bounds::new(settings::cache_megabytes(), record.dimensions) }
}

/// Looks entries up, and notes that they are used where that was not done lately.
fn find_all(keys: &[String], dimensions: usize) -> Vec<Option<Vec<f32>>> {
    let mut vectors = vec![None; keys.len()];
    let found = in_cache(|| {
        let found = spi::query_latest(&find(keys.to_vec()), |row| {
            let place = usize::try_from(row.get::<i64>(1)?).ok()?.checked_sub(1)?;
            Some((place, row.get::<Vector>(2)?.0, row.get::<bool>(3)?))
        });
        let found: Vec<_> = found.into_iter().flatten().collect();
        let old: Vec<String> = found
            .iter()
            .filter(|(.., is_old)| *is_old)
            .filter_map(|(place, ..)| keys.get(*place).cloned())
            .collect();
        if !old.is_empty() {
            spi::change(&touch(old));
        }
        found
    });
    for (place, vector, _) in found.unwrap_or_default() {
        if let Some(wanted) = vectors.get_mut(place).filter(|_| vector.len() == dimensions) {
            *wanted = Some(vector);
        }
    }
    vectors
}

/// Adds entries, counts what was found and what was not, and now and then makes room.
fn add_all(bounds: &Bounds, keys: Vec<String>, vectors: &[Vec<f32>], asked: usize) {
    let new = keys.len();
    in_cache(|| {
        spi::change(&count_uses(asked - new, new));
        if chance() * JOINED_ONCE_IN < 1.0 {
            spi::change(&join_uses());
        }
        if new == 0 {
            return;
        }
        spi::change(&add(keys, vectors.to_vec()));
        if bounds.is_checked(new, chance()) && read_number(&size()) > bounds.bytes {
            let excess = bounds.excess(read_number(&count()) as usize);
            if excess > 0 {
                spi::change(&evict(excess));
            }
        }
    });
}

fn read_number(statement: &crate::search::Statement) -> u64 {
    let numbers = spi::query_latest(statement, |row| row.get::<i64>(1));
    numbers.into_iter().flatten().next().map_or(0, |number| number.max(0) as u64)
}

/// Runs fixed statements over the cache; `None` where one fails, of which nothing stays then.
fn in_cache<T>(work: impl FnOnce() -> T) -> Option<T> {
    let warn = |failure: Failure| warn(&Error::CacheFailed { reason: failure.message });
    attempt(|| with_rights_of_state(c"embedding_cache", work)).map_err(warn).ok()
}
