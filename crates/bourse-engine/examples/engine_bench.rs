//! Measures the engine on a model file and prints one line of JSON.
//!
//! `cargo run --release -p bourse-engine --example engine_bench -- MODEL [scalar|avx2|avx512]`
//!
//! One thread; tokens per CPU-second of that thread (Linux's run-time counter, so that a busy machine shows
//! less than in wall time), the prompt and the answers through the batch engine as in service. Peak memory is
//! the process's, with the cache that these runs need.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bourse_engine::{
    BatchEngine, EngineConfig, KernelChoice, LoadOptions, Model, SamplingParams, SequenceRequest, StepEvent,
};

const PROMPT_TOKENS: usize = 512;
const ANSWER_TOKENS: u32 = 128;
const BATCH_ANSWER_TOKENS: u32 = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a GGUF file")?;
    let kernel = match arguments.next().as_deref() {
        None => KernelChoice::Auto,
        Some("scalar") => KernelChoice::Scalar,
        Some("avx2") => KernelChoice::Avx2,
        Some("avx512") => KernelChoice::Avx512Vnni,
        Some(other) => return Err(format!("no kernel is called {other}").into()),
    };
    let start = Instant::now();
    let options = LoadOptions { kernel, ..LoadOptions::default() };
    let model = Arc::new(Model::load(Path::new(&path), &options, &mut |_| {})?);
    let load_seconds = start.elapsed().as_secs_f64();
    let info = model.info().clone();
    // A token or two warms caches and page tables before anything is timed.
    run(&model, 1, 8, 2)?;
    let result = serde_json::json!({
        "engine": "bourse",
        "kernel": format!("{:?}", info.kernel),
        "load_seconds": load_seconds,
        "prompt_512": PROMPT_TOKENS as f64 / run(&model, 1, PROMPT_TOKENS, 1)?,
        "decode_1": f64::from(ANSWER_TOKENS) / run(&model, 1, 1, ANSWER_TOKENS)?,
        "decode_8": 8.0 * f64::from(BATCH_ANSWER_TOKENS) / run(&model, 8, 1, BATCH_ANSWER_TOKENS)?,
        "decode_32": 32.0 * f64::from(BATCH_ANSWER_TOKENS) / run(&model, 32, 1, BATCH_ANSWER_TOKENS)?,
        "weight_bytes": info.weight_bytes,
        "kv_bytes": info.kv_bytes_per_token * KV_TOKENS as u64,
        "peak_rss_bytes": peak_rss_bytes()?,
    });
    println!("{result}");
    Ok(())
}

/// Cache for the largest run: 32 sequences of two blocks, or the long prompt.
const KV_TOKENS: usize = 2048;

/// CPU-seconds that so many sequences take.
fn run(
    model: &Arc<Model>,
    sequences: u32,
    prompt_tokens: usize,
    max_tokens: u32,
) -> Result<f64, Box<dyn std::error::Error>> {
    let config = EngineConfig { threads: 1, kv_tokens_max: KV_TOKENS, ..EngineConfig::default() };
    let mut engine = BatchEngine::new(Arc::clone(model), config)?;
    let vocab_size = model.info().vocab_size as u32;
    for sequence in 0..sequences {
        let prompt = (0..prompt_tokens as u32).map(|i| (i * 7919 + 13 + sequence * 7) % vocab_size).collect();
        engine.submit(SequenceRequest {
            prompt,
            max_tokens,
            sampling: SamplingParams::greedy(),
            run_seed: [0; 32],
            stop_tokens: Vec::new(),
            logprobs: None,
        })?;
    }
    let mut events: Vec<StepEvent> = Vec::new();
    let start = cpu_seconds()?;
    while !engine.step(&mut events).idle {
        events.clear();
    }
    Ok(cpu_seconds()? - start)
}

/// Time that this thread has run.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanoseconds * 1e-9)
}

fn peak_rss_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
