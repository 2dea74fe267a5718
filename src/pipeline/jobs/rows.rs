//! The rows of searched tables: the steps of their batches, and rows embedded at once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use pgrx::{PgRelation, pg_sys};

use crate::chunking::functions::chunks;
use crate::embed::embedders::passage_tokenizer;
use crate::embed::embedding_cache::embed_passages_in_parts;
use crate::kit::spi;
use crate::kit::spi::Row;
use crate::kit::subtransaction::attempt;
use crate::kit::waiting::checkpoint;
use crate::kit::{catalog, rights};
use crate::pipeline::queue::enqueue_keys;
use crate::pipeline::searchable_tables;
use crate::pipeline::searchable_tables::SearchableRelation;
use crate::pipeline::worker;
use vector_tools_core::chunking::{Chunk, Options, Strategy};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::SearchableTable;
use vector_tools_core::pipeline::assembly::Assembly;
use vector_tools_core::pipeline::options::Chunking;
use vector_tools_core::pipeline::rows::{NewChunk, NewRow};
use vector_tools_core::pipeline::{Failure, Found, Outcome, Steps, run_batch};
use vector_tools_core::sql::Statement;

/// Embeds queued rows of a searched table.
///
/// # Errors
/// Those of [`Steps::checkpoint`].
pub fn run_queued(relation: &PgRelation, keys: &[&[String]]) -> Result<Vec<Outcome>> {
    match lock_companions(relation) {
        Ok(searched) => run_rows(&searched, keys),
        // It was ended while this waited.
        Err(Error::NotSearched { .. }) => Ok(vec![Outcome::Gone; keys.len()]),
        Err(error) => Ok(vec![Outcome::Failed(Failure::from_error(&error)); keys.len()]),
    }
}

/// Embeds rows with the model of the table, and with the next one where a change of it is under way. A
/// row is done when both are.
fn run_rows(searched: &SearchableRelation, keys: &[&[String]]) -> Result<Vec<Outcome>> {
    let outcomes = run_rows_of(&searched.table, searched.owner, keys)?;
    let Some(next) = &searched.next else {
        return Ok(outcomes);
    };
    let others = run_rows_of(&next.table, searched.owner, keys)?;
    Ok(outcomes.into_iter().zip(others).map(|(outcome, other)| outcome.and(other)).collect())
}

fn run_rows_of(table: &SearchableTable, owner: pg_sys::Oid, keys: &[&[String]]) -> Result<Vec<Outcome>> {
    match TableSteps::new(table, owner) {
        Ok(steps) => run_batch(keys, &steps),
        Err(error) => Ok(vec![Outcome::Failed(Failure::from_error(&error)); keys.len()]),
    }
}

/// Embeds rows at once, as a statement in sync mode does. What goes wrong with the next model of the
/// table is no reason to refuse a row: the queue will see to it.
///
/// # Errors
/// [`Error::RowNotEmbedded`] for the first row that cannot be, and those of the model.
pub fn embed_now(source: pg_sys::Oid, keys: &[Vec<String>]) -> Result<()> {
    let relation = catalog::open_table(source)?;
    let searched = lock_companions(&relation)?;
    embed_all(&searched.table, searched.owner, keys, |key, failure| match failure {
        Some(failure) => Err(Error::RowNotEmbedded {
            key: shown_key(key),
            table: searched.table.source.to_string(),
            sqlstate: failure.sqlstate,
            reason: failure.message,
        }),
        // Nobody else can hold a row that this transaction has changed; whatever it is, the queue will
        // see to it.
        None => {
            leave_to_queue(source, key);
            Ok(())
        }
    })?;
    let Some(next) = &searched.next else {
        return Ok(());
    };
    embed_all(&next.table, searched.owner, keys, |key, _| {
        leave_to_queue(source, key);
        Ok(())
    })
}

fn leave_to_queue(source: pg_sys::Oid, key: &[String]) {
    enqueue_keys(source, &[key.to_vec()]);
    worker::note_queued();
}

/// Takes rows through as many batches as they need; `undone` is called for those that are left, with
/// their failure if they have one.
fn embed_all(
    table: &SearchableTable,
    owner: pg_sys::Oid,
    keys: &[Vec<String>],
    undone: impl Fn(&[String], Option<Failure>) -> Result<()>,
) -> Result<()> {
    let mut rest: Vec<&[String]> = keys.iter().map(Vec::as_slice).collect();
    while !rest.is_empty() {
        let outcomes = run_rows_of(table, owner, &rest)?;
        let mut later = Vec::new();
        for (key, outcome) in rest.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Embedded(_) | Outcome::Unchanged | Outcome::Gone => {}
                Outcome::Later => later.push(key),
                Outcome::Overtaken => undone(key, None)?,
                Outcome::Failed(failure) => undone(key, Some(failure))?,
            }
        }
        rest = later;
    }
    Ok(())
}

/// A key as searches show it.
fn shown_key(key: &[String]) -> String {
    match key {
        [only] => only.clone(),
        several => format!("({})", several.join(", ")),
    }
}

/// Makes sure that nobody changes the companions until the transaction ends, so that what the triggers
/// say of them stays true, and says what that is.
fn lock_companions(relation: &PgRelation) -> Result<Rc<SearchableRelation>> {
    let find = || {
        let not_searched = || Error::NotSearched { table: catalog::display_name(relation) };
        searchable_tables::find(relation)?.ok_or_else(not_searched)
    };
    loop {
        let found = find()?;
        let companions = written_companions(&found)?;
        let opened = companions.iter().try_for_each(|companion| {
            catalog::open_table_to_write(*companion)?;
            Ok(())
        });
        // Whoever had one of them for himself has changed what is known by now.
        let searched = find()?;
        if written_companions(&searched)? == companions {
            rights::require_own_partitions(relation, searched.owner)?;
            return opened.map(|()| searched);
        }
    }
}

/// The companions that a batch writes.
fn written_companions(searched: &SearchableRelation) -> Result<Vec<pg_sys::Oid>> {
    let next = searched.next.as_ref().map(|next| next.companion);
    Ok(std::iter::once(searched.companion()?).chain(next).collect())
}

/// A row of a source.
struct SourceRow {
    content: String,
    hash: String,
}

/// The chunks of a row, and which of them are embedded.
struct RowChunks {
    chunks: Vec<NewChunk>,
    embedded: Vec<usize>,
}

impl RowChunks {
    /// The chunks, those that are embedded with their vectors.
    fn with(&self, vectors: Vec<Vec<f32>>) -> Vec<NewChunk> {
        let mut chunks = self.chunks.clone();
        for (place, vector) in self.embedded.iter().zip(vectors) {
            chunks[*place].embedding = Some(vector);
        }
        chunks
    }
}

/// Text without a word: nothing to find, but the row is done.
fn blank(row: &SourceRow) -> RowChunks {
    let chunk = NewChunk {
        content: row.content.clone(),
        offsets: (0, number(row.content.chars().count())),
        token_count: 0,
        parent: None,
        embedding: None,
    };
    RowChunks { chunks: vec![chunk], embedded: vec![] }
}

/// A row as one chunk, however long it is: what the model does not read is in its words.
fn whole(row: &SourceRow) -> RowChunks {
    RowChunks { embedded: vec![0], ..blank(row) }
}

/// The chunks of a row. One that has parts is shown, not searched.
fn in_chunks(row: &SourceRow, found: &[Chunk]) -> RowChunks {
    let chunk = |chunk: &Chunk| NewChunk {
        content: row.content[chunk.bytes.clone()].to_owned(),
        offsets: (number(chunk.characters.start), number(chunk.characters.end)),
        token_count: number(chunk.tokens),
        parent: chunk.parent.map(number),
        embedding: None,
    };
    let parents: HashSet<usize> = found.iter().filter_map(|chunk| chunk.parent).collect();
    let embedded = (0..found.len()).filter(|place| !parents.contains(place)).collect();
    RowChunks { chunks: found.iter().map(chunk).collect(), embedded }
}

fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

struct TableSteps<'a> {
    table: &'a SearchableTable,
    owner: pg_sys::Oid,
    chunking: Option<Options>,
}

impl<'a> TableSteps<'a> {
    fn new(table: &'a SearchableTable, owner: pg_sys::Oid) -> Result<TableSteps<'a>> {
        let read = |chunking: &Chunking| -> Result<Options> {
            let strategy = Strategy::from_name(&chunking.strategy)?;
            Ok(Options { strategy, max_tokens: chunking.max_tokens, overlap: chunking.overlap })
        };
        let chunking = table.options.chunking.as_ref().map(read).transpose()?;
        Ok(TableSteps { table, owner, chunking })
    }

    /// The chunks of a row with their tokens counted, which those that were cut have already.
    fn counted<'c>(&self, row: &SourceRow, chunks: &'c [NewChunk]) -> Result<Cow<'c, [NewChunk]>> {
        match chunks {
            [whole] if self.chunking.is_none() && whole.embedding.is_some() => {
                let (tokenizer, prefix) = passage_tokenizer(&self.table.options.model)?;
                let passage = format!("{prefix}{}", row.content);
                let token_count = number(tokenizer.count(&passage, &mut checkpoint)?);
                Ok(Cow::Owned(vec![NewChunk { token_count, ..whole.clone() }]))
            }
            _ => Ok(Cow::Borrowed(chunks)),
        }
    }

    /// Runs a statement over source and companion as their owner, with names that nobody can shadow.
    fn run<T>(&self, statement: &Statement, read: impl FnMut(&Row) -> T) -> Result<Vec<T>, Failure> {
        attempt(|| rights::acting_as(self.owner, || spi::query_new_snapshot(statement, read)))
    }
}

impl Steps for TableSteps<'_> {
    type Row = SourceRow;
    type Chunks = RowChunks;
    type Embedded = Vec<NewChunk>;

    fn read(&self, keys: &[&[String]]) -> Result<Vec<Found<SourceRow>>, Failure> {
        self.run(&self.table.read_rows(keys), |row| {
            let is_true = |column| row.get::<bool>(column).unwrap_or(false);
            match (is_true(1), is_true(2), is_true(5)) {
                (false, ..) => Found::Gone,
                (true, false, _) => Found::Later,
                (true, true, true) => Found::Unchanged,
                (true, true, false) => Found::New(SourceRow {
                    content: row.get(3).unwrap_or_default(),
                    hash: row.get(4).unwrap_or_default(),
                }),
            }
        })
    }

    fn length(&self, row: &SourceRow) -> usize {
        row.content.len()
    }

    fn chunk(&self, row: &SourceRow) -> Result<RowChunks, Failure> {
        if row.content.trim().is_empty() {
            return Ok(blank(row));
        }
        let Some(options) = &self.chunking else {
            return Ok(whole(row));
        };
        let found = chunks(&row.content, options, &self.table.options.model);
        found.map(|found| in_chunks(row, &found)).map_err(|error| Failure::from_error(&error))
    }

    fn embed(
        &self,
        rows: &[(&SourceRow, RowChunks)],
        hand_over: &mut dyn FnMut(Vec<Vec<NewChunk>>),
    ) -> Result<(), Failure> {
        let texts: Vec<&str> = rows
            .iter()
            .flat_map(|(_, row)| row.embedded.iter().map(|place| row.chunks[*place].content.as_str()))
            .collect();
        let mut assembly = Assembly::new(rows.iter().map(|(_, row)| (row, row.embedded.len())));
        let mut assemble = |vectors| {
            let complete = assembly.add(vectors).into_iter();
            hand_over(complete.map(|(row, vectors)| row.with(vectors)).collect());
        };
        let model = &self.table.options.model;
        embed_passages_in_parts(model, &texts, &mut assemble).map_err(|error| Failure::from_error(&error))?;
        // Rows without a word have nothing to wait for.
        assemble(vec![]);
        Ok(())
    }

    fn write(&self, rows: &[(&[String], &SourceRow, &Vec<NewChunk>)]) -> Result<Vec<Option<usize>>, Failure> {
        // Here, so that the model does not wait for it.
        let counted = rows.iter().map(|(_, row, chunks)| self.counted(row, chunks));
        let counted: Vec<Cow<[NewChunk]>> =
            counted.collect::<Result<_>>().map_err(|error| Failure::from_error(&error))?;
        let new: Vec<NewRow> = rows
            .iter()
            .zip(&counted)
            .map(|((key, row, _), chunks)| NewRow { key, hash: &row.hash, chunks })
            .collect();
        let written = self.run(&self.table.write_rows(&new), |row| row.get::<i64>(1))?;
        let written: HashSet<i64> = written.into_iter().flatten().collect();
        let chunks = |(place, row): (usize, &NewRow)| {
            written.contains(&(place as i64 + 1)).then_some(row.chunks.len())
        };
        Ok(new.iter().enumerate().map(chunks).collect())
    }

    fn checkpoint(&self) -> Result<()> {
        checkpoint()
    }
}
