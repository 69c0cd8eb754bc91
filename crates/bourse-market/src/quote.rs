//! Quotes: the most that a request can cost under an offer, so far.
//!
//! A hold must cover the worst case before anything is sent, but the worst case of a whole context would
//! lock far more money than most answers cost. So the bound rolls with the answer: it covers the prompt's upper bound
//! and a step of tokens, and is extended before they are used up. A step is one [`HOLD_STEP_PART`]th of what the request has surely
//! cost so far: what is held stays within a fifth of what will be charged, whatever a prompt and a token cost, and
//! the number of extensions grows with the logarithm of the price. A step has at least [`HOLD_STEP_TOKENS_MIN`] tokens, so
//! that cheap beginnings are not extended with every word.
//!
//! The next step is due when less is left than one look has brought at most so far: an answer that comes in large
//! pieces is held further ahead than one that comes token by token.
//!
//! Two cases are bounded whole from the start: an answer that comes in one piece
//! ([`HoldWindow::whole`]) and an offer that bills reasoning it does not show, whose progress nobody sees.
//! A bound that cannot be computed is an error, never a smaller bound.

use crate::demand::{BYTES_PER_TOKEN_TYPICAL, Demand};
use crate::offer::{Offer, Operations, Supports};
use bourse_types::{MoneyError, NanoUsd, PriceSchedule, Usage};

/// A step of a hold is this part of what the request has surely cost so far.
pub const HOLD_STEP_PART: u64 = 5;
/// Completion tokens per choice that a step covers at least.
pub const HOLD_STEP_TOKENS_MIN: u64 = 32;
/// Completion tokens per choice that a step covers at most.
pub const HOLD_STEP_TOKENS_MAX: u64 = 4_096;
/// Covered tokens per choice left at which the next step is due, while tokens come one by one.
pub const HOLD_MARGIN_TOKENS_MIN: u64 = 4;
/// The same, however large the pieces are that they come in.
pub const HOLD_MARGIN_TOKENS_MAX: u64 = 64;

/// Pico-dollars of a nano-dollar.
const PICO_PER_NANO: u128 = 1_000;
/// Most tokens of one image that is made. The dearest that is sold takes 6,240.
const TOKENS_PER_IMAGE_MAX: u64 = 8_192;
/// Most prompt tokens of a second of sound. Vendors take 10 to 32.
const HEARD_TOKENS_PER_SECOND_MAX: u64 = 50;
/// Most tokens that are said in a second: more than anybody speaks.
const SAID_TOKENS_PER_SECOND_MAX: u64 = 32;

/// Why a bound could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The offer's price is not known.
    #[error("the price of this offer is not known")]
    UnknownPrice,
    /// The bound does not fit an amount.
    #[error("the upper bound of the price cannot be computed")]
    Bound(#[source] MoneyError),
}

/// Most prompt tokens that the request can have under the offer; saturates.
pub(crate) fn prompt_tokens_max(offer: &Offer, demand: &Demand<'_>) -> u64 {
    let text = offer.prompt_bound.tokens_max(demand.prompt_bytes, demand.messages);
    let text = demand.prompt_tokens_max.map_or(text, |counted| text.min(counted));
    let heard = if demand.operation == Operations::TRANSCRIPTION { demand.units_max } else { 0 };
    text.saturating_add(heard.saturating_mul(HEARD_TOKENS_PER_SECOND_MAX))
}

/// Most completion tokens that the request can have under the offer, all choices together; saturates. Vectors and
/// ranks have none, and sound tells nobody how many it took: who speaks sells by the character.
pub(crate) fn completion_tokens_max(offer: &Offer, demand: &Demand<'_>) -> u64 {
    let most = offer.completion_tokens_max.unwrap_or(u64::MAX).min(offer.context_tokens_max);
    match demand.operation {
        Operations::EMBEDDINGS | Operations::RERANK | Operations::SPEECH => return 0,
        Operations::IMAGES => return most.min(demand.units_max.saturating_mul(TOKENS_PER_IMAGE_MAX)),
        Operations::TRANSCRIPTION => {
            return most.min(demand.units_max.saturating_mul(SAID_TOKENS_PER_SECOND_MAX));
        }
        _ => {}
    }
    let each = demand.max_tokens.unwrap_or(u64::MAX);
    each.min(most).saturating_mul(u64::from(demand.choices.max(1)))
}

/// Upper bound of the price once `generated_so_far` completion tokens were seen: the whole prompt, those
/// tokens and one more step.
pub fn quote(offer: &Offer, demand: &Demand<'_>, generated_so_far: u64) -> Result<NanoUsd, QuoteError> {
    let window = HoldWindow::uncovered(offer, demand)?;
    window.bound(window.reach(generated_so_far)?)
}

/// A hold that grows with its stream. Pure: it says what to ask the funds port for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldWindow {
    prices: PriceSchedule,
    prompt_tokens: u64,
    /// What the prompt has more likely than its bound.
    prompt_tokens_likely: u64,
    units: u64,
    limit_tokens: u64,
    choices: u32,
    covered_tokens: u64,
    /// At the last look, and the most that one look brought.
    seen_tokens: u64,
    burst_tokens: u32,
    is_used_up: bool,
    held: NanoUsd,
    steps: u16,
}

/// What to add to a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// 1 for the first extension, then 2, 3 …
    pub step: u16,
    /// What to add.
    pub amount: NanoUsd,
    /// Completion tokens covered afterwards.
    pub covers_tokens: u64,
}

impl HoldWindow {
    /// The first hold of a stream: the prompt and one step.
    pub fn first(offer: &Offer, demand: &Demand<'_>) -> Result<Self, QuoteError> {
        let window = Self::uncovered(offer, demand)?;
        let covered = if offer.supports.contains(Supports::HIDDEN_REASONING) {
            window.limit_tokens
        } else {
            window.reach(0)?
        };
        window.covering(covered)
    }

    /// A hold for everything the answer can be: for answers that come in one piece.
    pub fn whole(offer: &Offer, demand: &Demand<'_>) -> Result<Self, QuoteError> {
        let window = Self::uncovered(offer, demand)?;
        let covered = window.limit_tokens;
        window.covering(covered)
    }

    /// What is held when every extension so far was granted.
    pub fn held(&self) -> NanoUsd {
        self.held
    }

    /// Upper bound of the prompt's tokens.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Completion tokens that the hold covers.
    pub fn covered_tokens(&self) -> u64 {
        self.covered_tokens
    }

    /// What to add now that `generated` completion tokens were seen; none while the margin lasts or when
    /// the answer cannot get longer than what is covered. Asking again changes nothing.
    pub fn extension(&mut self, generated: u64) -> Result<Option<Extension>, QuoteError> {
        let burst = generated.saturating_sub(self.seen_tokens);
        self.burst_tokens = self.burst_tokens.max(u32::try_from(burst).unwrap_or(u32::MAX));
        self.seen_tokens = self.seen_tokens.max(generated);
        let left = self.covered_tokens.saturating_sub(generated);
        if self.covered_tokens >= self.limit_tokens || left >= self.margin_tokens() {
            return Ok(None);
        }
        let covers_tokens = self.reach(generated)?;
        let amount = self.bound(covers_tokens)?.checked_sub(self.held).map_err(QuoteError::Bound)?;
        Ok(Some(Extension { step: self.steps.saturating_add(1), amount, covers_tokens }))
    }

    /// The longest extension that a hold of `most` pays for, where the next step is more; none when it pays for nothing
    /// beyond what is covered.
    pub fn extension_within(&self, generated: u64, most: NanoUsd) -> Result<Option<Extension>, QuoteError> {
        let (mut low, mut high) = (self.covered_tokens, self.reach(generated)?.max(self.covered_tokens));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.bound(middle)? <= most { low = middle } else { high = middle - 1 }
        }
        if low == self.covered_tokens {
            return Ok(None);
        }
        let amount = self.bound(low)?.checked_sub(self.held).map_err(QuoteError::Bound)?;
        Ok(Some(Extension { step: self.steps.saturating_add(1), amount, covers_tokens: low }))
    }

    /// There is no more money: the next extension is due when what is covered is used up.
    pub fn use_up(&mut self) {
        self.is_used_up = true;
    }

    /// Notes that an extension was granted.
    pub fn grant(&mut self, extension: &Extension) -> Result<(), QuoteError> {
        self.held = self.held.checked_add(extension.amount).map_err(QuoteError::Bound)?;
        self.covered_tokens = extension.covers_tokens;
        self.steps = extension.step;
        Ok(())
    }

    fn uncovered(offer: &Offer, demand: &Demand<'_>) -> Result<Self, QuoteError> {
        let mut prices = offer.prices.ok_or(QuoteError::UnknownPrice)?;
        // Whether the prompt is read from or written into a cache is not known yet: the dearest price
        // bounds it.
        prices.prompt = prices.dearest_prompt();
        let prompt_tokens = prompt_tokens_max(offer, demand);
        let likely = demand.prompt_tokens_max.unwrap_or(demand.prompt_bytes / BYTES_PER_TOKEN_TYPICAL);
        Ok(Self {
            prices,
            prompt_tokens,
            prompt_tokens_likely: likely.min(prompt_tokens),
            units: demand.units_max,
            limit_tokens: completion_tokens_max(offer, demand),
            choices: demand.choices.max(1),
            covered_tokens: 0,
            seen_tokens: 0,
            burst_tokens: 0,
            is_used_up: false,
            held: NanoUsd::ZERO,
            steps: 0,
        })
    }

    fn covering(self, covered_tokens: u64) -> Result<Self, QuoteError> {
        let held = self.bound(covered_tokens)?;
        Ok(Self { covered_tokens, held, ..self })
    }

    fn choices(&self) -> u64 {
        u64::from(self.choices)
    }

    fn margin_tokens(&self) -> u64 {
        if self.is_used_up {
            return 1;
        }
        let (least, most) =
            (HOLD_MARGIN_TOKENS_MIN * self.choices(), HOLD_MARGIN_TOKENS_MAX * self.choices());
        u64::from(self.burst_tokens).clamp(least, most)
    }

    /// Completion tokens covered after a step from here.
    fn reach(&self, generated: u64) -> Result<u64, QuoteError> {
        Ok(generated.saturating_add(self.step_tokens(generated)?).min(self.limit_tokens))
    }

    fn step_tokens(&self, generated: u64) -> Result<u64, QuoteError> {
        let price = u128::from(self.prices.completion.0);
        if price == 0 {
            return Ok(self.limit_tokens);
        }
        let spent = self.price(self.prompt_tokens_likely, generated)?;
        let part = u128::from(spent.0) * PICO_PER_NANO / u128::from(HOLD_STEP_PART) / price;
        // Twice the margin, so that a step is never due at once again.
        let least = (HOLD_STEP_TOKENS_MIN * self.choices()).max(2 * self.margin_tokens());
        Ok(u64::try_from(part).unwrap_or(u64::MAX).clamp(least, HOLD_STEP_TOKENS_MAX * self.choices()))
    }

    fn bound(&self, completion_tokens: u64) -> Result<NanoUsd, QuoteError> {
        self.price(self.prompt_tokens, completion_tokens)
    }

    fn price(&self, prompt_tokens: u64, completion_tokens: u64) -> Result<NanoUsd, QuoteError> {
        let usage = Usage { units: self.units, ..Usage::of_tokens(prompt_tokens, 0, completion_tokens) };
        Ok(self.prices.charge(&usage).map_err(QuoteError::Bound)?.total)
    }
}

#[cfg(test)]
mod tests;
