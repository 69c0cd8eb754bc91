//! The books under faults, from one seed: many gateways, one exchange, a store that fails, clocks that lie, a network that
//! loses, repeats and delays, a payment rail that does so too and changes its mind, and processes that die.
//!
//! A seed makes a *plan*: what reaches the exchange, in order, with the faults in it. The *world* carries it out and holds
//! every answer and, after every step, every balance against a *model* of a few lines that knows nothing of ledgers,
//! journals or chains. A crash takes model and exchange back to the last group that the store has. So drift is zero at
//! every step, every hold is explained, and what was acknowledged is never lost, or the step that broke it is named. A
//! plan that fails is cut down to the steps that matter before it is shown.
//!
//! Limits: the gateways are their messages, not their code; the store loses whole groups, never bytes (torn and flipped
//! bytes are in `tests/crash.rs`). Source: the idea is FoundationDB's and TigerBeetle's simulation.

mod model;
mod plan;
mod random;
mod seeds;
mod store;
mod world;

use plan::{Plan, Step};
use seeds::Seeds;
use std::fmt::Write as _;
use world::{Broken, World};

/// Runs that cutting a failing plan down may take.
const SHRINK_RUNS_MAX: usize = 3_000;

/// What a run met, so that a simulation in which nothing happens is noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    requests: u64,
    acknowledged: u64,
    refused: u64,
    restarts: u64,
    expired: u64,
    /// Of the expired, how many were settled as they were metered.
    metered: u64,
    repeated: u64,
    store_faults: u64,
    snapshots_used: u64,
    payments: u64,
    /// Runs of payouts in which the exchange died.
    broken_payments: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.restarts += other.restarts;
        self.expired += other.expired;
        self.metered += other.metered;
        self.repeated += other.repeated;
        self.store_faults += other.store_faults;
        self.snapshots_used += other.snapshots_used;
        self.payments += other.payments;
        self.broken_payments += other.broken_payments;
    }
}

fn run(plan: &Plan, steps: &[Step]) -> Result<Tally, Broken> {
    let carried_out = || {
        let mut world = World::new(plan);
        for (n, step) in steps.iter().enumerate() {
            world.take(step).map_err(|what| Broken { step: n, what })?;
        }
        world.close().map_err(|what| Broken { step: steps.len(), what })
    };
    // A panic is a finding like any other.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(carried_out)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken { step: steps.len(), what: format!("panicked: {}", text.unwrap_or_default()) })
    })
}

/// Leaves out whatever the failure does not need: halves first, single steps last.
fn shrink(plan: &Plan, mut steps: Vec<Step>) -> Vec<Step> {
    let (mut size, mut runs) = (steps.len().div_ceil(2), 0);
    while size > 0 {
        let (mut at, before) = (0, steps.len());
        while at < steps.len() && runs < SHRINK_RUNS_MAX {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            runs += 1;
            if run(plan, &fewer).is_err() { steps = fewer } else { at += size }
        }
        if size == 1 && steps.len() == before || runs >= SHRINK_RUNS_MAX {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2) };
    }
    steps
}

/// A failing seed as a minimal trace.
fn trace(plan: &Plan, seed: u64) -> String {
    let steps = shrink(plan, plan.steps.clone());
    let broken = run(plan, &steps).err();
    let mut text =
        format!("seed {seed} fails; BOURSE_SIMULATION_SEED={seed} runs it alone. What is needed:\n");
    for (n, step) in steps.iter().enumerate() {
        let _ = writeln!(text, "{n:4}  {}", plan.show(step));
    }
    let Broken { step, what } =
        broken.unwrap_or(Broken { step: 0, what: "only the whole plan fails".into() });
    let _ = write!(text, "then at {step}: {what}");
    text
}

#[test]
fn no_seed_moves_a_nano_dollar_that_the_model_does_not() {
    let seeds = Seeds::asked();
    let tallies = seeds.play(|seed| {
        let plan = Plan::of(seed);
        run(&plan, &plan.steps).ok()
    });
    let tallies = tallies.unwrap_or_else(|seed| panic!("{}", trace(&Plan::of(seed), seed)));
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally);
    }
    println!("{all:?}");
    if let Some(seeds) = seeds.enough() {
        let met = [
            all.acknowledged,
            all.refused,
            all.restarts,
            all.expired,
            all.metered,
            all.repeated,
            all.store_faults,
            all.payments,
        ];
        assert!(met.into_iter().all(|count| count > seeds), "a simulation without faults: {all:?}");
        assert!(all.broken_payments > seeds / 4, "nothing dies while it pays: {all:?}");
        assert!(all.snapshots_used > 0 && all.requests >= 100 * seeds, "{all:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..3 {
        let digests = [(); 2].map(|()| {
            let plan = Plan::of(seed);
            let mut world = World::new(&plan);
            plan.steps.iter().for_each(|step| world.take(step).expect("it holds"));
            world.digest()
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// The model is believed only because a book that differs from it by one nano-dollar is seen.
#[test]
fn a_nano_dollar_too_much_is_found_and_cut_down_to_its_cause() {
    let mut plan = Plan::of(1);
    plan.is_wrong_by = 1;
    let text = trace(&plan, 1);
    let lines = text.lines().count();
    assert!(text.contains("settle") && lines < 12, "{text}");
}
