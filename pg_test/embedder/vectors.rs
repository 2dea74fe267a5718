//! The process gives the vectors that a session would compute itself, whoever else asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use vector_tools_core::embed::{Embedder, Purpose};

use crate::models::{FP32, INT8, registered};
use crate::process::{Process, wait_until};

/// Texts of many lengths, from one word to more than a model reads.
pub fn texts(count: usize) -> Vec<String> {
    let words =
        ["package", "libraries", "configuration", "the", "removes", "of", "Zürich", "kernel-module", "42"];
    (0..count)
        .map(|number| {
            let length = 1 + (number * 7919) % if number % 50 == 0 { 700 } else { 60 };
            let word = |place: usize| words[(number * 31 + place * 17) % words.len()];
            (0..length).map(word).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "the vectors have different dimensions");
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

// trust 25
#[test]
fn many_clients_at_once_get_the_vectors_of_the_local_model() {
    let Some(model) = registered("many_clients_at_once", FP32) else { return };
    let process = Process::start(&model.library, &["--threads", "3"]);
    let texts = texts(120);
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = model.local(2).embed(&all, Purpose::Passage, &mut || Ok(())).expect("embedded");
    thread::scope(|scope| {
        for client in 0..12 {
            let (process, model, all, expected) = (&process, &model, &all, &expected);
            scope.spawn(move || {
                let mut session = process.client();
                let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
                // Single ones and arrays, of few tokens and of many.
                let mut start = client * 7;
                for size in [1, 1, 3, 1, 25, 1, 2, 1] {
                    let part = &all[start..start + size];
                    let vectors = shared.embed(part, Purpose::Passage, &mut || Ok(())).expect("embedded");
                    for (place, vector) in vectors.iter().enumerate() {
                        let most = difference(vector, expected.vector(start + place));
                        assert!(most <= 1e-5, "difference {most} for {:?}", part[place]);
                    }
                    start += size;
                }
            });
        }
    });
    let statistics = process.statistics();
    assert_eq!(statistics.models.len(), 1);
    let counted = &statistics.models[0];
    assert_eq!((counted.requests, counted.texts), (12 * 8, 12 * 35));
    assert_eq!((counted.failures, counted.queued, counted.loads), (0, 0, 1));
    assert!(counted.batches > 0 && counted.batches <= counted.texts);
}

#[test]
fn a_long_array_and_no_texts_are_embedded() {
    let Some(model) = registered("a_long_array_and_no_texts_are_embedded", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    let texts = texts(1500);
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let vectors = shared.embed(&all, Purpose::Passage, &mut || Ok(())).expect("embedded");
    assert_eq!(vectors.iter().count(), 1500);
    for vector in vectors.iter() {
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-3, "a vector of length {length}");
    }
    let none = shared.embed(&[], Purpose::Passage, &mut || Ok(())).expect("nothing to do");
    assert_eq!(none.iter().count(), 0);
}

// Also with quantised weights, where a model may scale the numbers of a whole batch at once: a session
// must not get other vectors because another one asks at the same time.
#[test]
fn sessions_at_once_get_the_vectors_of_a_session_alone() {
    let Some(model) = registered("sessions_at_once_get_the_vectors", INT8) else { return };
    let process = Process::start(&model.library, &["--threads", "1"]);
    let texts = texts(64);
    let mut local = model.local(1);
    thread::scope(|scope| {
        for client in 0..8 {
            let (process, model, texts) = (&process, &model, &texts);
            let part: Vec<&str> = texts[client * 8..][..8].iter().map(String::as_str).collect();
            let embed = |text| local.embed(&[text], Purpose::Query, &mut || Ok(())).expect("embedded");
            let alone: Vec<_> = part.iter().copied().map(embed).collect();
            scope.spawn(move || {
                let mut session = process.client();
                let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
                for (text, alone) in part.iter().zip(&alone) {
                    let vectors = shared.embed(&[text], Purpose::Query, &mut || Ok(())).expect("embedded");
                    assert!(difference(vectors.vector(0), alone.vector(0)) <= 1e-5, "{text:?}");
                }
            });
        }
    });
}

#[test]
fn the_same_question_of_many_sessions_runs_once() {
    let Some(model) = registered("the_same_question_of_many_sessions", INT8) else { return };
    let process = Process::start(&model.library, &["--threads", "1"]);
    let question = "what is asked by all";
    let mut local = model.local(1);
    let tokens = local.tokenize(question).expect("tokenized").len() as u64;
    let expected = local.embed(&[question], Purpose::Query, &mut || Ok(())).expect("embedded");
    let answers = AtomicU64::new(0);
    wait_until("one run answers several sessions", || {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut session = process.client();
                    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
                    for _ in 0..10 {
                        let vectors =
                            shared.embed(&[question], Purpose::Query, &mut || Ok(())).expect("embedded");
                        assert!(difference(vectors.vector(0), expected.vector(0)) <= 1e-5);
                        answers.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let counted = &process.statistics().models[0];
        assert_eq!((counted.requests, counted.texts), (answers.load(Relaxed), answers.load(Relaxed)));
        // All questions are of the same length, so that none is padded.
        (counted.batch_tokens < counted.texts * tokens).then_some(())
    });
}

#[test]
fn tokens_are_counted_as_the_local_model_counts_them() {
    let Some(model) = registered("tokens_are_counted_as_the_local_model_counts_them", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    let mut local = model.local(1);
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let long = "a long story about a long road ".repeat(20_000);
    for text in ["", "  ", "Hello, world!", &texts(51)[50], &long] {
        let expected = local.count_tokens(text, &mut || Ok(())).expect("counted");
        let counted = shared.count_tokens(text, &mut || Ok(())).expect("counted");
        assert_eq!(counted, expected, "{} bytes", text.len());
    }
}

// What the process is not sent of a long text must not change its vector.
#[test]
fn texts_longer_than_a_request_have_the_vectors_of_the_local_model() {
    let Some(model) = registered("texts_longer_than_a_request", FP32) else { return };
    let process = Process::start(&model.library, &[]);
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let mut local = model.local(1);
    let blank_first = format!("{}{}", " \n".repeat(2 << 20), "after the blanks");
    let no_blanks = "東京都".repeat(1 << 20);
    let words = "one more word ".repeat(1 << 18);
    let texts = [blank_first.as_str(), &no_blanks, &words, "short"];
    let expected = local.embed(&texts, Purpose::Passage, &mut || Ok(())).expect("embedded");
    let vectors = shared.embed(&texts, Purpose::Passage, &mut || Ok(())).expect("embedded");
    for (place, vector) in vectors.iter().enumerate() {
        assert!(difference(vector, expected.vector(place)) <= 1e-5, "text {place}");
    }
}
