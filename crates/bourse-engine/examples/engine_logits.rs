//! Writes the logits of every position of a token sequence, as little-endian 32-bit floats.
//!
//! `cargo run --release -p bourse-engine --example engine_logits -- MODEL IDS OUT`, where IDS is a file of
//! token ids between white space.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bourse_engine::{LoadOptions, Model, Stage, StageInput, StageRow};

const CHUNK_TOKENS: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, out] = &arguments[..] else { return Err("three arguments: MODEL IDS OUT".into()) };
    let tokens =
        std::fs::read_to_string(ids)?.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let model = Arc::new(Model::load(Path::new(model), &LoadOptions::default(), &mut |_| {})?);
    let mut stage = Stage::new(model, 1, tokens.len());
    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    for (chunk, tokens) in tokens.chunks(CHUNK_TOKENS).enumerate() {
        let rows: Vec<StageRow> =
            (0..tokens.len()).map(|i| StageRow { sequence: 0, position: chunk * CHUNK_TOKENS + i }).collect();
        let hidden = stage.run(&rows, StageInput::Tokens(tokens))?;
        for logit in stage.logits(&hidden)? {
            out.write_all(&logit.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}
