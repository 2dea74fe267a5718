//! Passages embedded for jobs, each text once, and those not at all that were embedded before.
//!
//! The cache is for work that is nobody's own, so it is read and written with the rights of its owner,
//! and nobody else may look into it. What it costs must not be more than what it saves: a failure in it
//! is a warning, and the text is embedded.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::embed::embedders::{registered, with_embedder};
use crate::kit::chance::chance;
use crate::kit::report::warn;
use crate::kit::rights::with_rights_of_state;
use crate::kit::spi;
use crate::kit::subtransaction::attempt;
use crate::kit::waiting::checkpoint;
use crate::settings;
use crate::types::vector::Vector;
use vector_tools_core::embed::embedding_cache::{
    Bounds, CacheKeys, DistinctTexts, add, count, count_uses, evict, find, join_uses, size, touch,
};
use vector_tools_core::embed::{Embeddings, Purpose};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::ModelRecord;
use vector_tools_core::pipeline::Failure;

/// One call in so many joins the counts of all.
const JOINED_ONCE_IN: f64 = 256.0;

/// Called with the vectors of texts, those that are there.
type HandOver<'a> = &'a mut dyn FnMut(&[Option<Vec<f32>>]);

/// Hands the vectors of texts over, in their order, while those of the texts behind them are computed.
///
/// # Errors
/// Those of the registry, and of loading and running the model; what was handed over before is as good as ever.
pub fn embed_passages_in_parts(
    model: &str,
    texts: &[&str],
    arrived: &mut dyn FnMut(Vec<Vec<f32>>),
) -> Result<()> {
    let distinct = DistinctTexts::new(texts);
    let mut places = distinct.places.iter();
    let mut hand_over = |vectors: &[Option<Vec<f32>>]| {
        let known = |place: &&usize| vectors[**place].is_some();
        let mut part = Vec::new();
        while let Some(place) = places.as_slice().first().filter(known) {
            part.extend(vectors[*place].clone());
            places.next();
        }
        if !part.is_empty() {
            arrived(part);
        }
    };
    let vectors = embed_distinct(model, &distinct.texts, &mut hand_over)?;
    hand_over(&vectors);
    Ok(())
}

/// The vectors of different texts; `hand_over` sees those that are there while others are computed.
fn embed_distinct(model: &str, texts: &[&str], hand_over: HandOver) -> Result<Vec<Option<Vec<f32>>>> {
    let record = registered(model)?;
    let mut vectors = vec![None; texts.len()];
    let Some(bounds) = bounds(&record).filter(|_| !texts.is_empty()) else {
        let all: Vec<usize> = (0..texts.len()).collect();
        run(model, texts, &all, &mut vectors, hand_over)?;
        return Ok(vectors);
    };
    let keys = CacheKeys::new(&record);
    let keys: Vec<String> = texts.iter().map(|text| keys.of(text)).collect();
    find_all(&keys, record.dimensions, &mut vectors);
    let missing: Vec<usize> = (0..texts.len()).filter(|place| vectors[*place].is_none()).collect();
    let is_same = || registered(model).is_ok_and(|current| current == record);
    run(model, texts, &missing, &mut vectors, &mut |vectors| {
        if is_same() {
            hand_over(vectors);
        }
    })?;
    // Somebody has registered the model anew meanwhile: what was found may be the other one's.
    if !is_same() {
        let all: Vec<usize> = (0..texts.len()).collect();
        run(model, texts, &all, &mut vectors, &mut |_| {})?;
        return Ok(vectors);
    }
    let computed: Vec<Vec<f32>> = missing.iter().filter_map(|place| vectors[*place].clone()).collect();
    add_all(&bounds, missing.iter().map(|place| keys[*place].clone()).collect(), &computed, texts.len());
    Ok(vectors)
}

/// Computes the vectors of the texts at some places; `hand_over` sees them now and then meanwhile.
fn run(
    model: &str,
    texts: &[&str],
    places: &[usize],
    vectors: &mut [Option<Vec<f32>>],
    hand_over: HandOver,
) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let chosen: Vec<&str> = places.iter().map(|place| texts[*place]).collect();
    let mut done = 0;
    let mut take = |embeddings: &Embeddings, count: usize, vectors: &mut [Option<Vec<f32>>]| {
        for number in done..count {
            vectors[places[number]] = Some(embeddings.vector(number).to_vec());
        }
        done = count;
    };
    let embeddings = with_embedder(model, |embedder| {
        embedder.embed_in_parts(&chosen, Purpose::Passage, &mut checkpoint, &mut |embeddings, count| {
            take(embeddings, count, vectors);
            hand_over(vectors);
            Ok(())
        })
    })?;
    take(&embeddings, places.len(), vectors);
    Ok(())
}

/// The bounds of the cache, where it is to be used. A transaction that keeps its snapshot could fail for
/// what others do with the cache.
fn bounds(record: &ModelRecord) -> Option<Bounds> {
    // SAFETY: a variable of this process.
    let keeps_snapshot = unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32;
    if keeps_snapshot { None } else { Bounds::new(settings::cache_megabytes(), record.dimensions) }
}

/// Looks entries up, and notes that they are used where that was not done lately.
fn find_all(keys: &[String], dimensions: usize, vectors: &mut [Option<Vec<f32>>]) {
    let found = in_cache(|| {
        let found = spi::query_new_snapshot(&find(keys.to_vec()), |row| {
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
            spi::execute(&touch(old));
        }
        found
    });
    for (place, vector, _) in found.unwrap_or_default() {
        if let Some(wanted) = vectors.get_mut(place).filter(|_| vector.len() == dimensions) {
            *wanted = Some(vector);
        }
    }
}

/// Adds entries, counts what was found and what was not, and now and then makes room.
fn add_all(bounds: &Bounds, keys: Vec<String>, vectors: &[Vec<f32>], asked: usize) {
    let new = keys.len();
    in_cache(|| {
        spi::execute(&count_uses(asked - new, new));
        if chance() * JOINED_ONCE_IN < 1.0 {
            spi::execute(&join_uses());
        }
        if new == 0 {
            return;
        }
        spi::execute(&add(keys, vectors.to_vec()));
        if bounds.is_checked(new, chance()) && read_number(&size()) > bounds.bytes {
            let excess = bounds.excess(read_number(&count()) as usize);
            if excess > 0 {
                spi::execute(&evict(excess));
            }
        }
    });
}

fn read_number(statement: &vector_tools_core::sql::Statement) -> u64 {
    let numbers = spi::query_new_snapshot(statement, |row| row.get::<i64>(1));
    numbers.into_iter().flatten().next().map_or(0, |number| number.max(0) as u64)
}

/// Runs fixed statements over the cache; `None` where one fails, of which nothing stays then.
fn in_cache<T>(work: impl FnOnce() -> T) -> Option<T> {
    let warn = |failure: Failure| {
        if is_news() {
            warn(&Error::CacheFailed { reason: failure.message });
        }
    };
    attempt(|| with_rights_of_state(c"embedding_cache", work)).map_err(warn).ok()
}

thread_local! {
    /// When the last statement that was told of a failure of the cache began.
    static TOLD: Cell<Option<pg_sys::TimestampTz>> = const { Cell::new(None) };
}

/// Whether this statement of the client's was not told yet that the cache fails: a full disk fails at every row.
fn is_news() -> bool {
    // SAFETY: a variable of this process.
    let statement = Some(unsafe { pg_sys::GetCurrentStatementStartTimestamp() });
    TOLD.replace(statement) != statement
}
