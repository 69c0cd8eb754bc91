//! What must be true of a market whose process was killed, found without believing that market.
//!
//! Beside the market's own check there is a replica: a folder of this test that follows the journal group by group, so
//! that a group that is lost or rewritten breaks its chain of hashes. A copy of it has no snapshot and no index, and
//! opens by replaying everything from the beginning. The market's next process opens from its snapshot, and must come
//! to the same bits. In a database's case that compares the two stores as well.
//!
//! The money is counted in the movements of the export, and held against receipts, keys and account.

use super::load::{CALLERS, Plan, config, number};
use super::place::{LIMIT, Place};
use super::victim::{Order, Seen};
use bourse_exchange::{
    Exchange, ExportFormat, OPERATOR, OPERATOR_NAME, Period, SqliteJournal, check, export,
};
use bourse_ledger::{Journal, Position};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{ActivityQuery, Records};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tempfile::TempDir;

/// More than a caller begins between two acknowledgements.
const BEGUN_SINCE: u64 = 16;
/// How many requests on both sides of a caller's last acknowledgement are made again.
const AGAIN_AROUND: u64 = 4;
const GROUPS: usize = 256;

pub(crate) struct Audit {
    keys: Vec<String>,
    acknowledged: BTreeSet<u64>,
    /// Every request that may have been made, by its id.
    begun: BTreeMap<String, u64>,
    again: Vec<u64>,
    replica: Replica,
    /// Digest with which the next process must open.
    expected: Option<String>,
}

impl Audit {
    pub(crate) fn new(place: &Place, keys: Vec<String>) -> Self {
        Self {
            keys,
            acknowledged: BTreeSet::new(),
            begun: BTreeMap::new(),
            again: Vec::new(),
            replica: Replica::new(place),
            expected: None,
        }
    }

    /// What the process of a round is told to do: the last requests of the dead once more, and new ones.
    pub(crate) fn order(&self, place: &Place, round: u64) -> Order {
        let (keys, again) = (self.keys.clone(), self.again.clone());
        Order { keys, round, again, ..Order::new(place.dir()) }
    }

    /// Notes what a process said. True when it began with the bits that were expected.
    pub(crate) fn take(&mut self, seen: &Seen, round: u64) -> bool {
        let is_equal = match (self.expected.take(), &seen.digest) {
            (Some(expected), Some(digest)) => {
                assert_eq!(*digest, expected, "replays from the snapshot and from the beginning differ");
                true
            }
            _ => false,
        };
        self.acknowledged.extend(&seen.acknowledged);
        let mut again = Vec::new();
        for caller in 0..CALLERS {
            let own = seen.acknowledged.iter().map(|number| Plan::place(*number));
            let last = own.filter(|own| (own.0, own.1) == (round, caller)).map(|own| own.2).max();
            for n in 0..=last.unwrap_or(0) + BEGUN_SINCE {
                let number = number(round, caller, n);
                self.begun.insert(Plan::of(number).id().to_string(), number);
            }
            let around = |last: u64| last.saturating_sub(AGAIN_AROUND)..=last + AGAIN_AROUND;
            again.extend(last.into_iter().flat_map(around).map(|n| number(round, caller, n)));
        }
        if !again.is_empty() {
            self.again = again;
        }
        is_equal
    }

    /// Audits what a killed process left. Returns how many holds nobody will settle any more.
    pub(crate) fn after_kill(&mut self, place: &Place, now: UnixMs) -> u64 {
        let report = check(place.dir(), now).expect("books");
        assert!(report.is_clean(), "{report:#?}");
        let facts = report.facts.expect("facts");
        let charges = self.charges(place.dir());
        assert_eq!(facts.receipts, charges.len() as u64, "a receipt for each charge");
        self.replica.follow(place.journal().as_ref());
        let copy = self.replica.copy();
        let exchange = Exchange::open(copy.path(), config(u64::MAX), now).expect("the replica opens");
        self.expected = Some(exchange.digest().to_string());
        self.hold_against(&exchange, &charges, now);
        facts.holds_orphaned as u64
    }

    /// Ends a market in order and looks at everything once more through its own index, which outlived all kills.
    pub(crate) fn close(self, place: &Place, now: UnixMs) {
        let charges = self.charges(place.dir());
        let exchange = Exchange::open(place.dir(), config(u64::MAX), now).expect("it opens");
        self.hold_against(&exchange, &charges, now);
        for number in charges.values() {
            let plan = Plan::of(*number);
            let found = exchange.generation(plan.id()).expect("an index").expect("a receipt");
            assert_eq!((found.receipt.charge.total, found.note), (NanoUsd(plan.charge), plan.note()));
        }
        let tomorrow = UnixMs(now.0 + 86_400_000);
        let rows = exchange.activity(OPERATOR, &ActivityQuery::default(), tomorrow).expect("an index");
        let sums = rows.iter().map(|row| (row.sums.requests, row.sums.cost.0));
        let sums = sums.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        assert_eq!(sums, (charges.len() as u64, sum(&charges, |_| true)), "{rows:?}");
        exchange.close().expect("it closes");
        let digest = exchange.digest().to_string();
        drop(exchange);
        let report = check(place.dir(), now).expect("books");
        assert!(report.is_clean(), "{report:?}");
        let facts = report.facts.expect("facts");
        assert_eq!((facts.holds_orphaned, facts.state_digest), (0, digest));
    }

    /// The numbers of the requests that were charged, by their ids. Each of them once, for what it costs, with all of it
    /// given on; and all that was acknowledged.
    fn charges(&self, dir: &Path) -> BTreeMap<String, u64> {
        let mut charged = BTreeMap::new();
        let (mut given_on, mut allowed) = (BTreeMap::new(), BTreeMap::new());
        for row in movements(dir) {
            let Some(number) = row.request.as_ref().and_then(|request| self.begun.get(request)) else {
                assert!(row.debit != OPERATOR_NAME, "nobody asked for this: {row:?}");
                continue;
            };
            let (id, amount) = (row.request.clone().unwrap_or_default(), row.amount());
            match (row.debit.as_str(), row.credit.as_str()) {
                (OPERATOR_NAME, "clearing") => {
                    assert_eq!(amount, Plan::of(*number).charge, "{row:?}");
                    assert_eq!(charged.insert(id, *number), None, "charged twice: {row:?}");
                }
                ("clearing", _) => *given_on.entry(id).or_insert(0) += amount,
                (_, "allowances") => *allowed.entry(id).or_insert(0) += amount,
                _ => panic!("no settlement does this: {row:?}"),
            }
        }
        for (id, number) in &charged {
            let plan = Plan::of(*number);
            assert_eq!(given_on.get(id), Some(&plan.charge), "request {number}");
            assert_eq!(allowed.get(id), (plan.key == 0).then_some(&plan.charge), "request {number}");
        }
        let there: BTreeSet<u64> = charged.values().copied().collect();
        let lost: Vec<&u64> = self.acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        charged
    }

    /// Keys and account have paid these charges and nothing else, and nothing is held.
    fn hold_against(&self, exchange: &Exchange, charges: &BTreeMap<String, u64>, now: UnixMs) {
        assert_eq!(exchange.open_holds(), 0);
        assert_eq!(exchange.checkpoint().expect("an index").size, charges.len() as u64);
        for (place, key) in self.keys.iter().enumerate() {
            let key = KeyHash::parse_hex(key).expect("a key's hash");
            let status = exchange.key_status(&key, now).expect("a key");
            let paid = NanoUsd(sum(charges, |plan| plan.key == place));
            assert_eq!((status.key.usage.total, status.key.usage.daily), (paid, paid), "key {place}");
            let remaining = (place == 0).then_some(NanoUsd(LIMIT.0 - paid.0));
            assert_eq!(status.key.limit_remaining, remaining, "key {place}");
            let spent = NanoUsd(sum(charges, |_| true));
            assert_eq!((status.account_spent, status.held), (spent, NanoUsd::ZERO));
            assert_eq!(status.account_available.0, status.account_credited.0 - spent.0);
        }
    }
}

fn sum(charges: &BTreeMap<String, u64>, of: impl Fn(&Plan) -> bool) -> u64 {
    let plans = charges.values().map(|number| Plan::of(*number));
    plans.filter(of).map(|plan| plan.charge).sum()
}

/// A settled movement of the export.
#[derive(Debug, Deserialize)]
struct Movement {
    request: Option<String>,
    debit: String,
    credit: String,
    amount: String,
}

impl Movement {
    fn amount(&self) -> u64 {
        self.amount.parse().expect("whole units")
    }
}

fn movements(dir: &Path) -> Vec<Movement> {
    let mut lines = Vec::new();
    export(dir, ExportFormat::Json, Period::EVER, &mut lines).expect("the books are written out");
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter();
    rows.map(|row| row.expect("a movement")).collect()
}

/// The same groups in a folder of this test.
struct Replica {
    dir: TempDir,
    at: Position,
}

impl Replica {
    fn new(place: &Place) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::copy(place.dir().join("exchange.key"), dir.path().join("exchange.key")).expect("the key");
        Self { dir, at: Position::default() }
    }

    /// Takes over what is new. What is not new must still be there.
    fn follow(&mut self, journal: &dyn Journal) {
        let mut own = SqliteJournal::open(self.dir.path()).expect("the replica");
        loop {
            let groups = journal.read(self.at, GROUPS).expect("the groups that were there are there");
            for group in &groups {
                self.at = own.append(&group.bytes).expect("a group more");
                assert_eq!(self.at, group.position, "the same groups have the same hashes");
            }
            if groups.len() < GROUPS {
                return;
            }
        }
    }

    /// A copy, to be opened by somebody who releases holds in it.
    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        for name in ["exchange.db", "exchange.tail", "exchange.key"] {
            std::fs::copy(self.dir.path().join(name), copy.path().join(name)).expect("a copy");
        }
        copy
    }
}
