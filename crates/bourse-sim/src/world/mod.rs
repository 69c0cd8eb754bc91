//! Whole-market runs from one seed, in virtual time.
//!
//! Buyers with small purses send requests to faulty sellers; some give up in the middle, the market
//! itself dies and starts again from its journal. Every decision is the real one: the plan, the breaker,
//! the rolling hold, the meter and its bill come from `bourse-market`, the money from the exchange in
//! memory. Only bytes and sockets are left out, which is why 100,000 requests take seconds.
//!
//! A run ends with its books compared, audited and closed ([`Books`]); a violated law ends it at once. A
//! failing run names its seed, and [`shrink`] cuts it down to the items that it needs.

mod agenda;
mod cast;
mod flight;
mod house;
mod performance;
mod run;
mod script;
mod shrink;

pub use house::Books;
pub use run::Report;
pub use shrink::{SHRINK_RUNS_MAX, Shrunk, shrink, smallest};

/// Buyers in a run.
const BUYERS: usize = 24;

/// How a run is set up. The same configuration gives the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorldConfig {
    /// What everything follows from.
    pub seed: u64,
    /// Requests.
    pub requests: u32,
    /// Times that the market dies and starts again.
    pub restarts: u32,
    /// Attempts in 1,000 that meet a fault.
    pub fault_permille: u16,
}

impl WorldConfig {
    /// A run of so many requests with faults in a quarter of all attempts, and a death for every 10,000.
    pub fn new(seed: u64, requests: u32) -> Self {
        Self { seed, requests, restarts: requests / 10_000 + 1, fault_permille: 250 }
    }
}

/// A law that was broken, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Runs a whole market.
pub fn run(config: &WorldConfig) -> Result<Report, Violation> {
    run::World::new(config, script::items(config), None)?.run()
}
