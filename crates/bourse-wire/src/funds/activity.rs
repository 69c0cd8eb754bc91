//! What an account used, summed by day, model and seller.

use bourse_types::{KeyHash, ModelSlug, NanoUsd, SellerName, UtcDay};

/// Completed days that are kept; the running day is kept beside them and not shown.
pub const ACTIVITY_DAYS: u32 = 30;
/// Rows of one account and day, at most, keys told apart; what comes later is summed as [`ACTIVITY_OTHER`].
pub const ACTIVITY_ROWS_PER_DAY_MAX: usize = 1_024;
/// Model and seller of the row that takes what found no row of its own.
pub const ACTIVITY_OTHER: &str = "other";

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActivityQuery {
    /// One completed day; all that are kept when none.
    pub day: Option<UtcDay>,
    /// One key; all keys of the account, summed, when none.
    pub key: Option<KeyHash>,
}

/// Settled requests of one completed UTC day, at one seller of one model. Requests that no seller answered
/// are in no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRow {
    /// The day of the settlement.
    pub day: UtcDay,
    /// What was asked for.
    pub model: ModelSlug,
    /// Who answered.
    pub seller: SellerName,
    /// The sums.
    pub sums: ActivitySums,
}

/// Sums over requests. Token counts are those that were billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActivitySums {
    /// How many.
    pub requests: u64,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Generated tokens, reasoning included.
    pub completion_tokens: u64,
    /// The part of them that was reasoning, where sellers said so.
    pub reasoning_tokens: u64,
    /// What was charged.
    pub cost: NanoUsd,
    /// What the account's own sellers billed, at list price.
    pub byok_cost: NanoUsd,
}

impl ActivitySums {
    /// Adds; saturates far beyond what a day can bring.
    pub fn add(&mut self, other: &Self) {
        let sum = u64::saturating_add;
        self.requests = sum(self.requests, other.requests);
        self.prompt_tokens = sum(self.prompt_tokens, other.prompt_tokens);
        self.completion_tokens = sum(self.completion_tokens, other.completion_tokens);
        self.reasoning_tokens = sum(self.reasoning_tokens, other.reasoning_tokens);
        self.cost = NanoUsd(sum(self.cost.0, other.cost.0));
        self.byok_cost = NanoUsd(sum(self.byok_cost.0, other.byok_cost.0));
    }
}
