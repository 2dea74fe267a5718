//! What a batch leaves in the queue.
//!
//! An entry has many rows, and each has its own end. Those that are done leave the entry; the others
//! stay together where the same has happened to them, so that a model that is out of order costs an
//! entry a line and not a row. A dead row is alone, since it leaves the queue alone, when it changes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::pipeline::{Entry, Failure, Job, Outcome, RetryDecision, decide_retry};

/// How long a row waits that somebody else holds or has changed meanwhile.
const HELD_WAIT: Duration = Duration::from_secs(1);

/// So many rows are in an entry at most: those of a batch.
const MOST_ROWS: usize = 256;

/// So many bytes of keys are in an entry at most, unless one row's are more: what fits into a page.
const MOST_BYTES: usize = 4096;

/// What is to be done with the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueChanges {
    /// Entries that go.
    pub removed: Vec<i64>,
    /// What stays of them.
    pub kept: Vec<Remainder>,
}

/// Rows of an entry that stay in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remainder {
    /// The entry they were in.
    pub of: i64,
    /// Their keys.
    pub keys: Vec<Vec<String>>,
    /// What has happened to them.
    pub state: State,
}

/// What has happened to rows that stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Waiting,
    /// They wait so long, which is no failure.
    Postponed(Duration),
    /// They have failed.
    Failed {
        /// So often.
        attempts: u32,
        /// In this way.
        failure: Failure,
        /// And this becomes of them.
        verdict: RetryDecision,
    },
}

/// Cuts rows into the parts that entries of the queue have.
pub fn in_entries(keys: &[Vec<String>]) -> Vec<&[Vec<String>]> {
    let mut parts = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (place, key) in keys.iter().enumerate() {
        let of_key = bytes_of(key);
        if place > begin && is_full(place - begin, bytes + of_key) {
            parts.push(&keys[begin..place]);
            (begin, bytes) = (place, 0);
        }
        bytes += of_key;
    }
    if begin < keys.len() {
        parts.push(&keys[begin..]);
    }
    parts
}

fn bytes_of(key: &[String]) -> usize {
    // A text of an array has a header.
    key.iter().map(|text| text.len() + 8).sum()
}

fn is_full(rows: usize, bytes: usize) -> bool {
    rows >= MOST_ROWS || bytes > MOST_BYTES
}

/// Says what becomes of entries whose rows, as jobs, had these outcomes. A row that stays does so in the
/// last of its entries. `chance` gives numbers from 0 to 1.
pub fn requeue(
    entries: &[Entry],
    jobs: &[Job],
    outcomes: &[Outcome],
    mut chance: impl FnMut() -> f64,
) -> QueueChanges {
    let known: HashMap<&[String], (&Job, &Outcome)> =
        jobs.iter().zip(outcomes).map(|(job, outcome)| (job.key.as_slice(), (job, outcome))).collect();
    let mut changes = QueueChanges::default();
    for entry in entries {
        let mut kept: Vec<Remainder> = Vec::new();
        let mut seen: HashSet<&[String]> = HashSet::new();
        for key in &entry.keys {
            let found = known.get(key.as_slice());
            let is_elsewhere = found.is_some_and(|(job, _)| job.last_entry != entry.id);
            if is_elsewhere || !seen.insert(key) {
                continue;
            }
            add(&mut kept, entry, key, found.copied(), &mut chance);
        }
        let is_untouched = |remainder: &Remainder| {
            remainder.state == State::Waiting && remainder.keys.len() == entry.keys.len()
        };
        if !kept.first().is_some_and(is_untouched) {
            changes.removed.push(entry.id);
            changes.kept.extend(kept);
        }
    }
    changes
}

/// Adds a row to those that stay of its entry, if it does.
fn add(
    kept: &mut Vec<Remainder>,
    entry: &Entry,
    key: &[String],
    found: Option<(&Job, &Outcome)>,
    chance: &mut impl FnMut() -> f64,
) {
    let state = match found {
        None | Some((_, Outcome::Later)) => State::Waiting,
        Some((_, Outcome::Embedded(_) | Outcome::Unchanged | Outcome::Gone)) => return,
        Some((_, Outcome::Overtaken)) => State::Postponed(HELD_WAIT),
        Some((job, Outcome::Failed(failure))) => {
            // A process that could not be had for long does not count against a row that it dies of then.
            let attempts = 1 + if failure.is_suspicion() { job.suspicions } else { job.attempts };
            let is_same = |remainder: &&mut Remainder| match &remainder.state {
                State::Failed { attempts: known, failure: other, verdict: RetryDecision::After(_) } => {
                    *known == attempts && other == failure
                }
                _ => false,
            };
            if let Some(remainder) = kept.iter_mut().find(is_same) {
                remainder.keys.push(key.to_vec());
                return;
            }
            let verdict = decide_retry(failure, attempts, chance());
            State::Failed { attempts, failure: failure.clone(), verdict }
        }
    };
    let is_alone = matches!(state, State::Failed { .. });
    match kept.iter_mut().find(|remainder| !is_alone && remainder.state == state) {
        Some(remainder) => remainder.keys.push(key.to_vec()),
        None => kept.push(Remainder { of: entry.id, keys: vec![key.to_vec()], state }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::pipeline::{Category, join_entries};
    use proptest::prelude::*;

    fn key(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    fn entry(id: i64, keys: &[&str], attempts: u32) -> Entry {
        Entry { id, keys: keys.iter().map(|name| key(name)).collect(), attempts, suspicions: 0 }
    }

    fn failure(is_permanent: bool) -> Failure {
        let most_attempts = Some(if is_permanent { 1 } else { 10 });
        Failure { category: Category::Row, most_attempts, sqlstate: "22000".into(), message: "x".into() }
    }

    fn outcome(of: &str) -> Outcome {
        match of {
            "done" => Outcome::Embedded(2),
            "gone" => Outcome::Gone,
            "held" => Outcome::Overtaken,
            "later" => Outcome::Later,
            name if name.starts_with("dead") => Outcome::Failed(failure(true)),
            name if name.starts_with("failed") => Outcome::Failed(failure(false)),
            _ => Outcome::Unchanged,
        }
    }

    fn run(entries: &[Entry], most: usize) -> QueueChanges {
        let jobs = join_entries(entries, most);
        let outcomes: Vec<Outcome> = jobs.iter().map(|job| outcome(&job.key[0])).collect();
        requeue(entries, &jobs, &outcomes, || 0.5)
    }

    fn shown(changes: &QueueChanges) -> Vec<(i64, String, &'static str)> {
        let line = |remainder: &Remainder| {
            let keys: Vec<String> = remainder.keys.concat();
            let state = match &remainder.state {
                State::Waiting => "waiting",
                State::Postponed(_) => "postponed",
                State::Failed { verdict: RetryDecision::GiveUp, .. } => "dead",
                State::Failed { .. } => "failed",
            };
            (remainder.of, keys.join(" "), state)
        };
        changes.kept.iter().map(line).collect()
    }

    #[test]
    fn entries_whose_rows_are_done_go() {
        let changes = run(&[entry(1, &["done", "gone"], 0), entry(2, &["same"], 3)], 9);
        assert_eq!(changes, QueueChanges { removed: vec![1, 2], kept: vec![] });
    }

    #[test]
    fn rows_that_stay_are_together_where_the_same_has_happened_and_dead_ones_alone() {
        let keys = ["held", "done", "failed1", "dead1", "later", "failed2", "dead2"];
        let changes = run(&[entry(1, &keys, 0)], 9);
        assert_eq!(changes.removed, [1]);
        let expected = [
            (1, "held".to_owned(), "postponed"),
            (1, "failed1 failed2".to_owned(), "failed"),
            (1, "dead1".to_owned(), "dead"),
            (1, "later".to_owned(), "waiting"),
            (1, "dead2".to_owned(), "dead"),
        ];
        assert_eq!(shown(&changes), expected);
    }

    #[test]
    fn a_row_of_several_entries_stays_in_the_last_and_the_fewest_attempts_count() {
        let changes = run(&[entry(1, &["failed", "done"], 4), entry(2, &["failed", "failed"], 0)], 9);
        assert_eq!(changes.removed, [1, 2]);
        assert_eq!(shown(&changes), [(2, "failed".to_owned(), "failed")]);
        assert!(matches!(changes.kept[0].state, State::Failed { attempts: 1, .. }));
    }

    /// What becomes of one row that has been tried so often, and came under suspicion so often.
    fn after(attempts: u32, suspicions: u32, failure: &Failure) -> State {
        let entries = [Entry { suspicions, ..entry(1, &["a"], attempts) }];
        let outcomes = [Outcome::Failed(failure.clone())];
        let mut changes = requeue(&entries, &join_entries(&entries, 9), &outcomes, || 0.5);
        changes.kept.pop().expect("it stays").state
    }

    #[test]
    fn a_row_that_a_process_dies_of_is_dead_when_it_was_alone_and_often_enough() {
        let alone = Failure::of_death("embedding", true);
        let dead = |state: State| matches!(state, State::Failed { verdict: RetryDecision::GiveUp, .. });
        assert!(!dead(after(3, 3, &alone)));
        assert!(dead(after(4, 4, &alone)));
        assert!(
            !dead(after(99, 99, &Failure::of_death("embedding", false))),
            "expected the others not to be blamed"
        );
    }

    #[test]
    fn what_was_no_row_s_fault_does_not_count_when_a_process_dies_of_it() {
        let alone = Failure::of_death("embedding", true);
        let state = after(9, 0, &alone);
        assert!(
            matches!(state, State::Failed { attempts: 1, verdict: RetryDecision::After(_), .. }),
            "{state:?}"
        );
        let unavailable = Error::EmbedderUnavailable { reason: "no worker is free".into() };
        let state = after(99, 0, &Failure::from_error(&unavailable));
        assert!(
            matches!(state, State::Failed { attempts: 100, verdict: RetryDecision::After(_), .. }),
            "{state:?}"
        );
    }

    #[test]
    fn what_was_not_taken_of_an_entry_waits_on() {
        let changes = run(&[entry(1, &["done", "gone", "same", "b"], 0), entry(2, &["c"], 0)], 2);
        assert_eq!(changes.removed, [1], "expected the second entry to be left as it is");
        assert_eq!(shown(&changes), [(1, "same b".to_owned(), "waiting")]);
    }

    #[test]
    fn entries_are_cut_by_rows_and_by_bytes() {
        assert!(in_entries(&[]).is_empty());
        let sizes =
            |keys: Vec<Vec<String>>| in_entries(&keys).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(vec![key("1"); 600]), [256, 256, 88]);
        let long = key(&"x".repeat(3000));
        assert_eq!(
            sizes(vec![long.clone(), key("1"), long.clone(), key(&"y".repeat(9000)), long]),
            [2, 1, 1, 1]
        );
    }

    proptest! {
        #[test]
        fn no_row_is_lost_or_doubled(
            lists in prop::collection::vec(prop::collection::vec(0usize..12, 1..8), 1..6),
            most in 1usize..20,
        ) {
            let names = ["done", "gone", "held", "later", "dead1", "dead2", "failed1", "failed2", "a", "b", "c", "d"];
            let entries: Vec<Entry> = lists
                .iter()
                .enumerate()
                .map(|(id, list)| entry(id as i64, &list.iter().map(|n| names[*n]).collect::<Vec<_>>(), 0))
                .collect();
            let jobs = join_entries(&entries, most);
            let changes = run(&entries, most);
            let stays = |name: &str| {
                let left = entries.iter().filter(|entry| !changes.removed.contains(&entry.id));
                let left = left.flat_map(|entry| &entry.keys).filter(|key| key[0] == name).count();
                left + changes.kept.iter().flat_map(|r| &r.keys).filter(|key| key[0] == name).count()
            };
            for name in names {
                let is_job = jobs.iter().any(|job| job.key[0] == name);
                let is_done = matches!(outcome(name), Outcome::Embedded(_) | Outcome::Gone | Outcome::Unchanged);
                let is_queued = entries.iter().any(|entry| entry.keys.contains(&key(name)));
                match (is_queued, is_job, is_done) {
                    (true, true, false) => prop_assert_eq!(stays(name), 1, "{}", name),
                    (true, false, _) => prop_assert!(stays(name) >= 1, "{}", name),
                    _ => prop_assert_eq!(stays(name), 0, "{}", name),
                }
            }
        }
    }
}
