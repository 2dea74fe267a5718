//! Rows put together from their vectors, which come one after another while the model goes on.

use std::collections::VecDeque;

/// Collects the vectors of rows, in the order of the rows.
#[derive(Debug)]
pub struct Assembly<R, V> {
    /// The rows that are not complete yet, and how many vectors each has.
    waiting: VecDeque<(R, usize)>,
    /// Those that are there.
    vectors: VecDeque<V>,
}

impl<R, V> Assembly<R, V> {
    /// For rows of so many vectors each.
    pub fn new(rows: impl IntoIterator<Item = (R, usize)>) -> Assembly<R, V> {
        Assembly { waiting: rows.into_iter().collect(), vectors: VecDeque::new() }
    }

    /// Takes the next vectors, and gives the rows that are complete now, each with its own.
    pub fn add(&mut self, vectors: Vec<V>) -> Vec<(R, Vec<V>)> {
        self.vectors.extend(vectors);
        let mut complete = Vec::new();
        while let Some((row, count)) = self.waiting.pop_front_if(|(_, count)| *count <= self.vectors.len()) {
            complete.push((row, self.vectors.drain(..count).collect()));
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_complete_with_its_last_vector() {
        let mut assembly = Assembly::new([('a', 0), ('b', 2), ('c', 1), ('d', 0), ('e', 3), ('f', 0)]);
        assert_eq!(assembly.add(vec![1]), [('a', Vec::<i32>::new())]);
        assert_eq!(assembly.add(vec![2, 3, 4]), [('b', vec![1, 2]), ('c', vec![3]), ('d', Vec::new())]);
        assert!(assembly.add(vec![]).is_empty());
        assert_eq!(assembly.add(vec![5, 6]), [('e', vec![4, 5, 6]), ('f', Vec::new())]);
    }

    #[test]
    fn rows_without_vectors_wait_for_none() {
        assert_eq!(Assembly::<_, i32>::new([('a', 0), ('b', 0)]).add(vec![]).len(), 2);
    }
}
