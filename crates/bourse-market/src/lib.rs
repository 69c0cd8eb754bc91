//! The market's decisions: who may serve a request, in which order, for at most how much, and what was
//! really delivered.
//!
//! Everything here is a function of its arguments: a [`MarketSnapshot`], the [`HealthTable`] of its
//! offers, a [`Demand`], the time and a seed go in; a [`Plan`], a bound of the price or a [`Bill`] comes
//! out. No clock, no randomness, no I/O. A choice carries its reasons: every offer of the model that is
//! not tried appears in the plan with a [`Rejection`].

mod canonical;
mod decision;
mod demand;
mod diagnosis;
#[cfg(test)]
mod dice;
mod effective;
mod execution;
mod flags;
mod health;
mod hedge;
mod lru;
mod meter;
mod offer;
mod plan;
mod preferences;
mod prefix;
mod quote;
mod rejection;
mod snapshot;
mod sticky;
mod weights;

pub use canonical::CanonicalError;
pub use decision::{
    Choice, DecisionEvent, DecisionRecord, FRAME_BYTES_MAX, JournalError, JournalReader, JournalWriter,
    REQUESTS_NAMED_MAX, RecordedDemand, Redecided, ReplayError, ReplayPolicy, ReplayReport, Replayed,
    Replayer, plan_digest,
};
pub use demand::{BYTES_PER_TOKEN_MOST, Demand, MODELS_MAX};
pub use diagnosis::{
    Availability, Change, DIAGNOSED_OFFERS_MAX, Diagnosis, RuleReport, diagnose, diagnose_rejected,
};
pub use effective::{
    COST_PICO_MIN, ExpectedTokens, Saving, WORK_SHARE, cache_saving_pico, effective_cost_pico,
};
pub use execution::{Execution, execution};
pub use health::{
    BREAKER_FAILURES_IN_A_ROW, BREAKER_OUTCOMES_MIN, Bars, Breaker, COOLDOWN_MS_MAX, COOLDOWN_MS_MIN,
    CacheCounts, Conversation, Counts, HealthTable, Outcome, Percentiles, Quality, RETRY_AFTER_MS_MAX, Rest,
    STATISTICS_BYTES_MAX, Served, Standing, Statistics, ToolCalls, ToolCounts, UPTIME_OUTCOMES_MIN,
    UptimeWindow, Vital, WINDOW_MS, Window,
};
pub use hedge::{ATTEMPTS_PER_HEDGE, HEDGES_SAVED_MAX, HedgeBudget};
pub use meter::{
    Basis, Bill, CLAIM_TOKENS_MAX, ClaimedUsage, Counted, Counting, Doubts, HIDDEN_REASONING_TOKENS_MAX,
    MEDIA_TOKENS_MAX, Meter, MeterError, MeterRules, Recount, RecountRules, StreamEnd, TOLERANCE_BPS,
    TOLERANCE_TOKENS, UNSECURED_TOKENS_MAX, Units,
};
pub use offer::{
    DataPolicy, Free, Offer, OfferIndex, Operations, PromptBound, Quantization, ServiceTier, Supports, Unit,
};
pub use plan::{ATTEMPTS_MAX, EXPLORATION_SHARE, Plan, PlanError, Rejections, plan};
pub use preferences::{
    Cutoffs, MaxPrice, PREFERENCE_NAMES_MAX, Partition, Policy, PolicyRule, Preferences, PreferencesError,
    QuantizationSet, Sort, TierWish,
};
pub use prefix::{
    BlockHash, LOAD_HALF_LIFE_MS, LOAD_WEIGHT, PREFIX_BLOCKS_MAX, PREFIX_SELLERS_MAX, PROMPT_BLOCKS_MAX,
    PrefixIndex, PrefixIndexFull, PrefixMatch, WARMTHS_MAX, prefix_cost,
};
pub use quote::{
    Extension, HOLD_MARGIN_TOKENS_MAX, HOLD_MARGIN_TOKENS_MIN, HOLD_STEP_PART, HOLD_STEP_TOKENS_MAX,
    HOLD_STEP_TOKENS_MIN, HoldWindow, QuoteError, quote,
};
pub use rejection::{PricePart, Rejection};
pub use snapshot::{MarketSnapshot, OFFERS_MAX, SnapshotError};
pub use sticky::{STICKY_CONVERSATIONS_MAX, STICKY_IDLE_MS, Session, StickyKey, StickyTable, Warmth};
pub use weights::{WEIGHTS_IDLE_MS, WEIGHTS_SESSIONS_MAX, WeightsTable};
