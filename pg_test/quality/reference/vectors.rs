//! Known texts have the vectors and the numbers of tokens that sentence-transformers gives.

use vector_tools_core::embed::Embedder;

use crate::setup::{FP32, INT8, collections, cosine, difference, embed, embed_one, model, say};

// trust 25
#[test]
fn fp32_vectors_equal_the_reference() {
    let Some(mut model) = model("fp32_vectors_equal_the_reference", FP32) else { return };
    for (name, samples) in collections("fp32_vectors_equal_the_reference") {
        let mut least: f64 = 1.0;
        let mut most: f32 = 0.0;
        for sample in &samples {
            let vector = embed_one(&mut model, &sample.text);
            let (cosine, difference) =
                (cosine(&vector, &sample.embedding), difference(&vector, &sample.embedding));
            assert!(cosine >= 0.9999, "cosine {cosine} for {:?}", sample.text);
            assert!(difference <= 1e-4, "difference {difference} for {:?}", sample.text);
            (least, most) = (least.min(cosine), most.max(difference));
        }
        let count = samples.len();
        say(&format!(
            "fp32, {count} {name} samples: cosine at least {least:.7}, difference at most {most:.1e}"
        ));
    }
}

#[test]
fn int8_vectors_are_near_the_reference() {
    let Some(mut model) = model("int8_vectors_are_near_the_reference", INT8) else { return };
    for (name, samples) in collections("int8_vectors_are_near_the_reference") {
        let cosines: Vec<f64> = samples
            .iter()
            .map(|sample| {
                let cosine = cosine(&embed_one(&mut model, &sample.text), &sample.embedding);
                assert!(cosine >= 0.98, "cosine {cosine} for {:?}", sample.text);
                cosine
            })
            .collect();
        let least = cosines.iter().copied().fold(1.0, f64::min);
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        assert!(mean >= 0.99, "cosine {mean} on average");
        say(&format!(
            "int8, {} {name} samples: cosine {mean:.5} on average, at least {least:.5}",
            cosines.len()
        ));
    }
}

#[test]
fn tokens_are_counted_as_the_reference_counts_them() {
    let Some(mut model) = model("tokens_are_counted_as_the_reference_counts_them", FP32) else { return };
    for (_, samples) in collections("tokens_are_counted_as_the_reference_counts_them") {
        for sample in samples {
            let counted =
                model.count_tokens(&sample.text, &mut || Ok(())).expect("the text can be tokenized");
            assert_eq!(counted, sample.tokens, "{:?}", sample.text);
        }
    }
}

#[test]
fn a_text_alone_and_in_a_batch_has_one_vector() {
    let Some(mut model) = model("a_text_alone_and_in_a_batch_has_one_vector", FP32) else { return };
    for (name, samples) in collections("a_text_alone_and_in_a_batch_has_one_vector") {
        let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
        let together = embed(&mut model, &texts);
        let differences = texts
            .iter()
            .zip(together.iter())
            .map(|(text, vector)| difference(&embed_one(&mut model, text), vector));
        let most = differences.fold(0.0, f32::max);
        assert!(most <= 1e-5, "difference {most} between alone and in a batch");
        say(&format!("fp32, {name} samples: alone and in a batch differ by {most:.1e} at most"));
    }
}
