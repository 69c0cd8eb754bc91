//! How an exchange is set up.

use crate::epoch::EPOCH_PERIOD;
use crate::payouts::PayoutTerms;
use bourse_ledger::Limits;
use bourse_types::NanoUsd;
use std::time::Duration;

/// Longest time that an event waits for others before its group is committed, when somebody waits for the group. Short,
/// because while one group is on its way to the disk the next one fills by itself.
pub const COMMIT_WINDOW: Duration = Duration::from_micros(200);
/// The same when nobody does: a commit costs about as much for a few requests as for hundreds.
pub const LAZY_COMMIT_WINDOW: Duration = Duration::from_millis(8);
/// A group of this many bytes is committed at once.
pub const EARLY_COMMIT_BYTES: usize = 1 << 20;
/// Events between snapshots: what replay has to do at most after a crash, well below a second.
pub const SNAPSHOT_EVENTS: u64 = 1 << 20;
/// The market's share of a charge, in basis points.
pub const FEE_BPS: u32 = 400;
/// Credit of the operator's account in a new market.
pub const STARTING_CREDIT: NanoUsd = NanoUsd::from_usd(10);

/// The market's fee where the buyer's own key at a seller served, in basis points of the list price.
pub const BYOK_FEE_BPS: u32 = 500;

/// What the market takes where the buyer's own key at a seller served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByokTerms {
    /// See [`BYOK_FEE_BPS`]; at most 10,000.
    pub fee_bps: u32,
    /// List price per account and month in UTC on which no fee is taken.
    pub free_per_month: NanoUsd,
}

impl Default for ByokTerms {
    fn default() -> Self {
        Self { fee_bps: BYOK_FEE_BPS, free_per_month: NanoUsd::ZERO }
    }
}

/// What becomes of holds when their exchange ends and another opens the same books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holds {
    /// They are given back: the gateway is in the same process and died with it, so nobody would settle them.
    #[default]
    EndWithExchange,
    /// They stay until they expire: gateways on other machines stream on and settle later. See [`FundsServer`](crate::FundsServer).
    OutliveExchange,
}

/// Settings of an exchange. [`Default`] is what the binary uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// See [`FEE_BPS`]; at most 10,000.
    pub fee_bps: u32,
    /// See [`ByokTerms`].
    pub byok: ByokTerms,
    /// See [`STARTING_CREDIT`]; used once, when the market begins.
    pub starting_credit: NanoUsd,
    /// See [`COMMIT_WINDOW`].
    pub commit_window: Duration,
    /// See [`LAZY_COMMIT_WINDOW`].
    pub lazy_commit_window: Duration,
    /// See [`Holds`].
    pub holds: Holds,
    /// See [`SNAPSHOT_EVENTS`].
    pub snapshot_events: u64,
    /// See [`EPOCH_PERIOD`](crate::EPOCH_PERIOD).
    pub epoch_period: Duration,
    /// See [`PayoutTerms`].
    pub payouts: PayoutTerms,
    /// Bounds of the ledger; used once, when the market begins, then read from the journal.
    pub limits: Limits,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            fee_bps: FEE_BPS,
            byok: ByokTerms::default(),
            starting_credit: STARTING_CREDIT,
            commit_window: COMMIT_WINDOW,
            lazy_commit_window: LAZY_COMMIT_WINDOW,
            holds: Holds::default(),
            snapshot_events: SNAPSHOT_EVENTS,
            epoch_period: EPOCH_PERIOD,
            payouts: PayoutTerms::default(),
            limits: Limits::default(),
        }
    }
}
