//! Metering: what was delivered, what the seller claims, and what is billed.
//!
//! A node's frames carry token counts, so node traffic is counted exactly. A provider's stream carries
//! text and a claim. Where the model's tokenizer is pinned, the market counts again and no claim, a node's frames
//! included, goes beyond that count by more than a [declared tolerance](RecountRules). Elsewhere it bounds the truth from
//! both sides. *Least*: one token per content event (an event that carries text carries at least a token); for
//! an answer in one piece, one token per [`BYTES_PER_TOKEN_MOST`] bytes. *Most*: one token per event or per
//! two bytes of text, whichever is more, plus what markup costs. Reasoning that is not shown is believed
//! only of an offer that declared it ([`Supports::HIDDEN_REASONING`]).
//!
//! | case | prompt billed | completion billed | basis, doubts |
//! | --- | --- | --- | --- |
//! | nothing delivered, whatever the end or claim | 0 | 0, no request fee | nothing |
//! | complete, counted exactly, no claim or an equal one | as counted | as counted | counted |
//! | complete, counted exactly, another claim | the lesser | the lesser | counted, `claim_differs` |
//! | complete, valid claim | claim, at most its bound | claim, at most *most* and `max_tokens` | claim, `claim_exceeds` when cut |
//! | complete, no claim | least | least | delivered, `usage_unknown` |
//! | complete, only invalid claims | least | least | delivered, `claim_invalid`, `usage_unknown` |
//! | broken by the seller or the market, and taken up by nobody | 0 | 0, no request fee | nothing |
//! | cut by buyer or budget, or taken up by another seller | claim at most its bound, else least | least, at most the claim | delivered |
//! | the same, counted exactly | as counted | as counted | counted |
//! | any of these, recounted | at most the recount and its tolerance; *least* is the recount | the same | `recount_exceeded` when a complete answer's claim is beyond it |
//! | any of these above the hold | cut to the hold | cut to the hold first | `hold_exceeded` |
//!
//! *Nothing delivered* means no content event (for exact counts of a complete answer: no token); a
//! complete answer of an offer with declared hidden reasoning counts as delivered when it claims
//! completion tokens. Whole answers that are no conversation have rules of their own; see [`Units`].
//! A claim is valid when cached + written ≤ prompt, reasoning ≤ completion, prompt and
//! completion are not zero though content came, and nothing exceeds [`CLAIM_TOKENS_MAX`]. Of several
//! claims the last valid one counts. So `usage_unknown` is an error state with a rule: the buyer pays what
//! can be shown, and the seller bears the rest for claiming nothing.

mod passed;
mod recount;

pub use passed::Units;
pub use recount::{
    Counted, HIDDEN_REASONING_TOKENS_MAX, MEDIA_TOKENS_MAX, Recount, RecountRules, TOLERANCE_BPS,
    TOLERANCE_TOKENS,
};

use crate::demand::{BYTES_PER_TOKEN_MOST, BYTES_PER_TOKEN_TYPICAL, Demand};
use crate::flags::flags;
use crate::offer::{Offer, Operations, Supports};
use crate::quote::{completion_tokens_max, prompt_tokens_max};
use bourse_types::{Charge, MoneyError, NanoUsd, PriceSchedule, TokenCount, Usage};

/// Most tokens that a claim can name and be believed.
pub const CLAIM_TOKENS_MAX: u64 = 1 << 32;
/// Fewest bytes of text per token that a claim may imply, averaged over an answer.
const BYTES_PER_TOKEN_LEAST: u64 = 2;
/// Tokens per choice by which what passed may exceed, at most, what a hold covers while a stream goes on.
pub const UNSECURED_TOKENS_MAX: u64 = 512;
/// Tokens per choice that carry no text, such as the end of the turn.
const MARKUP_TOKENS_PER_CHOICE: u64 = 2;
/// Tokens per tool call that carry no text, such as the call's frame.
const MARKUP_TOKENS_PER_TOOL_CALL: u64 = 16;

/// How tokens are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Frames carry their token counts.
    Exact,
    /// A provider's stream of content events.
    Streamed,
    /// A provider's answer in one piece.
    Whole,
    /// The same, where it is no conversation: vectors, ranks, pictures, sound, transcripts.
    Passed,
    /// A provider's stream of pictures, sound or a transcript.
    PassedStream,
}

impl Counting {
    /// Whether it is no conversation.
    fn is_passed(self) -> bool {
        matches!(self, Self::Passed | Self::PassedStream)
    }
}

/// How the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// With a finish reason of the model's own.
    Complete,
    /// The seller failed or the stream was cut: a failed answer costs nothing, whatever the seller claims.
    SellerFailed,
    /// The same, and another seller goes on from there: what was delivered is part of a good answer.
    TakenUp,
    /// The buyer went away.
    Cancelled,
    /// The hold could not be extended.
    Budget,
    /// The market stopped, or its deadline passed: its own failure, and nothing is charged for it.
    Market,
}

/// A usage object as a seller sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimedUsage {
    /// All prompt tokens, cached ones included.
    pub prompt: u64,
    /// The part read from a cache.
    pub cached: u64,
    /// The part written into a cache.
    pub cache_write: u64,
    /// All generated tokens, reasoning included.
    pub completion: u64,
    /// The part of them that is reasoning.
    pub reasoning: u64,
}

/// What the billed usage rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Nothing was delivered and nothing is charged.
    Nothing,
    /// The market's own exact count.
    Counted,
    /// The seller's claim, within the market's bounds.
    Claim,
    /// The least that was surely delivered.
    Delivered,
    /// The market's count of the text, for want of a claim.
    Recounted,
}

flags! {
    /// What was odd about a usage. Each is a mark against the seller, not against the buyer.
    Doubts {
        /// A complete answer without a valid claim.
        USAGE_UNKNOWN = 0, "usage_unknown";
        /// A claim that contradicts itself or what was delivered.
        CLAIM_INVALID = 1, "claim_invalid";
        /// A claim above what can have been delivered.
        CLAIM_EXCEEDS = 2, "claim_exceeds";
        /// A claim that differs from an exact count.
        CLAIM_DIFFERS = 3, "claim_differs";
        /// More was used than the hold covers: the market bears the difference.
        HOLD_EXCEEDED = 4, "hold_exceeded";
        /// A claim beyond the market's own count and its tolerance.
        RECOUNT_EXCEEDED = 5, "recount_exceeded";
    }
}

/// Bounds within which a meter believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterRules {
    /// How tokens are known.
    pub counting: Counting,
    /// What kind of request it is.
    pub operation: Operations,
    /// Upper bound of the units.
    pub units_max: u64,
    /// Answers wanted.
    pub choices: u32,
    /// Upper bound of the prompt.
    pub prompt_tokens_max: u64,
    /// What the prompt has at least.
    pub prompt_tokens_least: u64,
    /// Upper bound of the completion, all choices.
    pub completion_tokens_max: u64,
    /// Whether the offer declared reasoning that it does not show.
    pub hidden_reasoning: bool,
}

impl MeterRules {
    /// The rules for a request under an offer.
    pub fn new(offer: &Offer, demand: &Demand<'_>, counting: Counting) -> Self {
        Self {
            counting,
            operation: demand.operation,
            units_max: demand.units_max,
            choices: demand.choices.max(1),
            prompt_tokens_max: prompt_tokens_max(offer, demand),
            prompt_tokens_least: demand.prompt_tokens_least().max(1),
            completion_tokens_max: completion_tokens_max(offer, demand),
            hidden_reasoning: offer.supports.contains(Supports::HIDDEN_REASONING),
        }
    }
}

/// Why a bill could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the usage cannot be priced")]
pub struct MeterError(#[from] MoneyError);

/// What the buyer pays and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// What is billed.
    pub usage: Usage,
    /// Its price.
    pub charge: Charge,
    /// The claim that counts, if the seller made a valid one. Never below `usage`, part by part, but for
    /// the cached part.
    pub claimed: Option<Usage>,
    /// What `usage` rests on.
    pub basis: Basis,
    /// What was odd.
    pub doubts: Doubts,
    /// The market's own count, where the model's tokenizer is pinned.
    pub recount: Option<Recount>,
}

/// Counts one attempt's answer as it passes.
#[derive(Debug, Clone)]
pub struct Meter {
    rules: MeterRules,
    prompt_counted: Option<(u64, u64)>,
    events: u64,
    tokens: u64,
    bytes: u64,
    tool_calls: u64,
    units: Units,
    claim: Option<ClaimedUsage>,
    claim_was_invalid: bool,
    /// Rare, and a meter moves with its request.
    recount: Option<Box<(RecountRules, Counted)>>,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(rules: MeterRules) -> Self {
        Self {
            rules,
            prompt_counted: None,
            events: 0,
            tokens: 0,
            bytes: 0,
            tool_calls: 0,
            units: Units::default(),
            claim: None,
            claim_was_invalid: false,
            recount: None,
        }
    }

    /// A node counted the prompt.
    pub fn on_prompt(&mut self, tokens: u64, cached: u64) {
        self.prompt_counted = Some((tokens, cached.min(tokens)));
    }

    /// A node's frame went to the buyer: so many tokens, so many bytes of text.
    pub fn on_tokens(&mut self, tokens: u64, bytes: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A provider's event with text (content, shown reasoning, tool names or arguments) went to the
    /// buyer. An event without text counts nothing.
    pub fn on_content(&mut self, bytes: u64) {
        self.events = self.events.saturating_add(u64::from(bytes > 0));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A tool call began.
    pub fn on_tool_call(&mut self) {
        self.tool_calls = self.tool_calls.saturating_add(1);
    }

    /// A usage object was seen, wherever it stood.
    pub fn on_claim(&mut self, claim: ClaimedUsage) {
        let is_consistent = claim.is_consistent();
        self.claim_was_invalid |= !is_consistent;
        // What a node swore to is kept even when it is absurd: it can only lower the bill.
        if is_consistent || self.rules.counting == Counting::Exact {
            self.claim = Some(claim);
        }
    }

    /// Whether anything that is billed was delivered.
    pub fn has_content(&self) -> bool {
        self.bytes > 0
    }

    /// Most completion tokens that what passed so far can be: what a claim is believed up to.
    pub fn generated(&self) -> u64 {
        self.generated_at(BYTES_PER_TOKEN_LEAST)
    }

    /// Completion tokens that a hold must cover by now: what likely passed, and all but [`UNSECURED_TOKENS_MAX`] per
    /// choice of what that can be at most. A claim above it is covered at the end, or cut.
    pub fn to_cover(&self) -> u64 {
        let unsecured = UNSECURED_TOKENS_MAX * u64::from(self.rules.choices);
        self.generated_at(BYTES_PER_TOKEN_TYPICAL).max(self.generated().saturating_sub(unsecured))
    }

    fn generated_at(&self, bytes_per_token: u64) -> u64 {
        match self.rules.counting {
            Counting::Exact => self.tokens,
            counting if counting.is_passed() && self.rules.operation != Operations::TRANSCRIPTION => {
                self.rules.completion_tokens_max
            }
            Counting::Streamed | Counting::Whole | Counting::Passed | Counting::PassedStream => {
                let markup = (MARKUP_TOKENS_PER_CHOICE * u64::from(self.rules.choices))
                    .saturating_add(self.tool_calls.saturating_mul(MARKUP_TOKENS_PER_TOOL_CALL));
                self.events.max(self.bytes.div_ceil(bytes_per_token)).saturating_add(markup)
            }
        }
    }

    /// Completion tokens that were surely delivered: the market's own count where there is one.
    pub fn delivered_least(&self) -> u64 {
        let least = match self.rules.counting {
            Counting::Exact => self.tokens,
            Counting::Streamed | Counting::Whole if self.recounted_completion().is_some() => {
                self.recounted_completion().unwrap_or_default()
            }
            counting if counting.is_passed() && self.rules.operation == Operations::IMAGES => {
                self.units.counted.unwrap_or_default()
            }
            Counting::Streamed | Counting::PassedStream => self.events,
            Counting::Whole | Counting::Passed => {
                (self.bytes / BYTES_PER_TOKEN_MOST).max(u64::from(self.bytes > 0))
            }
        };
        least.min(self.rules.completion_tokens_max)
    }

    /// The bill, by the table in the module's description. Never above `held`.
    pub fn settle(&self, end: StreamEnd, prices: &PriceSchedule, held: NanoUsd) -> Result<Bill, MeterError> {
        let contradicts = self.claim.is_some_and(|claim| self.contradicts(claim));
        let claim = self.claim.filter(|_| !contradicts || self.rules.counting == Counting::Exact);
        let invalid = self.claim_was_invalid || contradicts;
        let mut doubts = if invalid { Doubts::CLAIM_INVALID } else { Doubts::NONE };
        let claimed = claim.map(ClaimedUsage::usage);
        let recount = self.recount(claim);
        let claimed = recount.and_then(|_| self.claimed_for_recount(claimed)).or(claimed);
        if !self.is_billable(end, claim) {
            return Ok(Bill {
                usage: Usage::default(),
                charge: Charge::ZERO,
                claimed,
                basis: Basis::Nothing,
                doubts,
                recount: None,
            });
        }
        let (usage, basis, more) = match (self.rules.counting, end, claim) {
            (Counting::Exact, ..) => self.counted(end, claim),
            (Counting::Passed | Counting::PassedStream, ..) => self.passed(end, claim, prices),
            (_, StreamEnd::Complete, Some(claim)) => self.believed(claim),
            (_, StreamEnd::Complete, None) => {
                (self.delivered(None), self.basis_of_delivered(), Doubts::USAGE_UNKNOWN)
            }
            (_, _, claim) => (self.delivered(claim), self.basis_of_delivered(), Doubts::NONE),
        };
        doubts = doubts.with(more);
        let usage = recount.map_or(usage, |recount| recount.cut(usage));
        if Self::is_judged(end)
            && let (Some(recount), Some(claimed)) = (&recount, &claimed)
            && recount.is_exceeded_by(claimed)
        {
            doubts = doubts.with(Doubts::RECOUNT_EXCEEDED);
        }
        let fitted = fit(usage, prices, held)?;
        if fitted != usage {
            doubts = doubts.with(Doubts::HOLD_EXCEEDED);
        }
        let charge = match prices.charge(&fitted)? {
            charge if charge.total <= held => charge,
            // Not even the request fee is covered: nothing can be charged.
            _ => PriceSchedule { request: NanoUsd::ZERO, ..*prices }.charge(&Usage::default())?,
        };
        let claimed =
            if self.rules.counting.is_passed() { self.passed_claim(claim, &usage) } else { claimed };
        Ok(Bill { usage: fitted, charge, claimed, basis, doubts, recount })
    }

    fn basis_of_delivered(&self) -> Basis {
        self.recounted_completion().map_or(Basis::Delivered, |_| Basis::Recounted)
    }

    /// A count of zero cannot be true once content came. What is no conversation may well have generated nothing.
    fn contradicts(&self, claim: ClaimedUsage) -> bool {
        let is_passed = self.rules.counting.is_passed();
        self.has_content() && (claim.prompt == 0 || claim.completion == 0 && !is_passed)
    }

    fn is_billable(&self, end: StreamEnd, claim: Option<ClaimedUsage>) -> bool {
        if matches!(end, StreamEnd::SellerFailed | StreamEnd::Market) {
            return false;
        }
        let complete = end == StreamEnd::Complete;
        if self.rules.counting == Counting::Passed && !complete {
            return false;
        }
        self.has_content()
            || complete && self.rules.counting == Counting::Exact && self.tokens > 0
            || complete && self.rules.hidden_reasoning && claim.is_some_and(|c| c.completion > 0)
    }

    fn counted(&self, end: StreamEnd, claim: Option<ClaimedUsage>) -> (Usage, Basis, Doubts) {
        let Some((prompt, cached)) = self.prompt_counted else {
            // Content without a counted prompt: the node broke the protocol, and bears what it hid.
            return (self.delivered(claim), Basis::Delivered, Doubts::USAGE_UNKNOWN);
        };
        let counted = Usage::of_tokens(
            prompt.min(self.rules.prompt_tokens_max),
            cached.min(self.rules.prompt_tokens_max),
            self.tokens.min(self.rules.completion_tokens_max),
        );
        let exceeds = counted.prompt.0 < prompt || counted.completion.0 < self.tokens;
        let doubts = if exceeds { Doubts::CLAIM_EXCEEDS } else { Doubts::NONE };
        let Some(claim) = claim.map(ClaimedUsage::usage) else { return (counted, Basis::Counted, doubts) };
        let lesser = lesser(counted, claim);
        // A node that was stopped has rightly made more than was delivered.
        let completion_differs = end == StreamEnd::Complete && claim.completion.0 != self.tokens;
        let differs =
            completion_differs || claim.prompt.0 != prompt || lesser.completion < counted.completion;
        let doubts = if differs { doubts.with(Doubts::CLAIM_DIFFERS) } else { doubts };
        (lesser, Basis::Counted, doubts)
    }

    fn believed(&self, claim: ClaimedUsage) -> (Usage, Basis, Doubts) {
        let hidden = if self.rules.hidden_reasoning { claim.reasoning } else { 0 };
        // A recount bounds closer, and holds where text is denser than two bytes a token.
        let most = self.recounted_completion().map_or(self.generated().saturating_add(hidden), |_| u64::MAX);
        let most = most.min(self.rules.completion_tokens_max);
        let prompt = claim.prompt.min(self.rules.prompt_tokens_max);
        let usage = claim.with_prompt(prompt, claim.completion.min(most));
        let cut = prompt < claim.prompt || usage.completion.0 < claim.completion;
        (usage, Basis::Claim, if cut { Doubts::CLAIM_EXCEEDS } else { Doubts::NONE })
    }

    fn delivered(&self, claim: Option<ClaimedUsage>) -> Usage {
        let least = self.delivered_least();
        let Some(claim) = claim else {
            let prompt = self.recounted_prompt().unwrap_or(self.rules.prompt_tokens_least);
            let prompt = prompt.min(self.rules.prompt_tokens_max);
            return Usage::of_tokens(prompt, 0, least);
        };
        let prompt = claim.prompt.min(self.rules.prompt_tokens_max);
        claim.with_prompt(prompt, least.min(claim.completion))
    }
}

impl ClaimedUsage {
    fn is_consistent(&self) -> bool {
        let sane = self.prompt.max(self.completion) <= CLAIM_TOKENS_MAX;
        let parts = self.cached.checked_add(self.cache_write);
        sane && parts.is_some_and(|parts| parts <= self.prompt) && self.reasoning <= self.completion
    }

    fn usage(self) -> Usage {
        Usage {
            cache_write: TokenCount(self.cache_write),
            ..Usage::of_tokens(self.prompt, self.cached, self.completion)
        }
    }

    /// The claim with a prompt cut to `prompt` and a completion cut to `completion`.
    fn with_prompt(self, prompt: u64, completion: u64) -> Usage {
        cut_prompt(Usage { completion: TokenCount(completion), ..self.usage() }, TokenCount(prompt))
    }
}

/// The lesser of two usages, part by part; more cached is less, and so is less written.
fn lesser(one: Usage, two: Usage) -> Usage {
    let both = Usage {
        prompt: one.prompt.min(two.prompt),
        cached_prompt: one.cached_prompt.max(two.cached_prompt),
        cache_write: one.cache_write.min(two.cache_write),
        completion: one.completion.min(two.completion),
        units: one.units.min(two.units),
    };
    cut_prompt(both, both.prompt)
}

/// The usage with a prompt of so many tokens: what was written into a cache is cut first to what was not
/// read from it, because a seller that claims more than there was is believed in what costs less.
fn cut_prompt(usage: Usage, prompt: TokenCount) -> Usage {
    let cached_prompt = usage.cached_prompt.min(prompt);
    let cache_write = usage.cache_write.min(TokenCount(prompt.0 - cached_prompt.0));
    Usage { prompt, cached_prompt, cache_write, ..usage }
}

/// The usage, cut until its price is at most `held`: the completion first, then the prompt.
fn fit(usage: Usage, prices: &PriceSchedule, held: NanoUsd) -> Result<Usage, MoneyError> {
    if prices.charge(&usage)?.total <= held {
        return Ok(usage);
    }
    let with_completion = |n: u64| Usage { completion: TokenCount(n), ..usage };
    let with_prompt = |n: u64| Usage { units: 0, ..cut_prompt(with_completion(0), TokenCount(n)) };
    let cut = largest(usage.completion.0, |n| prices.charge(&with_completion(n)).map(|c| c.total <= held))?;
    if let Some(completion) = cut {
        return Ok(with_completion(completion));
    }
    let cut = largest(usage.prompt.0, |n| prices.charge(&with_prompt(n)).map(|c| c.total <= held))?;
    Ok(with_prompt(cut.unwrap_or(0)))
}

/// The largest `n` up to `max` for which a condition holds that holds for all smaller ones too.
fn largest(max: u64, holds: impl Fn(u64) -> Result<bool, MoneyError>) -> Result<Option<u64>, MoneyError> {
    if !holds(0)? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, max);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle)? { low = middle } else { high = middle - 1 }
    }
    Ok(Some(low))
}

#[cfg(test)]
mod tests;
