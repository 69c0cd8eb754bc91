//! Real kills of a process that pays: at every moment around the journal's `sending`, the rail and the journal's `paid`, in
//! SQLite with restarts and in PostgreSQL with a standby that takes over; and an active exchange that stands still at
//! such a moment, loses its books and goes on. Each payout is paid once, whatever was killed or stood still when.

#![expect(clippy::unwrap_used, reason = "a test binary, helpers included")]

mod child;
#[expect(dead_code, reason = "this test kills exchanges and no database")]
mod cluster;
mod paying;
mod support;

use bourse_exchange::{check, migrate};
use child::Child;
use cluster::Cluster;
use paying::Moment::{self, After, Before, LookUp, Next, Planning};
use paying::{Order, SELLERS, audit, begin, owed, rail_in, sends_of};
use std::path::Path;
use tempfile::TempDir;

/// What is killed: a no-op in an ordinary test run.
#[test]
fn paying_process() {
    paying::run();
}

/// Where the first process of a round is killed, and where the one that goes on is. None: at its end.
const MOMENTS: [Option<Moment>; 6] =
    [Some(Planning), Some(LookUp), Some(Before), Some(After), Some(Next), None];

/// Two machines of one market, and the rail that both call.
struct Market<'c> {
    machines: [TempDir; 2],
    rail: TempDir,
    key: String,
    /// Where the books are in a database; elsewhere only the first machine is used.
    cluster: Option<&'c Cluster>,
}

impl<'c> Market<'c> {
    fn in_a_folder() -> Self {
        let [first, second, rail] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let key = begin(first.path());
        Self { machines: [first, second], rail, key, cluster: None }
    }

    fn in_a_database(cluster: &'c Cluster, url: &str) -> Self {
        let [first, second, rail] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        migrate(first.path(), url, |_, _| {}).unwrap();
        let key = begin(first.path());
        for file in ["exchange.key", "exchange.journal"] {
            std::fs::copy(first.path().join(file), second.path().join(file)).unwrap();
        }
        Self { machines: [first, second], rail, key, cluster: Some(cluster) }
    }

    /// A process on the machine of that number.
    fn start(&self, machine: usize, round: u64, sells: bool, stops: Option<Moment>) -> Child {
        let name = format!("machine-{machine}");
        let dir = self.machine(machine).to_owned();
        let (rail, key) = (self.rail.path().to_owned(), self.key.clone());
        let started = Order { name, dir, rail, key, round, sells, stops }.start();
        started.hear("stands by");
        started
    }

    fn machine(&self, number: usize) -> &Path {
        self.machines[if self.cluster.is_some() { number } else { 0 }].path()
    }

    /// Kills the active one. In a database a standby on the other machine takes over; elsewhere it is started again.
    fn replace(&self, mut active: Child, with: impl Fn() -> Child) -> Child {
        let Some(cluster) = self.cluster else {
            active.kill();
            return with();
        };
        let standby = with();
        active.kill();
        // The dead one renews nothing; that its lease ends by itself is seen where one stands still.
        cluster.end_lease();
        standby
    }

    /// What rail and journal have while a process stands at a moment of its first run.
    fn check_at(&self, moment: Option<Moment>, round: u64) {
        let already = (round - 1) * SELLERS.len() as u64;
        let paid = rail_in(self.rail.path()).payments().len() as u64 - already;
        let (now_paid, held) = match moment {
            Some(Planning) => (0, Some("0.000000000")),
            // Nothing is asked of the rail before it is durable for all who are to be paid.
            Some(LookUp | Before) => (0, Some("0.000240000")),
            Some(After) => (1, Some("0.000240000")),
            Some(Next) => (1, None),
            None => (2, None),
        };
        assert_eq!(paid, now_paid, "{moment:?}");
        for (seller, held) in SELLERS.into_iter().zip(held.into_iter().cycle()) {
            assert_eq!(owed(self.machine(0), seller), format!("0.000240000, {held} held"), "{moment:?}");
        }
        let report = check(self.machine(0), paying::time(round)).unwrap();
        assert!(report.is_clean(), "{moment:?}: {report:?}");
    }

    /// One is killed at each moment, and the one that goes on at each again.
    fn kill_everywhere(&self) {
        let pairs = MOMENTS.into_iter().flat_map(|first| MOMENTS.map(|then| (first, then)));
        let mut round = 0;
        // What was heard of the first payout may be on disk or not: then there is a second look-up or none.
        for (first, then) in pairs.filter(|pair| *pair != (Some(Next), Some(Next))) {
            round += 1;
            let active = self.start(0, round, true, first);
            active.hear(if first.is_some() { "here" } else { "paid" });
            self.check_at(first, round);
            let second = self.replace(active, || self.start(1, round, false, then));
            // Where all is paid it plans nothing and asks nobody.
            let stops = then.is_some() && (first.is_some() || then == Some(Planning));
            let (word, _) = second.hear_either(["here", "paid"]);
            assert_eq!(word, if stops { "here" } else { "paid" }, "{first:?}, {then:?}");
            let third = self.replace(second, || self.start(0, round, false, None));
            let paid = third.hear("paid");
            assert_eq!(paid, (round * SELLERS.len() as u64).to_string(), "{first:?}, {then:?}");
            third.close();
        }
        audit(self.machine(0), self.rail.path(), round);
    }

    /// The active one stands still at a moment until another one has its books and is at another moment, and goes on.
    fn stand_still(&self, old_at: Moment, next_at: Option<Moment>) {
        let mut old = self.start(0, 1, true, Some(old_at));
        old.hear("here");
        let mut next = self.start(1, 1, false, next_at);
        old.signal("STOP");
        next.hear(if next_at.is_some() { "here" } else { "paid" });
        old.go_on();
        old.signal("CONT");
        let first = old.hear_either(["refused", "paid"]);
        old.go_on();
        let again = old.hear_either(["refused", "paid"]);
        assert_eq!(
            (first.0, again.0),
            ("refused", "refused"),
            "{old_at:?}, {next_at:?}: {first:?}, {again:?}"
        );
        // The call in which it stood is out, under the id of the other one's; it makes no further one.
        let was_calling = usize::from(matches!(old_at, Before | After | Next));
        assert_eq!(sends_of(self.rail.path(), "machine-0"), was_calling, "{old_at:?}, {next_at:?}");
        if next_at.is_some() {
            next.go_on();
            next.hear("paid");
        }
        // What the rail had when it was looked up is not sent again.
        let found = usize::from(matches!(old_at, After | Next));
        let sends = sends_of(self.rail.path(), "machine-1");
        assert_eq!(sends, SELLERS.len() - found, "{old_at:?}, {next_at:?}");
        old.close();
        next.close();
        audit(self.machine(1), self.rail.path(), 1);
    }
}

#[test]
fn a_payout_is_paid_once_wherever_the_process_is_killed() {
    Market::in_a_folder().kill_everywhere();
}

#[test]
fn a_payout_is_paid_once_wherever_the_active_exchange_is_killed_and_a_standby_takes_over() {
    let cluster = Cluster::start();
    Market::in_a_database(&cluster, &cluster.url()).kill_everywhere();
}

#[test]
fn an_active_exchange_that_stood_still_while_it_paid_sends_nothing_more() {
    const CASES: [(Moment, Option<Moment>); 7] = [
        (Planning, None),
        (LookUp, None),
        (LookUp, Some(Before)),
        (Before, None),
        // Both are about to send, and the one that lost its books comes first.
        (Before, Some(Before)),
        (After, Some(LookUp)),
        (Next, Some(LookUp)),
    ];
    let cluster = Cluster::start();
    // At the same time, as each waits for the end of a lease.
    std::thread::scope(|scope| {
        for (n, (old_at, next_at)) in CASES.into_iter().enumerate() {
            let cluster = &cluster;
            scope.spawn(move || {
                cluster.sql(&format!("CREATE DATABASE market_{n}"));
                let url = cluster.url_of(&format!("market_{n}"));
                Market::in_a_database(cluster, &url).stand_still(old_at, next_at);
            });
        }
    });
}
