//! Laws under random events, against a model that is too simple to be wrong.
//!
//! The model keeps lists instead of tables, never updates a balance (it sums the whole history anew) and
//! undoes a chain by throwing away a copy.

use super::*;
use crate::{Refusal::*, decode_batch, encode_batch};
use proptest::prelude::*;

#[derive(Clone, Default)]
struct Model {
    now: u64,
    /// (debit, credit, amount)
    posted: Vec<(AccountId, AccountId, u64)>,
    /// (id, debit, credit, amount, expiry, chain)
    holds: Vec<(TransferId, AccountId, AccountId, u64, u64, Vec<Event>)>,
    known: Vec<(TransferId, Vec<Event>)>,
    forgotten_until: Option<u64>,
}

impl Model {
    fn balance(&self, of: AccountId) -> Balance {
        let mut b = Balance::default();
        for (debit, credit, amount) in &self.posted {
            b.debits_posted += if *debit == of { u128::from(*amount) } else { 0 };
            b.credits_posted += if *credit == of { u128::from(*amount) } else { 0 };
        }
        for (_, debit, credit, amount, ..) in &self.holds {
            b.debits_pending += if *debit == of { u128::from(*amount) } else { 0 };
            b.credits_pending += if *credit == of { u128::from(*amount) } else { 0 };
        }
        b
    }

    fn limits_kept(&self) -> bool {
        ACCOUNTS.iter().all(|(name, _, limit, _)| self.balance(account(name)).keeps(*limit))
    }

    fn hold(&self, id: TransferId) -> Result<usize, Refusal> {
        self.holds.iter().position(|hold| hold.0 == id).ok_or(PendingUnknown)
    }

    fn sides(debit: AccountId, credit: AccountId) -> Result<(), Refusal> {
        let unit = |id: AccountId| ACCOUNTS[id.0 as usize - 1].3;
        let known = |id: AccountId| id.0 >= 1 && id.0 <= ACCOUNTS.len() as u64;
        match (debit == credit, known(debit), known(credit)) {
            (true, ..) => Err(SameAccount),
            (_, false, _) => Err(AccountUnknown(debit)),
            (_, _, false) => Err(AccountUnknown(credit)),
            _ if unit(debit) != unit(credit) => Err(UnitsDiffer { debit, credit }),
            _ => Ok(()),
        }
    }

    fn step(&mut self, transfer: &Transfer, chain: &[Event]) -> Result<bool, Refusal> {
        match transfer.kind {
            TransferKind::Single { debit, credit, amount } => {
                Self::sides(debit, credit)?;
                self.posted.push((debit, credit, amount.0));
            }
            TransferKind::Pending { debit, credit, amount, expires_at } => {
                if self.hold(transfer.id).is_ok() {
                    return Err(PendingOpen);
                }
                if self.holds.len() == SMALL.pendings_max {
                    return Err(PendingsFull { max: SMALL.pendings_max });
                }
                Self::sides(debit, credit)?;
                self.holds.push((transfer.id, debit, credit, amount.0, expires_at.0, chain.to_vec()));
            }
            TransferKind::Raise { pending, to, expires_at } => {
                let at = self.hold(pending)?;
                let hold = &mut self.holds[at];
                let after = (hold.3.max(to.0), hold.4.max(expires_at.0));
                let changed = after != (hold.3, hold.4);
                (hold.3, hold.4) = after;
                if !self.limits_kept() {
                    return Err(Overflow);
                }
                return Ok(changed);
            }
            TransferKind::Post { pending, amount } => {
                let at = self.hold(pending)?;
                let hold = &self.holds[at];
                if amount.0 > hold.3 {
                    return Err(ExceedsPending { held: Amount(hold.3), asked: amount });
                }
                let hold = self.holds.remove(at);
                self.posted.push((hold.1, hold.2, amount.0));
            }
            TransferKind::Void { pending } => {
                let at = self.hold(pending)?;
                self.holds.remove(at);
            }
        }
        if self.limits_kept() { Ok(true) } else { Err(Overflow) }
    }

    fn transfers(&mut self, chain: &[Event]) -> Result<bool, (usize, Refusal)> {
        let mut changed = false;
        for (at, event) in chain.iter().enumerate() {
            let Event::Transfer(transfer) = event else { return Err((at, NotLinkable)) };
            changed |= self.step(transfer, chain).map_err(|why| (at, why))?;
        }
        Ok(changed)
    }

    fn apply(&mut self, now: u64, chain: &[Event]) -> Result<Applied, (usize, Refusal)> {
        let mut next = self.clone();
        next.now = next.now.max(now);
        if let [Event::Release { pending, reason }] = chain {
            let at = next.hold(*pending).map_err(|why| (0, why))?;
            if *reason == ReleaseReason::Expired && next.holds[at].4 > next.now {
                return Err((0, NotExpired));
            }
            next.holds.remove(at);
            *self = next;
            return Ok(Applied::Done);
        }
        let [Event::Transfer(head), ..] = chain else { return Err((0, NotLinkable)) };
        if let Some(at) = chain.iter().position(|event| !matches!(event, Event::Transfer(_))) {
            return Err((at, NotLinkable));
        }
        let known = next.known.iter().find(|k| k.0 == head.id).map(|k| &k.1);
        if let Some(known) = known.or_else(|| next.holds.iter().find(|h| h.0 == head.id).map(|h| &h.5)) {
            return if known == chain { Ok(Applied::Exists) } else { Err((0, IdReused)) };
        }
        let kinds = |test: fn(&TransferKind) -> Option<TransferId>| {
            chain.iter().filter_map(move |e| if let Event::Transfer(t) = e { test(&t.kind) } else { None })
        };
        let settles = kinds(|k| match k {
            TransferKind::Post { pending, .. } | TransferKind::Void { pending } => Some(*pending),
            _ => None,
        })
        .any(|id| self.hold(id).is_ok());
        let raises =
            kinds(|k| if let TransferKind::Raise { pending, .. } = k { Some(*pending) } else { None })
                .count()
                == chain.len();
        let time = head.id.time().0;
        if !settles && !raises && next.forgotten_until.is_some_and(|until| time <= until) {
            return Err((0, IdTooOld));
        }
        let changed = next.transfers(chain)?;
        if !raises {
            if next.known.len() == SMALL.known_ids_max {
                let oldest = next.known.remove(0).0.time().0;
                next.forgotten_until = next.forgotten_until.max(Some(oldest));
            }
            next.known.push((head.id, chain.to_vec()));
        }
        if changed {
            *self = next;
        }
        Ok(if changed { Applied::Done } else { Applied::Exists })
    }
}

/// Small numbers everywhere, so that ids collide, balances run dry and windows overflow.
fn event() -> impl Strategy<Value = Event> {
    let n = 1u64..24;
    let who = 1u64..9;
    (n.clone(), n, who.clone(), who, 0u64..40, 0u64..400, 0u8..14, any::<bool>()).prop_map(
        |(own, other, debit, credit, amount, expires, kind, linked)| {
            let (pending, amount, expires_at) = (id(other), Amount(amount), UnixMs(40_000 + expires));
            let (debit, credit) = (AccountId(debit), AccountId(credit));
            let kind = match kind {
                0 => return Event::Release { pending, reason: ReleaseReason::Expired },
                1 => return Event::Release { pending, reason: ReleaseReason::Orphaned },
                2..=4 => TransferKind::Single { debit, credit, amount },
                5..=7 => TransferKind::Pending { debit, credit, amount, expires_at },
                8..=9 => TransferKind::Raise { pending, to: amount, expires_at },
                10..=12 => TransferKind::Post { pending, amount },
                _ => TransferKind::Void { pending },
            };
            Event::Transfer(Transfer { id: id(own), linked, kind })
        },
    )
}

fn chain() -> impl Strategy<Value = (u64, Vec<Event>)> {
    (0u64..20, proptest::collection::vec(event(), 1..4)).prop_map(|(step, mut chain)| {
        let last = chain.len() - 1;
        for (at, event) in chain.iter_mut().enumerate() {
            if let Event::Transfer(transfer) = event {
                transfer.linked = at < last;
            }
        }
        let end = chain.iter().position(|event| !event.is_linked()).unwrap_or(last);
        chain.truncate(end + 1);
        (step, chain)
    })
}

/// Refusals for want of money carry amounts that the model does not compute.
fn comparable(result: Result<Applied, (usize, Refusal)>) -> Result<Applied, (usize, &'static str)> {
    let poor = |why| if matches!(why, ExceedsBalance { .. } | Overflow) { "poor" } else { word(Err(why)) };
    result.map_err(|(at, why)| (at, poor(why)))
}

fn compare(state: &State, model: &Model) -> Result<(), TestCaseError> {
    for (name, ..) in ACCOUNTS {
        let balance = state.account(account(name)).unwrap().1;
        prop_assert_eq!(balance, model.balance(account(name)), "{}", name);
    }
    prop_assert_eq!(state.pendings_count(), model.holds.len());
    prop_assert!(state.check_books().is_ok());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_ledger_is_its_model(chains in proptest::collection::vec(chain(), 1..80)) {
        let (mut state, mut model, mut now) = (ledger(SMALL), Model::default(), 40_000);
        for (step, chain) in chains {
            now += step;
            let got = state.apply_chain(UnixMs(now), &chain).map_err(|refused| (refused.at, refused.why));
            let want = model.apply(now, &chain);
            prop_assert_eq!(comparable(got), comparable(want), "{:?}", chain);
            compare(&state, &model)?;
            let due: Vec<_> = state.due(UnixMs(now), 99);
            let mut overdue: Vec<_> = model.holds.iter().filter(|h| h.4 <= now).map(|h| (h.4, h.0)).collect();
            overdue.sort_unstable();
            prop_assert_eq!(due, overdue.into_iter().map(|h| h.1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn replaying_what_was_applied_rebuilds_the_same_bits(
        chains in proptest::collection::vec(chain(), 1..80), cut in 0usize..80,
    ) {
        let (mut state, mut now) = (ledger(SMALL), 40_000);
        let mut journal = Vec::new();
        let mut snapshot = (Vec::new(), 0);
        for (i, (step, chain)) in chains.iter().enumerate() {
            now += step;
            if state.apply_chain(UnixMs(now), chain) == Ok(Applied::Done) {
                encode_batch(state.now(), chain, &mut journal).unwrap();
            }
            if i == cut % chains.len() {
                snapshot = (Vec::new(), journal.len());
                state.encode_snapshot(&mut snapshot.0);
            }
        }
        let resumed = State::decode_snapshot(&mut crate::Reader::new(&snapshot.0), HashKey::default()).unwrap();
        for (mut replayed, from) in [(ledger(SMALL), 0), (resumed, snapshot.1)] {
            let mut reader = crate::Reader::new(&journal[from..]);
            while reader.remaining() > 0 {
                let batch = decode_batch(&mut reader).unwrap();
                prop_assert_eq!(replayed.replay(batch.at, &batch.events), Ok(()));
            }
            prop_assert_eq!(replayed.digest(), state.digest());
        }
    }
}
