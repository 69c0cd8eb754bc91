//! The market's public figures of a day: what was used, what it earned, what was given away.
//!
//! Sums over all buyers: no member names one, and none is of one.

use super::money::Usd;
use schemars::JsonSchema;
use serde::Serialize;

/// Requests and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Used {
    /// Requests of which something was delivered.
    pub requests: u64,
    /// Prompt tokens as metered.
    pub prompt_tokens: u64,
    /// Generated tokens as metered.
    pub completion_tokens: u64,
}

/// One model, by who paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelFigures {
    /// The slug; `other` is all that found no row of its own.
    pub model: String,
    /// Buyers paid with money of their own.
    pub paid: Used,
    /// The market paid: by credit that it had given to the buyer, or to the seller of a free offer.
    pub subsidised: Used,
    /// Nobody paid.
    pub free: Used,
    /// The buyer's own key at the seller served, which bills it elsewhere.
    pub own_key: Used,
}

/// One seller.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SellerFigures {
    /// Its name; `other` is all that found no row of their own.
    pub seller: String,
    /// What buyers paid it with money of their own, after the market's fee.
    pub revenue_usd: Usd,
    /// What the market paid it. No revenue.
    pub subsidised_usd: Usd,
    /// What it gave away, at list price. No revenue.
    pub given_usd: Usd,
    /// Free requests of which nobody said what they would have cost.
    pub unvalued_requests: u64,
    /// Time that its GPUs were attached, each counted; null: not known. 0: it has none.
    pub gpu_seconds: Option<u64>,
    /// Time that its machines were attached; null: not known.
    pub machine_seconds: Option<u64>,
    /// Revenue for each hour of a GPU, rounded down; null: not known, or not all of its machines have one.
    pub revenue_per_gpu_hour_usd: Option<Usd>,
}

/// Where charges went. `charged_usd` is the sum of the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Shares {
    /// What was charged.
    pub charged_usd: Usd,
    /// To sellers.
    pub sellers_usd: Usd,
    /// Shares of sellers that claimed more than the market counted, until somebody decides.
    pub suspense_usd: Usd,
    /// To the market.
    pub fee_usd: Usd,
    /// What rounding up left over.
    pub rounding_usd: Usd,
}

/// The public figures of one day in UTC.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MarketFigures {
    /// The day.
    #[schemars(extend("format" = "date"))]
    pub day: String,
    /// By model.
    pub models: Vec<ModelFigures>,
    /// By seller.
    pub sellers: Vec<SellerFigures>,
    /// Charges that buyers paid with money of their own.
    pub paid: Shares,
    /// Charges that were paid by credit which the market had given. No revenue.
    pub paid_by_credit: Shares,
    /// What the market paid the sellers of free offers. No revenue.
    pub given_by_market_usd: Usd,
    /// What sellers gave away, at list price. No revenue.
    pub given_by_sellers_usd: Usd,
    /// Free requests of which nobody said what they would have cost.
    pub unvalued_requests: u64,
    /// Time that GPUs were attached, each counted; null: not known of any seller.
    pub gpu_seconds: Option<u64>,
    /// Revenue for each hour of a GPU, of those sellers of which it is known; null: of none.
    pub revenue_per_gpu_hour_usd: Option<Usd>,
}
