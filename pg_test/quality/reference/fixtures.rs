//! Tiny models, each shaped as one kind of published model, give the vectors computed for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use vector_tools_core::embed::{Embedder, LocalEmbedder, Purpose};
use vector_tools_core::error::Error;
use vector_tools_core::model::{Manifest, ModelOptions};

use crate::setup::{difference, load, root, runtime};

/// A text with what a model must make of it.
#[derive(Deserialize)]
struct Expected {
    text: String,
    /// `query` or `passage`; without one no prefix stands before the text.
    prompt: Option<String>,
    /// With the prefix, truncated.
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

#[test]
fn vectors_are_as_computed() {
    let Some(runtime) = runtime("vectors_are_as_computed") else { return };
    let json = fs::read_to_string(fixture("expected.json")).expect("the fixtures are in the repository");
    let models: BTreeMap<String, Vec<Expected>> = serde_json::from_str(&json).expect("expected.json is JSON");
    assert!(!models.is_empty());
    for (name, expected) in models {
        let no_prefixes = ModelOptions {
            query_prefix: Some(String::new()),
            passage_prefix: Some(String::new()),
            ..ModelOptions::default()
        };
        let [mut plain, mut prompted] = [no_prefixes, ModelOptions::default()].map(|options| {
            let manifest = Manifest::read(&fixture(&name), &options).expect("the folder is readable");
            LocalEmbedder::load(runtime, &manifest, 1).expect("the model loads")
        });
        let (without, with): (Vec<Expected>, Vec<Expected>) =
            expected.into_iter().partition(|expected| expected.prompt.is_none());
        for expected in &without {
            assert_eq!(
                plain.tokenize(&expected.text),
                Ok(expected.ids.clone()),
                "{name}: {:?}",
                expected.text
            );
        }
        check(&name, &mut plain, Purpose::Passage, &without.iter().collect::<Vec<_>>());
        for (purpose, prompt) in [(Purpose::Query, "query"), (Purpose::Passage, "passage")] {
            let asked = with.iter().filter(|expected| expected.prompt.as_deref() == Some(prompt));
            check(&name, &mut prompted, purpose, &asked.collect::<Vec<_>>());
        }
    }
}

/// Embeds the texts together, so that padding is in play, and one by one.
fn check(name: &str, model: &mut LocalEmbedder, purpose: Purpose, expected: &[&Expected]) {
    let texts: Vec<&str> = expected.iter().map(|expected| expected.text.as_str()).collect();
    let mut embed =
        |texts: &[&str]| model.embed(texts, purpose, &mut || Ok(())).expect("the texts can be embedded");
    let together = embed(&texts);
    for (index, expected) in expected.iter().enumerate() {
        let alone = embed(&[&expected.text]);
        for (way, found) in [("in a batch", together.vector(index)), ("alone", alone.vector(0))] {
            let difference = difference(found, &expected.embedding);
            assert!(difference <= 1e-5, "{name}: {:?} {way} differs by {difference}", expected.text);
        }
    }
}

#[test]
fn an_unknown_shape_is_refused() {
    let Some(runtime) = runtime("an_unknown_shape_is_refused") else { return };
    let refused = load(runtime, &fixture("unknown-shape")).err();
    assert!(matches!(refused, Some(Error::UnknownOutputs { .. })), "{refused:?}");
}

fn fixture(name: &str) -> PathBuf {
    root().join("models/fixtures").join(name)
}
