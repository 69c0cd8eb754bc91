//! Laws under random requests: replay is bit-identical, money is conserved, no window passes its limit, runs
//! repeat.

use super::support::{START, charge, hold, inflated, request, settlement};
use super::{key, market};
use crate::{Exchange, ExchangeConfig, Party};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::{Billing, Funds, HoldExtension, KeyGrant, LimitReset, NoteText, Records};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Hold(u64, u64),
    Extend(u64, u16, u64),
    Settle(u64, u64),
    Tick,
    Flush,
    Close,
    /// Of the buyer's own key, at this list price.
    SettleByok(u64, u64),
    /// The seller claims twice what the market counted.
    Inflated(u64, u64),
    /// What waits in suspense of it is given to one of the two.
    Release(u64, Party),
    Limit(Option<u64>, LimitReset),
    Policy(Option<u8>),
}

fn call() -> impl Strategy<Value = Call> {
    let (n, n2) = (0u64..12, 0u64..12);
    prop_oneof![
        4 => (n.clone(), 0u64..900).prop_map(|(n, amount)| Call::Hold(n, amount)),
        2 => (n.clone(), 0u16..4, 0u64..300).prop_map(|(n, step, amount)| Call::Extend(n, step, amount)),
        4 => (n.clone(), 0u64..900).prop_map(|(n, total)| Call::Settle(n, total)),
        1 => (n, 0u64..9_000).prop_map(|(n, list)| Call::SettleByok(n, list)),
        2 => (n2.clone(), 0u64..900).prop_map(|(n, total)| Call::Inflated(n, total)),
        2 => (n2, prop::sample::select(vec![Party::Seller, Party::Buyer]))
            .prop_map(|(n, to)| Call::Release(n, to)),
        1 => Just(Call::Tick),
        1 => Just(Call::Flush),
        1 => Just(Call::Close),
        1 => (proptest::option::of(0u64..3_000), reset()).prop_map(|(limit, reset)| Call::Limit(limit, reset)),
        1 => proptest::option::of(0u8..3).prop_map(Call::Policy),
    ]
}

fn reset() -> impl Strategy<Value = LimitReset> {
    proptest::sample::select(&LimitReset::ALL[..])
}

/// Milliseconds between two calls: most are near each other, some a day or a month apart.
fn step() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..9_000, 2 => 0u64..100_000_000, 1 => 0u64..2_500_000_000]
}

fn make(exchange: &Exchange, grant: KeyGrant, now: UnixMs, call: &Call) {
    let _ = match call {
        Call::Hold(n, amount) => exchange.hold(&hold(request(*n, START), grant, *amount, now)),
        Call::Extend(n, step, amount) => {
            let (request, amount) = (request(*n, START), NanoUsd(*amount));
            exchange.extend(&HoldExtension { request, step: *step, amount, byok: NanoUsd(9), tokens: 0, now })
        }
        Call::Settle(n, total) => {
            let mut settlement = settlement(request(*n, START), grant, *total, now);
            settlement.receipt.charge = charge(*total);
            exchange.settle(settlement).map(drop)
        }
        Call::Inflated(n, total) => {
            exchange.settle(inflated(request(*n, START), grant, *total, now)).map(drop)
        }
        Call::Release(n, to) => {
            let request = request(*n, START).to_string();
            // Most requests have nothing in suspense.
            let _ = exchange.admin(crate::AdminRequest::ReleaseSuspense { request, to: *to }, now);
            Ok(())
        }
        Call::Tick => exchange.tick(now).map(drop),
        Call::Flush => exchange.flush().map(drop),
        Call::Close => {
            exchange.close_epoch(now).unwrap();
            Ok(())
        }
        Call::SettleByok(n, list) => {
            let mut ended = settlement(request(*n, START), grant, *list, now);
            ended.billing = Billing::Byok;
            ended.note.session_id = NoteText::clip("law");
            exchange.settle(ended).map(drop)
        }
        Call::Policy(policy) => {
            let policy = policy.map(|n| format!(r#"{{"ignore":["s{n}"]}}"#));
            let (key, account) = ("test".to_owned(), "operator".to_owned());
            exchange.admin(crate::AdminRequest::KeyPolicy { key, policy: policy.clone() }, now).unwrap();
            exchange.admin(crate::AdminRequest::AccountPolicy { account, policy }, now).unwrap();
            Ok(())
        }
        Call::Limit(limit, reset) => {
            let limit_usd = limit.map(|limit| NanoUsd(limit).to_usd_string());
            let request = crate::AdminRequest::LimitKey {
                key: "test".to_owned(),
                limit_usd,
                reset: Some(reset.as_str().to_owned()),
            };
            exchange.admin(request, now).unwrap();
            Ok(())
        }
    };
}

/// A key and another one of a workspace, and one outside.
fn three_keys(exchange: &Exchange) -> [KeyGrant; 3] {
    super::ask(exchange, r#"{"op":"create_workspace","slug":"w"}"#);
    ["a", "b", "c"].map(|label| {
        let workspace = if label == "c" { "" } else { r#","workspace":"w""# };
        let made = super::ask(exchange, &format!(r#"{{"op":"create_key","label":"{label}"{workspace}}}"#));
        let crate::AdminReply::KeyCreated { secret, .. } = made else { panic!() };
        exchange.authenticate(&crate::hash_key(&secret.0), START).unwrap()
    })
}

/// Of the first key, of the workspace, or of the organisation. A key has one budget: the last that is set.
fn set_budget(exchange: &Exchange, scope: usize, reset: LimitReset, limit: u64) {
    let usd = NanoUsd(limit).to_usd_string();
    let interval = bourse_wire::api::interval(reset);
    let of =
        [None, Some(r#"{"scope":"workspace","workspace":"w"}"#), Some(r#"{"scope":"organization"}"#)][scope];
    let json = match of {
        None => format!(r#"{{"op":"limit_key","key":"a","limit_usd":"{usd}","reset":"{}"}}"#, reset.as_str()),
        Some(of) => format!(r#"{{"op":"set_budget","of":{of},"interval":"{interval}","limit_usd":"{usd}"}}"#),
    };
    super::ask(exchange, &json);
}

fn run(calls: &[(u64, Call)]) -> Exchange {
    let config =
        ExchangeConfig { starting_credit: NanoUsd(4_000), snapshot_events: 16, ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    let mut now = START;
    for (step, call) in calls {
        now = UnixMs(now.0 + step);
        make(&exchange, grant, now, call);
    }
    exchange.flush().unwrap();
    exchange
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn replay_is_bit_identical_and_the_books_are_clean(
        calls in proptest::collection::vec((step(), call()), 1..120),
    ) {
        let exchange = run(&calls);
        let report = exchange.check(START).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
        let report = super::facts(report);
        prop_assert_eq!(&report.state_digest, &exchange.digest().to_string());
        prop_assert_eq!(&report.debits_posted, &report.credits_posted);
        let again = run(&calls);
        prop_assert_eq!(again.digest(), exchange.digest());
        prop_assert_eq!(again.checkpoint_of_test(), exchange.checkpoint_of_test());
    }

    /// Holds and settlements at random times under one limit: no window settles more than it.
    #[test]
    fn no_window_settles_more_than_its_limit(
        calls in proptest::collection::vec((step(), call()), 1..160), reset in reset(), limit in 1u64..3_000,
    ) {
        let exchange = market(4_000_000);
        let grant = key(&exchange, None);
        make(&exchange, grant, START, &Call::Limit(Some(limit), reset));
        let (mut now, mut windows) = (START, std::collections::BTreeMap::new());
        for (step, call) in calls {
            now = UnixMs(now.0 + step);
            let before = exchange.key_status(&grant.key, now).unwrap().key.usage.total.0;
            if !matches!(call, Call::Limit(..)) {
                make(&exchange, grant, now, &call);
            }
            let after = exchange.key_status(&grant.key, now).unwrap().key.usage.total.0;
            let spent = windows.entry(reset.window_start(now)).or_insert(0);
            *spent += after - before;
            prop_assert!(*spent <= limit, "{} of {} since {:?}", spent, limit, reset.window_start(now));
        }
        let report = exchange.check(START).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
    }

    /// The same under budgets of a key, its workspace and its organisation, of several windows each.
    #[test]
    fn no_window_of_any_scope_settles_more_than_its_budget(
        calls in proptest::collection::vec((step(), call()), 1..160),
        budgets in proptest::collection::btree_map((0usize..3, reset()), 1u64..4_000, 1..6),
    ) {
        let exchange = market(4_000_000);
        let keys = three_keys(&exchange);
        let last_of_key = budgets.keys().rfind(|(scope, _)| *scope == 0).copied();
        let budgets: Vec<_> =
            budgets.into_iter().filter(|(of, _)| of.0 > 0 || Some(*of) == last_of_key).collect();
        for ((scope, reset), limit) in &budgets {
            set_budget(&exchange, *scope, *reset, *limit);
        }
        let total = |n: usize, now| exchange.key_status(&keys[n].key, now).unwrap().key.usage.total.0;
        let mut spent = std::collections::BTreeMap::new();
        let mut now = START;
        for (step, call) in calls {
            now = UnixMs(now.0 + step);
            let before = [0, 1, 2].map(|n| total(n, now));
            match &call {
                Call::Limit(..) | Call::Policy(..) => {}
                Call::Hold(n, _) | Call::Extend(n, ..) | Call::Settle(n, _) | Call::SettleByok(n, _) => {
                    make(&exchange, keys[*n as usize % 3], now, &call);
                }
                _ => make(&exchange, keys[0], now, &call),
            }
            let more = [0, 1, 2].map(|n| total(n, now) - before[n]);
            for ((scope, reset), limit) in &budgets {
                // The first key alone; the first two, which are of the workspace; all of them.
                let of_scope: u64 = more.iter().take(scope + 1).sum();
                let sum = spent.entry((*scope, *reset as u8, reset.window_start(now))).or_insert(0);
                *sum += of_scope;
                prop_assert!(*sum <= *limit, "{} of {} in scope {}: {:?}", sum, limit, scope, reset);
            }
        }
        let report = exchange.check(START).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
    }

    #[test]
    fn a_restart_frees_every_hold_and_changes_no_settled_nano_dollar(
        calls in proptest::collection::vec((0u64..900, call()), 1..60),
    ) {
        let exchange = run(&calls);
        let before: Vec<_> = exchange.shared.core.lock().state.accounts().collect();
        let exchange = exchange.killed(START).unwrap();
        let core = exchange.shared.core.lock();
        prop_assert_eq!(core.state.pendings_count(), 0);
        prop_assert!(core.state.check_books().is_ok());
        for ((account, now), (_, before)) in core.state.accounts().zip(before) {
            prop_assert_eq!(now.debits_posted, before.debits_posted, "{:?}", account);
            prop_assert_eq!(now.credits_posted, before.credits_posted, "{:?}", account);
            prop_assert_eq!(now.debits_pending + now.credits_pending, 0);
        }
    }
}

impl Exchange {
    fn checkpoint_of_test(&self) -> bourse_wire::receipt::Checkpoint {
        bourse_wire::funds::Records::checkpoint(self).unwrap()
    }
}
