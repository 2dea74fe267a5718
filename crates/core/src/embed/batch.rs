//! Grouping sequences of like length, so that little of a batch is padding.

/// Plans the batches for sequences of the given lengths: indices into `lengths`, longest
/// sequences first, each batch padded to its longest and holding at most `token_budget` tokens
/// with padding (a single longer sequence makes a batch of its own).
///
/// The longest come first so that a model's memory need shows at once.
pub fn plan_batches(lengths: &[usize], token_budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut width = 0;
    for index in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * width <= token_budget => batch.push(index),
            _ => {
                width = lengths[index].max(1);
                batches.push(vec![index]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn like_lengths_share_a_batch() {
        let batches = plan_batches(&[3, 100, 4, 98, 5], 200);
        assert_eq!(batches, [vec![1, 3], vec![4, 2, 0]]);
    }

    #[test]
    fn no_texts_make_no_batches() {
        assert!(plan_batches(&[], 100).is_empty());
    }

    proptest! {
        #[test]
        fn every_sequence_is_in_one_batch_within_the_budget(
            lengths in prop::collection::vec(0usize..300, 0..200),
            budget in 1usize..2000,
        ) {
            let batches = plan_batches(&lengths, budget);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let width = batch.iter().map(|index| lengths[*index]).max().unwrap_or(0);
                prop_assert!(batch.len() == 1 || batch.len() * width <= budget);
            }
        }
    }
}
