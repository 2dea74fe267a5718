//! From one vector for each token to one vector for the text.

use serde::{Deserialize, Serialize};

/// How the vectors of a text's tokens become the vector of the text (Sentence-BERT, Reimers and
/// Gurevych 2019, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The average over the tokens that are not padding.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl Pooling {
    /// The name used in configuration files, options and `vector_tools.models`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        }
    }

    /// Pools one text: `tokens` holds its `length` token vectors of `dimensions` numbers first,
    /// padding after them. The result is appended to `pooled`.
    pub fn pool(self, tokens: &[f32], length: usize, dimensions: usize, pooled: &mut Vec<f32>) {
        match self {
            Pooling::Cls => pooled.extend_from_slice(&tokens[..dimensions]),
            Pooling::Mean => {
                let start = pooled.len();
                pooled.resize(start + dimensions, 0.0);
                let mean = &mut pooled[start..];
                for token in tokens[..length * dimensions].chunks_exact(dimensions) {
                    for (sum, value) in mean.iter_mut().zip(token) {
                        *sum += value;
                    }
                }
                let count = length.max(1) as f32;
                mean.iter_mut().for_each(|sum| *sum /= count);
            }
        }
    }
}

/// Scales a vector to unit Euclidean length; a zero vector stays as it is, as in
/// `torch.nn.functional.normalize`.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_leaves_padding_out() {
        let mut pooled = vec![];
        Pooling::Mean.pool(&[1.0, 2.0, 3.0, 4.0, 9.0, 9.0], 2, 2, &mut pooled);
        assert_eq!(pooled, [2.0, 3.0]);
    }

    #[test]
    fn cls_takes_the_first_token() {
        let mut pooled = vec![];
        Pooling::Cls.pool(&[1.0, 2.0, 3.0, 4.0], 2, 2, &mut pooled);
        assert_eq!(pooled, [1.0, 2.0]);
    }

    #[test]
    fn normalized_vectors_have_unit_length_and_zero_stays_zero() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
