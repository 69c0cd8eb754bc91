//! The rail that a person is: what is sent waits on a list until somebody says that it was paid, or that it was not.
//!
//! The list is in memory only. What is open stands in the exchange's journal, and after a restart the exchange looks each
//! of them up, finds them unknown and sends them again under their ids, so that the list is whole again before anybody
//! looks at it. A file beside the journal would be a second truth, and would not be there on a standby.
//!
//! Amounts are whole cents, as banks take them.

use crate::MANUAL;
use crate::rail::{Capabilities, Note, Payee, PaymentRail, Payout, RailError, Standing, Verdict};
use bourse_types::{NanoUsd, PayoutId};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Payouts that the list keeps, those that have ended included, which make room for new ones, oldest first.
pub const MANUAL_KEPT_MAX: usize = 65_536;
const CENT: NanoUsd = NanoUsd(10_000_000);

/// Payouts that wait for a person.
#[derive(Debug)]
pub struct ManualRail {
    kept: Mutex<BTreeMap<PayoutId, (Payout, Standing)>>,
    kept_max: usize,
}

impl Default for ManualRail {
    fn default() -> Self {
        Self::with_room(MANUAL_KEPT_MAX)
    }
}

impl ManualRail {
    /// An empty list that keeps so many.
    pub fn with_room(kept_max: usize) -> Self {
        Self { kept: Mutex::default(), kept_max }
    }

    /// What waits to be paid, oldest first.
    pub fn open(&self) -> Vec<Payout> {
        let kept = self.kept.lock();
        let open = kept.values().filter(|(_, standing)| *standing == Standing::Pending);
        open.map(|(payout, _)| payout.clone()).collect()
    }
}

impl PaymentRail for ManualRail {
    fn capabilities(&self) -> Capabilities {
        Capabilities { name: MANUAL, unit: CENT, is_by_hand: true }
    }

    /// Only the person who pays can tell.
    fn check(&self, _payee: &Payee) -> Result<(), Note> {
        Ok(())
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        let mut kept = self.kept.lock();
        if let Some((known, standing)) = kept.get(&payout.id) {
            return if known == payout { Ok(standing.clone()) } else { Err(RailError::Conflict(payout.id)) };
        }
        if kept.len() >= self.kept_max {
            let ended = kept.iter().find(|(_, (_, standing))| *standing != Standing::Pending);
            let oldest = ended.map(|(id, _)| *id).ok_or(RailError::Full(self.kept_max))?;
            kept.remove(&oldest);
        }
        kept.insert(payout.id, (payout.clone(), Standing::Pending));
        Ok(Standing::Pending)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        Ok(self.kept.lock().get(&id).map_or(Standing::Unknown, |(_, standing)| standing.clone()))
    }

    fn decide(&self, id: PayoutId, verdict: &Verdict) -> Result<Standing, RailError> {
        let mut kept = self.kept.lock();
        let (_, standing) = kept.get_mut(&id).ok_or(RailError::NeverSent(id))?;
        let said = Standing::from(verdict.clone());
        if *standing == Standing::Pending {
            *standing = said;
        } else if *standing != said {
            return Err(RailError::Conflict(id));
        }
        Ok(standing.clone())
    }
}
