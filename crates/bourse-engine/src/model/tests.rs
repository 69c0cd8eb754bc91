//! Loading, and the promise of the house: the same bits on every path.

use std::sync::Arc;

use crate::gguf::TensorType;
use crate::testing::{Random, Recipe, TestModel, test_model};
use crate::{KernelChoice, LoadError, LoadOptions, Model, Stage, StageError, StageInput, StageRow};

/// Tokens of the identity tests.
const TOKENS: usize = 320;

type RowHashes = Vec<blake3::Hash>;

fn load(model: &TestModel, options: &LoadOptions) -> Arc<Model> {
    Arc::new(Model::load(model.path(), options, &mut |_| {}).unwrap())
}

fn tokens(model: &Model) -> Vec<u32> {
    let mut random = Random(3);
    (0..TOKENS).map(|_| (random.bits() % model.info().vocab_size as u64) as u32).collect()
}

fn rows(sequence: u64, positions: std::ops::Range<usize>) -> Vec<StageRow> {
    positions.map(|position| StageRow { sequence, position }).collect()
}

/// A hash of each row of logits.
fn hashes(stage: &mut Stage, hidden: &[f32], width: usize) -> RowHashes {
    hidden
        .chunks(width * 64)
        .flat_map(|hidden| {
            let logits = stage.logits(hidden).unwrap();
            let vocab_size = logits.len() / (hidden.len() / width);
            let row = |row: &[f32]| {
                let bytes: Vec<u8> = row.iter().flat_map(|logit| logit.to_le_bytes()).collect();
                blake3::hash(&bytes)
            };
            logits.chunks_exact(vocab_size).map(row).collect::<Vec<_>>()
        })
        .collect()
}

/// Runs the tokens in chunks and hashes the logits of every position.
fn chunked(model: &Arc<Model>, threads: usize, chunk: usize, tokens: &[u32]) -> RowHashes {
    let mut stage = Stage::new(Arc::clone(model), threads, TOKENS);
    let width = model.info().width;
    let mut found = Vec::new();
    for start in (0..tokens.len()).step_by(chunk) {
        let end = tokens.len().min(start + chunk);
        let hidden = stage.run(&rows(0, start..end), StageInput::Tokens(&tokens[start..end])).unwrap();
        found.extend(hashes(&mut stage, &hidden, width));
    }
    found
}

#[test]
fn decoding_prefill_chunks_and_threads_give_equal_bits() {
    let file = test_model();
    let model = load(&file, &LoadOptions::default());
    let tokens = tokens(&model);
    let decoded = chunked(&model, 1, 1, &tokens);
    assert_eq!(decoded.len(), TOKENS);
    for (threads, chunk) in [(1, TOKENS), (1, 37), (2, 128), (4, 128), (2, TOKENS), (4, 37)] {
        assert!(chunked(&model, threads, chunk, &tokens) == decoded, "{threads} threads, chunks of {chunk}");
    }
    // Decoding on many threads splits the work differently from prefill; a part of the tokens suffices.
    assert!(chunked(&model, 4, 1, &tokens[..64]) == decoded[..64], "decoding on 4 threads");
}

#[test]
fn a_batch_with_strangers_gives_equal_bits() {
    let file = test_model();
    let model = load(&file, &LoadOptions::default());
    let tokens = tokens(&model);
    let alone = chunked(&model, 2, TOKENS, &tokens);
    let mut stage = Stage::new(Arc::clone(&model), 2, TOKENS * 8);
    let width = model.info().width;
    let mut found = Vec::new();
    for position in 0..TOKENS {
        // The sequence under test changes its place among the strangers from step to step.
        let order: Vec<u64> = (0..8).map(|i| (i + position as u64) % 8).collect();
        let batch: Vec<StageRow> = order.iter().map(|&sequence| StageRow { sequence, position }).collect();
        let inputs: Vec<u32> =
            order.iter().map(|&sequence| tokens[(position + sequence as usize * 31) % TOKENS]).collect();
        let hidden = stage.run(&batch, StageInput::Tokens(&inputs)).unwrap();
        let place = order.iter().position(|&sequence| sequence == 0).unwrap();
        found.extend(hashes(&mut stage, &hidden[place * width..(place + 1) * width], width));
    }
    assert!(found == alone);
}

#[test]
fn kernels_give_equal_bits() {
    let file = test_model();
    let on = |kernel| load(&file, &LoadOptions { kernel, ..LoadOptions::default() });
    let available = KernelChoice::available();
    let mut expected = None;
    for kernel in [KernelChoice::Scalar, KernelChoice::Avx2, KernelChoice::Avx512Vnni] {
        if !available.contains(&kernel) {
            println!("NOT compared, because this CPU lacks it: {kernel:?}");
            let options = LoadOptions { kernel, ..LoadOptions::default() };
            let refused = Model::load(file.path(), &options, &mut |_| {});
            assert!(matches!(refused, Err(LoadError::Kernel(lacking)) if lacking == kernel));
            continue;
        }
        println!("kernel compared: {kernel:?}");
        let model = on(kernel);
        let found = chunked(&model, 2, 128, &tokens(&model));
        assert!(*expected.get_or_insert_with(|| found.clone()) == found, "{kernel:?}");
    }
    assert_eq!(on(KernelChoice::Auto).info().kernel, *available.last().unwrap());
}

#[test]
fn three_stages_give_equal_bits() {
    let file = test_model();
    let whole = load(&file, &LoadOptions::default());
    let (layers, width) = (whole.info().layers, whole.info().width);
    let tokens = tokens(&whole);
    let expected = chunked(&whole, 2, 128, &tokens);
    let third = layers / 3;
    let mut stages: Vec<Stage> = [0..third, third..2 * third, 2 * third..layers]
        .into_iter()
        .map(|range| {
            let part = load(&file, &LoadOptions { layers: Some(range), ..LoadOptions::default() });
            assert_eq!(part.commitment(), whole.commitment(), "a stage commits to the whole model");
            Stage::new(part, 2, TOKENS)
        })
        .collect();
    let mut found = Vec::new();
    // A prompt in chunks, then single tokens; hidden states travel as bytes.
    for positions in [0..100, 100..250].into_iter().chain((250..TOKENS).map(|at| at..at + 1)) {
        let rows = rows(0, positions.clone());
        let mut hidden = stages[0].run(&rows, StageInput::Tokens(&tokens[positions])).unwrap();
        for stage in &mut stages[1..] {
            let wire: Vec<u8> = hidden.iter().flat_map(|number| number.to_le_bytes()).collect();
            hidden = wire.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            hidden = stage.run(&rows, StageInput::Hidden(&hidden)).unwrap();
        }
        found.extend(hashes(&mut stages[2], &hidden, width));
    }
    assert!(found == expected);
    assert_eq!(stages[0].logits(&vec![0.0; width]), Err(StageError::NoHead));
    let refused = stages[1].run(&rows(0, 0..1), StageInput::Tokens(&[1]));
    assert!(matches!(refused, Err(StageError::Input(_))));
}

#[test]
fn every_format_and_head_runs_the_same_everywhere() {
    use TensorType::{F16, F32, Q4_0, Q4_1, Q8_0};
    for (seed, tensor_type) in [F32, F16, Q4_0, Q4_1, Q8_0].into_iter().enumerate() {
        for separate_output in [false, true] {
            let recipe = Recipe { tensor_type, separate_output, seed: seed as u64, ..Recipe::default() };
            let file = TestModel::write(&recipe);
            let mut expected = None;
            for kernel in KernelChoice::available() {
                let model = load(&file, &LoadOptions { kernel, threads: 3, ..LoadOptions::default() });
                let tokens = &tokens(&model)[..70];
                let found = chunked(&model, 1, 23, tokens);
                assert!(chunked(&model, 1, 1, tokens) == found);
                assert!(
                    *expected.get_or_insert_with(|| found.clone()) == found,
                    "{tensor_type:?}, {kernel:?}"
                );
            }
        }
    }
}

#[test]
fn the_commitment_is_of_what_decides_the_output() {
    let commitment = |recipe: &Recipe| load(&TestModel::write(recipe), &LoadOptions::default()).commitment();
    let recipe = Recipe::default();
    let original = commitment(&recipe);
    assert_eq!(commitment(&recipe), original);
    assert_ne!(commitment(&Recipe { seed: 2, ..recipe.clone() }), original);
    assert_ne!(commitment(&Recipe { context_tokens: 512, ..recipe.clone() }), original);
    // One bit of one weight.
    let mut bytes = recipe.file();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    let path = std::env::temp_dir().join(format!("bourse-bit-{}.gguf", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let changed = Model::load(&path, &LoadOptions::default(), &mut |_| {}).unwrap().commitment();
    std::fs::remove_file(&path).unwrap();
    assert_ne!(changed, original);
}

#[test]
fn progress_ends_at_the_total() {
    let file = TestModel::write(&Recipe::default());
    let mut seen = Vec::new();
    Model::load(file.path(), &LoadOptions::default(), &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.windows(2).all(|two| two[0].bytes_done < two[1].bytes_done));
    assert_eq!(seen.last().unwrap().bytes_done, seen[0].bytes_total);
}

#[test]
fn layers_that_do_not_exist_are_refused() {
    let file = TestModel::write(&Recipe::default());
    for (start, end) in [(0, 7), (3, 3), (4, 2)] {
        let options = LoadOptions { layers: Some(start..end), ..LoadOptions::default() };
        let refused = Model::load(file.path(), &options, &mut |_| {});
        assert!(matches!(refused, Err(LoadError::Layers { .. })), "{start}..{end}");
    }
}

#[test]
fn a_stage_rewinds_forgets_and_knows_its_limits() {
    let file = TestModel::write(&Recipe::default());
    let model = load(&file, &LoadOptions::default());
    let mut stage = Stage::new(Arc::clone(&model), 1, 64);
    let tokens = &tokens(&model)[..64];
    let first = stage.run(&rows(5, 0..64), StageInput::Tokens(tokens)).unwrap();
    let full = stage.run(&rows(6, 0..1), StageInput::Tokens(&tokens[..1]));
    assert_eq!(full, Err(StageError::CacheFull));
    let gap = stage.run(&rows(5, 65..66), StageInput::Tokens(&tokens[..1]));
    assert_eq!(gap, Err(StageError::Position { position: 65, known: 64 }));
    // Rewound and run again in another way: the same states.
    let again = stage.run(&rows(5, 40..64), StageInput::Tokens(&tokens[40..])).unwrap();
    assert!(again == first[40 * model.info().width..]);
    stage.forget(5);
    assert!(stage.run(&rows(6, 0..64), StageInput::Tokens(tokens)).unwrap() == first);
    assert_eq!(stage.run(&[], StageInput::Tokens(&[])), Err(StageError::Rows(0)));
    let unknown = stage.run(&rows(6, 0..1), StageInput::Tokens(&[500]));
    assert_eq!(unknown, Err(StageError::UnknownToken(500)));
}

/// Logits of llama.cpp for positions of the passage: (token, logit) pairs, 64 for each position. Made by
/// `bench/engine/run.py --golden` from the same model, requantised to Q8_0 by llama.cpp.
const GOLDEN: &[u8] = include_bytes!("../../testdata/llama_cpp_logits.bin");
const GOLDEN_TOKENS: &str = include_str!("../../testdata/tokens.txt");
const GOLDEN_PAIRS: usize = 64;
/// Honest engines differ by about 0.17 on average, another quantisation by ten times that.
const MEAN_DIFFERENCE_MAX: f64 = 0.25;

#[test]
fn close_to_llama_cpp() {
    let file = test_model();
    if !file.is_real() {
        println!("nothing compared: llama.cpp's logits are of the real model");
        return;
    }
    let model = load(&file, &LoadOptions::default());
    let tokens: Vec<u32> = GOLDEN_TOKENS.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(tokens.len() >= 300);
    let mut stage = Stage::new(Arc::clone(&model), 2, tokens.len());
    let hidden = stage.run(&rows(0, 0..tokens.len()), StageInput::Tokens(&tokens)).unwrap();
    let logits = stage.logits(&hidden).unwrap();
    let (mut total, mut count) = (0.0, 0.0);
    let pairs = GOLDEN.as_chunks::<8>().0.chunks_exact(GOLDEN_PAIRS);
    assert_eq!(pairs.len(), tokens.len());
    for (ours, pairs) in logits.chunks_exact(model.info().vocab_size).zip(pairs) {
        for pair in pairs {
            let token = u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
            let theirs = f32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]]);
            total += f64::from((ours[token as usize] - theirs).abs());
            count += 1.0;
        }
    }
    let mean = total / count;
    println!("mean difference to llama.cpp: {mean:.4} over {count} logits");
    assert!(mean <= MEAN_DIFFERENCE_MAX, "{mean}");
}
