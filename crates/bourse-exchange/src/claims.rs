//! Claims: which request runs, or was charged, under an idempotency key.
//!
//! A claim is made in the same step as the hold that carries it and journalled right after it, so either both are in
//! the books or none is. What becomes of it follows from the journal: a receipt that charged something makes it *paid*,
//! a receipt of nothing and a hold that was released free it. A stream that several sellers deliver holds several times
//! under one claim; it is paid when any of its parts was, and nobody else gets it while one of them is open.
//!
//! An answer that is whole was paid for even where its price is zero: who asks again wants that answer and not another.
//!
//! Limits: [`CLAIMS_MAX`] claims. The paid ones are known for as long as each says, at most a day; when there are too
//! many, those go first that would go first anyway. A claim with an open request is never forgotten, and when all of them
//! have one, the next is refused. Nothing here reads a clock: a claim that is over is as good as none, and is dropped
//! when another one is made.

use bourse_ledger::{CodecError, Reader};
use bourse_types::{Digest32, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{CLAIM_AGE_MAX, Claim, FundsError};
use bourse_wire::receipt::Finish;
use std::collections::{BTreeMap, HashMap};

/// Claims that are known, at most. A quarter of a million are some 25 MB of a snapshot.
pub const CLAIMS_MAX: usize = 262_144;
/// Claims that are over and dropped when one is made.
const DROPPED_PER_CLAIM: usize = 4;
/// What there are too many of when all claims have an open request.
const TOO_MANY: &str = "requests under idempotency keys";

/// Whether a request that ended leaves its claim free: nothing was charged and nothing was delivered whole.
pub(crate) fn is_for_nothing(charge: NanoUsd, byok: NanoUsd, finish: Finish) -> bool {
    let is_whole =
        matches!(finish, Finish::Stop | Finish::Length | Finish::ToolCalls | Finish::ContentFilter);
    charge == NanoUsd::ZERO && byok == NanoUsd::ZERO && !is_whole
}

/// How a request under a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimEnd {
    Paid,
    ForNothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    number: u64,
    fingerprint: Digest32,
    first: RequestId,
    /// When it is over, once it is paid.
    until: UnixMs,
    /// Its requests between hold and settlement.
    open: u32,
    is_paid: bool,
}

impl Entry {
    fn is_over(&self, now: UnixMs) -> bool {
        self.open == 0 && now >= self.until
    }

    fn is_of(&self, claim: &Claim) -> bool {
        self.first == claim.first && self.fingerprint == claim.fingerprint
    }

    fn refusal(&self, claim: &Claim) -> FundsError {
        match self.open {
            _ if self.fingerprint != claim.fingerprint => FundsError::ClaimTaken,
            0 => FundsError::ClaimPaid(self.first),
            _ => FundsError::ClaimOpen,
        }
    }
}

/// All claims.
#[derive(Debug)]
pub(crate) struct Claims {
    by_name: HashMap<Digest32, Entry>,
    /// The paid ones without an open request, in the order in which they are over.
    ended: BTreeMap<(UnixMs, u64), Digest32>,
    /// Open requests under a claim.
    requests: BTreeMap<RequestId, Digest32>,
    /// Counts the claims that were made.
    numbers: u64,
    max: usize,
}

impl Default for Claims {
    fn default() -> Self {
        Self::bounded(CLAIMS_MAX)
    }
}

impl Claims {
    fn bounded(max: usize) -> Self {
        Self { by_name: HashMap::new(), ended: BTreeMap::new(), requests: BTreeMap::new(), numbers: 0, max }
    }

    /// Whether a request may begin under a claim.
    pub(crate) fn check(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError> {
        match self.by_name.get(&claim.name) {
            Some(entry) if entry.is_of(claim) || entry.is_over(now) => Ok(()),
            Some(entry) => Err(entry.refusal(claim)),
            None if self.by_name.len() < self.max || !self.ended.is_empty() => Ok(()),
            None => Err(FundsError::TooMany(TOO_MANY)),
        }
    }

    /// Makes a claim for a request that holds, or joins it; none: for something that is done at once.
    pub(crate) fn begin(
        &mut self,
        claim: &Claim,
        request: Option<RequestId>,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.check(claim, now)?;
        self.drop_over(now);
        let joined = self.by_name.get(&claim.name).filter(|entry| entry.is_of(claim)).cloned();
        let mut entry = match joined {
            Some(entry) => {
                self.ended.remove(&(entry.until, entry.number));
                entry
            }
            None => self.new_entry(claim, now),
        };
        match request {
            Some(request) => {
                entry.open += 1;
                self.requests.insert(request, claim.name);
            }
            None => entry.is_paid = true,
        }
        self.put(claim.name, entry);
        Ok(())
    }

    fn new_entry(&mut self, claim: &Claim, now: UnixMs) -> Entry {
        self.remove(&claim.name);
        if self.by_name.len() >= self.max
            && let Some((_, name)) = self.ended.pop_first()
        {
            self.by_name.remove(&name);
        }
        self.numbers += 1;
        let until = now.plus(claim.kept_for.min(CLAIM_AGE_MAX));
        let (fingerprint, first) = (claim.fingerprint, claim.first);
        Entry { number: self.numbers, fingerprint, first, until, open: 0, is_paid: false }
    }

    /// A request was settled, or its hold was given back. Of one without a claim nothing is known.
    pub(crate) fn end(&mut self, request: RequestId, how: ClaimEnd) {
        let Some(name) = self.requests.remove(&request) else { return };
        let Some(mut entry) = self.by_name.get(&name).cloned() else { return };
        entry.open = entry.open.saturating_sub(1);
        entry.is_paid |= how == ClaimEnd::Paid;
        self.put(name, entry);
    }

    /// Keeps an entry where it belongs; one that nothing came of is gone.
    fn put(&mut self, name: Digest32, entry: Entry) {
        match (entry.open, entry.is_paid) {
            (0, false) => {
                self.by_name.remove(&name);
                return;
            }
            (0, true) => {
                self.ended.insert((entry.until, entry.number), name);
            }
            _ => {}
        }
        self.by_name.insert(name, entry);
    }

    fn remove(&mut self, name: &Digest32) {
        if let Some(entry) = self.by_name.remove(name) {
            self.ended.remove(&(entry.until, entry.number));
        }
    }

    fn drop_over(&mut self, now: UnixMs) {
        for _ in 0..DROPPED_PER_CLAIM {
            let Some(first) = self.ended.first_entry().filter(|first| first.key().0 <= now) else { return };
            self.by_name.remove(&first.remove());
        }
    }

    /// Whether an open request has a claim.
    pub(crate) fn has(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// The table in the order in which its claims were made.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut entries: Vec<_> = self.by_name.iter().collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.number);
        out.extend_from_slice(&self.numbers.to_le_bytes());
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        for (name, entry) in entries {
            out.extend_from_slice(&entry.number.to_le_bytes());
            out.extend_from_slice(&name.0);
            out.extend_from_slice(&entry.fingerprint.0);
            out.extend_from_slice(&entry.first.0.to_le_bytes());
            out.extend_from_slice(&entry.until.0.to_le_bytes());
            out.push(u8::from(entry.is_paid));
        }
        out.extend_from_slice(&(self.requests.len() as u32).to_le_bytes());
        for (request, name) in &self.requests {
            out.extend_from_slice(&request.0.to_le_bytes());
            out.extend_from_slice(&name.0);
        }
    }

    /// Reads [`Claims::write`].
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut claims = Self { numbers: r.u64()?, ..Self::default() };
        for _ in 0..r.u32()? {
            let number = r.u64()?;
            let name = Digest32(r.array()?);
            let entry = Entry {
                number,
                fingerprint: Digest32(r.array()?),
                first: RequestId(r.u128()?),
                until: UnixMs(r.u64()?),
                open: 0,
                is_paid: r.u8()? == 1,
            };
            claims.by_name.insert(name, entry);
        }
        for _ in 0..r.u32()? {
            let (request, name) = (RequestId(r.u128()?), Digest32(r.array()?));
            let entry = claims.by_name.get_mut(&name);
            entry.ok_or(CodecError::Inconsistent("a request under a claim that there is none"))?.open += 1;
            claims.requests.insert(request, name);
        }
        let ended = claims.by_name.iter().filter(|(_, entry)| entry.open == 0);
        claims.ended = ended.map(|(name, entry)| ((entry.until, entry.number), *name)).collect();
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
