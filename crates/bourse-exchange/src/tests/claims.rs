//! One charge for each claim: repeated, from two gateways, and whatever of it an exchange that dies had written.

use super::support::{START, hold, request, settlement};
use super::{ask, books, check_clean, key, market, refused};
use crate::exchange::Parts;
use crate::index::MemoryIndex;
use crate::memory::SharedJournal;
use crate::{AdminReply, AdminRequest, Exchange, ExchangeConfig, Holds, NewKey};
use bourse_ledger::{Journal as _, Position};
use bourse_types::{Digest32, DurationMs, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{
    CLAIM_AGE_MAX, Claim, Funds, FundsError, HoldRequest, KeyGrant, Outcome, Outcomes, Records, Settlement,
};
use bourse_wire::receipt::Finish;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn claim(name: u8, fingerprint: u8, first: RequestId) -> Claim {
    let (name, fingerprint) = (Digest32([name; 32]), Digest32([fingerprint; 32]));
    Claim { name, fingerprint, first, kept_for: CLAIM_AGE_MAX }
}

/// The hold of the `n`-th request under a claim.
fn claimed(n: u64, name: u8, grant: KeyGrant, now: UnixMs) -> HoldRequest {
    let id = request(n, now);
    HoldRequest { claim: Some(claim(name, 1, id)), ..hold(id, grant, 500, now) }
}

/// A settlement of nothing, because nobody answered.
fn failed(id: RequestId, grant: KeyGrant, now: UnixMs) -> Settlement {
    let mut nothing = settlement(id, grant, 0, now);
    nothing.receipt.finish = Finish::NoSeller;
    nothing
}

#[test]
fn one_request_runs_under_a_claim_and_is_charged() {
    let exchange = market(10_000);
    let grant = key(&exchange, Some(9_000));
    let (first, second) = (claimed(1, 1, grant, START), claimed(2, 1, grant, START));
    exchange.hold(&first).unwrap();
    exchange.hold(&first).unwrap();
    assert_eq!(exchange.hold(&second), Err(FundsError::ClaimOpen));
    assert_eq!(exchange.claimed(&claim(1, 1, second.request), START), Err(FundsError::ClaimOpen));
    let other = HoldRequest { claim: Some(claim(1, 2, second.request)), ..second };
    assert_eq!(exchange.hold(&other), Err(FundsError::ClaimTaken));
    assert_eq!(exchange.key_status(&grant.key, START).unwrap().held, NanoUsd(500), "and holds nothing more");
    exchange.settle(failed(first.request, grant, START)).unwrap();
    exchange.hold(&other).unwrap();
    exchange.settle(settlement(second.request, grant, 300, START)).unwrap();
    let third = claimed(3, 1, grant, START);
    assert_eq!(exchange.hold(&third), Err(FundsError::ClaimTaken));
    let again = HoldRequest { claim: Some(claim(1, 2, third.request)), ..third };
    assert_eq!(exchange.hold(&again), Err(FundsError::ClaimPaid(second.request)));
    assert_eq!(exchange.hold(&second), Err(FundsError::ClaimTaken), "the same request under another content");
    assert_eq!(exchange.hold(&other), Err(FundsError::NoHold), "the same request once more");
    exchange.hold(&claimed(4, 2, grant, START)).unwrap();
    check_clean(&exchange);
}

#[test]
fn what_ends_a_claim_is_told_by_what_was_delivered() {
    let check = |change: fn(&mut Settlement), want: Option<FundsError>| {
        let exchange = market(10_000);
        let grant = key(&exchange, None);
        let first = claimed(1, 1, grant, START);
        exchange.hold(&first).unwrap();
        let mut settled = failed(first.request, grant, START);
        change(&mut settled);
        exchange.settle(settled).unwrap();
        assert_eq!(exchange.hold(&claimed(2, 1, grant, START)).err(), want);
        check_clean(&exchange);
    };
    let paid = Some(FundsError::ClaimPaid(request(1, START)));
    check(|_| {}, None);
    check(|settled| settled.receipt.finish = Finish::SellerError, None);
    check(|settled| settled.receipt.finish = Finish::Cancelled, None);
    // A whole answer at no price.
    check(|settled| settled.receipt.finish = Finish::Length, paid.clone());
    // A part of one that its buyer left.
    check(|settled| settled.receipt.charge = super::support::charge(1), paid.clone());
    // What the buyer's own seller bills it, where the market asks nothing.
    let byok = |settled: &mut Settlement| {
        settled.billing = bourse_wire::funds::Billing::Byok;
        settled.receipt.charge = super::support::charge(1);
    };
    check(byok, paid);
}

#[test]
fn a_hold_that_gives_itself_back_frees_its_claim() {
    let exchange = market(10_000);
    let grant = key(&exchange, Some(9_000));
    let first = claimed(1, 1, grant, START);
    exchange.hold(&first).unwrap();
    let before = UnixMs(first.expires.0 - 1);
    exchange.tick(before).unwrap();
    assert_eq!(exchange.hold(&claimed(2, 1, grant, before)), Err(FundsError::ClaimOpen));
    exchange.tick(first.expires).unwrap();
    exchange.hold(&claimed(3, 1, grant, first.expires)).unwrap();
    check_clean(&exchange);
}

#[test]
fn a_claim_is_known_for_a_day_and_so_it_is_after_a_restart() {
    let mut exchange = market(10_000);
    let grant = key(&exchange, None);
    let first = claimed(1, 1, grant, START);
    exchange.hold(&first).unwrap();
    exchange.settle(settlement(first.request, grant, 300, START)).unwrap();
    exchange.flush().unwrap();
    for round in 0..2 {
        let last = UnixMs(START.0 + CLAIM_AGE_MAX.0 - 1);
        let refused = exchange.hold(&claimed(2, 1, grant, last));
        assert_eq!(refused, Err(FundsError::ClaimPaid(first.request)));
        if round == 0 {
            exchange = exchange.killed(START).unwrap();
        }
    }
    let over = UnixMs(START.0 + CLAIM_AGE_MAX.0);
    exchange.hold(&claimed(3, 1, grant, over)).unwrap();
    exchange.settle(settlement(request(3, over), grant, 300, over)).unwrap();
    check_clean(&exchange);
}

/// The first `groups` groups of a market's journal, as the journal of another one.
fn prefix(exchange: &Exchange, groups: usize) -> Exchange {
    let journal = exchange.memory.as_ref().unwrap();
    let mut copy = SharedJournal::default();
    for group in journal.read(Position::default(), groups).unwrap() {
        copy.append(&group.bytes).unwrap();
    }
    let parts = Parts {
        journal: Box::new(copy.clone()),
        reader: Box::new(copy.clone()),
        index: Box::new(MemoryIndex::default()),
        signer: exchange.shared.signer.clone(),
        entropy: exchange.shared.entropy.lock().clone(),
    };
    Exchange::assemble(parts, exchange.shared.config.clone(), START).unwrap()
}

/// How many requests were charged under each claim.
fn charges(exchange: &Exchange, made: &[HoldRequest]) -> BTreeMap<Digest32, usize> {
    let mut charges = BTreeMap::new();
    for hold in made {
        let found = exchange.generation(hold.request).unwrap();
        if found.is_some_and(|found| found.receipt.charge.total > NanoUsd::ZERO) {
            *charges.entry(hold.claim.unwrap().name).or_default() += 1;
        }
    }
    charges
}

#[test]
fn wherever_the_journal_ends_a_claim_is_charged_once() {
    let exchange = market(100_000);
    let grant = key(&exchange, Some(50_000));
    let mut made = Vec::new();
    for n in 0..12_u64 {
        let hold = claimed(n, (n % 4) as u8, grant, START);
        let answered = exchange.hold(&hold);
        exchange.flush().unwrap();
        if answered.is_ok() {
            made.push(hold);
            let is_paid = n % 3 != 0;
            let settled = if is_paid {
                settlement(hold.request, grant, 300, START)
            } else {
                failed(hold.request, grant, START)
            };
            exchange.settle(settled).unwrap();
            exchange.flush().unwrap();
        }
    }
    let groups = exchange.flush().unwrap().0 as usize;
    assert!(groups > 12 && charges(&exchange, &made).values().all(|charges| *charges == 1));
    for end in 2..=groups {
        let restarted = prefix(&exchange, end);
        let mut all = made.clone();
        for n in 100..108_u64 {
            let hold = claimed(n, (n % 4) as u8, grant, START);
            if restarted.hold(&hold).is_ok() {
                restarted.settle(settlement(hold.request, grant, 200, START)).unwrap();
                all.push(hold);
            }
        }
        let charges = charges(&restarted, &all);
        assert_eq!(charges.len(), 4, "each is charged in the end, after {end} groups");
        assert!(charges.values().all(|charges| *charges == 1), "{end} groups: {charges:?}");
        check_clean(&restarted);
    }
}

/// What happens to a market.
#[derive(Debug, Clone)]
enum Step {
    /// A gateway asks for a request under a claim.
    Try {
        gateway: usize,
        name: u8,
        fingerprint: u8,
    },
    /// A gateway ends one of its requests, for that much.
    End {
        gateway: usize,
        which: usize,
        charge: u64,
    },
    /// A gateway says everything again that it has not ended or does not know to be on disk.
    SayAgain {
        gateway: usize,
    },
    /// A gateway is gone with everything that it knew.
    Die {
        gateway: usize,
    },
    /// Time goes on, and holds give themselves back.
    Wait {
        ms: u64,
    },
    Flush,
    /// The exchange is killed, and gateways say again in either order.
    Kill {
        first: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gateway = || 0..2_usize;
    let step = prop_oneof![
        6 => (gateway(), 0..3_u8, 0..8_u8).prop_map(|(gateway, name, f)| Step::Try { gateway, name, fingerprint: f / 7 }),
        5 => (gateway(), 0..4_usize, prop_oneof![Just(0), Just(0), 1..400_u64])
            .prop_map(|(gateway, which, charge)| Step::End { gateway, which, charge }),
        1 => gateway().prop_map(|gateway| Step::SayAgain { gateway }),
        1 => gateway().prop_map(|gateway| Step::Die { gateway }),
        1 => (0..70_000_u64).prop_map(|ms| Step::Wait { ms }),
        2 => Just(Step::Flush),
        2 => gateway().prop_map(|first| Step::Kill { first }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a gateway knows of a request: its hold, and how it ended.
type Known = (HoldRequest, Option<Settlement>);

struct World {
    exchange: Exchange,
    grant: KeyGrant,
    gateways: [Vec<Known>; 2],
    made: Vec<HoldRequest>,
    now: UnixMs,
}

impl World {
    fn new(holds: Holds) -> Self {
        let config = ExchangeConfig {
            starting_credit: NanoUsd(1_000_000),
            holds,
            snapshot_events: 7,
            ..ExchangeConfig::default()
        };
        let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
        let grant = key(&exchange, Some(900_000));
        exchange.flush().unwrap();
        Self { exchange, grant, gateways: [Vec::new(), Vec::new()], made: Vec::new(), now: START }
    }

    fn step(mut self, step: &Step) -> Self {
        match *step {
            Step::Try { gateway, name, fingerprint } => {
                let id = request(self.made.len() as u64, self.now);
                let plain = hold(id, self.grant, 500, self.now);
                let asked = HoldRequest { claim: Some(claim(name, fingerprint, id)), ..plain };
                self.made.push(asked);
                if self.exchange.hold(&asked).is_ok() {
                    self.gateways[gateway].push((asked, None));
                }
            }
            Step::End { gateway, which, charge } => {
                let open = self.gateways[gateway].iter_mut().filter(|(_, end)| end.is_none()).nth(which);
                if let Some((hold, end)) = open {
                    let settled = match charge {
                        0 => failed(hold.request, self.grant, self.now),
                        charge => settlement(hold.request, self.grant, charge, self.now),
                    };
                    let _ = self.exchange.settle(settled.clone());
                    *end = Some(settled);
                }
            }
            Step::SayAgain { gateway } => self.say_again(gateway),
            Step::Die { gateway } => self.gateways[gateway].clear(),
            Step::Wait { ms } => {
                self.now = self.now.plus(DurationMs(ms));
                self.exchange.tick(self.now).unwrap();
            }
            Step::Flush => drop(self.exchange.flush().unwrap()),
            Step::Kill { first } => {
                self.exchange = self.exchange.killed(self.now).unwrap();
                self.say_again(first);
                self.say_again(1 - first);
            }
        }
        self
    }

    fn say_again(&mut self, gateway: usize) {
        for (hold, end) in &self.gateways[gateway] {
            let _ = self.exchange.hold(hold);
            if let Some(settled) = end {
                let _ = self.exchange.settle(settled.clone());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn at_most_one_charge_for_a_claim_whatever_happens(steps in steps(), outlive: bool) {
        let holds = if outlive { Holds::OutliveExchange } else { Holds::EndWithExchange };
        let mut world = World::new(holds);
        for step in &steps {
            world = world.step(step);
        }
        let charges = charges(&world.exchange, &world.made);
        prop_assert!(charges.values().all(|charges| *charges == 1), "{charges:?}");
        // What is live is what the journal says.
        world.exchange.tick(world.now).unwrap();
        let report = world.exchange.check(world.now).unwrap();
        prop_assert!(report.is_clean(), "{report:?}");
        prop_assert_eq!(super::facts(report).state_digest, world.exchange.digest().to_string());
    }
}

#[test]
fn an_answer_outlives_its_exchange() {
    let exchange = market(10_000);
    let (name, request) = (Digest32([1; 32]), request(1, START));
    let outcome = Outcome { name, request, sealed: "sealed".into(), now: START };
    super::support::block_on(exchange.keep(outcome)).unwrap();
    let exchange = exchange.killed(START).unwrap();
    let found = super::support::block_on(exchange.outcome(name, request)).unwrap();
    assert_eq!(found.as_deref(), Some(b"sealed".as_slice()));
}

#[test]
fn credit_under_a_key_is_given_once() {
    let mut exchange = market(1_000);
    let credit = |usd: &str, key: &str| {
        format!(r#"{{"op":"credit","account":"operator","amount_usd":"{usd}","idempotency_key":"{key}"}}"#)
    };
    let first = ask(&exchange, &credit("0.000000005", "a"));
    for round in 0..3 {
        assert_eq!(ask(&exchange, &credit("0.000000005", "a")), first);
        assert!(books(&exchange).contains("operator 1005"), "{}", books(&exchange));
        if round == 1 {
            exchange = exchange.killed(START).unwrap();
        }
    }
    let other = refused(&exchange, &credit("0.000000006", "a"));
    assert!(other.contains("used for another request"), "{other}");
    ask(&exchange, &credit("0.000000006", "b"));
    assert!(books(&exchange).contains("operator 1011"), "{}", books(&exchange));
    let nobody =
        refused(&exchange, r#"{"op":"credit","account":"x","amount_usd":"1","idempotency_key":"c"}"#);
    assert!(nobody.contains("no account"), "{nobody}");
    let bytes = |n: usize| credit("1", &"k".repeat(n));
    assert!(refused(&exchange, &bytes(256)).contains("1 to 255 bytes"));
    ask(&exchange, &bytes(255));
    check_clean(&exchange);
}

#[test]
fn a_key_under_a_key_is_made_once() {
    let exchange = market(1_000);
    let make = |label: &str, now: UnixMs| {
        let asked =
            NewKey { label: label.to_owned(), idempotency_key: Some("a".to_owned()), ..NewKey::default() };
        exchange.admin(AdminRequest::CreateKey(asked), now)
    };
    let count = || match ask(&exchange, r#"{"op":"list_keys"}"#) {
        AdminReply::Keys { keys } => keys.len(),
        other => panic!("{other:?}"),
    };
    make("one", START).unwrap();
    let again = make("one", START).unwrap_err().to_string();
    assert!(again.contains("made before"), "{again}");
    assert!(make("two", START).unwrap_err().to_string().contains("another request"));
    assert_eq!(count(), 1);
    let over = UnixMs(START.0 + CLAIM_AGE_MAX.0);
    assert!(make("one", UnixMs(over.0 - 1)).is_err());
    // Nothing moved meanwhile, so that only the claim tells the time.
    make("one", over).unwrap();
    assert_eq!(count(), 2);
    check_clean(&exchange);
}
