//! How fast tokens are counted with the real model's tokenizer (`BOURSE_TEST_MODEL`): a text at once and piece by piece
//! as a stream is, and a chat with its template, at sizes around the bounds of what is counted where.

use bourse_tokens::{PinnedTokenizer, testing};
use bourse_types::UnixMs;
use bourse_wire::node::Prompt;
use bourse_wire::tokens::{RunningCount, TokenCounter as _};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// Prose and code, as buyers send it.
const TEXT: &str = "It was the best of times, it was the worst of times; in 1859 nobody had asked why.\n\
                    fn main() {\n    println!(\"{} tokens\", count(&text));\n}\n";
/// What one event of a stream brings.
const PIECE_BYTES: usize = 5;

fn count(c: &mut Criterion) {
    let Some(path) = testing::model_path() else { return };
    let Ok(tokenizer) = PinnedTokenizer::open(&path, None, None) else { return };
    let mut group = c.benchmark_group("count");
    for bytes in [256usize, 1_024, 16 * 1_024, 256 * 1_024] {
        let text = TEXT.repeat(bytes / TEXT.len() + 1);
        let text = &text[..bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("text", bytes), |b| b.iter(|| tokenizer.text(black_box(text))));
        group.bench_function(BenchmarkId::new("stream", bytes), |b| {
            b.iter(|| {
                let mut count = RunningCount::default();
                for piece in text.as_bytes().chunks(PIECE_BYTES) {
                    count.push(std::str::from_utf8(piece).unwrap_or_default(), &tokenizer);
                }
                count.total(&tokenizer)
            });
        });
        let messages = serde_json::json!([{"role": "user", "content": text}]);
        let prompt = Prompt::Chat { messages_json: messages.to_string(), tools_json: None };
        group.bench_function(BenchmarkId::new("chat", bytes), |b| {
            b.iter(|| tokenizer.prompt(black_box(&prompt), UnixMs(0)));
        });
    }
    group.finish();
}

criterion_group!(benches, count);
criterion_main!(benches);
