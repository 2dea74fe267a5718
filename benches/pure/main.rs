//! Times of the code around a model: tokenizing, cutting texts into chunks, planning batches,
//! pooling, fusing, and the formula of a keyword leg.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use text_splitter::{ChunkConfig, TextSplitter};
use vector_tools_core::chunking::{Options, PassageTokens, Strategy, chunk};
use vector_tools_core::embed::batch::plan_batches;
use vector_tools_core::embed::local::DEFAULT_TOKEN_BUDGET;
use vector_tools_core::model::pooling::normalize;
use vector_tools_core::model::{Pooling, TextTokenizer};
use vector_tools_core::search::candidate::{Candidate, Location};
use vector_tools_core::search::fusion::{DEFAULT_RRF_K, Fusion, Weights, fuse, merge};
use vector_tools_core::search::threshold::Formula;

const TOKENIZER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/models/all-MiniLM-L6-v2/tokenizer.json");
const COLLECTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/eval/scifact/corpus.jsonl.gz");
const MAX_TOKENS: usize = 256;
const DIMENSIONS: usize = 384;

criterion_group!(pure, tokenizing, cutting, planning, pooling, fusing, ruling_out);
criterion_main!(pure);

fn tokenizing(criterion: &mut Criterion) {
    let Ok(json) = std::fs::read(Path::new(TOKENIZER)) else {
        eprintln!("skipped: tokenizing, because the models are not there (`make check` brings them)");
        return;
    };
    let tokenizer = TextTokenizer::from_json(&json, MAX_TOKENS).expect("the model's own tokenizer loads");
    let short = "how do I remove a package together with its configuration files";
    let long = format!("{short}. ").repeat(1000);
    criterion.bench_function("tokenize 13 tokens", |bencher| {
        bencher.iter(|| tokenizer.encode(black_box(short)));
    });
    criterion.bench_function("tokenize 64 kB, truncated", |bencher| {
        bencher.iter(|| tokenizer.encode(black_box(&long)));
    });
    criterion.bench_function("count the tokens of 64 kB", |bencher| {
        bencher.iter(|| tokenizer.count(black_box(&long), &mut || Ok(())));
    });
}

/// Cutting a text of 200 kB, beside text-splitter with the same tokenizer as it is.
fn cutting(criterion: &mut Criterion) {
    let (Ok(json), Ok(mut plain)) = (std::fs::read(TOKENIZER), tokenizers::Tokenizer::from_file(TOKENIZER))
    else {
        eprintln!("skipped: cutting, because the models are not there (`make check` brings them)");
        return;
    };
    plain.with_padding(None);
    plain.with_truncation(None).expect("a tokenizer need not truncate");
    let tokenizer = TextTokenizer::from_json(&json, MAX_TOKENS).expect("the model's own tokenizer loads");
    let text = prose(200_000);
    let mut group = criterion.benchmark_group("cut 200 kB");
    group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
    let mut measure = |name: &str, work: &dyn Fn() -> usize| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let began = processor_time();
                (0..times).for_each(|_| {
                    black_box(work());
                });
                processor_time() - began
            });
        });
    };
    let cut = |strategy, prefix| {
        let options = Options { strategy, max_tokens: None, overlap: None };
        let tokens = PassageTokens { tokenizer: &tokenizer, prefix };
        chunk(black_box(&text), &options, &tokens, &mut || Ok(())).map_or(0, |chunks| chunks.len())
    };
    for strategy in Strategy::ALL {
        measure(strategy.name(), &|| cut(strategy, ""));
    }
    measure("semantic, each chunk counted again", &|| cut(Strategy::Semantic, "passage:"));
    let splitter = TextSplitter::new(ChunkConfig::new(MAX_TOKENS - 2).with_sizer(&plain));
    measure("text-splitter alone", &|| splitter.chunks(black_box(&text)).count());
    measure("finding the tokens alone", &|| {
        tokenizer.locate(black_box(&text)).map_or(0, |found| found.len())
    });
    group.finish();
}

/// The time that a processor has worked for this thread, which other work on the machine moves less
/// than the clock's.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("Linux counts the time of each thread"))
}

/// Abstracts of scientific papers, each a paragraph; without them one sentence, repeated.
fn prose(bytes: usize) -> String {
    let lines = Command::new("gzip").args(["-dc", COLLECTION]).output().map(|output| output.stdout);
    let lines = String::from_utf8(lines.unwrap_or_default()).unwrap_or_default();
    let text: String = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|document| Some(format!("{}\n\n", document["text"].as_str()?)))
        .collect();
    let text = if text.is_empty() {
        "A pump moves water from one place to another, and needs power.\n".repeat(bytes / 60)
    } else {
        text
    };
    text[..text.floor_char_boundary(bytes)].to_owned()
}

fn planning(criterion: &mut Criterion) {
    let mut numbers = Numbers(1);
    let lengths: Vec<usize> = (0..2000).map(|_| 8 + numbers.below(MAX_TOKENS - 7)).collect();
    criterion.bench_function("plan batches of 2000 lengths", |bencher| {
        bencher.iter(|| plan_batches(black_box(&lengths), DEFAULT_TOKEN_BUDGET));
    });
}

fn pooling(criterion: &mut Criterion) {
    let mut numbers = Numbers(2);
    let tokens: Vec<f32> =
        (0..MAX_TOKENS * DIMENSIONS).map(|_| numbers.below(2001) as f32 / 1000.0 - 1.0).collect();
    criterion.bench_function("pool and normalize 256 tokens", |bencher| {
        bencher.iter(|| {
            let mut pooled = Vec::with_capacity(DIMENSIONS);
            Pooling::Mean.pool(black_box(&tokens), MAX_TOKENS, DIMENSIONS, &mut pooled);
            normalize(&mut pooled);
            pooled
        });
    });
}

fn fusing(criterion: &mut Criterion) {
    // Every second row of the vector leg is in the keyword leg too.
    let (nearest, matching) = (leg(0, 1), leg(0, 2));
    let weights = Weights { vector: 1.0, text: 1.0 };
    for fusion in [Fusion::ReciprocalRank, Fusion::Adaptive] {
        criterion.bench_function(&format!("fuse 2 legs of 100 rows, {}", fusion.name()), |bencher| {
            bencher.iter_batched(
                || (nearest.clone(), matching.clone()),
                |(nearest, matching)| {
                    let rows = merge(nearest, matching, &mut || Ok(())).expect("nothing stops it");
                    fuse(rows, fusion, DEFAULT_RRF_K, weights, DIMENSIONS, &mut || Ok(()))
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn leg(first: u32, step: u32) -> Vec<Candidate> {
    let candidate = |key: u32| Candidate {
        location: Location { table: 16_384, block: key / 60, offset: (key % 60 + 1) as u16 },
        key: key.to_string(),
        score: f64::from(1000 - key),
    };
    (0..100).map(|rank| candidate(first + rank * step)).collect()
}

fn ruling_out(criterion: &mut Criterion) {
    let bounds: Vec<f64> = (1..=12).rev().map(f64::from).collect();
    criterion.bench_function("formula of 12 words", |bencher| {
        bencher.iter(|| Formula::reaching(black_box(&bounds), black_box(40.0)));
    });
}

/// Numbers that look random and are the same in every run (Lehmer's generator, as in C++'s
/// `minstd_rand`).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        self.0 as usize % limit
    }
}
