//! Texts of 10 MB have the vectors of their beginning, and are done soon.

use vector_tools_core::embed::LocalEmbedder;

use crate::setup::{FP32, difference, embed_one, model};

const BYTES: usize = 10_000_000;

#[test]
fn words() {
    let words = "the quick brown fox jumps over the lazy dog, ";
    check("words", &words.repeat(BYTES / words.len()), &words.repeat(100));
}

#[test]
fn one_unbroken_word() {
    // However long it is, it is one unknown word.
    check("one_unbroken_word", &"x".repeat(BYTES), &"x".repeat(1000));
}

#[test]
fn chinese_without_white_space() {
    let text = "東京都の人口は増えている。";
    check("chinese_without_white_space", &text.repeat(BYTES / text.len()), &text.repeat(100));
}

#[test]
fn blanks_then_text() {
    let text = format!("{}a text after many blanks", " \n".repeat(BYTES / 2));
    check("blanks_then_text", &text, "a text after many blanks");
}

#[test]
fn a_word_then_blanks_then_text() {
    let text = format!("first{}second", " ".repeat(BYTES));
    let Some(mut model) = model("a_word_then_blanks_then_text", FP32) else { return };
    // What follows the first mebibyte may be left out, but it must not be an error or take long.
    let vector = embed_one(&mut model, &text);
    let alike = ["first", "first second"].map(|short| difference(&vector, &embed_one(&mut model, short)));
    assert!(alike.iter().any(|difference| *difference <= 1e-5), "neither of them: {alike:?}");
}

#[test]
fn marks_that_make_no_token() {
    // Combining marks are stripped, so that the word is left.
    let text = format!("word{}", "\u{301}".repeat(BYTES / 2));
    check("marks_that_make_no_token", &text, "word");
}

fn check(test: &str, long: &str, beginning: &str) {
    let Some(mut model) = model(test, FP32) else { return };
    let expected = embed_one(&mut model, beginning);
    let began = std::time::Instant::now();
    let found = embed_one(&mut model, long);
    let took = began.elapsed().as_secs_f64();
    let difference = difference(&found, &expected);
    assert!(difference <= 1e-5, "the vector of the long text differs by {difference}");
    // Generous: without optimisation on a busy machine it takes a few.
    assert!(took < 60.0, "the long text took {took:.0} s");
}

#[test]
fn a_window_is_large_enough_for_many_short_texts() {
    let Some(mut model) = model("a_window_is_large_enough_for_many_short_texts", FP32) else { return };
    only_the_limit_counts(&mut model, "a b ", 1000);
    only_the_limit_counts(&mut model, "internationalisation antidisestablishmentarianism ", 1000);
    only_the_limit_counts(&mut model, "!?", 4000);
}

/// What follows the model's limit changes nothing.
fn only_the_limit_counts(model: &mut LocalEmbedder, part: &str, times: usize) {
    let short = part.repeat(times);
    let long = part.repeat(2 * times) + " and another end";
    let difference = difference(&embed_one(model, &short), &embed_one(model, &long));
    assert!(difference <= 1e-5, "what follows the limit changed the vector of {part:?} by {difference}");
}
