//! Best execution: whether the market chose for the buyer.
//!
//! Costs are what the usage that was billed costs under the prices that each eligible seller asked when the plan was
//! made: the seller that served beside those that could have. They say nothing about what speed or reliability were
//! worth; what else the plan weighed is in the receipt's plan.

use super::money::Usd;
use schemars::JsonSchema;
use serde::Serialize;

/// The caller's own generations, and how the market treated sellers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BestExecution {
    /// What the report covers.
    pub window: Window,
    /// The caller's own generations in the window, newest first.
    pub generations: Vec<Execution>,
    /// Sums over all of the caller's generations in the window, listed or not.
    pub totals: Totals,
    /// How often each seller could serve and did, over the generations of all buyers in the window.
    pub neutrality: Neutrality,
}

/// What a report covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Window {
    /// Asked for: from here on.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Asked for: until before here.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    /// The oldest generation that this gateway remembers; null while it remembers none.
    pub remembered_since: Option<String>,
    /// How many generations this gateway remembers at most.
    pub remembered_max: u64,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Execution {
    /// The generation.
    pub id: String,
    /// When it was settled.
    #[schemars(extend("format" = "date-time"))]
    pub settled_at: String,
    /// What was asked for.
    pub model: String,
    /// Who served.
    pub provider: String,
    /// What was charged.
    pub cost: Usd,
    /// Why this seller.
    pub reason: Reason,
    /// Which attempt succeeded, from 1.
    pub attempt: u32,
    /// Everybody who could have served, in the order of the plan, the one that served included.
    pub asks: Vec<Ask>,
    /// Eligible sellers beyond those listed.
    pub asks_left_out: u32,
    /// The cheapest other ask; null where there is none.
    pub next_best: Option<Ask>,
}

/// Why a seller served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Reason {
    /// Nobody else could.
    OnlyEligible,
    /// Those before it in the plan had failed.
    Failover,
    /// It was asked beside the one before it, which had stalled, and answered first.
    Hedge,
    /// The buyer's `provider.order` or `provider.sort`, or a variant of the model that stands for one.
    BuyerOrder,
    /// Drawn at random, cheap and fast sellers more often.
    Drawn,
}

/// What one eligible seller asked.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Ask {
    /// The seller.
    pub provider: String,
    /// The model that it would have served.
    pub model: String,
    /// What the billed usage costs there; null where it cannot be computed.
    pub cost: Option<Usd>,
}

/// Sums over the caller's generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// How many.
    pub generations: u64,
    /// How many at the cheapest eligible seller.
    pub at_cheapest: u64,
    /// What was charged.
    pub cost: Usd,
    /// What the cheapest eligible seller of each would have cost.
    pub cost_at_cheapest: Usd,
}

/// How the market treated sellers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Neutrality {
    /// Generations of all buyers in the window.
    pub generations: u64,
    /// By seller, those with the most first.
    pub sellers: Vec<SellerShare>,
}

/// How the market treated one seller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SellerShare {
    /// The seller.
    pub provider: String,
    /// Generations that it could have served.
    pub eligible: u64,
    /// Of these, those that it served.
    pub served: u64,
    /// Generations for which it was the cheapest, alone or with others.
    pub cheapest: u64,
    /// Of these, those that it served.
    pub served_as_cheapest: u64,
}
