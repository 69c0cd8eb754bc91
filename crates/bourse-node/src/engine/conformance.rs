//! What every engine behind the plug must do, run against each of them.

use super::fake::FakeEngine;
use super::reference::ReferenceEngine;
use super::*;
use bourse_engine::testing::TestModel;
use bourse_engine::{EngineConfig, LoadOptions, Model};
use std::sync::Arc;

/// A model that is quick to run: bits and quality do not matter here.
fn reference() -> (ReferenceEngine, TestModel) {
    let file = TestModel::write(&bourse_engine::testing::Recipe::default());
    let model = Model::load(file.path(), &LoadOptions::default(), &mut |_| {}).unwrap();
    let config = EngineConfig { threads: 1, ..EngineConfig::default() };
    (ReferenceEngine::start(Arc::new(model), config).unwrap(), file)
}

fn generation(max_tokens: u32, seed: u8) -> Generation {
    Generation {
        prompt: vec![1, 2, 3],
        max_tokens,
        sampling: SamplingParams::default(),
        run_seed: [seed; 32],
        stop_tokens: Vec::new(),
        logprobs: None,
    }
}

/// All events of one generation, its last word last.
async fn events_of(engine: &dyn Engine, generation: Generation) -> Vec<EngineEvent> {
    let (sender, mut receiver) = event_channel(1, generation.max_tokens);
    engine.submit(generation, sender).unwrap();
    let mut events = Vec::new();
    while let Some((_, event)) = receiver.recv().await {
        events.push(event);
    }
    events
}

fn tokens_of(events: &[EngineEvent]) -> Vec<u32> {
    let token = |event: &EngineEvent| match event {
        EngineEvent::Token { token, .. } => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

async fn check_one_life(engine: &dyn Engine) {
    let events = events_of(engine, generation(5, 7)).await;
    assert_eq!(events.first(), Some(&EngineEvent::Admitted { cached_tokens: 0 }));
    assert_eq!(events.last(), Some(&EngineEvent::Finished(FinishReason::MaxTokens)));
    assert_eq!((tokens_of(&events).len(), events.len()), (5, 7));
    let vocab_size = engine.capabilities().vocab_size;
    assert!(tokens_of(&events).iter().all(|token| (*token as usize) < vocab_size));
}

async fn check_equal_seeds(engine: &dyn Engine) {
    let alone = tokens_of(&events_of(engine, generation(12, 9)).await);
    let (company, again, other) = tokio::join!(
        events_of(engine, generation(20, 1)),
        events_of(engine, generation(12, 9)),
        events_of(engine, generation(12, 8)),
    );
    assert_eq!(tokens_of(&company).len(), 20);
    assert_eq!(tokens_of(&again), alone);
    assert_ne!(tokens_of(&other), alone);
}

async fn check_stop_token(engine: &dyn Engine) {
    let tokens = tokens_of(&events_of(engine, generation(12, 3)).await);
    let stop = tokens[4];
    let want: Vec<u32> = tokens.iter().copied().take_while(|token| *token != stop).collect();
    let events = events_of(engine, Generation { stop_tokens: vec![stop], ..generation(12, 3) }).await;
    assert_eq!(tokens_of(&events), want);
    assert_eq!(events.last(), Some(&EngineEvent::Finished(FinishReason::StopToken(stop))));
}

async fn check_logprobs(engine: &dyn Engine) {
    let events = events_of(engine, Generation { logprobs: Some(3), ..generation(2, 3) }).await;
    let reported = events.iter().filter_map(|event| match event {
        EngineEvent::Token { logprobs, .. } => Some(logprobs.as_ref().map(|l| l.top.len())),
        _ => None,
    });
    assert_eq!(reported.collect::<Vec<_>>(), [Some(3), Some(3)]);
}

async fn check_refusals(engine: &dyn Engine) {
    let context = engine.capabilities().context_tokens_max as usize;
    let unknown = engine.capabilities().vocab_size as u32;
    let refused = [
        Generation { prompt: Vec::new(), ..generation(1, 1) },
        Generation { prompt: vec![1; context], ..generation(1, 1) },
        Generation { prompt: vec![unknown], ..generation(1, 1) },
        Generation { max_tokens: 0, ..generation(1, 1) },
    ];
    for generation in refused {
        let events = events_of(engine, generation).await;
        assert!(matches!(events.as_slice(), [EngineEvent::Refused(_)]), "{events:?}");
    }
}

async fn check_context_is_filled(engine: &dyn Engine) {
    let context = engine.capabilities().context_tokens_max;
    let prompt = vec![1; context as usize - 2];
    let events = events_of(engine, Generation { prompt, ..generation(10, 1) }).await;
    assert_eq!(events.last(), Some(&EngineEvent::Finished(FinishReason::ContextFull)));
    assert!(tokens_of(&events).len() <= 3);
}

async fn check_cancel(engine: &dyn Engine) {
    let max_tokens = engine.capabilities().context_tokens_max - 10;
    let (sender, mut receiver) = event_channel(1, max_tokens);
    let id = engine.submit(generation(max_tokens, 4), sender).unwrap();
    let mut tokens = 0;
    let mut last = None;
    while let Some((_, event)) = receiver.recv().await {
        if matches!(event, EngineEvent::Token { .. }) {
            tokens += 1;
            engine.cancel(id);
        }
        last = Some(event);
    }
    assert_eq!(last, Some(EngineEvent::Finished(FinishReason::Cancelled)));
    assert!(tokens < max_tokens);
    engine.cancel(id);
    engine.cancel(GenerationId(u64::MAX));
}

async fn check_a_lost_reader_frees_the_engine(engine: &dyn Engine) {
    let (sender, receiver) = event_channel(1, 200);
    engine.submit(generation(200, 5), sender).unwrap();
    drop(receiver);
    let mut load = engine.load();
    load.wait_for(|load| load.running == 0 && load.waiting == 0).await.unwrap();
    assert_eq!(tokens_of(&events_of(engine, generation(2, 5)).await).len(), 2);
}

async fn conforms(engine: &dyn Engine) {
    check_one_life(engine).await;
    check_equal_seeds(engine).await;
    check_stop_token(engine).await;
    check_logprobs(engine).await;
    check_refusals(engine).await;
    check_context_is_filled(engine).await;
    check_cancel(engine).await;
    check_a_lost_reader_frees_the_engine(engine).await;
}

#[tokio::test]
async fn the_fake_engine_conforms() {
    conforms(&FakeEngine::new(300)).await;
}

#[tokio::test]
async fn the_reference_engine_conforms() {
    let (engine, _file) = reference();
    conforms(&engine).await;
}

#[tokio::test]
async fn no_more_generations_are_taken_than_promised() {
    let mut engine = FakeEngine::scripted(300, |_| vec![fake::FakeStep::Hang]);
    engine.capabilities_mut().generations_max = 2;
    let (sender, _receiver) = event_channel(3, 1);
    let first = engine.submit(generation(1, 1), sender.clone()).unwrap();
    engine.submit(generation(1, 1), sender.for_choice(1)).unwrap();
    assert_eq!(engine.submit(generation(1, 1), sender.for_choice(2)), Err(EngineError::Busy));
    engine.cancel(first);
    assert!(engine.submit(generation(1, 1), sender).is_ok());
}

#[tokio::test]
async fn a_dead_engine_closes_its_load_and_takes_nothing() {
    let engine = FakeEngine::scripted(300, |_| vec![fake::FakeStep::Token(1), fake::FakeStep::Crash]);
    let events = events_of(&engine, generation(5, 1)).await;
    assert_eq!(tokens_of(&events), [1]);
    let mut load = engine.load();
    while load.changed().await.is_ok() {}
    let (sender, _receiver) = event_channel(1, 1);
    assert_eq!(engine.submit(generation(1, 1), sender), Err(EngineError::Stopped));
}
