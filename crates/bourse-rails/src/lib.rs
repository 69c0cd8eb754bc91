//! Payment rails: how money leaves the market for those whom it owes, and how the market knows that it did.
//!
//! [`PaymentRail`] is the plug point. The exchange decides who is paid how much, writes into its journal that it is about
//! to send, and only then calls the rail. Whatever crashes then, the same payout is looked up or sent again under the same
//! id, so that a rail must pay each id at most once; [`conformance`] is the suite that every implementation runs.
//!
//! | rail | how it pays |
//! | --- | --- |
//! | [`MANUAL`] | a person pays and says so |
//! | [`FAKE`] | nobody is paid: a ledger in memory or in a file, with faults on order |
//!
//! Chains and banks come here, and nowhere else, with the libraries that they need.

pub mod conformance;
mod fake;
mod manual;
mod rail;

pub use fake::{FakeRail, Fault, FaultyRail};
pub use manual::{MANUAL_KEPT_MAX, ManualRail};
pub use rail::{
    Capabilities, MEMO_BYTES_MAX, NOTE_BYTES_MAX, Note, PAYEE_BYTES_MAX, Payee, PaymentRail, Payout,
    RAIL_NAME_BYTES_MAX, RailError, Standing, TextError, Verdict,
};

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// Name of the rail that a person is.
pub const MANUAL: &str = "manual";
/// Name of the rail that pays nobody.
pub const FAKE: &str = "fake";
/// File of the fake rail in the data directory.
pub const FAKE_FILE: &str = "payouts.fake";

/// Every rail, a line each: its name, and how it is opened in a market's data directory.
const RAILS: [(&str, Open); 2] = [
    (MANUAL, |_| Ok(Arc::new(ManualRail::default()))),
    (FAKE, |dir| Ok(Arc::new(FakeRail::open(&dir.join(FAKE_FILE))?))),
];

type Open = fn(&Path) -> Result<Arc<dyn PaymentRail>, RailError>;

/// The names of all rails.
pub fn names() -> impl Iterator<Item = &'static str> {
    RAILS.iter().map(|(name, _)| *name)
}

/// A rail that is shared by whoever sends and whoever asks. Cloning it clones the handle.
#[derive(Clone)]
pub struct Rail(Arc<dyn PaymentRail>);

impl Rail {
    /// Opens the rail of this name; none where no rail is called that.
    pub fn open(name: &str, dir: &Path) -> Option<Result<Self, RailError>> {
        let (_, open) = RAILS.iter().find(|(known, _)| *known == name)?;
        Some(open(dir).map(Self))
    }

    /// Any implementation.
    pub fn of(rail: Arc<dyn PaymentRail>) -> Self {
        Self(rail)
    }
}

impl Default for Rail {
    /// A person.
    fn default() -> Self {
        Self(Arc::new(ManualRail::default()))
    }
}

impl Deref for Rail {
    type Target = dyn PaymentRail;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Rail {
    /// Handles on the same rail.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Rail {}

impl fmt::Debug for Rail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rail").field(&self.capabilities().name).finish()
    }
}

#[cfg(test)]
mod tests;
