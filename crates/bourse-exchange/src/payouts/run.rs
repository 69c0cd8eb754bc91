//! Carrying payouts out: plan, write down, ask the rail, write down what it says.
//!
//! One run at a time. What is planned is marked as sending, that is made durable, and only then is the rail called; each
//! payout is looked up first and sent only where the rail does not know it, so that a run after a crash, or a standby's
//! after a take-over, does what the dead one would have done. A rail that does not answer leaves everything as it is until
//! the next run. Before each call that pays, the exchange makes sure that the books are still its own: one that stood still and
//! goes on sends no further payout, and the one that it may be about to send has the id under which the next one sends it.
//! Rails block; that is why payouts have a thread of their own and no lock of the books is held meanwhile.
//!
//! After its end a failed payout is looked up for [`WATCHED_FOR`]: banks return money, and some change their mind.

use super::{Payout, PayoutState};
use crate::core::PayoutEnd;
use crate::data_dir::DataDirError;
use crate::exchange::{Exchange, Shared, wall_clock};
use crate::store::Lease;
use bourse_rails::{Capabilities, Payout as Order, RailError, Standing};
use bourse_types::{DurationMs, PayoutId, UnixMs};
use bourse_wire::funds::FundsError;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;

/// How long after its failure a payout is looked up.
const WATCHED_FOR: DurationMs = DurationMs(7 * 24 * 3_600_000);
/// Failed payouts that one run looks up, the latest first.
const WATCHED_MAX: usize = 128;

/// Why a run of payouts ended early. What is not done is done by the next one.
#[derive(Debug, thiserror::Error)]
pub enum PayoutsError {
    /// The exchange takes nothing any more, or the journal failed.
    #[error(transparent)]
    Funds(#[from] FundsError),
    /// The system gave no randomness.
    #[error(transparent)]
    Random(#[from] DataDirError),
}

/// Who carries payouts out.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    /// Held by the one who talks to the rail.
    pub(crate) one: Mutex<()>,
    /// Why the rail did not answer, by payout; gone when it does.
    pub(crate) troubles: Mutex<BTreeMap<PayoutId, String>>,
    pub(crate) wake: Condvar,
}

impl Exchange {
    /// Plans payouts, sends what is to be sent and takes up what the rail says. Blocks while the rail does.
    pub fn run_payouts(&self, now: UnixMs) -> Result<(), PayoutsError> {
        self.shared.run_payouts(now)
    }
}

impl Shared {
    /// The thread of payouts: a run after each epoch.
    pub(crate) fn pay(&self) {
        let mut closing = self.closing.lock();
        while !*closing {
            self.payouts.wake.wait(&mut closing);
            if *closing {
                return;
            }
            parking_lot::MutexGuard::unlocked(&mut closing, || {
                if let Err(error) = self.run_payouts(wall_clock()) {
                    tracing::warn!(%error, "payouts were not carried out");
                }
            });
        }
    }

    pub(crate) fn run_payouts(&self, now: UnixMs) -> Result<(), PayoutsError> {
        let _one = self.payouts.one.lock();
        let terms = &self.config.payouts;
        let seed = self.draw()?;
        let begun = self.change(|core| {
            core.plan_payouts(terms, &seed, now)?;
            core.begin_sending(terms.rail.capabilities().name, now)
        })?;
        if begun > 0 {
            // Nothing is sent before the journal says so.
            self.flush()?;
        }
        let can = terms.rail.capabilities();
        for (id, payout) in self.to_ask(now) {
            // Who closes waits for one call at most, and whose journal is another's by now sends nothing more.
            self.core.lock().running()?;
            self.ask_rail(id, &payout, &can, now)?;
        }
        self.flush()?;
        Ok(())
    }

    /// What the rail is asked about: everything on its way, and what failed not long ago.
    fn to_ask(&self, now: UnixMs) -> Vec<(PayoutId, Payout)> {
        let core = self.core.lock();
        let failed = core.payouts.failed().rev().take(WATCHED_MAX);
        let watched = failed.filter(|(_, payout)| payout.since.plus(WATCHED_FOR) > now);
        core.payouts.open().chain(watched).map(|(id, payout)| (id, payout.clone())).collect()
    }

    fn ask_rail(
        &self,
        id: PayoutId,
        payout: &Payout,
        can: &Capabilities,
        now: UnixMs,
    ) -> Result<(), PayoutsError> {
        let answer = if payout.rail == can.name {
            self.sent(id, payout)?
        } else {
            let why =
                format!("it is a payout of the rail `{}`, and the market has `{}`", payout.rail, can.name);
            Err(RailError::unreachable(why))
        };
        match answer {
            Ok(standing) => self.take_standing(id, &standing, now).map(drop),
            Err(error) => {
                if payout.state.holds() {
                    tracing::warn!(%id, %error, "the payment rail did not say what became of a payout");
                    self.payouts.troubles.lock().insert(id, error.to_string());
                }
                Ok(())
            }
        }
    }

    /// What the rail says of a payout; sends it where the rail does not know it and it is on its way. Refuses to send where
    /// another exchange may have the books by now: that one has the payout, too.
    pub(crate) fn sent(
        &self,
        id: PayoutId,
        payout: &Payout,
    ) -> Result<Result<Standing, RailError>, PayoutsError> {
        let rail = &self.config.payouts.rail;
        let standing = rail.look_up(id);
        if standing != Ok(Standing::Unknown) || payout.state != PayoutState::Sending {
            return Ok(standing);
        }
        self.must_own_the_books()?;
        let (payee, memo) = (payout.payee.clone(), format!("bourse {id}"));
        Ok(rail.send(&Order { id, payee, amount: payout.amount, memo }))
    }

    /// Refuses where another exchange may have the books by now, or this one has stopped: asked before what no journal could
    /// take back.
    fn must_own_the_books(&self) -> Result<(), FundsError> {
        let held = self.lease.get().map_or(Ok(()), Lease::must_be_held);
        let held = held.map_err(|error| FundsError::Journal(error.to_string()));
        self.core.lock().running().and(held)
    }

    /// Writes down what became of a payout, and tells who must know.
    pub(crate) fn take_standing(
        &self,
        id: PayoutId,
        standing: &Standing,
        now: UnixMs,
    ) -> Result<PayoutEnd, PayoutsError> {
        let now = now.max(self.core.lock().now());
        let fresh = self.house_transfer(now)?;
        self.payouts.troubles.lock().remove(&id);
        let end = self.change(|core| core.payout_stands(id, standing, fresh, now))?;
        match end {
            PayoutEnd::Nothing | PayoutEnd::Paid => {}
            PayoutEnd::Failed => tracing::warn!(%id, "a payout failed; its amount was given back"),
            PayoutEnd::Late { is_booked } => {
                tracing::error!(%id, is_booked, "a payout was paid after it had failed");
            }
            PayoutEnd::Contradicted => {
                tracing::error!(%id, "the payment rail contradicts what the books say of a payout");
            }
        }
        Ok(end)
    }
}
