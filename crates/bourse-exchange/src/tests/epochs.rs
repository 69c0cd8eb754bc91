//! Epochs: what is owed is signed, every account finds its leaf, and no replay believes another root.

use super::support::{START, block_on, charge, hold, request, settlement};
use super::{ask, check_clean, facts, market, market_in};
use crate::check::{Market, check_journal};
use crate::core::{Core, SNAPSHOT_EPOCHS};
use crate::epoch::EpochError;
use crate::memory::SharedJournal;
use crate::prove::{ProveError, prove_of};
use crate::record::{self, EpochRecord, Record, Records};
use crate::{
    AdminReply, AdminRequest, CloseError, Exchange, ExchangeConfig, NewKey, Period, check, hash_key,
};
use bourse_ledger::{AccountKind, Event, HashKey, Journal, Position, Transfer, TransferKind};
use bourse_proof::liabilities::{ProofPolicy, verify_liability_proof};
use bourse_proof::sign::{Signer, verify_epoch};
use bourse_types::{AccountId, Digest32, DurationMs, NanoUsd, SellerName, UnixMs};
use bourse_wire::funds::{ActivityQuery, Funds, FundsError, KeyGrant, Records as _};
use bourse_wire::liability::{Epoch, LiabilityProof, SignedEpoch};
use bourse_wire::receipt::Receipt;
use std::time::Duration;

const MINUTE: DurationMs = DurationMs(60_000);
const CUSTOMERS: [&str; 3] = ["alice", "bob", "carol"];
const SELLERS: [&str; 2] = ["maple", "oak"];

/// A key of a customer who gets 100,000 nano-USD of credit.
fn customer(exchange: &Exchange, name: &str) -> KeyGrant {
    let new = NewKey { label: name.to_owned(), account: Some(name.to_owned()), ..NewKey::default() };
    let made = exchange.admin(AdminRequest::CreateKey(new), START).expect("a key");
    let AdminReply::KeyCreated { secret, .. } = made else { panic!("no key in {made:?}") };
    ask(exchange, &format!(r#"{{"op": "credit", "account": "{name}", "amount_usd": "0.0001"}}"#));
    exchange.authenticate(&hash_key(&secret.0), START).expect("a live key")
}

fn buy(exchange: &Exchange, n: u64, grant: KeyGrant, total: u64, now: UnixMs) {
    let id = request(n, now);
    exchange.hold(&hold(id, grant, 5_000, now)).expect("a hold");
    let mut ended = settlement(id, grant, total, now);
    ended.receipt.charge = charge(total);
    let seller = SellerName::parse(SELLERS[n as usize % SELLERS.len()]).expect("a name");
    ended.receipt.attempts[0].seller = seller.clone();
    ended.receipt.seller = Some(seller);
    exchange.settle(ended).expect("a settlement");
}

fn close(exchange: &Exchange, now: UnixMs) -> Epoch {
    let signed = exchange.close_epoch(now).expect("clean books").expect("something has happened");
    assert_eq!(verify_epoch(&signed), Ok(()));
    assert_eq!(signed.exchange, exchange.public_key());
    signed.epoch
}

fn with_journal<T>(exchange: &Exchange, read: impl FnOnce(&dyn Journal) -> T) -> T {
    exchange.shared.index.lock().with_journal(read)
}

fn proof(exchange: &Exchange, account: &str, epoch: Option<u64>) -> LiabilityProof {
    with_journal(exchange, |journal| prove_of(journal, account, epoch)).expect("a proof")
}

fn refused(exchange: &Exchange, account: &str, epoch: Option<u64>) -> String {
    with_journal(exchange, |journal| prove_of(journal, account, epoch)).map(drop).unwrap_err().to_string()
}

/// The last balance in a statement of all before `until`, in nano-USD.
fn stated(exchange: &Exchange, account: &str, until: UnixMs) -> u128 {
    let period = Period { from: None, until: Some(until) };
    let lines = with_journal(exchange, |journal| crate::books::statement_of(journal, account, period, 1));
    let lines = lines.expect("books").expect("an account");
    lines.last().map_or(0, |line| line.balance_usd.replace('.', "").parse().expect("digits"))
}

/// A market of three customers and two sellers after three epochs, and their heads. Holds stay open.
fn three_epochs(exchange: &Exchange) -> Vec<Epoch> {
    let grants = CUSTOMERS.map(|name| customer(exchange, name));
    let mut heads = vec![close(exchange, START.plus(MINUTE))];
    let mut now = START.plus(MINUTE);
    for n in 0..12 {
        now = now.plus(DurationMs(7_000));
        buy(exchange, n, grants[n as usize % 3], 1_000 + 13 * n, now);
        if n % 6 == 5 {
            exchange.hold(&hold(request(100 + n, now), grants[0], 4_000, now)).expect("a hold");
            heads.push(close(exchange, now.plus(DurationMs(500))));
        }
    }
    heads
}

#[test]
fn every_account_finds_what_it_is_owed_and_the_sum_is_the_total() {
    let exchange = market(50_000);
    let heads = three_epochs(&exchange);
    for (n, head) in heads.iter().enumerate() {
        assert_eq!(head.number, n as u64 + 1);
        let before = n.checked_sub(1).map_or(Digest32([0; 32]), |n| heads[n].digest());
        assert_eq!(head.previous, before, "epochs are chained");
    }
    assert_eq!((heads[0].total_nano_usd, heads[0].count), (350_000, 4), "three customers, the operator");
    assert_eq!(heads[2].count, 6, "and two sellers");
    let sellers = SELLERS.map(|name| format!("seller:{name}"));
    let names = CUSTOMERS.iter().copied().chain(["operator"]).chain(sellers.iter().map(String::as_str));
    let mut sums = [0; 3];
    for name in names {
        for head in &heads {
            if name.starts_with("seller:") && head.number == 1 {
                continue;
            }
            let proof = proof(&exchange, name, Some(head.number));
            assert_eq!(proof.signed.epoch, *head);
            let account = exchange.account(name).unwrap();
            let policy = ProofPolicy {
                expected_exchange: Some(exchange.public_key()),
                expected_account: Some(Receipt::digest_of_account(account)),
            };
            assert!(verify_liability_proof(&proof, &policy).holds());
            assert_eq!(proof.leaf.amount_nano_usd, stated(&exchange, name, head.closed_at), "{name}");
            sums[head.number as usize - 1] += proof.leaf.amount_nano_usd;
        }
    }
    assert_eq!(sums.to_vec(), heads.iter().map(|head| head.total_nano_usd).collect::<Vec<_>>());
    // What left the customers and did not reach a seller is the house's.
    let kept = |name: &str| stated(&exchange, name, heads[2].closed_at);
    assert_eq!(sums[2] + kept("fee") + kept("rounding"), 350_000);
    assert_eq!(proof(&exchange, "alice", None).signed.epoch, heads[2], "the last one unless told otherwise");
    check_clean(&exchange);
}

#[test]
fn who_is_owed_nothing_is_told_so() {
    let exchange = market(0);
    assert_eq!(refused(&exchange, "operator", None), "no epoch has ended yet");
    close(&exchange, START);
    assert_eq!(proof(&exchange, "operator", None).leaf.amount_nano_usd, 0, "nothing is a balance, too");
    for name in ["fee", "subsidy", "clearing", "allowances", "nobody"] {
        let want = format!("`{name}` is no account that is owed anything in epoch 1");
        assert_eq!(refused(&exchange, name, None), want);
    }
    assert_eq!(refused(&exchange, "operator", Some(2)), "there is no epoch 2");
    assert_eq!(refused(&exchange, "operator", Some(0)), "there is no epoch 0");
}

#[test]
fn an_epoch_in_which_nothing_happened_is_not_written() {
    let exchange = market(1_000);
    close(&exchange, START);
    let (durable, digest) = (exchange.flush().unwrap(), exchange.digest());
    assert_eq!(exchange.close_epoch(START.plus(MINUTE)).unwrap(), None);
    assert_eq!((exchange.flush().unwrap(), exchange.digest()), (durable, digest));
    customer(&exchange, "alice");
    assert_eq!(close(&exchange, START.plus(MINUTE)).number, 2);
    let reply = exchange.admin(AdminRequest::CloseEpoch {}, START.plus(MINUTE)).unwrap();
    assert_eq!(reply, AdminReply::Epoch { closed: None });
    assert_eq!(facts(exchange.check(START).unwrap()).epochs, 2);
}

/// Whatever the clocks of callers say, what comes after the end of an epoch is not before it.
#[test]
fn an_epoch_ends_after_all_that_it_counts_and_before_all_else() {
    let exchange = market(1_000);
    let alice = customer(&exchange, "alice");
    let late = START.plus(MINUTE);
    buy(&exchange, 1, alice, 1_000, late);
    let head = close(&exchange, START);
    assert_eq!(head.closed_at, late.plus(DurationMs(1)), "a clock that is behind counts for nothing");
    buy(&exchange, 2, alice, 1_000, START);
    assert_eq!(stated(&exchange, "alice", head.closed_at), 99_000);
    exchange.flush().unwrap();
    assert_eq!(stated(&exchange, "alice", head.closed_at), 99_000);
    assert_eq!(stated(&exchange, "alice", head.closed_at.plus(DurationMs(1))), 98_000);
    check_clean(&exchange);
}

#[test]
fn restarts_from_snapshot_and_from_genesis_give_the_same_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 50_000);
    let heads = three_epochs(&exchange);
    let proofs = |account| heads.iter().map(|head| head.number).map(move |number| (account, number));
    let all: Vec<_> = CUSTOMERS.into_iter().flat_map(proofs).collect();
    let show = || -> Vec<LiabilityProof> {
        let prove =
            |(account, number): &(&str, u64)| crate::prove(dir.path(), account, Some(*number)).unwrap();
        all.iter().map(prove).collect()
    };
    let live = show();
    exchange.close().unwrap();
    drop(exchange);
    assert_eq!(show(), live, "a stopped market, with a snapshot after the last epoch");
    let last = crate::prove(dir.path(), "alice", None).unwrap().signed.epoch;
    assert_eq!((last.number, last.previous), (4, heads[2].digest()), "the close released its holds");
    assert_eq!(last.total_nano_usd, heads[2].total_nano_usd, "which moves no money");
    let db = rusqlite::Connection::open(dir.path().join(crate::store::JOURNAL_FILE)).unwrap();
    db.execute_batch("DELETE FROM snapshot").unwrap();
    drop(db);
    assert_eq!(show(), live, "from its beginning");
    let exchange = market_in(dir.path(), 0);
    let report = exchange.check(START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    customer(&exchange, "dave");
    let next = close(&exchange, START);
    assert_eq!((next.number, next.previous), (5, last.digest()));
    assert!(next.closed_at > last.closed_at);
    assert_eq!(show(), live, "beside a live market that goes on");
    assert_eq!(crate::prove(dir.path(), "dave", None).unwrap().leaf.amount_nano_usd, 100_000);
    exchange.close().unwrap();
}

#[test]
fn a_killed_market_goes_on_with_the_next_epoch() {
    let exchange = market(50_000);
    let heads = three_epochs(&exchange);
    let exchange = exchange.killed(START.plus(MINUTE)).unwrap();
    assert_eq!(proof(&exchange, "bob", None).signed.epoch, heads[2]);
    let next = close(&exchange, START);
    assert_eq!((next.number, next.previous), (4, heads[2].digest()), "holds were released");
    assert_eq!(next.total_nano_usd, heads[2].total_nano_usd, "which moves no money");
    check_clean(&exchange);
}

/// The journal of a market, its epochs changed and signed again by the owner of the key.
fn forged(exchange: &Exchange, change: impl Fn(&mut EpochRecord)) -> Vec<String> {
    let signer = &exchange.shared.signer;
    let groups = with_journal(exchange, |journal| journal.read(Position::default(), 99)).expect("groups");
    let mut copy = SharedJournal::default();
    for group in groups {
        let mut bytes = Vec::new();
        for record in Records::new(&group.bytes) {
            match record.expect("a record") {
                Record::Epoch(mut record) => {
                    change(&mut record);
                    if verify_epoch(&record.signed).is_err() && record.signed.signature != [0; 64] {
                        record.signed = signer.sign_epoch(record.signed.epoch);
                    }
                    record::put_epoch(&mut bytes, &record);
                }
                Record::Genesis { exchange, limits } => record::put_genesis(&mut bytes, &exchange, &limits),
                Record::Events(batch) => record::put_events(&mut bytes, batch.at, &batch.events),
                Record::Name { account, name } => record::put_name(&mut bytes, account, &name),
                Record::Key(row) => record::put_key(&mut bytes, &row),
                Record::Receipt { bytes: receipt, .. } => drop(record::put_receipt(&mut bytes, receipt)),
                Record::Checkpoint(checkpoint) => record::put_checkpoint(&mut bytes, &checkpoint),
                other => panic!("{other:?}"),
            }
        }
        copy.append(&bytes).expect("an append");
    }
    check_journal(&copy, Market::Stopped, START).problems
}

#[test]
fn a_root_that_the_books_do_not_have_is_refused_though_it_is_signed() {
    let exchange = market(50_000);
    three_epochs(&exchange);
    assert_eq!(forged(&exchange, |_| ()), Vec::<String>::new());
    let check = |words: &str, change: fn(&mut EpochRecord)| {
        let problems = forged(&exchange, change);
        assert!(problems.first().is_some_and(|problem| problem.contains(words)), "{words}: {problems:?}");
    };
    check("epoch 1 has another root", |record| record.signed.epoch.root = Digest32([1; 32]));
    check("epoch 1 has another root", |record| record.seed[0] ^= 1);
    check("says 349999 nano-USD owed", |record| record.signed.epoch.total_nano_usd -= 1);
    check("owed to 3 accounts", |record| record.signed.epoch.count -= 1);
    check("epoch 2 follows epoch 0", |record| record.signed.epoch.number += 1);
    check("names another epoch before it", |record| record.signed.epoch.previous.0[0] ^= 1);
    check("ends before something", |record| record.signed.epoch.closed_at = START);
    check("an event has an earlier time than the end of epoch 1", |record| {
        record.signed.epoch.closed_at = UnixMs(u64::MAX);
    });
    check("signature of epoch 1", |record| record.signed.signature = [0; 64]);
    check("signature of epoch 1", |record| {
        let SignedEpoch { epoch, .. } = record.signed;
        record.signed = Signer::from_bytes(&[1; 32]).sign_epoch(epoch);
    });
}

/// Books as they must not be.
fn rest_in_clearing(exchange: &Exchange, nano_usd: u64) {
    let amount = NanoUsd(nano_usd).into();
    let kind = TransferKind::Single { debit: crate::OPERATOR, credit: crate::CLEARING, amount };
    let transfer = Transfer { id: request(1, START).transfer(0), linked: false, kind };
    let mut core = exchange.shared.core.lock();
    core.state.apply_chain(START, &[Event::Transfer(transfer)]).unwrap();
}

#[test]
fn money_that_rests_in_clearing_stops_the_close_and_nothing_is_written() {
    let exchange = market(1_000);
    rest_in_clearing(&exchange, 5);
    let before = exchange.digest();
    let error = exchange.close_epoch(START).unwrap_err();
    assert!(matches!(error, EpochError::Close(CloseError::Clearing(5))), "{error}");
    assert_eq!(error.to_string(), "clearing holds 5 nano-USD between settlements");
    assert_eq!(exchange.digest(), before);
}

#[test]
fn only_what_is_owed_to_somebody_is_a_liability() {
    let owed = AccountKind::ALL.into_iter().filter(|kind| crate::core::is_liability(*kind));
    assert_eq!(
        owed.map(AccountKind::name).collect::<Vec<_>>(),
        ["customer", "seller_payable", "sub_account"]
    );
}

#[test]
fn a_crash_leaves_no_more_epochs_to_replay_than_lie_between_snapshots() {
    let exchange = market(1_000);
    let epoch_of_snapshot = || {
        let found = with_journal(&exchange, |journal| journal.load_snapshot()).unwrap();
        found.map(|found| {
            Core::from_snapshot(&found.bytes, found.at, HashKey::default(), u64::MAX).unwrap().epoch.number
        })
    };
    let one_more = || {
        ask(&exchange, r#"{"op": "credit", "account": "operator", "amount_usd": "0.000000001"}"#);
        close(&exchange, START);
    };
    for _ in 0..SNAPSHOT_EPOCHS {
        one_more();
        assert_eq!(epoch_of_snapshot(), None);
    }
    for _ in 0..SNAPSHOT_EPOCHS {
        one_more();
        assert_eq!(epoch_of_snapshot(), Some(SNAPSHOT_EPOCHS));
    }
    one_more();
    assert_eq!(epoch_of_snapshot(), Some(2 * SNAPSHOT_EPOCHS));
    check_clean(&exchange);
}

/// A month: what the statement says, what the leaf says and what the activity says is the same.
#[test]
fn statement_leaf_and_activity_of_a_month_agree_to_the_nano_dollar() {
    const DAY: DurationMs = DurationMs(24 * 3_600_000);
    let exchange = market(50_000);
    let grants = CUSTOMERS.map(|name| customer(&exchange, name));
    let midnight = UnixMs(START.0 - START.0 % DAY.0 + DAY.0);
    let mut seed = 7u64;
    for n in 0..600u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let now = UnixMs(midnight.0 + n * 29 * DAY.0 / 600);
        buy(&exchange, n, grants[(seed >> 33) as usize % 3], 100 + (seed >> 40) % 300, now);
        if n % 50 == 49 {
            close(&exchange, now);
        }
    }
    let end = UnixMs(midnight.0 + 30 * DAY.0);
    let head = close_or_last(&exchange, end);
    for name in CUSTOMERS {
        let leaf = proof(&exchange, name, None).leaf.amount_nano_usd;
        assert_eq!(leaf, stated(&exchange, name, head));
        let account: AccountId = exchange.account(name).unwrap();
        let rows = exchange.activity(account, &ActivityQuery::default(), end).unwrap();
        let spent: u128 = rows.iter().map(|row| u128::from(row.sums.cost.0)).sum();
        assert_eq!(leaf + spent, 100_000, "{name}");
        assert!(spent > 20_000, "{spent}");
    }
    check_clean(&exchange);
}

/// Ends the epoch if anything happened; the end of the last one either way.
fn close_or_last(exchange: &Exchange, now: UnixMs) -> UnixMs {
    exchange.close_epoch(now).expect("clean books");
    proof(exchange, "operator", None).signed.epoch.closed_at
}

#[test]
fn proofs_are_refused_for_books_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(crate::prove(dir.path(), "operator", None), Err(ProveError::Open(_))));
    let exchange = Exchange::open(dir.path(), ExchangeConfig::default(), START).unwrap();
    exchange.flush().unwrap();
    assert!(matches!(crate::prove(dir.path(), "operator", None), Err(ProveError::NoEpoch)));
    exchange.close().unwrap();
}

#[test]
fn epochs_end_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let config = ExchangeConfig { epoch_period: Duration::from_millis(1), ..ExchangeConfig::default() };
    let exchange = Exchange::open(dir.path(), config, START).unwrap();
    let mut progress = exchange.shared.progress.subscribe();
    block_on(progress.wait_for(|_| exchange.shared.core.lock().epoch.number > 0)).unwrap();
    let signed = crate::prove(dir.path(), "operator", None).unwrap().signed;
    assert_eq!(verify_epoch(&signed), Ok(()));
    exchange.close().unwrap();
    assert!(check(dir.path(), START).unwrap().is_clean());
}

#[test]
fn a_market_that_closes_signs_what_it_owes_once() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000);
    let late = START.plus(MINUTE);
    buy(&exchange, 1, customer(&exchange, "alice"), 1_000, late);
    let last = exchange.shared.core.lock().now();
    exchange.close().unwrap();
    let digest = exchange.digest();
    exchange.close().unwrap();
    assert_eq!(exchange.digest(), digest, "closing twice is fine");
    let refused = exchange.close_epoch(late).unwrap_err();
    assert!(matches!(refused, EpochError::Funds(FundsError::Closing)), "{refused}");
    drop(exchange);
    let proof = crate::prove(dir.path(), "alice", None).unwrap();
    assert_eq!((proof.signed.epoch.number, proof.leaf.amount_nano_usd), (1, 99_000));
    assert_eq!(proof.signed.epoch.closed_at, last.plus(DurationMs(1)), "after all that it counts");
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(facts(report).state_digest, digest.to_string());

    // A life in which nothing happens ends none, and one that is killed none either.
    market_in(dir.path(), 0).close().unwrap();
    let exchange = market_in(dir.path(), 0);
    customer(&exchange, "bob");
    exchange.flush().unwrap();
    exchange.kill();
    drop(exchange);
    assert_eq!(facts(check(dir.path(), START).unwrap()).epochs, 1);
}

#[test]
fn books_that_cannot_be_signed_close_all_the_same() {
    let exchange = market(1_000);
    rest_in_clearing(&exchange, 5);
    exchange.close().unwrap();
    assert_eq!(exchange.shared.core.lock().epoch.number, 0);
}
