//! An engine without a model, for tests of everything above the plug.
//!
//! By default its tokens are a hash of the run seed and the position: deterministic, within the vocabulary,
//! and the same whatever else runs. A script replaces them for generations that need a certain answer, a
//! wait, a refusal or a crash. It runs on the caller's runtime, keeps no time and needs no thread.

use super::{
    Engine, EngineCapabilities, EngineError, EngineEvent, EventSender, FinishReason, Generation,
    GenerationId, SubmitError, TokenLogprob, TokenLogprobs,
};
use bourse_types::Digest32;
use bourse_wire::node::Load;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// Log-probability of every token that the fake reports.
const LOGPROB: f32 = -0.5;

/// One thing that a scripted generation does.
#[derive(Debug, Clone, PartialEq)]
pub enum FakeStep {
    /// Says a token.
    Token(u32),
    /// Waits until it is cancelled.
    Hang,
    /// Refuses; only as the first step.
    Refuse(SubmitError),
    /// The whole engine dies.
    Crash,
}

/// What a generation does, token by token; a script that ends before `max_tokens` ends at the first stop
/// token of the request, as a model does that stops by itself.
pub type Script = dyn Fn(&Generation) -> Vec<FakeStep> + Send + Sync;

/// The fake engine.
pub struct FakeEngine {
    capabilities: EngineCapabilities,
    script: Option<Box<Script>>,
    shared: Arc<Mutex<Shared>>,
    load: watch::Receiver<Load>,
}

#[derive(Debug)]
struct Shared {
    next_id: u64,
    open: HashMap<GenerationId, oneshot::Sender<()>>,
    load: Option<watch::Sender<Load>>,
}

impl Shared {
    fn publish(&self) {
        if let Some(load) = &self.load {
            load.send_modify(|load| load.running = self.open.len() as u32);
        }
    }
}

impl FakeEngine {
    /// An engine for a vocabulary of `vocab_size`, with a context of 512 tokens.
    pub fn new(vocab_size: usize) -> Self {
        let (sender, load) = watch::channel(Load { kv_tokens_max: 4096, ..Load::default() });
        Self {
            capabilities: EngineCapabilities {
                name: "fake/1".to_owned(),
                model_commitment: Digest32([0xFA; 32]),
                vocab_size,
                context_tokens_max: 512,
                generations_max: 64,
                gpus: Some(0),
            },
            script: None,
            shared: Arc::new(Mutex::new(Shared { next_id: 0, open: HashMap::new(), load: Some(sender) })),
            load,
        }
    }

    /// The same with scripted answers.
    pub fn scripted(
        vocab_size: usize,
        script: impl Fn(&Generation) -> Vec<FakeStep> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Some(Box::new(script)), ..Self::new(vocab_size) }
    }

    /// What it is, for changing it before use.
    pub fn capabilities_mut(&mut self) -> &mut EngineCapabilities {
        &mut self.capabilities
    }

    fn steps(&self, generation: &Generation) -> Vec<FakeStep> {
        if let Some(script) = &self.script {
            return script(generation);
        }
        let vocab_size = self.capabilities.vocab_size as u32;
        let token = |position: u32| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&generation.run_seed);
            hasher.update(&position.to_le_bytes());
            let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
            u32::from_le_bytes([a, b, c, d]) % vocab_size
        };
        (0..generation.max_tokens).map(|position| FakeStep::Token(token(position))).collect()
    }

    fn refusal(&self, generation: &Generation) -> Option<SubmitError> {
        let context_tokens_max = self.capabilities.context_tokens_max as usize;
        let vocab_size = self.capabilities.vocab_size;
        let prompt_tokens = generation.prompt.len();
        let unknown = |token: &&u32| **token as usize >= vocab_size;
        if prompt_tokens == 0 {
            Some(SubmitError::EmptyPrompt)
        } else if generation.max_tokens == 0 {
            Some(SubmitError::NoTokens)
        } else if prompt_tokens >= context_tokens_max {
            Some(SubmitError::PromptTooLong { prompt_tokens, context_tokens_max })
        } else {
            let token = generation.prompt.iter().chain(&generation.stop_tokens).find(unknown);
            token.map(|token| SubmitError::UnknownToken { token: *token, vocab_size })
        }
    }
}

impl Engine for FakeEngine {
    fn capabilities(&self) -> &EngineCapabilities {
        &self.capabilities
    }

    fn submit(&self, generation: Generation, events: EventSender) -> Result<GenerationId, EngineError> {
        let steps = self.steps(&generation);
        let refusal = self.refusal(&generation);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.load.is_none() {
            return Err(EngineError::Stopped);
        }
        if shared.open.len() >= self.capabilities.generations_max {
            return Err(EngineError::Busy);
        }
        let id = GenerationId(shared.next_id);
        shared.next_id += 1;
        if let Some(error) = refusal {
            events.send(EngineEvent::Refused(error));
            return Ok(id);
        }
        let (cancel, cancelled) = oneshot::channel();
        shared.open.insert(id, cancel);
        shared.publish();
        drop(shared);
        let room = self.capabilities.context_tokens_max.saturating_sub(generation.prompt.len() as u32);
        let run = Run { generation, steps, room, events, id, shared: Arc::clone(&self.shared) };
        tokio::spawn(run.play(cancelled));
        Ok(id)
    }

    fn cancel(&self, id: GenerationId) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = shared.open.remove(&id) {
            // The generation may have ended in this moment; then there is nobody to tell.
            let _ = cancel.send(());
            shared.publish();
        }
    }

    fn load(&self) -> watch::Receiver<Load> {
        self.load.clone()
    }
}

/// One generation on its way.
struct Run {
    generation: Generation,
    steps: Vec<FakeStep>,
    room: u32,
    events: EventSender,
    id: GenerationId,
    shared: Arc<Mutex<Shared>>,
}

impl Run {
    async fn play(self, mut cancelled: oneshot::Receiver<()>) {
        let finish = self.say(&mut cancelled).await;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.open.remove(&self.id);
        shared.publish();
        drop(shared);
        if let Some(event) = finish {
            self.events.send(event);
        }
    }

    /// Plays the script; the last word, unless the engine died.
    async fn say(&self, cancelled: &mut oneshot::Receiver<()>) -> Option<EngineEvent> {
        let cancel_word = Some(EngineEvent::Finished(FinishReason::Cancelled));
        if let Some(FakeStep::Refuse(error)) = self.steps.first() {
            return Some(EngineEvent::Refused(error.clone()));
        }
        if !self.events.send(EngineEvent::Admitted { cached_tokens: 0 }) {
            return None;
        }
        let mut said = 0;
        for step in &self.steps {
            tokio::task::yield_now().await;
            if cancelled.try_recv().is_ok() {
                return cancel_word;
            }
            match step {
                FakeStep::Token(token) if self.generation.stop_tokens.contains(token) => {
                    return Some(EngineEvent::Finished(FinishReason::StopToken(*token)));
                }
                FakeStep::Token(token) => {
                    let event = EngineEvent::Token { token: *token, logprobs: self.logprobs(*token) };
                    if !self.events.send(event) {
                        return None;
                    }
                    said += 1;
                }
                FakeStep::Refuse(_) | FakeStep::Hang => {
                    // An error means that the engine itself is gone, which ends the wait as well.
                    let _ = cancelled.await;
                    return cancel_word;
                }
                FakeStep::Crash => {
                    self.shared.lock().unwrap_or_else(PoisonError::into_inner).load = None;
                    return None;
                }
            }
            if said == self.generation.max_tokens {
                return Some(EngineEvent::Finished(FinishReason::MaxTokens));
            }
            if said == self.room {
                return Some(EngineEvent::Finished(FinishReason::ContextFull));
            }
        }
        let stop = self.generation.stop_tokens.first().copied().unwrap_or_default();
        Some(EngineEvent::Finished(FinishReason::StopToken(stop)))
    }

    fn logprobs(&self, token: u32) -> Option<TokenLogprobs> {
        let top = self.generation.logprobs?;
        let alternatives = 0..u32::from(top);
        Some(TokenLogprobs {
            chosen: LOGPROB,
            top: alternatives
                .map(|n| TokenLogprob { token: token.saturating_sub(n), logprob: LOGPROB })
                .collect(),
        })
    }
}
