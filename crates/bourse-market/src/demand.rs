//! Demands: what a request asks of a seller.
//!
//! Which seller the buyer would like is in [`Preferences`]; what is here is what the request itself needs.

use crate::offer::{Operations, Supports};
use crate::preferences::Preferences;
use crate::sticky::Warmth;
use bourse_types::{ModelSlug, Usage};

/// Bytes of text that a token stands for at most, on average over a text: what is divided by it is a
/// count of tokens that no ordinary text stays below (English has 4 to 5 bytes per token).
pub const BYTES_PER_TOKEN_MOST: u64 = 8;
/// Most models that one request may name.
pub const MODELS_MAX: usize = 16;
/// Bytes per token of ordinary text, for expectations that only weigh one offer against another.
pub(crate) const BYTES_PER_TOKEN_TYPICAL: u64 = 4;
/// Completion tokens to expect where the buyer sets no limit.
const COMPLETION_TOKENS_TYPICAL: u64 = 256;

/// What one request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The model as the buyer names it.
    pub model: &'a str,
    /// Models to fall back to, in order; of both together the first [`MODELS_MAX`] count.
    pub fallbacks: &'a [ModelSlug],
    /// What kind of request it is.
    pub operation: Operations,
    /// Bytes of UTF-8 of all text that reaches the model: contents, names, tool definitions.
    pub prompt_bytes: u64,
    /// Messages of a chat; 0 for plain text.
    pub messages: u32,
    /// Most tokens that the prompt has by the market's own count with the model's pinned tokenizer, tolerance included;
    /// none where nobody counted. Bounds holds and bills; a plan is made before anybody counts.
    pub prompt_tokens_max: Option<u64>,
    /// Tokens to generate at most for each choice, where the buyer says.
    pub max_tokens: Option<u64>,
    /// Answers wanted, at least 1.
    pub choices: u32,
    /// Units wanted at most: images, seconds, characters or searches; 0 where tokens are all.
    pub units_max: u64,
    /// What the seller must be able to do.
    pub needs: Supports,
    /// What the buyer sent beyond that: offers that support it go before those that do not, which are
    /// used only when nobody does. With [`Preferences::require_parameters`] it is needed.
    pub prefers: Supports,
    /// The buyer's wishes, and what the account's policies leave of them.
    pub preferences: &'a Preferences,
    /// Offers that have seen a part of this prompt before.
    pub warmth: &'a [Warmth],
}

impl<'a> Demand<'a> {
    /// A chat of one choice that needs nothing and says nothing.
    pub fn new(model: &'a str, preferences: &'a Preferences) -> Self {
        Self {
            model,
            fallbacks: &[],
            operation: Operations::CHAT,
            prompt_bytes: 0,
            messages: 0,
            prompt_tokens_max: None,
            max_tokens: None,
            choices: 1,
            units_max: 0,
            needs: Supports::NONE,
            prefers: Supports::NONE,
            preferences,
            warmth: &[],
        }
    }

    /// The models named, in order, at most [`MODELS_MAX`].
    pub fn models(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.model).chain(self.fallbacks.iter().map(ModelSlug::as_str)).take(MODELS_MAX)
    }

    /// Prompt tokens that even the most talkative vocabulary needs; see [`BYTES_PER_TOKEN_MOST`].
    pub fn prompt_tokens_least(&self) -> u64 {
        self.prompt_bytes / BYTES_PER_TOKEN_MOST
    }

    /// What the request should use, for weighing prices and for reports of them.
    pub fn usage_expected(&self) -> Usage {
        let each = self.max_tokens.unwrap_or(COMPLETION_TOKENS_TYPICAL).min(COMPLETION_TOKENS_TYPICAL);
        let completion = each.saturating_mul(u64::from(self.choices)).max(1);
        Usage {
            units: self.units_max,
            ..Usage::of_tokens((self.prompt_bytes / BYTES_PER_TOKEN_TYPICAL).max(1), 0, completion)
        }
    }

    /// Tokens that the prompt and one token of the answer, or as many as were asked for, take at least.
    /// The texts of one request for vectors or ranks are read one by one, and only their sum is known.
    pub(crate) fn context_tokens_least(&self) -> u64 {
        if !Operations::GENERATES.contains(self.operation) {
            return 1;
        }
        self.prompt_tokens_least().saturating_add(self.answer_tokens())
    }

    /// Tokens of the answer that an offer must have room for.
    pub(crate) fn answer_tokens(&self) -> u64 {
        self.max_tokens.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_named_are_bounded() {
        let wishes = Preferences::default();
        let fallbacks: Vec<_> =
            (0..MODELS_MAX).map(|n| ModelSlug::parse(&format!("m{n}")).unwrap()).collect();
        let named = |count: usize| Demand { fallbacks: &fallbacks[..count], ..Demand::new("m", &wishes) };
        assert_eq!(named(MODELS_MAX - 1).models().count(), MODELS_MAX);
        let past = named(MODELS_MAX);
        assert_eq!((past.models().count(), past.models().last()), (MODELS_MAX, Some("m14")));
    }

    #[test]
    fn what_is_expected_follows_what_was_asked() {
        let wishes = Preferences::default();
        let demand = Demand { prompt_bytes: 400, choices: 2, units_max: 3, ..Demand::new("m", &wishes) };
        assert_eq!(demand.usage_expected(), Usage { units: 3, ..Usage::of_tokens(100, 0, 512) });
        let short = Demand { prompt_bytes: 0, max_tokens: Some(5), ..demand };
        assert_eq!(short.usage_expected(), Usage { units: 3, ..Usage::of_tokens(1, 0, 10) });
    }
}
