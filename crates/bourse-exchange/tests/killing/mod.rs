//! Kills of a whole process, at any moment, again and again over the same books.
//!
//! A trial is a number of kills in one [`Place`]. It runs market after market, because an audit replays all of a
//! market and grows with its age. The first kills of a market hit it while it begins; then each round starts the next
//! process over the books that the last one left, kills it, and audits.
//!
//! Which moment is aimed at follows from a seed, which is printed and taken back from `BOURSE_KILLS_SEED`. What the
//! process is just doing then does not follow from it, so a seed does not surely repeat a failure.
//!
//! Limits: the machine goes on, so what was given to it is there. Power cuts are the simulator's, and of the moments
//! within a system call only those are met that the scheduler grants.

mod audit;
mod load;
mod place;
mod victim;

use crate::support::Random;
use audit::Audit;
use bourse_exchange::LEASE_TTL;
pub(crate) use load::config;
pub(crate) use place::Place;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
pub(crate) use victim::run;
use victim::{Aim, Order, Seen, Victim};

const KILLS: &str = "BOURSE_KILLS";
const SEED: &str = "BOURSE_KILLS_SEED";
const KILLS_PER_MARKET: u64 = 20;
/// Processes that are killed while their market begins.
const BIRTHS: u32 = 2;
const SNAPSHOT_EVENTS: u64 = 200;
/// So few that a good part of the time goes into snapshots.
const SNAPSHOT_EVENTS_FEW: u64 = 10;
/// Longest time from the first acknowledgement to the kill.
const SERVING_MAX: Duration = Duration::from_millis(100);
/// Longest time from the beginning of the end to the kill.
const CLOSING_MAX: Duration = Duration::from_millis(10);
/// What opening takes, before it was seen.
const OPENING_GUESS: Duration = Duration::from_millis(20);
/// Most acknowledgements after which a process closes by itself.
const CLOSES_AFTER_MAX: u64 = 40;

/// What a process was at when it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Beginning,
    Opening,
    Serving,
    Closing,
    /// The database's server was killed in its place.
    ServedByTheDead,
}

/// What a trial has met.
#[derive(Debug, Default)]
struct Met {
    kills: BTreeMap<Phase, u64>,
    leases_waited_for: u64,
    /// Writers that were stopped, lost their lease, and went on.
    taken_for_dead: u64,
    acknowledged: u64,
    orphans: u64,
    /// Settlements that a later process made again and that were in the books, came late, or had no hold.
    found: u64,
    late: u64,
    without_hold: u64,
    /// Processes that began with the very bits that a replay from the beginning ends in.
    replays_equal: u64,
}

impl Met {
    fn kills(&self) -> u64 {
        self.kills.values().sum()
    }

    fn count(&mut self, phase: Phase) {
        *self.kills.entry(phase).or_default() += 1;
    }

    /// A trial that did not meet what it is there for has shown nothing.
    fn must_be_all(&self, has_server: bool) {
        let phases = [Phase::Beginning, Phase::Opening, Phase::Serving, Phase::Closing];
        let servers = [Phase::ServedByTheDead].into_iter().filter(|_| has_server);
        for phase in phases.into_iter().chain(servers) {
            assert!(self.kills.contains_key(&phase), "no kill while {phase:?}: {self:?}");
        }
        let least = [self.acknowledged, self.orphans, self.found, self.without_hold, self.replays_equal];
        assert!(least.iter().all(|count| *count > 0), "{self:?}");
        assert!(!has_server || self.leases_waited_for.min(self.taken_for_dead) > 0, "{self:?}");
    }
}

/// Kills processes in a place and audits what each of them leaves: `normal` of them, or as many as `BOURSE_KILLS` says.
pub(crate) fn trial(mut place: Place, normal: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number(KILLS).unwrap_or(normal);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_nanos();
    let seed = number(SEED).unwrap_or_else(|| u64::from(clock()));
    println!("{kills} kills with {SEED}={seed}");
    let since = Instant::now();
    let mut trial = Trial {
        random: Random(seed),
        met: Met::default(),
        opening: OPENING_GUESS,
        beginning: OPENING_GUESS,
        died: since,
        started: since,
        kills,
    };
    while trial.met.kills() < kills {
        place.renew();
        trial.market(&mut place);
    }
    println!("{:#?} in {:.1?}", trial.met, since.elapsed());
    trial.met.must_be_all(place.has_server());
}

/// A market of which one writer was killed when it had acknowledged so much.
pub(crate) fn killed_after(place: &Place, acknowledgements: usize) {
    let keys = place.begin(load::begins(0));
    let order = Order { keys, ..Order::new(place.dir()) };
    let aim = Aim::Acknowledged { count: acknowledgements, after: Duration::ZERO };
    let seen = Victim::start(&order).watch(aim, Victim::kill);
    assert!(seen.was_killed && seen.wrong.is_empty(), "{seen:?}");
}

struct Trial {
    random: Random,
    met: Met,
    /// What the last process took to open.
    opening: Duration,
    /// What the last process took to begin a market.
    beginning: Duration,
    /// When the last process ended, and when the present one was started.
    died: Instant,
    started: Instant,
    kills: u64,
}

impl Trial {
    /// One market, from its first process to its end in order.
    fn market(&mut self, place: &mut Place) {
        let last = self.kills.min(self.met.kills() + KILLS_PER_MARKET);
        for birth in 1..=BIRTHS {
            let aim = Aim::Started { after: self.random.time_below(self.beginning * birth / BIRTHS) };
            let seen = Victim::start(&Order::new(place.dir())).watch(aim, Victim::kill);
            assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
            if seen.was_killed && seen.phase() == Phase::Opening {
                self.met.count(Phase::Beginning);
            }
            self.beginning = seen.opening.unwrap_or(self.beginning);
            place.wait_for_the_end_of_writers();
            place.end_lease();
        }
        let mut audit = Audit::new(place, place.begin(load::begins(0)));
        let mut round = 0;
        while self.met.kills() < last {
            round += 1;
            if place.has_server() && round % 10 == 0 {
                self.fail_over(place, &mut audit, round);
                round += 1;
            } else {
                self.round(place, &mut audit, round);
            }
        }
        place.end_lease();
        audit.close(place, load::begins(round + 1));
    }

    fn round(&mut self, place: &mut Place, audit: &mut Audit, round: u64) {
        // Now and then nobody ends the lease of the dead; the process of that round surely opens.
        let waits = round % 20 == 5;
        if !waits {
            place.end_lease();
        }
        let (order, aim, of_server) = self.plan(place, audit, round);
        self.started = Instant::now();
        let victim = Victim::start(&order);
        let seen = if of_server {
            victim.watch(aim, |_| place.kill_server())
        } else {
            victim.watch(aim, Victim::kill)
        };
        assert!(seen.wrong.is_empty(), "round {round}: {:#?}", seen.wrong);
        self.learn(&seen, of_server, waits && place.has_server());
        self.died = Instant::now();
        if of_server {
            place.restart_server();
        }
        println!("round {round}: {:?}, {} acknowledged", seen.phase(), seen.acknowledged.len());
        self.met.replays_equal += u64::from(audit.take(&seen, round));
        self.audit_books(place, audit, round);
    }

    /// A writer is taken for dead, another machine takes over, and the first one goes on: nobody may hear of it. Takes two
    /// rounds, as two processes make requests.
    fn fail_over(&mut self, place: &Place, audit: &mut Audit, round: u64) {
        place.end_lease();
        let (order, elsewhere) = (audit.order(place, round), place.folder_elsewhere());
        let mut stopped = Victim::start(&Order { server_may_die: true, ..order.clone() });
        let mut first = Seen::default();
        stopped.listen(&mut first, self.while_serving());
        stopped.signal("STOP");
        let lease = place.lease();
        place.end_lease();
        let mut next = Victim::start(&Order { dir: elsewhere.path().to_owned(), round: round + 1, ..order });
        place.wait_for_the_next_lease(lease.as_deref());
        let mut second = Seen::default();
        next.listen(&mut second, self.while_opening());
        stopped.signal("CONT");
        stopped.hear_out(&mut first);
        assert!(!first.was_killed, "who lost the lease ends by itself");
        next.listen(&mut second, self.while_serving());
        next.kill();
        next.hear_out(&mut second);
        println!("round {round}: taken for dead, {} acknowledged", first.acknowledged.len());
        for (seen, round) in [(first, round), (second, round + 1)] {
            assert!(seen.wrong.is_empty(), "round {round}: {:#?}", seen.wrong);
            self.learn(&seen, false, false);
            self.met.replays_equal += u64::from(audit.take(&seen, round));
        }
        self.met.taken_for_dead += 1;
        self.audit_books(place, audit, round + 1);
    }

    fn audit_books(&mut self, place: &Place, audit: &mut Audit, round: u64) {
        place.wait_for_the_end_of_writers();
        self.met.orphans += audit.after_kill(place, load::begins(round + 1));
    }

    /// What the process of a round is told to do, when it is killed, and whether the server is in its place.
    fn plan(&mut self, place: &Place, audit: &Audit, round: u64) -> (Order, Aim, bool) {
        let (order, serving) = (audit.order(place, round), self.while_serving());
        match round % 10 {
            1 | 6 => (order, self.while_opening(), false),
            3 | 9 => {
                let closes_after = Some(1 + self.random.draw() % CLOSES_AFTER_MAX);
                // The end is quick: one half of them is meant to be hit for sure.
                let bound = if round % 10 == 3 { CLOSING_MAX } else { CLOSING_MAX / 5 };
                let aim = Aim::Closing { after: self.random.time_below(bound) };
                (Order { closes_after, ..order }, aim, false)
            }
            2 | 8 => (Order { snapshot_events: SNAPSHOT_EVENTS_FEW, ..order }, serving, false),
            7 if place.has_server() => (Order { server_may_die: true, ..order }, serving, true),
            _ => (order, serving, false),
        }
    }

    fn while_serving(&mut self) -> Aim {
        Aim::Acknowledged { count: 1, after: self.random.time_below(SERVING_MAX) }
    }

    fn while_opening(&mut self) -> Aim {
        Aim::Started { after: self.random.time_below(self.opening + self.opening / 4) }
    }

    fn learn(&mut self, seen: &Seen, of_server: bool, waited: bool) {
        assert!(!(of_server && seen.was_killed), "who lost the server ends by itself");
        if of_server {
            self.met.count(Phase::ServedByTheDead);
        } else if seen.was_killed {
            self.met.count(seen.phase());
        }
        match seen.opening {
            Some(opening) if waited => {
                // The dead one had renewed it with its last group, a moment before its end.
                let lease = self.started - self.died + opening;
                assert!(lease > LEASE_TTL / 2, "nobody waited for the lease of the dead: {lease:?}");
                self.met.leases_waited_for += 1;
            }
            Some(opening) => self.opening = opening,
            None => {}
        }
        self.met.acknowledged += seen.acknowledged.len() as u64;
        self.met.found += seen.found;
        self.met.late += seen.late;
        self.met.without_hold += seen.without_hold;
    }
}
