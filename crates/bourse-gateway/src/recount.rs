//! The market's own count: prompts before money is held, answers as they pass, with the model's pinned tokenizer.
//!
//! Sellers see neither the count nor the bytes that it is made from: of a prompt these are the request's as the model
//! reads it, of an answer what the seller sent, tool calls and shown reasoning included. A stream is counted piece by
//! piece in passing, so that its end has little left to count. What follows from a count is the
//! [meter's](bourse_market::RecountRules) business.
//!
//! Work on the reactor is bounded by [`INLINE_BYTES`] at a time, some 0.35 ms; larger texts are counted on another thread
//! while the request waits. Limits: a prompt beyond [`PROMPT_BYTES_MAX`] and an answer in one piece beyond
//! [`ANSWER_RECOUNT_BYTES_MAX`] are not counted, nor is a prompt when [`RECOUNTS_MAX`] others are: bytes bound them then.
//! Legacy completions of hosted APIs have no neutral form, and their answers are not counted.

use crate::config::ModelTokenizer;
use crate::phase::plan::Route;
use bourse_market::{Bill, Counted, Meter, MeterError, StreamEnd};
use bourse_types::{Digest32, ModelSlug, NanoUsd, PriceSchedule, PromptTokens, UnixMs};
use bourse_wire::dialect::grammar::{EventReader, Shape};
use bourse_wire::dialect::neutral::{Answer, Part, StreamEvent};
use bourse_wire::dialect::{Job, front};
use bourse_wire::node::Prompt;
use bourse_wire::tokens::RunningCount;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Text that is counted at once where the request stands.
pub const INLINE_BYTES: usize = 512;
/// Largest prompt that is counted, in bytes of what becomes prompt tokens.
pub const PROMPT_BYTES_MAX: u64 = 256 * 1024;
/// Largest text of an answer in one piece that is counted.
pub const ANSWER_RECOUNT_BYTES_MAX: usize = 1024 * 1024;
/// Most prompts that are counted on other threads at a time.
pub const RECOUNTS_MAX: usize = 16;

/// The models whose tokenizers are pinned.
pub(crate) struct Recounts {
    models: HashMap<ModelSlug, Arc<ModelTokenizer>>,
    places: Arc<Semaphore>,
}

/// What was counted of a request's prompt, by model. At most one entry for each model of its route.
#[derive(Debug, Default)]
pub(crate) struct Prompts(Vec<(ModelSlug, PromptTokens)>);

impl Prompts {
    pub(crate) fn of(&self, model: &ModelSlug) -> Option<PromptTokens> {
        self.0.iter().find(|(of, _)| of == model).map(|(_, tokens)| *tokens)
    }
}

impl Recounts {
    pub(crate) fn new(tokenizers: &[ModelTokenizer]) -> Self {
        let models = tokenizers.iter().map(|one| (one.model.clone(), Arc::new(one.clone()))).collect();
        Self { models, places: Arc::new(Semaphore::new(RECOUNTS_MAX)) }
    }

    /// The model's tokenizer, where it is pinned. A variant behind a colon is the same model.
    pub(crate) fn of(&self, model: &ModelSlug) -> Option<&Arc<ModelTokenizer>> {
        let base = || ModelSlug::parse(model.as_str().split(':').next()?).ok();
        self.models.get(model).or_else(|| self.models.get(&base()?))
    }

    /// Whether a prompt of this kind and size is counted at all.
    pub(crate) fn counts(&self, job: &Job) -> bool {
        !self.models.is_empty() && !job.api.is_passed_through() && job.prompt_bytes() <= PROMPT_BYTES_MAX
    }

    /// Counts the prompt for each model of the route whose tokenizer is pinned. Who waits may go away at any time.
    pub(crate) async fn prompts(&self, job: &Job, route: &Route, now: UnixMs) -> Prompts {
        let mut prompts = Prompts::default();
        for leg in &route.legs {
            if prompts.of(&leg.model).is_some() {
                continue;
            }
            if let Some(tokens) = self.of_model(job, &leg.model, now).await {
                prompts.0.push((leg.model.clone(), tokens));
            }
        }
        prompts
    }

    #[cfg(test)]
    pub(crate) fn places_left(&self) -> usize {
        self.places.available_permits()
    }

    pub(crate) async fn of_model(&self, job: &Job, model: &ModelSlug, now: UnixMs) -> Option<PromptTokens> {
        let tokenizer = self.of(model)?;
        let prompt = job.prompt_without_media().ok()?;
        let media = u64::from(job.needs.media_parts).saturating_mul(tokenizer.rules.media_tokens_max);
        let counted = if bytes_of(&prompt) <= INLINE_BYTES {
            tokenizer.counter.prompt(&prompt, now)
        } else {
            let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
            let counter = Arc::clone(&tokenizer.counter);
            let counting = tokio::task::spawn_blocking(move || {
                let _place = place;
                counter.prompt(&prompt, now)
            });
            counting.await.ok().flatten()
        };
        counted.map(|tokens| tokens.and_at_most(media))
    }
}

fn bytes_of(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat { messages_json, tools_json } => {
            messages_json.len() + tools_json.as_ref().map_or(0, String::len)
        }
    }
}

/// What an attempt counts with.
#[derive(Debug, Clone)]
pub(crate) struct Recounting {
    pub(crate) tokenizer: Arc<ModelTokenizer>,
    pub(crate) prompt: Option<PromptTokens>,
}

impl Recounting {
    /// The most that the prompt's claim may be; none where it was not counted.
    pub(crate) fn prompt_allowed(&self) -> Option<u64> {
        self.prompt.map(|counted| self.tokenizer.rules.prompt_allowed(counted))
    }
}

/// Counts the text of one answer.
pub(crate) struct Recounter {
    with: Recounting,
    /// By choice.
    counts: Vec<RunningCount>,
    /// Reads a hosted API's events; none where a node's text comes as such.
    reader: Option<Box<dyn EventReader>>,
    /// Text of an answer in one piece that is not counted yet.
    waiting: Vec<(u32, String)>,
    unseen: u64,
    /// Choices of a stream that have ended, one bit each.
    ended: u128,
    /// Chunks of a chat come in; see [`Recounter::event`].
    is_chat: bool,
    /// Something could not be read or was too much: the answer has no count.
    is_lost: bool,
}

impl Recounter {
    pub(crate) fn new(with: &Recounting, job: &Job) -> Self {
        // What is withheld of an answer that a stop string ends is at most the string.
        let stop = job.sampling.stop.iter().max_by_key(|stop| stop.len());
        let unseen = stop.map_or(0, |stop| with.tokenizer.counter.text(stop).unwrap_or(stop.len() as u64));
        let counts = vec![RunningCount::default(); job.choices.max(1) as usize];
        let (reader, waiting) = (None, Vec::new());
        Self { with: with.clone(), counts, reader, waiting, unseen, ended: 0, is_chat: false, is_lost: false }
    }

    fn read_as(&mut self, shape: Shape) {
        self.is_chat = shape == Shape::Chat;
        match shape.dialect() {
            Some(dialect) => self.reader = Some(dialect.reader()),
            None => self.is_lost = true,
        }
    }

    fn text(&mut self, choice: u32, text: &str) {
        // A choice that nobody asked for counts with the last one.
        let at = (choice as usize).min(self.counts.len() - 1);
        self.counts[at].push(text, &*self.with.tokenizer.counter);
    }

    /// A chunk of a chat that passes and cannot be read, such as one of a choice beyond all bounds, is none that an honest
    /// seller sends. It counts nothing: else one of them would be enough to have no count.
    fn event(&mut self, data: &[u8]) {
        let Some(mut reader) = self.reader.take() else { return };
        let read = std::str::from_utf8(data).map(|data| reader.read(data, &mut |event| self.said(&event)));
        self.is_lost |= !self.is_chat && !matches!(read, Ok(Ok(_)));
        self.reader = Some(reader);
    }

    /// What a choice says after its end, and a choice that nobody asked for, count nothing: no buyer is sure to get them.
    fn said(&mut self, event: &StreamEvent<'_>) {
        let choice = 1u128.checked_shl(event.choice()).unwrap_or_default();
        if event.choice() as usize >= self.counts.len() || self.ended & choice != 0 {
            return;
        }
        match event {
            StreamEvent::Text { choice, text, .. }
            | StreamEvent::Reasoning { choice, text, .. }
            | StreamEvent::Refusal { choice, text } => self.text(*choice, text),
            StreamEvent::ToolCall { choice, name, .. } => self.text(*choice, name),
            StreamEvent::ToolArguments { choice, json, .. } => self.text(*choice, json),
            StreamEvent::Finish { .. } => self.ended |= choice,
            StreamEvent::Signed { .. } => {}
        }
    }

    fn counted(&self) -> Counted {
        let counter = &*self.with.tokenizer.counter;
        let each = || self.counts.iter().map(|count| count.total(counter));
        let completion = each().try_fold(0u64, |sum, one| Some(sum.saturating_add(one?)));
        Counted {
            prompt: self.with.prompt,
            completion: completion.filter(|_| !self.is_lost && self.waiting.is_empty()),
            unseen: self.unseen,
        }
    }
}

/// A meter, and the market's own count beside it.
pub(crate) struct Gauge {
    /// It moves with its request, from attempt to answer.
    pub(crate) meter: Box<Meter>,
    recounter: Option<Box<Recounter>>,
}

impl Gauge {
    pub(crate) fn new(meter: Meter, recounter: Option<Recounter>) -> Self {
        Self { meter: Box::new(meter), recounter: recounter.map(Box::new) }
    }

    /// The pin of the tokenizer that counts, if one does.
    pub(crate) fn pin(&self) -> Option<Digest32> {
        self.recounter.as_ref().map(|recounter| recounter.with.tokenizer.counter.pin())
    }

    /// A hosted API's event, as it came.
    pub(crate) fn on_event(&mut self, data: &[u8]) {
        if let Some(recounter) = &mut self.recounter {
            recounter.event(data);
        }
    }

    /// A node's text.
    pub(crate) fn on_text(&mut self, choice: u32, text: &str) {
        if let Some(recounter) = &mut self.recounter {
            recounter.text(choice, text);
        }
    }

    /// Reads events of a hosted API in that grammar.
    pub(crate) fn reading(mut self, shape: Shape) -> Self {
        if let Some(recounter) = &mut self.recounter {
            recounter.read_as(shape);
        }
        self
    }

    /// A whole answer of a hosted API: [`Gauge::count_waiting`] counts it. None: it could not be read.
    pub(crate) fn on_answer(&mut self, answer: impl FnOnce() -> Option<Answer>) {
        let Some(recounter) = &mut self.recounter else { return };
        match answer() {
            Some(answer) => recounter.waiting = texts_of(answer),
            None => recounter.is_lost = true,
        }
    }

    /// Whether a whole answer waits to be counted.
    pub(crate) fn has_waiting(&self) -> bool {
        self.recounter.as_ref().is_some_and(|recounter| !recounter.waiting.is_empty())
    }

    /// Counts it, on another thread where it is long.
    pub(crate) async fn count_waiting(&mut self) {
        let Some(mut recounter) = self.recounter.take() else { return };
        let waiting = std::mem::take(&mut recounter.waiting);
        let bytes: usize = waiting.iter().map(|(_, text)| text.len()).sum();
        let count = move |mut recounter: Box<Recounter>| {
            for (choice, text) in &waiting {
                recounter.text(*choice, text);
            }
            recounter
        };
        self.recounter = if bytes <= INLINE_BYTES {
            Some(count(recounter))
        } else if bytes > ANSWER_RECOUNT_BYTES_MAX {
            recounter.is_lost = true;
            Some(recounter)
        } else {
            // It can only fail when the market stops, and then nothing is settled by it.
            tokio::task::spawn_blocking(move || count(recounter)).await.ok()
        };
    }

    /// [`Meter::settle`] with what was counted.
    pub(crate) fn settle(
        &self,
        end: StreamEnd,
        prices: &PriceSchedule,
        held: NanoUsd,
    ) -> Result<Bill, MeterError> {
        let Some(recounter) = &self.recounter else { return self.meter.settle(end, prices, held) };
        let mut meter = self.meter.clone();
        meter.on_recount(recounter.with.tokenizer.rules, recounter.counted());
        meter.settle(end, prices, held)
    }
}

/// What of an answer is text that a model wrote, by choice.
fn texts_of(answer: Answer) -> Vec<(u32, String)> {
    let choices = (0u32..).zip(answer.choices);
    let parts = choices.flat_map(|(n, choice)| choice.parts.into_iter().map(move |part| (n, part)));
    let texts = parts.filter_map(|(choice, part)| match part {
        Part::Text { text, .. } | Part::Reasoning { text, .. } | Part::Refusal { text } => {
            Some((choice, text))
        }
        Part::ToolCall { name, arguments, .. } => Some((choice, name + " " + &arguments)),
        _ => None,
    });
    texts.collect()
}

/// The text of a hosted API's answer in its own grammar.
pub(crate) fn read_answer(shape: Shape, body: &[u8]) -> Option<Answer> {
    shape.dialect()?;
    front::dialect(shape).read_answer(std::str::from_utf8(body).ok()?).ok()
}
