//! Times of the code around a model: tokenizing, planning batches, pooling, fusing.

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vector_tools::embedding::batch::plan_batches;
use vector_tools::embedding::local::DEFAULT_TOKEN_BUDGET;
use vector_tools::model::pooling::normalize;
use vector_tools::model::{Pooling, TextTokenizer};
use vector_tools::search::candidate::{Candidate, Location};
use vector_tools::search::fusion::{DEFAULT_RRF_K, fuse_by_rank};

const TOKENIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.local/models/all-MiniLM-L6-v2/tokenizer.json");
const MAX_TOKENS: usize = 256;
const DIMENSIONS: usize = 384;

criterion_group!(pure, tokenizing, planning, pooling, fusing);
criterion_main!(pure);

fn tokenizing(criterion: &mut Criterion) {
    let Ok(json) = std::fs::read(Path::new(TOKENIZER)) else {
        eprintln!("skipped: tokenizing, because the models are not there (`make test-pure` brings them)");
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
    let (vector_leg, keyword_leg) = (leg(0, 1), leg(0, 2));
    criterion.bench_function("fuse 2 legs of 100 rows", |bencher| {
        bencher.iter_batched(
            || (vector_leg.clone(), keyword_leg.clone()),
            |(vector_leg, keyword_leg)| fuse_by_rank(vector_leg, keyword_leg, DEFAULT_RRF_K, 1.0, 1.0),
            BatchSize::SmallInput,
        );
    });
}

fn leg(first: usize, step: usize) -> Vec<Candidate> {
    let candidate = |key: usize| Candidate {
        location: Location { table: 16_384, row: format!("({},{})", key / 60, key % 60 + 1) },
        key: key.to_string(),
    };
    (0..100).map(|rank| candidate(first + rank * step)).collect()
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
