//! One job from prompt to signed statement.
//!
//! [`prepare`] turns a job into token ids and checks everything about it that the gateway cannot know
//! (whether the template accepts it, whether it fits the context); it is plain computation and runs off the
//! reactor. [`run`] submits the choices, streams their pieces and ends with exactly one `Done` or `Failed`.
//!
//! Choices share their prompt: the first one computes it, the others follow once it has said a token and
//! find the prompt in the engine's prefix cache. A cancelled or late job ends with what was made.

mod choice;
mod logprobs;
pub(crate) mod prepare;

use crate::engine::{EngineError, EngineEvent, EventReceiver, EventSender, GenerationId, event_channel};
use crate::service::NodeService;
use bourse_proof::trace::{prompt_hash, run_seed_hash, trace_root};
use bourse_types::{Digest32, Usage};
use bourse_wire::node::{Count, Counted, Done, Failed, FailureKind, Frame, Job, NodeFinish, Started};
use bourse_wire::receipt::{NodeStatement, SignedNodeStatement};
use choice::Choice;
use prepare::{Prepared, Refusal, prepare};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Longest time that a job may ask for, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Events taken in one go before deltas are sent.
const EVENTS_PER_TURN_MAX: usize = 256;

/// Serves one job; returns when its last word has been handed to `outbox`, or when nobody takes it.
pub(crate) async fn run(
    service: Arc<NodeService>,
    job: Box<Job>,
    mut cancelled: oneshot::Receiver<()>,
    outbox: mpsc::Sender<Frame>,
) {
    let deadline = Instant::now() + Duration::from_millis(job.deadline_ms.min(DEADLINE_MS_MAX));
    let request = job.request;
    let preparing = tokio::task::spawn_blocking({
        let service = Arc::clone(&service);
        move || prepare(&service, &job)
    });
    let prepared =
        preparing.await.unwrap_or_else(|_| Err(Refusal::engine("the prompt could not be prepared")));
    let outcome = match prepared {
        Ok(prepared) => Running::new(&service, prepared, &outbox).serve(&mut cancelled, deadline).await,
        Err(refusal) => Err(End::Refused(refusal)),
    };
    let last_word = match outcome {
        Ok(done) => Frame::Done(Box::new(done)),
        Err(End::Refused(Refusal { kind, message })) => Frame::Failed(Failed { request, kind, message }),
        Err(End::Abandoned) => return,
    };
    // An error means that the link is gone; there is nobody left to tell.
    let _ = outbox.send(last_word).await;
}

/// Counts a prompt; returns when the count, or why there is none, has been handed to `outbox`.
pub(crate) async fn count(service: Arc<NodeService>, count: Box<Count>, outbox: mpsc::Sender<Frame>) {
    let request = count.request;
    let counting = tokio::task::spawn_blocking(move || prepare::count(&service, &count));
    let counted = counting.await.unwrap_or_else(|_| Err(Refusal::engine("the prompt could not be counted")));
    let last_word = match counted {
        Ok(prompt_tokens) => Frame::Counted(Counted { request, prompt_tokens }),
        Err(Refusal { kind, message }) => Frame::Failed(Failed { request, kind, message }),
    };
    // As in `run`.
    let _ = outbox.send(last_word).await;
}

/// Why a job ends without a statement.
enum End {
    /// It cannot be served; the gateway is told.
    Refused(Refusal),
    /// Nobody listens any more, or the engine died and the serve loop speaks for it.
    Abandoned,
}

struct Running<'a> {
    service: &'a NodeService,
    prepared: Prepared,
    outbox: &'a mpsc::Sender<Frame>,
    choices: Vec<Choice>,
    ids: Vec<Option<GenerationId>>,
    cached_tokens: Option<u32>,
}

impl<'a> Running<'a> {
    fn new(service: &'a NodeService, prepared: Prepared, outbox: &'a mpsc::Sender<Frame>) -> Self {
        let choices = (0..prepared.run_seeds.len()).map(|_| Choice::new(&prepared.stop)).collect::<Vec<_>>();
        let ids = vec![None; choices.len()];
        Self { service, prepared, outbox, choices, ids, cached_tokens: None }
    }

    async fn serve(mut self, cancelled: &mut oneshot::Receiver<()>, deadline: Instant) -> Result<Done, End> {
        let (sender, mut events) = event_channel(self.choices.len() as u32, self.prepared.max_tokens);
        let mut sender = Some(sender);
        self.submit(0, sender.as_ref())?;
        while self.choices.iter().any(|choice| choice.finish().is_none()) {
            tokio::select! {
                biased;
                _ = &mut *cancelled => self.cancel_all(),
                () = tokio::time::sleep_until(deadline) => self.cancel_all(),
                event = events.recv() => {
                    let Some((choice, event)) = event else { return Err(End::Abandoned) };
                    self.take(choice, event).await?;
                    self.take_waiting(&mut events).await?;
                }
            }
            self.send_deltas().await?;
            if self.choices[0].has_begun() && sender.is_some() {
                for choice in 1..self.choices.len() {
                    self.submit(choice, sender.as_ref())?;
                }
                sender = None;
            }
        }
        Ok(self.done())
    }

    /// Submits a choice unless it has ended already, as all have after a cancellation.
    fn submit(&mut self, choice: usize, sender: Option<&EventSender>) -> Result<(), End> {
        let Some(sender) = sender.filter(|_| self.choices[choice].finish().is_none()) else { return Ok(()) };
        let generation = self.prepared.generation(choice);
        match self.service.engine().submit(generation, sender.for_choice(choice as u32)) {
            Ok(id) => {
                self.ids[choice] = Some(id);
                Ok(())
            }
            Err(EngineError::Busy) => {
                self.cancel_all();
                Err(End::Refused(Refusal { kind: FailureKind::Busy, message: EngineError::Busy.to_string() }))
            }
            Err(EngineError::Stopped) => Err(End::Abandoned),
        }
    }

    /// What else has happened, so that one delta carries it all.
    async fn take_waiting(&mut self, events: &mut EventReceiver) -> Result<(), End> {
        for _ in 0..EVENTS_PER_TURN_MAX {
            let Ok((choice, event)) = events.try_recv() else { break };
            self.take(choice, event).await?;
        }
        Ok(())
    }

    async fn take(&mut self, choice: u32, event: EngineEvent) -> Result<(), End> {
        match event {
            EngineEvent::Admitted { cached_tokens } => {
                if choice == 0 {
                    self.cached_tokens = Some(cached_tokens);
                    let started = Started {
                        request: self.prepared.request,
                        prompt_tokens: self.prepared.prompt.len() as u64,
                        cached_tokens: u64::from(cached_tokens),
                    };
                    self.send(Frame::Started(started)).await?;
                }
            }
            EngineEvent::Token { token, logprobs } => {
                let Some(state) = self.choices.get_mut(choice as usize) else { return Ok(()) };
                state.push(self.service.tokenizer(), token, logprobs.as_ref());
                if state.finish().is_some()
                    && let Some(id) = self.ids[choice as usize].take()
                {
                    self.service.engine().cancel(id);
                }
                if self.choices[choice as usize].is_full() {
                    self.send_deltas().await?;
                }
            }
            EngineEvent::Finished(reason) => {
                if let Some(state) = self.choices.get_mut(choice as usize) {
                    state.end(reason);
                    self.ids[choice as usize] = None;
                }
            }
            EngineEvent::Refused(error) => {
                self.cancel_all();
                return Err(End::Refused(Refusal::from(&error)));
            }
        }
        Ok(())
    }

    fn cancel_all(&mut self) {
        for (state, id) in self.choices.iter_mut().zip(&mut self.ids) {
            state.cancel();
            if let Some(id) = id.take() {
                self.service.engine().cancel(id);
            }
        }
    }

    async fn send_deltas(&mut self) -> Result<(), End> {
        for at in 0..self.choices.len() {
            while let Some(delta) = self.choices[at].take_delta(self.prepared.request, at as u32) {
                self.send(Frame::Delta(delta)).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, frame: Frame) -> Result<(), End> {
        self.outbox.send(frame).await.map_err(|_| End::Abandoned)
    }

    fn done(&self) -> Done {
        let completion = self.choices.iter().map(|choice| choice.tokens().len() as u64).sum();
        // Nothing of a prompt is charged that was never admitted.
        let prompt = self.cached_tokens.map_or(0, |_| self.prepared.prompt.len() as u64);
        let usage = Usage::of_tokens(prompt, u64::from(self.cached_tokens.unwrap_or(0)), completion);
        Done { usage, statement: self.statement(usage) }
    }

    fn statement(&self, usage: Usage) -> SignedNodeStatement {
        let mut text = blake3::Hasher::new();
        for choice in &self.choices {
            text.update(choice.text().as_bytes());
        }
        let tokens: Vec<&[u32]> = self.choices.iter().map(Choice::tokens).collect();
        self.service.signer().sign_statement(NodeStatement {
            node: self.service.signer().node_id(),
            request: self.prepared.request,
            model_commitment: self.service.engine().capabilities().model_commitment,
            run_seed_hash: run_seed_hash(&self.prepared.run_seeds[0]),
            prompt_hash: prompt_hash(&self.prepared.prompt),
            text_hash: Digest32(*text.finalize().as_bytes()),
            trace_root: trace_root(&tokens),
            usage,
        })
    }
}

/// A job that is dropped half-way, because its link is gone, frees the engine at once.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        for id in self.ids.iter_mut().filter_map(Option::take) {
            self.service.engine().cancel(id);
        }
    }
}

/// The wire's word for how an engine ended a generation.
fn node_finish(reason: crate::engine::FinishReason) -> NodeFinish {
    use crate::engine::FinishReason;
    match reason {
        FinishReason::StopToken(_) => NodeFinish::Stop,
        FinishReason::MaxTokens | FinishReason::ContextFull => NodeFinish::Length,
        FinishReason::Cancelled => NodeFinish::Cancelled,
    }
}
