//! Halving a batch until what fails in it is alone.

use crate::pipeline::Failure;

/// Does `work` for all items at once, and where that fails for the sake of some row, for each half.
/// The result of each item stands in its place. `n` items of which one fails cost about
/// `2 · log2(n)` more calls.
pub fn bisect<T, R>(
    items: &[T],
    work: &mut impl FnMut(&[T]) -> Result<Vec<R>, Failure>,
) -> Vec<Result<R, Failure>> {
    if items.is_empty() {
        return vec![];
    }
    match work(items) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(failure) if items.len() == 1 || !failure.is_found_by_halving() => {
            items.iter().map(|_| Err(failure.clone())).collect()
        }
        Err(_) => {
            let (first, second) = items.split_at(items.len() / 2);
            let mut results = bisect(first, work);
            results.extend(bisect(second, work));
            results
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Category;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn failure(category: Category) -> Failure {
        Failure { category, most_attempts: Some(1), sqlstate: "22000".into(), message: "poison".into() }
    }

    fn run(poison: &BTreeSet<usize>, items: &[usize]) -> (Vec<Result<usize, Failure>>, usize) {
        let mut calls = 0;
        let results = bisect(items, &mut |part: &[usize]| {
            calls += 1;
            match part.iter().any(|item| poison.contains(item)) {
                true => Err(failure(Category::Row)),
                false => Ok(part.iter().map(|item| item * 10).collect()),
            }
        });
        (results, calls)
    }

    #[test]
    fn one_poison_row_costs_a_few_calls() {
        let items: Vec<usize> = (0..256).collect();
        let (results, calls) = run(&BTreeSet::from([77]), &items);
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
        assert!(results[77].is_err());
        assert_eq!(calls, 17);
    }

    #[test]
    fn a_model_that_fails_is_asked_once() {
        let mut calls = 0;
        let results: Vec<Result<(), Failure>> = bisect(&[1, 2, 3, 4], &mut |_: &[i32]| {
            calls += 1;
            Err(failure(Category::Model))
        });
        assert_eq!((results.len(), calls), (4, 1));
    }

    #[test]
    fn nothing_needs_no_call() {
        assert_eq!(run(&BTreeSet::new(), &[]), (vec![], 0));
    }

    proptest! {
        #[test]
        fn every_item_has_its_own_result(
            poison in prop::collection::btree_set(0usize..100, 0..10),
            count in 0usize..100,
        ) {
            let items: Vec<usize> = (0..count).collect();
            let (results, _) = run(&poison, &items);
            prop_assert_eq!(results.len(), count);
            for (item, result) in items.iter().zip(&results) {
                prop_assert_eq!(result.is_err(), poison.contains(item));
                if let Ok(result) = result {
                    prop_assert_eq!(*result, item * 10);
                }
            }
        }
    }
}
