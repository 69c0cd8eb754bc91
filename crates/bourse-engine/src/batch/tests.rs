//! The batch engine: equal tokens in any company, bounds, cancellation, reuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::testing::{Recipe, TestModel, test_model};
use crate::{LoadOptions, SamplingParams, Stage, StageInput, StageRow, replay_choice};

fn synthetic() -> Arc<Model> {
    let file = TestModel::write(&Recipe::default());
    Arc::new(Model::load(file.path(), &LoadOptions::default(), &mut |_| {}).unwrap())
}

fn engine(model: &Arc<Model>, config: EngineConfig) -> BatchEngine {
    BatchEngine::new(Arc::clone(model), config).unwrap()
}

fn small() -> EngineConfig {
    EngineConfig { threads: 1, kv_tokens_max: 512, queue_max: 4, sequences_max: 4, ..EngineConfig::default() }
}

fn request(seed: u8, prompt: std::ops::Range<u32>, max_tokens: u32) -> SequenceRequest {
    SequenceRequest {
        prompt: prompt.map(|token| (token * 31 + u32::from(seed)) % 500).collect(),
        max_tokens,
        sampling: SamplingParams::default(),
        run_seed: [seed; 32],
        stop_tokens: Vec::new(),
        logprobs: None,
    }
}

type Answers = BTreeMap<SequenceId, (Vec<u32>, Option<FinishReason>)>;

fn collect(events: &[StepEvent], answers: &mut Answers) {
    for event in events {
        match *event {
            StepEvent::Admitted { id, .. } => assert!(answers.insert(id, (Vec::new(), None)).is_none()),
            StepEvent::Token { id, position, token, .. } => {
                let (tokens, end) = answers.get_mut(&id).unwrap();
                assert_eq!((tokens.len() as u32, *end), (position, None));
                tokens.push(token);
            }
            StepEvent::Finished { id, reason } => {
                assert_eq!(answers.entry(id).or_default().1.replace(reason), None);
            }
        }
    }
}

/// Steps until idle.
fn run(engine: &mut BatchEngine) -> Answers {
    let mut answers = Answers::new();
    loop {
        let mut events = Vec::new();
        let report = engine.step(&mut events);
        collect(&events, &mut answers);
        if report.idle {
            return answers;
        }
    }
}

fn alone(model: &Arc<Model>, request: SequenceRequest) -> Vec<u32> {
    let mut engine = engine(model, small());
    let id = engine.submit(request).unwrap();
    run(&mut engine).remove(&id).unwrap().0
}

#[test]
fn the_same_seed_gives_the_same_tokens_in_any_company() {
    let model = synthetic();
    let requests: Vec<SequenceRequest> = (0..9).map(|i| request(i, 0..5 + 17 * u32::from(i), 40)).collect();
    let expected: Vec<Vec<u32>> = requests.iter().map(|request| alone(&model, request.clone())).collect();
    for (threads, rows, chunk, sequences) in [(1, 64, 64, 9), (3, 9, 3, 9), (2, 20, 7, 4)] {
        let config = EngineConfig {
            threads,
            batch_rows_max: rows,
            prefill_chunk_tokens: chunk,
            sequences_max: sequences,
            kv_tokens_max: 4096,
            queue_max: 16,
        };
        let mut engine = engine(&model, config);
        let ids: Vec<SequenceId> =
            requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
        let answers = run(&mut engine);
        for (id, expected) in ids.iter().zip(&expected) {
            assert_eq!(&answers[id].0, expected, "{threads} threads, {rows} rows");
            assert_eq!(answers[id].1, Some(FinishReason::MaxTokens));
        }
    }
    assert_ne!(
        alone(&model, request(1, 0..9, 40)),
        alone(&model, SequenceRequest { run_seed: [7; 32], ..request(1, 0..9, 40) })
    );
}

#[test]
fn every_choice_of_the_real_model_replays_from_one_prefill() {
    let file = test_model();
    let model = Arc::new(Model::load(file.path(), &LoadOptions::default(), &mut |_| {}).unwrap());
    let sampling = SamplingParams {
        temperature: 0.8,
        top_p: 0.95,
        min_p: 0.01,
        repetition_penalty: 1.1,
        frequency_penalty: 0.2,
        logit_bias: vec![(7, 1.0)],
        ..SamplingParams::default()
    };
    let mut engine = engine(&model, EngineConfig { threads: 2, ..small() });
    let mut ids = Vec::new();
    for seed in 0..3 {
        let logprobs = Some(5);
        ids.push((
            seed,
            engine
                .submit(SequenceRequest { sampling: sampling.clone(), logprobs, ..request(seed, 0..20, 24) })
                .unwrap(),
        ));
    }
    let answers = run(&mut engine);
    for (seed, id) in ids {
        let SequenceRequest { prompt, run_seed, .. } = request(seed, 0..20, 24);
        let answer = &answers[&id].0;
        assert_eq!(answer.len(), 24);
        // The auditor: one pass over prompt and answer, then each choice again.
        let tokens: Vec<u32> = prompt.iter().chain(&answer[..23]).copied().collect();
        let rows: Vec<StageRow> =
            (0..tokens.len()).map(|position| StageRow { sequence: 0, position }).collect();
        let mut stage = Stage::new(Arc::clone(&model), 2, tokens.len());
        let hidden = stage.run(&rows, StageInput::Tokens(&tokens)).unwrap();
        let logits = stage.logits(&hidden[19 * model.info().width..]).unwrap();
        for (step, logits) in logits.chunks_exact(model.info().vocab_size).enumerate() {
            let found = replay_choice(&run_seed, step as u32, logits, &sampling, &prompt, &answer[..step]);
            assert_eq!(found, answer[step], "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_repeated_beginning_is_reused_with_the_same_tokens() {
    let model = synthetic();
    let expected = alone(&model, request(3, 0..100, 20));
    let mut engine = engine(&model, small());
    let mut cached = Vec::new();
    for _ in 0..2 {
        engine.submit(request(3, 0..100, 20)).unwrap();
        let mut answers = Answers::new();
        loop {
            let mut events = Vec::new();
            let report = engine.step(&mut events);
            cached.extend(events.iter().filter_map(|event| match event {
                StepEvent::Admitted { cached_tokens, .. } => Some(*cached_tokens),
                _ => None,
            }));
            collect(&events, &mut answers);
            if report.idle {
                break;
            }
        }
        assert_eq!(answers.into_values().next().unwrap().0, expected);
    }
    assert_eq!(cached, [0, 96]);
    // A longer conversation finds the answer's blocks too: 100 + 19 computed tokens are 3 full blocks.
    let SequenceRequest { mut prompt, .. } = request(3, 0..100, 20);
    prompt.extend(&expected);
    prompt.extend(0..20);
    let longer = SequenceRequest { prompt, ..request(3, 0..1, 4) };
    let fresh = alone(&model, longer.clone());
    let id = engine.submit(longer).unwrap();
    assert_eq!(run(&mut engine)[&id].0, fresh);
    assert_eq!(engine.load().prefix_tokens_hit, 192);
    // A prompt of whole blocks still computes its last token.
    engine.submit(request(3, 0..96, 1)).unwrap();
    run(&mut engine);
    assert_eq!(engine.load().prefix_tokens_hit, 192 + 64);
}

#[test]
fn admission_waits_for_the_kv_budget_and_cancellation_frees_it() {
    let model = synthetic();
    let mut engine = engine(&model, small());
    // 512 tokens are 16 blocks; each of these can need 8.
    let ids: Vec<SequenceId> = (0..3).map(|seed| engine.submit(request(seed, 0..57, 200)).unwrap()).collect();
    let mut events = Vec::new();
    engine.step(&mut events);
    let load = engine.load();
    assert_eq!((load.running, load.waiting), (2, 1));
    assert_eq!((load.kv_tokens_used, load.kv_tokens_free), (512, 0));
    assert!(engine.cancel(ids[0]));
    assert!(!engine.cancel(ids[0]));
    assert_eq!(engine.load().kv_tokens_free, 256);
    events.clear();
    engine.step(&mut events);
    assert_eq!(events[0], StepEvent::Finished { id: ids[0], reason: FinishReason::Cancelled });
    assert!(matches!(events[1], StepEvent::Admitted { id, .. } if id == ids[2]));
    assert!(engine.cancel(ids[1]) && engine.cancel(ids[2]));
    events.clear();
    assert!(engine.step(&mut events).idle);
    assert_eq!(events.len(), 2);
    let load = engine.load();
    assert_eq!((load.running, load.waiting, load.kv_tokens_used), (0, 0, 0));
}

#[test]
fn a_waiting_sequence_can_be_cancelled() {
    let model = synthetic();
    let mut engine = engine(&model, small());
    let id = engine.submit(request(1, 0..5, 5)).unwrap();
    assert!(engine.cancel(id));
    let mut events = Vec::new();
    assert!(engine.step(&mut events).idle);
    assert_eq!(events, [StepEvent::Finished { id, reason: FinishReason::Cancelled }]);
    assert!(!engine.cancel(SequenceId(99)));
}

#[test]
fn eviction_makes_room_for_strangers() {
    let model = synthetic();
    let mut engine = engine(&model, small());
    for seed in 0..12 {
        let expected = alone(&model, request(seed, 0..150, 10));
        let id = engine.submit(request(seed, 0..150, 10)).unwrap();
        assert_eq!(run(&mut engine)[&id].0, expected);
    }
    // The latest is still cached, the first is long gone.
    let before = engine.load().prefix_tokens_hit;
    engine.submit(request(11, 0..150, 1)).unwrap();
    engine.submit(request(0, 0..150, 1)).unwrap();
    run(&mut engine);
    assert_eq!(engine.load().prefix_tokens_hit - before, 128);
}

#[test]
fn requests_are_refused_with_the_reason() {
    let model = synthetic();
    let mut engine = engine(&model, small());
    let good = request(1, 0..10, 5);
    let mut check = |request: SequenceRequest, expected: SubmitError| {
        assert_eq!(engine.submit(request).err(), Some(expected));
    };
    check(SequenceRequest { prompt: vec![], ..good.clone() }, SubmitError::EmptyPrompt);
    check(SequenceRequest { max_tokens: 0, ..good.clone() }, SubmitError::NoTokens);
    let unknown = |token| SubmitError::UnknownToken { token, vocab_size: 500 };
    check(SequenceRequest { prompt: vec![1, 500], ..good.clone() }, unknown(500));
    check(SequenceRequest { stop_tokens: vec![u32::MAX], ..good.clone() }, unknown(u32::MAX));
    check(SequenceRequest { stop_tokens: vec![1; 65], ..good.clone() }, SubmitError::StopTokens(65));
    check(SequenceRequest { logprobs: Some(21), ..good.clone() }, SubmitError::Logprobs(21));
    let context = SubmitError::PromptTooLong { prompt_tokens: 1024, context_tokens_max: 1024 };
    check(SequenceRequest { prompt: vec![1; 1024], ..good.clone() }, context);
    let sampling = SamplingParams { top_p: 0.0, ..SamplingParams::default() };
    let Err(error) = sampling.validate(500) else { panic!("top_p 0 is refused") };
    check(SequenceRequest { sampling, ..good.clone() }, SubmitError::Sampling(error));
    // The cache holds 512 tokens; the last token of an answer needs no room.
    let over = SubmitError::KvBudget { needed_tokens: 513, kv_tokens_max: 512 };
    check(SequenceRequest { max_tokens: 504, ..good.clone() }, over);
    let id = engine.submit(SequenceRequest { max_tokens: 503, ..good }).unwrap();
    assert_eq!(run(&mut engine)[&id].0.len(), 503);
    assert_eq!(engine.load().kv_tokens_used, 0);
}

#[test]
fn the_queue_has_a_bound() {
    let model = synthetic();
    let mut engine = engine(&model, small());
    for seed in 0..4 {
        engine.submit(request(seed, 0..3, 2)).unwrap();
    }
    let refused = engine.submit(request(9, 0..3, 2));
    assert_eq!(refused, Err(SubmitError::QueueFull { queue_max: 4 }));
    assert_eq!(run(&mut engine).len(), 4);
    engine.submit(request(9, 0..3, 2)).unwrap();
}

#[test]
fn sequences_end_for_their_reasons() {
    let model = synthetic();
    let plain = alone(&model, request(5, 0..10, 30));
    let stop = plain[12];
    let first = plain.iter().position(|&token| token == stop).unwrap();
    let mut engine = engine(&model, EngineConfig { kv_tokens_max: 2048, ..small() });
    let stopped =
        engine.submit(SequenceRequest { stop_tokens: vec![stop], ..request(5, 0..10, 30) }).unwrap();
    let full = engine.submit(request(6, 0..1000, 100)).unwrap();
    let answers = run(&mut engine);
    assert_eq!(answers[&stopped], (plain[..first].to_vec(), Some(FinishReason::StopToken(stop))));
    assert_eq!(answers[&full].0.len(), 24);
    assert_eq!(answers[&full].1, Some(FinishReason::ContextFull));
}

#[test]
fn a_long_prompt_does_not_stop_the_others() {
    let model = synthetic();
    let config = EngineConfig { prefill_chunk_tokens: 16, kv_tokens_max: 1024, ..small() };
    let mut engine = engine(&model, config);
    let quick = engine.submit(request(1, 0..4, 20)).unwrap();
    let mut events = Vec::new();
    engine.step(&mut events);
    engine.submit(request(2, 0..200, 2)).unwrap();
    for _ in 0..5 {
        events.clear();
        let report = engine.step(&mut events);
        assert_eq!((report.decode_rows, report.prefill_rows), (1, 16));
        assert!(events.iter().any(|event| matches!(event, StepEvent::Token { id, .. } if *id == quick)));
    }
}

#[test]
fn limits_of_an_engine_are_checked() {
    let model = synthetic();
    let check = |config: EngineConfig, expected: Option<&str>| {
        let found = match BatchEngine::new(Arc::clone(&model), config).err() {
            Some(EngineConfigError::Range { field, .. }) => Some(field),
            None => None,
            Some(other) => panic!("{other}"),
        };
        assert_eq!(found, expected);
    };
    let good = small();
    check(good.clone(), None);
    check(EngineConfig { kv_tokens_max: 0, ..good.clone() }, Some("kv_tokens_max"));
    check(EngineConfig { kv_tokens_max: KV_TOKENS_MAX + 1, ..good.clone() }, Some("kv_tokens_max"));
    check(EngineConfig { threads: 257, ..good.clone() }, Some("threads"));
    check(EngineConfig { batch_rows_max: BATCH_ROWS_MAX + 1, ..good.clone() }, Some("batch_rows_max"));
    check(EngineConfig { prefill_chunk_tokens: 257, ..good.clone() }, Some("prefill_chunk_tokens"));
    check(EngineConfig { sequences_max: 257, ..good.clone() }, Some("sequences_max"));
    check(EngineConfig { queue_max: 0, ..good.clone() }, Some("queue_max"));
    check(EngineConfig { queue_max: QUEUE_MAX + 1, ..good }, Some("queue_max"));
    let file = TestModel::write(&Recipe::default());
    let part = LoadOptions { layers: Some(0..3), ..LoadOptions::default() };
    let part = Arc::new(Model::load(file.path(), &part, &mut |_| {}).unwrap());
    assert!(matches!(BatchEngine::new(part, small()), Err(EngineConfigError::PartialModel)));
}
