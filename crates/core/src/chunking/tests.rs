//! What holds for the chunks of any text, by tokenizers of three kinds and by a model's own.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::{
    Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generator;
use text_splitter::{ChunkConfig, TextSplitter};

use crate::chunking::*;
use crate::error::Error;
use crate::model::TextTokenizer;

const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../.local/models/all-MiniLM-L6-v2/tokenizer.json");
const LIMIT: usize = 40;

/// Words in pieces, as BERT has them.
const WORD_PIECES: &str = r###"{"version": "1.0", "added_tokens": [
    {"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 2, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [], "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
    "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##a": 4, "b": 5, "##b": 6, "ab": 7, "##ab": 8, "c": 9, "##c": 10, ".": 11, "##aa": 12, "中": 13, "e": 14, "##e": 15}}}"###;

/// A space before every text and every word, and bytes for characters it does not know.
const UNIGRAM: &str = r###"{"version": "1.0", "added_tokens": [],
  "normalizer": {"type": "NFKC"},
  "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
  "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
    "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["b", -3.0], ["▁a", -2.5], ["▁ab", -3.0], ["ab", -4.0], ["c", -3.0], [".", -3.0], ["e", -3.0]]}}"###;

/// Bytes, spaces among them.
fn byte_pairs() -> String {
    // The table of GPT-2: printable bytes stand for themselves, others for characters from 256 on.
    let is_printable =
        |byte: &u32| (33..127).contains(byte) || (161..173).contains(byte) || (174..256).contains(byte);
    let printable = (0..256).filter(is_printable);
    let others =
        (0..256).filter(|byte: &u32| !is_printable(byte)).enumerate().map(|(place, _)| 256 + place as u32);
    let vocabulary: serde_json::Map<String, serde_json::Value> = printable
        .chain(others)
        .filter_map(char::from_u32)
        .map(String::from)
        .chain(["ab".to_owned(), "Ġa".to_owned()])
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    serde_json::json!({
        "version": "1.0", "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["a b", "Ġ a"]}
    })
    .to_string()
}

static TOKENIZERS: LazyLock<Vec<TextTokenizer>> = LazyLock::new(|| {
    let byte_pairs = byte_pairs();
    let load = |json: &str| TextTokenizer::from_json(json.as_bytes(), LIMIT).expect("a tokenizer");
    let mut all = vec![load(WORD_PIECES), load(UNIGRAM), load(&byte_pairs)];
    all.extend(model(LIMIT));
    all
});

fn model(limit: usize) -> Option<TextTokenizer> {
    let json = std::fs::read(Path::new(MODEL)).ok()?;
    Some(TextTokenizer::from_json(&json, limit).expect("the model's own tokenizer loads"))
}

fn options(strategy: Strategy) -> Options {
    Options { strategy, max_tokens: None, overlap: None }
}

fn chunks(text: &str, options: &Options, tokens: &dyn Tokens) -> Vec<Chunk> {
    chunk(text, options, tokens, &mut || Ok(())).expect("chunks")
}

/// Chunks by stretches that are small enough to matter in a test.
fn chunks_by_stretches(
    text: &str,
    options: &Options,
    tokens: &dyn Tokens,
    stretch_bytes: usize,
) -> Vec<Chunk> {
    let overhead = tokens.count(&[""]).expect("counted")[0];
    let sizes = Sizes::new(options, tokens.limit(), overhead).expect("valid");
    let chunker = Chunker { text, strategy: options.strategy, sizes, tokens, stretch_bytes };
    chunker.run(&mut || Ok(())).expect("chunks")
}

/// Checks all that must hold for the chunks of a text.
fn check(text: &str, options: &Options, tokens: &dyn Tokens, chunks: &[Chunk]) {
    let overhead = tokens.count(&[""]).expect("counted")[0];
    let sizes = Sizes::new(options, tokens.limit(), overhead).expect("valid");
    let mut covered = 0;
    let mut last: Option<&Chunk> = None;
    for (place, chunk) in chunks.iter().enumerate() {
        let content = &text[chunk.bytes.clone()];
        assert!(!content.trim().is_empty(), "a blank chunk");
        assert_eq!(content, content.trim_end());
        if options.strategy != Strategy::Markdown {
            assert_eq!(content, content.trim_start());
        }
        // What SQL does with the offsets.
        let by_offsets: String =
            text.chars().skip(chunk.characters.start).take(chunk.characters.len()).collect();
        assert_eq!(by_offsets, content);
        let counted = tokens.count(&[content]).expect("counted")[0];
        assert_eq!(chunk.tokens, counted, "{content:?}");
        let room = if chunk.parent.is_some() { sizes.child_room } else { sizes.room };
        assert!(
            counted <= overhead + room || content.chars().count() == 1,
            "{counted} tokens in {content:?}"
        );
        let previous = last.filter(|previous| previous.parent == chunk.parent);
        if let Some(previous) = previous {
            assert!(chunk.bytes.start > previous.bytes.start && chunk.bytes.end > previous.bytes.end);
            assert!(sizes.overlap > 0 || chunk.bytes.start >= previous.bytes.end);
        }
        match chunk.parent {
            Some(parent) => {
                assert!(parent < place && chunks[parent].parent.is_none());
                let parent = &chunks[parent].bytes;
                assert!(parent.start <= chunk.bytes.start && chunk.bytes.end <= parent.end);
            }
            None => assert_eq!(options.strategy == Strategy::Hierarchical, {
                chunks.get(place + 1).is_some_and(|next| next.parent == Some(place))
            }),
        }
        // Leaves hold all of the text.
        if options.strategy != Strategy::Hierarchical || chunk.parent.is_some() {
            if chunk.bytes.start > covered {
                assert_eq!(text[covered..chunk.bytes.start].trim(), "", "text in no chunk");
            }
            covered = covered.max(chunk.bytes.end);
            last = Some(chunk);
        }
    }
    assert_eq!(text[covered..].trim(), "", "text in no chunk");
}

fn any_text() -> impl Generator<Value = String> {
    let part = prop_oneof![
        "[abce]{1,12}",
        Just("ab ab. Ab ab ab! ".to_owned()),
        " {1,3}",
        Just(" ".repeat(300)),
        Just("\n".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("\u{85}".to_owned()),
        Just("\u{b}\u{c}\u{1}\u{7f}".to_owned()),
        Just("👨‍👩‍👧‍👦🏳️‍🌈".to_owned()),
        Just("e\u{301}\u{302}\u{303}".to_owned()),
        Just(format!("a{}", "\u{308}".repeat(60))),
        Just("\u{200d}\u{200b}\u{feff}".to_owned()),
        Just("ﷺ".to_owned()),
        Just("中国人民 中。".to_owned()),
        Just("東京都に住んでいます。".to_owned()),
        Just("السلام عليكم، كيف الحال؟ ".to_owned()),
        Just("สวัสดีชาวโลกทั้งหลาย".to_owned()),
        Just("x".repeat(400)),
        Just("ab".repeat(90)),
        Just("-".repeat(70)),
        Just("# Ab\n\n".to_owned()),
        Just("```\n# ab\n```\n".to_owned()),
        Just("- ab\n  - ab\n".to_owned()),
        Just("|a|b|\n|-|-|\n|a|b|\n".to_owned()),
        Just("    ab ab\n".to_owned()),
        any::<char>().prop_filter_map("NUL", |c| (c != '\0').then(|| c.to_string())),
        Just("[SEP] [CLS]".to_owned()),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

fn any_options() -> impl Generator<Value = Options> {
    (prop::sample::select(Strategy::ALL.to_vec()), 20i32..50, prop::option::of(0i32..5)).prop_map(
        |(strategy, max_tokens, overlap)| {
            let overlap = overlap.map(|overlap| overlap.min((max_tokens - 2) / 2).min(4));
            Options { strategy, max_tokens: Some(max_tokens), overlap }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // trust 26
    #[test]
    fn nothing_is_lost_and_no_chunk_is_too_large(
        text in any_text(),
        options in any_options(),
        prefix in prop::sample::select(vec!["", "ab: ", "ab"]),
        stretch_bytes in prop::sample::select(vec![200, 1000, 128 << 10]),
    ) {
        for tokenizer in TOKENIZERS.iter() {
            let tokens = PassageTokens { tokenizer, prefix };
            let chunks = chunks_by_stretches(&text, &options, &tokens, stretch_bytes);
            check(&text, &options, &tokens, &chunks);
        }
    }

    #[test]
    fn text_without_white_space_is_cut(
        text in "[^\\s\0]{1,400}",
        options in any_options(),
    ) {
        for tokenizer in TOKENIZERS.iter() {
            let tokens = PassageTokens { tokenizer, prefix: "" };
            check(&text, &options, &tokens, &chunks(&text, &options, &tokens));
        }
    }

    #[test]
    fn a_sliding_chunk_has_the_sentence_that_the_one_before_cut(
        sentences in prop::collection::vec("A[bce]{0,3}( [abce]{1,3}){0,4}\\.", 1..60),
        max_tokens in 24i32..40,
    ) {
        let text = sentences.join(" ");
        let tokens = PassageTokens { tokenizer: &TOKENIZERS[0], prefix: "" };
        let options = Options { strategy: Strategy::Sliding, max_tokens: Some(max_tokens), overlap: None };
        let chunks = chunks(&text, &options, &tokens);
        let mut start = 0;
        for sentence in &sentences {
            let bytes = start..start + sentence.len();
            start = bytes.end + 1;
            let own = tokens.count(&[sentence]).expect("counted")[0] - 2;
            let is_whole = |chunk: &Chunk| chunk.bytes.start <= bytes.start && bytes.end <= chunk.bytes.end;
            prop_assert!(own > max_tokens as usize / 4 || chunks.iter().any(is_whole), "{}", sentence);
        }
    }

    #[test]
    fn stretches_change_no_chunk(words in prop::collection::vec("[abce]{1,6}[.,]?[ \n]{1,2}", 400..600), options in any_options()) {
        prop_assume!(options.strategy != Strategy::Markdown);
        let text = words.concat();
        let tokens = PassageTokens { tokenizer: &TOKENIZERS[0], prefix: "" };
        let whole = chunks_by_stretches(&text, &options, &tokens, 1 << 20);
        prop_assert_eq!(chunks_by_stretches(&text, &options, &tokens, 2000), whole);
    }
}

#[test]
fn an_error_at_a_checkpoint_ends_the_work() {
    let tokens = PassageTokens { tokenizer: &TOKENIZERS[0], prefix: "" };
    let text = "ab ab ab. ".repeat(100_000);
    for strategy in Strategy::ALL {
        let mut calls = 0;
        let mut checkpoint = || {
            calls += 1;
            if calls < 100 { Ok(()) } else { Err(Error::InferenceFailed { reason: "cancelled".into() }) }
        };
        let result = chunk(&text, &options(strategy), &tokens, &mut checkpoint);
        assert!(result.is_err());
        assert_eq!(calls, 100, "{}", strategy.name());
    }
}

#[test]
fn each_strategy_cuts_where_it_says() {
    let Some(tokenizer) = model(256) else { return eprintln!("skipped: the models are not there") };
    let tokens = PassageTokens { tokenizer: &tokenizer, prefix: "" };
    let cut = |text: &str, strategy, max_tokens, overlap| {
        let options = Options { strategy, max_tokens: Some(max_tokens), overlap };
        let found = chunks(text, &options, &tokens);
        found.iter().map(|chunk| text[chunk.bytes.clone()].to_owned()).collect::<Vec<_>>()
    };
    let text = "One two three. Four five six.\n\nSeven eight.\nNine ten eleven twelve.\n";
    assert_eq!(
        cut(text, Strategy::Semantic, 12, None),
        ["One two three. Four five six.", "Seven eight.\nNine ten eleven twelve."]
    );
    assert_eq!(
        cut(text, Strategy::Fixed, 12, Some(0)),
        ["One two three. Four five six.\n\nSeven", "eight.\nNine ten eleven twelve."]
    );
    assert_eq!(
        cut(text, Strategy::Sliding, 14, Some(4)),
        ["One two three. Four five six.\n\nSeven eight.\nNine", "Seven eight.\nNine ten eleven twelve."]
    );
    let markdown =
        "# Pumps\n\nTurn it on.\n\n```\n# no heading\n    indented\n```\n\n## Valves\n\nTurn it off.\n";
    assert_eq!(
        cut(markdown, Strategy::Markdown, 20, None),
        ["# Pumps\n\nTurn it on.\n\n```\n# no heading\n    indented\n```", "## Valves\n\nTurn it off."]
    );
}

#[test]
fn without_an_overlap_a_semantic_chunk_is_that_of_text_splitter() {
    let Some(text) = real_text("scifact", 200_000) else { return };
    let Some(tokenizer) = model(64) else { return eprintln!("skipped: the models are not there") };
    let tokens = PassageTokens { tokenizer: &tokenizer, prefix: "" };
    let bare = tokenizers::Tokenizer::from_file(MODEL).map(|mut bare| {
        bare.with_padding(None);
        bare.with_truncation(None).expect("no truncation");
        bare
    });
    let bare = bare.expect("the model's own tokenizer loads");
    let text = &text[..text.floor_char_boundary(20_000)];
    let splitter = TextSplitter::new(ChunkConfig::new(62).with_sizer(&bare));
    let plain: Vec<&str> = splitter.chunks(text).collect();
    let found = chunks(text, &options(Strategy::Semantic), &tokens);
    let found: Vec<&str> = found.iter().map(|chunk| &text[chunk.bytes.clone()]).collect();
    assert_eq!(found, plain);
}

#[test]
fn real_texts_are_cut() {
    let Some(tokenizer) = model(256) else { return eprintln!("skipped: the models are not there") };
    let tokens = PassageTokens { tokenizer: &tokenizer, prefix: "" };
    for collection in ["scifact", "cranfield", "npl", "wikiqa", "liveqa"] {
        let Some(text) = real_text(collection, 300_000) else { continue };
        for strategy in Strategy::ALL {
            let options = options(strategy);
            let found = chunks(&text, &options, &tokens);
            check(&text, &options, &tokens, &found);
            let tokens: usize = found.iter().map(|chunk| chunk.tokens).sum();
            let mean = tokens as f64 / found.len() as f64;
            assert!(mean > 50.0, "{collection} {}: {mean} tokens on average", strategy.name());
        }
    }
}

/// The first documents of a collection, each a paragraph.
fn real_text(collection: &str, bytes: usize) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/eval")
        .join(collection)
        .join("corpus.jsonl.gz");
    let read = std::process::Command::new("gzip").args(["-dc"]).arg(&path).output();
    let lines = match read {
        Ok(output) if output.status.success() => output.stdout,
        _ => {
            eprintln!("skipped: {collection}, because ../shared/eval/{collection} is not there");
            return None;
        }
    };
    let mut text = String::new();
    for line in String::from_utf8_lossy(&lines).lines() {
        let document: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
        text.push_str(document["text"].as_str().unwrap_or_default());
        text.push_str("\n\n");
        if text.len() > bytes {
            break;
        }
    }
    Some(text)
}
