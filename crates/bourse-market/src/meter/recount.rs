//! Recounting: what the market itself counted of a conversation with the model's pinned tokenizer, and what a claim may be.
//!
//! A count of text is what every honest seller of the model counts, but for a little: tokens are not always the ones that
//! the text alone would give, sellers' templates differ by a turn, and some tokens have no text. So a claim may exceed
//! the recount by a declared tolerance, and what it exceeds beyond that is neither charged nor paid.
//!
//! | part | allowed |
//! | --- | --- |
//! | prompt | recount + tolerance; pictures and files at most [`RecountRules::media_tokens_max`] each |
//! | completion | recount + tolerance for each choice + frames of choices and tool calls + hidden stop strings |
//! | reasoning that is not shown | as claimed, at most [`RecountRules::hidden_reasoning_tokens_max`], of an offer that declared it |
//! | a part that nobody counted | the meter's own bound |
//!
//! What was delivered of a stream that was cut, or of an answer without a claim, is the recount itself.

use super::{
    ClaimedUsage, Counting, MARKUP_TOKENS_PER_CHOICE, MARKUP_TOKENS_PER_TOOL_CALL, Meter, StreamEnd,
    cut_prompt,
};
use bourse_types::{PromptTokens, TokenCount, Usage};

/// What a claim may exceed a recount by, in 1/10,000 of it, unless the operator declares otherwise.
pub const TOLERANCE_BPS: u32 = 300;
/// The same in tokens, beside the share: for the prompt once, for the completion with each choice.
pub const TOLERANCE_TOKENS: u64 = 16;
/// Most tokens of a part of a prompt that is not text.
pub const MEDIA_TOKENS_MAX: u64 = 8_192;
/// Most tokens of reasoning that is not shown.
pub const HIDDEN_REASONING_TOKENS_MAX: u64 = 131_072;

/// What is allowed beyond a recount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecountRules {
    /// Tolerance in 1/10,000 of the recount.
    pub tolerance_bps: u32,
    /// Tolerance in tokens beside it.
    pub tolerance_tokens: u64,
    /// Most tokens of a picture, a sound or a file in the prompt.
    pub media_tokens_max: u64,
    /// Most tokens of reasoning that is not shown; believed only of an offer that declared it.
    pub hidden_reasoning_tokens_max: u64,
}

impl Default for RecountRules {
    fn default() -> Self {
        Self {
            tolerance_bps: TOLERANCE_BPS,
            tolerance_tokens: TOLERANCE_TOKENS,
            media_tokens_max: MEDIA_TOKENS_MAX,
            hidden_reasoning_tokens_max: HIDDEN_REASONING_TOKENS_MAX,
        }
    }
}

impl RecountRules {
    /// The most that a claim may be where the prompt was counted so; saturates.
    pub fn prompt_allowed(&self, counted: PromptTokens) -> u64 {
        self.allowed(counted.tokens(), 1)
    }

    fn allowed(&self, tokens: u64, times: u64) -> u64 {
        let share = (u128::from(tokens) * u128::from(self.tolerance_bps)).div_ceil(10_000);
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        tokens.saturating_add(share).saturating_add(self.tolerance_tokens.saturating_mul(times))
    }
}

/// What the market counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Of the prompt; none where it was too large or nobody can count it.
    pub prompt: Option<PromptTokens>,
    /// Of all text of the answer, tool calls and shown reasoning included; none where it cannot be counted.
    pub completion: Option<u64>,
    /// Tokens that an answer may have beside its text: the stop strings that ended it.
    pub unseen: u64,
}

/// A claim's recount, as it goes into the receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recount {
    /// What was counted of the prompt.
    pub prompt: Option<TokenCount>,
    /// The most that its claim may be.
    pub prompt_allowed: TokenCount,
    /// What was counted of the completion.
    pub completion: Option<TokenCount>,
    /// The most that its claim may be.
    pub completion_allowed: TokenCount,
}

impl Recount {
    /// Whether a claim is beyond what is allowed.
    pub fn is_exceeded_by(&self, claimed: &Usage) -> bool {
        claimed.prompt > self.prompt_allowed || claimed.completion > self.completion_allowed
    }

    /// The usage, cut to what is allowed.
    pub(super) fn cut(&self, usage: Usage) -> Usage {
        let cut = cut_prompt(usage, usage.prompt.min(self.prompt_allowed));
        Usage { completion: usage.completion.min(self.completion_allowed), ..cut }
    }
}

impl Meter {
    /// The market's own count is known: of what passed so far.
    pub fn on_recount(&mut self, rules: RecountRules, counted: Counted) {
        self.recount = Some(Box::new((rules, counted)));
    }

    /// What the claim may be by the market's own count. None where nobody counts, and where it is no conversation.
    pub(super) fn recount(&self, claim: Option<ClaimedUsage>) -> Option<Recount> {
        let (rules, counted) = self.recount.as_deref().filter(|_| !self.rules.counting.is_passed())?;
        let hidden = claim.filter(|_| self.rules.hidden_reasoning).map_or(0, |claim| claim.reasoning);
        let choices = u64::from(self.rules.choices);
        let beside = (MARKUP_TOKENS_PER_CHOICE * choices)
            .saturating_add(self.tool_calls.saturating_mul(MARKUP_TOKENS_PER_TOOL_CALL))
            .saturating_add(counted.unseen.saturating_mul(choices))
            .saturating_add(hidden.min(rules.hidden_reasoning_tokens_max));
        let prompt = counted.prompt.map_or(u64::MAX, |prompt| rules.prompt_allowed(prompt));
        let completion =
            counted.completion.map_or(u64::MAX, |text| rules.allowed(text, choices).saturating_add(beside));
        Some(Recount {
            prompt: counted.prompt.map(|prompt| TokenCount(prompt.tokens())),
            prompt_allowed: TokenCount(prompt.min(self.rules.prompt_tokens_max)),
            completion: counted.completion.map(TokenCount),
            completion_allowed: TokenCount(completion.min(self.rules.completion_tokens_max)),
        })
    }

    /// What the market itself counted as delivered, where it did.
    pub(super) fn recounted_completion(&self) -> Option<u64> {
        self.recount.as_ref()?.1.completion
    }

    /// The prompt where it was counted exactly; a bound is no count.
    pub(super) fn recounted_prompt(&self) -> Option<u64> {
        match self.recount.as_ref()?.1.prompt? {
            PromptTokens::Exact(tokens) => Some(tokens),
            PromptTokens::AtMost(_) => None,
        }
    }

    /// The claim as it is held against a recount. A node's frames are claims, too.
    pub(super) fn claimed_for_recount(&self, claimed: Option<Usage>) -> Option<Usage> {
        let (prompt, cached) = self.prompt_counted.filter(|_| self.rules.counting == Counting::Exact)?;
        Some(claimed.unwrap_or_else(|| Usage::of_tokens(prompt, cached, self.tokens)))
    }

    /// Whether an answer ended as the seller meant it to: only then is its claim about what was delivered.
    pub(super) fn is_judged(end: StreamEnd) -> bool {
        end == StreamEnd::Complete
    }
}
