//! Claims and sealed answers in maps.

use super::FakeFunds;
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::funds::{BoxFuture, Claim, FundsError, Outcome, Outcomes};
use bytes::Bytes;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct FakeClaims {
    by_name: HashMap<Digest32, Known>,
    /// Open requests.
    requests: HashMap<RequestId, Digest32>,
    answers: HashMap<(Digest32, RequestId), Bytes>,
    /// What becomes of answers.
    keeping: Keeps,
    /// Holds that were made under claims.
    held: usize,
}

struct Known {
    claim: Claim,
    since: UnixMs,
    open: usize,
    is_paid: bool,
}

/// What the store of answers does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Keeps {
    /// It keeps them.
    #[default]
    All,
    /// It has none any more.
    Nothing,
    /// It never comes to an end.
    Hangs,
}

impl FakeClaims {
    fn check(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError> {
        let Some(known) = self.by_name.get(&claim.name) else { return Ok(()) };
        let is_over = known.open == 0 && now >= known.since.plus(known.claim.kept_for);
        match known.open {
            _ if is_over || known.claim.first == claim.first => Ok(()),
            _ if known.claim.fingerprint != claim.fingerprint => Err(FundsError::ClaimTaken),
            0 => Err(FundsError::ClaimPaid(known.claim.first)),
            _ => Err(FundsError::ClaimOpen),
        }
    }

    pub(super) fn begin(&mut self, claim: &Claim, request: RequestId, now: UnixMs) -> Result<(), FundsError> {
        self.check(claim, now)?;
        let new = || Known { claim: *claim, since: now, open: 0, is_paid: false };
        let known = self.by_name.entry(claim.name).or_insert_with(new);
        if known.claim.first != claim.first {
            *known = new();
        }
        known.open += 1;
        self.held += 1;
        self.requests.insert(request, claim.name);
        Ok(())
    }

    pub(super) fn end(&mut self, request: RequestId, is_paid: bool) {
        let Some(name) = self.requests.remove(&request) else { return };
        let known = self.by_name.get_mut(&name).expect("an open request has its claim");
        known.open -= 1;
        known.is_paid |= is_paid;
        if known.open == 0 && !known.is_paid {
            self.by_name.remove(&name);
        }
    }
}

impl FakeFunds {
    /// Holds that were made under claims.
    pub(crate) fn held_under_claims(&self) -> usize {
        self.state.lock().claims.held
    }

    /// What becomes of answers from now on.
    pub(crate) fn keep_answers(&self, keeping: Keeps) {
        self.state.lock().claims.keeping = keeping;
    }
}

impl Outcomes for FakeFunds {
    fn claimed(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError> {
        self.state.lock().claims.check(claim, now)
    }

    fn keep(&self, outcome: Outcome) -> BoxFuture<'static, Result<(), FundsError>> {
        let mut state = self.state.lock();
        match state.claims.keeping {
            Keeps::Hangs => return Box::pin(std::future::pending()),
            Keeps::Nothing => {}
            Keeps::All => {
                state.claims.answers.insert((outcome.name, outcome.request), outcome.sealed);
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn outcome(
        &self,
        name: Digest32,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Option<Bytes>, FundsError>> {
        let found = self.state.lock().claims.answers.get(&(name, request)).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }
}
