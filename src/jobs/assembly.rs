//! Rows put together from their vectors, which come one after another while the model goes on.

use std::collections::VecDeque;

/// Collects the vectors of rows, in the order of the rows.
#[derive(Debug)]
pub struct Assembly<V> {
    /// The vectors of each row that is not complete yet.
    counts: VecDeque<usize>,
    /// Those that are there.
    vectors: VecDeque<V>,
}

impl<V> Assembly<V> {
    /// For rows of so many vectors each.
    pub fn new(counts: impl IntoIterator<Item = usize>) -> Assembly<V> {
        Assembly { counts: counts.into_iter().collect(), vectors: VecDeque::new() }
    }

    /// Takes the next vectors, and gives those of each row that is complete now.
    pub fn add(&mut self, vectors: Vec<V>) -> Vec<Vec<V>> {
        self.vectors.extend(vectors);
        let mut rows = Vec::new();
        while let Some(count) = self.counts.pop_front_if(|count| *count <= self.vectors.len()) {
            rows.push(self.vectors.drain(..count).collect());
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_complete_with_its_last_vector() {
        let mut assembly = Assembly::new([0, 2, 1, 0, 3, 0]);
        assert_eq!(assembly.add(vec![1]), [Vec::<i32>::new()]);
        assert_eq!(assembly.add(vec![2, 3, 4]), [vec![1, 2], vec![3], Vec::new()]);
        assert!(assembly.add(vec![]).is_empty());
        assert_eq!(assembly.add(vec![5, 6]), [vec![4, 5, 6], Vec::new()]);
    }

    #[test]
    fn rows_without_vectors_wait_for_none() {
        assert_eq!(Assembly::<i32>::new([0, 0]).add(vec![]).len(), 2);
    }
}
