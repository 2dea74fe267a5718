//! Loops over many rows that can be stopped: they call a checkpoint now and then, which fails when the work shall
//! end.

use std::cmp::Ordering;

use crate::embed::Checkpoint;
use crate::error::Result;

/// Steps between two calls of the checkpoint; each takes some microseconds at most.
const STEPS: u32 = 1024;

/// Rows that are sorted at once.
const RUN_ROWS: usize = 8192;

/// The steps of a long loop.
pub struct Steps<'a> {
    checkpoint: Checkpoint<'a>,
    left: u32,
}

impl<'a> Steps<'a> {
    /// Steps that call `checkpoint` every so often.
    pub fn new(checkpoint: Checkpoint<'a>) -> Steps<'a> {
        Steps { checkpoint, left: STEPS }
    }

    /// Goes one step further.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn step(&mut self) -> Result<()> {
        self.left -= 1;
        if self.left > 0 {
            return Ok(());
        }
        self.left = STEPS;
        (self.checkpoint)()
    }
}

/// Sorts rows as [`slice::sort_by`] does; equal ones keep their order.
///
/// # Errors
/// Those of `checkpoint`.
pub fn sorted<T>(
    rows: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    checkpoint: Checkpoint,
) -> Result<Vec<T>> {
    let mut rest = rows.into_iter();
    let mut runs: Vec<Vec<T>> = Vec::new();
    loop {
        let mut run: Vec<T> = rest.by_ref().take(RUN_ROWS).collect();
        if run.is_empty() {
            break;
        }
        run.sort_by(&compare);
        runs.push(run);
        checkpoint()?;
    }
    let mut steps = Steps::new(checkpoint);
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(first) = pairs.next() {
            merged.push(match pairs.next() {
                Some(second) => merged_runs(first, second, &compare, &mut steps)?,
                None => first,
            });
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

fn merged_runs<T>(
    first: Vec<T>,
    second: Vec<T>,
    compare: &impl Fn(&T, &T) -> Ordering,
    steps: &mut Steps,
) -> Result<Vec<T>> {
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    loop {
        steps.step()?;
        let takes_second = match (first.peek(), second.peek()) {
            (Some(a), Some(b)) => compare(b, a) == Ordering::Less,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => return Ok(merged),
        };
        merged.extend(if takes_second { second.next() } else { first.next() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    fn stopped() -> Error {
        Error::NoSchema
    }

    #[test]
    fn long_loops_stop_where_the_checkpoint_says_so() {
        let mut calls = 0;
        let mut checkpoint = || {
            calls += 1;
            if calls < 3 { Ok(()) } else { Err(stopped()) }
        };
        let mut steps = Steps::new(&mut checkpoint);
        let taken = (0..u32::MAX).take_while(|_| steps.step().is_ok()).count();
        assert_eq!(taken as u32, 3 * STEPS - 1);
        let rows: Vec<usize> = (0..10 * RUN_ROWS).rev().collect();
        let mut left = 12;
        let result = sorted(rows, usize::cmp, &mut || {
            left -= 1;
            if left > 0 { Ok(()) } else { Err(stopped()) }
        });
        assert_eq!(result, Err(stopped()), "expected the merging to look at the checkpoint, too");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn rows_are_sorted_as_the_standard_library_does(
            numbers in prop::collection::vec(0u8..50, 0..100),
            copies in 1usize..600,
        ) {
            let rows: Vec<(u8, usize)> = numbers.iter().copied().cycle().take(numbers.len() * copies).zip(0..).collect();
            let mut expected = rows.clone();
            expected.sort_by_key(|row| row.0);
            let found = sorted(rows, |a, b| a.0.cmp(&b.0), &mut || Ok(()));
            prop_assert_eq!(found, Ok(expected));
        }
    }
}
