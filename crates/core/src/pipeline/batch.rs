//! One batch: the entries of a lease, joined by row, on their way through the steps.

use std::collections::HashMap;

use crate::error::Result as CrateResult;
use crate::pipeline::Failure;
use crate::pipeline::bisection::bisect;

/// An entry of the queue: rows that one statement has written, or what is left of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// The primary keys of the rows, each column as text.
    pub keys: Vec<Vec<String>>,
    /// How often they have failed.
    pub attempts: u32,
    /// How often they came under suspicion, where that has happened to them last.
    pub suspicions: u32,
}

/// A row to embed, whichever entries of the queue ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The primary key of the row, each column as text.
    pub key: Vec<String>,
    /// The number of the last entry that asks for it.
    pub last_entry: i64,
    /// How often it has failed: a newer entry may be of other content.
    pub attempts: u32,
    /// How often it came under suspicion, where that has happened to it last.
    pub suspicions: u32,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The chunks of the row are written, so many.
    Embedded(usize),
    /// They were true already.
    Unchanged,
    /// There is no such row any more.
    Gone,
    /// It was not read, since the rows before it were so large.
    Later,
    /// The row has other content by now, for which there is another entry, or somebody holds it: the
    /// entry stays.
    Overtaken,
    /// It could not be done.
    Failed(Failure),
}

impl Outcome {
    /// What became of a row that two things were done for: the end that leaves more to do.
    pub fn and(self, other: Outcome) -> Outcome {
        let rank = |outcome: &Outcome| match outcome {
            Outcome::Gone => 0,
            Outcome::Unchanged => 1,
            Outcome::Embedded(_) => 2,
            Outcome::Later => 3,
            Outcome::Overtaken => 4,
            Outcome::Failed(_) => 5,
        };
        match (self, other) {
            (Outcome::Embedded(one), Outcome::Embedded(other)) => Outcome::Embedded(one + other),
            (one, other) if rank(&one) >= rank(&other) => one,
            (_, other) => other,
        }
    }
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<R> {
    /// It is to be embedded.
    New(R),
    /// What is there is true.
    Unchanged,
    /// It is not there.
    Gone,
    /// The rows before it were so large that it has to wait.
    Later,
}

/// The steps of a batch, which something that knows the database and the model does.
pub trait Steps {
    /// A row that was read.
    type Row;
    /// The chunks of a row.
    type Chunks;
    /// A row's chunks with their embeddings.
    type Embedded;

    /// Reads rows, in the order of their keys.
    ///
    /// # Errors
    /// What the database says.
    fn read(&self, keys: &[&[String]]) -> Result<Vec<Found<Self::Row>>, Failure>;

    /// How long a row is, in whatever unit: rows of like length are embedded together.
    fn length(&self, row: &Self::Row) -> usize;

    /// Cuts a row.
    ///
    /// # Errors
    /// What the tokenizer says.
    fn chunk(&self, row: &Self::Row) -> Result<Self::Chunks, Failure>;

    /// Embeds the chunks of rows and hands the rows over, in their order: some of them as soon as they are
    /// embedded, so that they can be written while the model goes on with the others.
    ///
    /// # Errors
    /// What the model says of the rows that were not handed over.
    fn embed(
        &self,
        rows: &[(&Self::Row, Self::Chunks)],
        hand_over: &mut dyn FnMut(Vec<Self::Embedded>),
    ) -> Result<(), Failure>;

    /// Writes rows, all or none, and says of each how many chunks it has now; `None` where it has
    /// other content by now.
    ///
    /// # Errors
    /// What the database says.
    fn write(&self, rows: &[(&[String], &Self::Row, &Self::Embedded)])
    -> Result<Vec<Option<usize>>, Failure>;

    /// Called between the steps; an error ends the batch.
    ///
    /// # Errors
    /// A request to cancel, in whatever form.
    fn checkpoint(&self) -> CrateResult<()>;
}

/// A row with its chunks.
type ChunkedRow<'a, S> = (&'a <S as Steps>::Row, <S as Steps>::Chunks);

/// A row to be written: its key, itself, and its embedded chunks.
type EmbeddedRow<'a, S> = (&'a [String], &'a <S as Steps>::Row, <S as Steps>::Embedded);

/// The rows of entries, each once, in the order of the first entry that has it; `most` at most.
pub fn join_entries(entries: &[Entry], most: usize) -> Vec<Job> {
    let mut places: HashMap<&[String], usize> = HashMap::new();
    let mut jobs: Vec<Job> = Vec::new();
    for entry in entries {
        for key in &entry.keys {
            match places.get(key.as_slice()) {
                Some(place) => {
                    let job = &mut jobs[*place];
                    job.last_entry = entry.id;
                    job.attempts = job.attempts.min(entry.attempts);
                    job.suspicions = job.suspicions.min(entry.suspicions);
                }
                None if jobs.len() < most => {
                    places.insert(key, jobs.len());
                    let Entry { id, attempts, suspicions, .. } = *entry;
                    jobs.push(Job { key: key.clone(), last_entry: id, attempts, suspicions });
                }
                None => {}
            }
        }
    }
    jobs
}

/// Takes rows, by their keys, through the steps, and says what became of each.
///
/// # Errors
/// Those of [`Steps::checkpoint`].
pub fn run_batch<S: Steps>(keys: &[&[String]], steps: &S) -> CrateResult<Vec<Outcome>> {
    let found = bisect(keys, &mut |part: &[&[String]]| steps.read(part));
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(found.len());
    let mut new: Vec<(usize, S::Row)> = Vec::new();
    for (place, found) in found.into_iter().enumerate() {
        outcomes.push(match found {
            Err(failure) => Outcome::Failed(failure),
            Ok(Found::Gone) => Outcome::Gone,
            Ok(Found::Unchanged) => Outcome::Unchanged,
            Ok(Found::Later) => Outcome::Later,
            Ok(Found::New(row)) => {
                new.push((place, row));
                Outcome::Overtaken
            }
        });
    }
    // Texts beside longer ones are padded to their length.
    new.sort_by_key(|(_, row)| steps.length(row));
    let (mut places, mut chunked): (Vec<usize>, Vec<ChunkedRow<S>>) = (vec![], vec![]);
    for (place, row) in &new {
        steps.checkpoint()?;
        match steps.chunk(row) {
            Ok(chunks) => {
                places.push(*place);
                chunked.push((row, chunks));
            }
            Err(failure) => outcomes[*place] = Outcome::Failed(failure),
        }
    }
    let mut batch = Batch { steps, keys, outcomes };
    batch.embed(&places, &chunked);
    steps.checkpoint()?;
    Ok(batch.outcomes)
}

/// A batch whose rows are chunked.
struct Batch<'a, S: Steps> {
    steps: &'a S,
    keys: &'a [&'a [String]],
    /// Of all rows.
    outcomes: Vec<Outcome>,
}

impl<S: Steps> Batch<'_, S> {
    /// Embeds the rows at some places of the batch, and writes each part of them that is embedded.
    fn embed(&mut self, places: &[usize], rows: &[ChunkedRow<S>]) {
        if rows.is_empty() {
            return;
        }
        let steps = self.steps;
        let mut done = 0;
        let result = steps.embed(rows, &mut |embedded| {
            let part = done..done + embedded.len();
            done = part.end;
            self.write(&places[part.clone()], &rows[part], embedded);
        });
        let Err(failure) = result else { return };
        // What was handed over is written; the row to blame is among the others.
        let (places, rows) = (&places[done..], &rows[done..]);
        let failure = failure.of_embedding(rows.len());
        if rows.len() <= 1 || !failure.is_found_by_halving() {
            for place in places {
                self.outcomes[*place] = Outcome::Failed(failure.clone());
            }
            return;
        }
        let middle = rows.len() / 2;
        self.embed(&places[..middle], &rows[..middle]);
        self.embed(&places[middle..], &rows[middle..]);
    }

    fn write(&mut self, places: &[usize], rows: &[ChunkedRow<S>], embedded: Vec<S::Embedded>) {
        let keyed = places.iter().zip(rows).zip(embedded);
        let written: Vec<EmbeddedRow<S>> =
            keyed.map(|((place, (row, _)), embedded)| (self.keys[*place], *row, embedded)).collect();
        let results = bisect(&written, &mut |part: &[EmbeddedRow<S>]| {
            let part: Vec<_> = part.iter().map(|(key, row, embedded)| (*key, *row, embedded)).collect();
            self.steps.write(&part)
        });
        for (place, result) in places.iter().zip(results) {
            self.outcomes[*place] = match result {
                Ok(Some(chunks)) => Outcome::Embedded(chunks),
                Ok(None) => Outcome::Overtaken,
                Err(failure) => Outcome::Failed(failure),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::pipeline::Category;

    /// Rows are texts; "gone" is not there, "same" is true already, and others fail where they say.
    #[derive(Default)]
    struct Texts {
        embeddings: Cell<usize>,
        writes: Cell<usize>,
        readable: usize,
        /// So many rows are handed over at once.
        part: usize,
    }

    fn failure(category: Category) -> Failure {
        Failure { category, most_attempts: None, sqlstate: "22000".into(), message: "poison".into() }
    }

    fn fail_for<T>(poison: &str, rows: &[&String], results: Vec<T>) -> Result<Vec<T>, Failure> {
        let is_poisoned = rows.iter().any(|row| row.as_str() == poison);
        if is_poisoned { Err(failure(Category::Row)) } else { Ok(results) }
    }

    impl Steps for Texts {
        type Row = String;
        type Chunks = usize;
        type Embedded = usize;

        fn read(&self, keys: &[&[String]]) -> Result<Vec<Found<String>>, Failure> {
            let found = keys.iter().enumerate().map(|(place, key)| match key[0].as_str() {
                _ if place >= self.readable => Found::Later,
                "gone" => Found::Gone,
                "same" => Found::Unchanged,
                text => Found::New(text.to_owned()),
            });
            if keys.iter().any(|key| key[0] == "no page") {
                return Err(failure(Category::Row));
            }
            Ok(found.collect())
        }

        fn length(&self, row: &String) -> usize {
            row.len()
        }

        fn chunk(&self, row: &String) -> Result<usize, Failure> {
            if row == "no chunks" { Err(failure(Category::Row)) } else { Ok(row.len()) }
        }

        fn embed(
            &self,
            rows: &[(&String, usize)],
            hand_over: &mut dyn FnMut(Vec<usize>),
        ) -> Result<(), Failure> {
            self.embeddings.set(self.embeddings.get() + 1);
            assert!(rows.is_sorted_by_key(|(row, _)| row.len()), "expected rows of like length together");
            for part in rows.chunks(self.part) {
                if part.iter().any(|(row, _)| *row == "no model") {
                    return Err(failure(Category::Model));
                }
                if part.iter().any(|(row, _)| *row == "deadly") {
                    return Err(Failure::of_death("embedding", false));
                }
                let texts: Vec<&String> = part.iter().map(|(row, _)| *row).collect();
                hand_over(fail_for("no vector", &texts, part.iter().map(|(_, chunks)| *chunks).collect())?);
            }
            Ok(())
        }

        fn write(&self, rows: &[(&[String], &String, &usize)]) -> Result<Vec<Option<usize>>, Failure> {
            self.writes.set(self.writes.get() + 1);
            let texts: Vec<&String> = rows.iter().map(|(_, row, _)| *row).collect();
            let written = rows.iter().map(|(_, row, chunks)| (row.as_str() != "changed").then_some(**chunks));
            fail_for("no place", &texts, written.collect())
        }

        fn checkpoint(&self) -> CrateResult<()> {
            Ok(())
        }
    }

    fn run(texts: &[&str], readable: usize) -> (Vec<Outcome>, Texts) {
        run_in_parts(texts, readable, usize::MAX)
    }

    fn run_in_parts(texts: &[&str], readable: usize, part: usize) -> (Vec<Outcome>, Texts) {
        let keys: Vec<Vec<String>> = texts.iter().map(|text| vec![(*text).to_owned()]).collect();
        let keys: Vec<&[String]> = keys.iter().map(Vec::as_slice).collect();
        let steps = Texts { readable, part, ..Texts::default() };
        (run_batch(&keys, &steps).expect("never cancelled"), steps)
    }

    #[test]
    fn every_row_has_its_own_end() {
        let texts = ["a", "gone", "no chunks", "bb", "same", "no vector", "changed", "no place", "ccc"];
        let (outcomes, _) = run(&texts, 99);
        let failed = || Outcome::Failed(failure(Category::Row));
        let expected = [
            Outcome::Embedded(1),
            Outcome::Gone,
            failed(),
            Outcome::Embedded(2),
            Outcome::Unchanged,
            failed(),
            Outcome::Overtaken,
            failed(),
            Outcome::Embedded(3),
        ];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn rows_that_were_handed_over_are_written_whatever_becomes_of_the_others() {
        let texts = ["a", "bb", "c", "no vector", "ddd", "no place", "e"];
        let whole = run(&texts, 99).0;
        for part in 1..texts.len() {
            assert_eq!(run_in_parts(&texts, 99, part).0, whole, "in parts of {part}");
        }
        let (outcomes, steps) = run_in_parts(&["a", "b", "no model", "c"], 99, 2);
        let failed = || Outcome::Failed(failure(Category::Model));
        assert_eq!(outcomes, [Outcome::Embedded(1), Outcome::Embedded(1), failed(), failed()]);
        assert_eq!((steps.embeddings.get(), steps.writes.get()), (1, 1));
    }

    #[test]
    fn a_batch_without_poison_is_embedded_and_written_at_once() {
        let (outcomes, steps) = run(&["a", "b", "c"], 99);
        assert_eq!(outcomes, vec![Outcome::Embedded(1); 3]);
        assert_eq!((steps.embeddings.get(), steps.writes.get()), (1, 1));
    }

    #[test]
    fn a_model_that_is_gone_is_asked_once_and_nothing_is_written() {
        let (outcomes, steps) = run(&["a", "no model", "c"], 99);
        assert_eq!(outcomes, vec![Outcome::Failed(failure(Category::Model)); 3]);
        assert_eq!((steps.embeddings.get(), steps.writes.get()), (1, 0));
    }

    #[test]
    fn what_kills_the_process_is_tried_once_and_blames_no_row_of_several() {
        let (outcomes, steps) = run(&["a", "deadly", "same"], 99);
        let suspected = Outcome::Failed(Failure::of_death("embedding", false));
        assert_eq!(outcomes, [suspected.clone(), suspected, Outcome::Unchanged]);
        assert_eq!((steps.embeddings.get(), steps.writes.get()), (1, 0));
        let alone = Outcome::Failed(Failure::of_death("embedding", true));
        assert_eq!(run(&["deadly", "same"], 99).0, [alone.clone(), Outcome::Unchanged]);
        // The process has answered for the others before.
        assert_eq!(run_in_parts(&["a", "deadly"], 99, 1).0, [Outcome::Embedded(1), alone]);
    }

    #[test]
    fn rows_behind_large_ones_wait() {
        let expected = [Outcome::Embedded(1), Outcome::Embedded(1), Outcome::Later];
        assert_eq!(run(&["a", "b", "c"], 2).0, expected);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_alone() {
        let outcomes = run(&["a", "b", "no page", "c"], 99).0;
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Embedded(1)).count(), 3);
        assert_eq!(outcomes[2], Outcome::Failed(failure(Category::Row)));
    }

    #[test]
    fn of_two_ends_the_one_that_leaves_more_to_do_counts() {
        use Outcome::{Embedded, Gone, Later, Overtaken, Unchanged};
        let failed = || Outcome::Failed(failure(Category::Model));
        assert_eq!(Unchanged.and(Embedded(2)), Embedded(2));
        assert_eq!(Embedded(1).and(Embedded(2)), Embedded(3));
        assert_eq!(Embedded(1).and(Gone), Embedded(1));
        assert_eq!(Later.and(Unchanged), Later);
        assert_eq!(Embedded(1).and(Overtaken), Overtaken);
        assert_eq!(Embedded(1).and(failed()), failed());
        assert_eq!(failed().and(Later), failed());
    }

    #[test]
    fn entries_of_a_row_are_joined() {
        let entry = |id, keys: &[&str], attempts| Entry {
            id,
            keys: keys.iter().map(|key| vec![(*key).to_owned()]).collect(),
            attempts,
            suspicions: attempts,
        };
        let entries = [entry(1, &["a", "b"], 3), entry(2, &["b", "c", "c"], 0), entry(5, &["a", "d"], 0)];
        let job = |key: &str, last_entry, attempts| Job {
            key: vec![key.to_owned()],
            last_entry,
            attempts,
            suspicions: attempts,
        };
        assert_eq!(join_entries(&entries, 3), [job("a", 5, 0), job("b", 2, 0), job("c", 2, 0)]);
        assert_eq!(join_entries(&entries, 9).len(), 4);
    }
}
