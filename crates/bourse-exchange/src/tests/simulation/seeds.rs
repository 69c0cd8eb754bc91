//! Which seeds a simulation runs, and running them on all cores: seeds know nothing of each other, so that ten thousand
//! take the time of one core's share.
//!
//! `BOURSE_SIMULATION_SEEDS` says how many ([`SEEDS`] if unset); `BOURSE_SIMULATION_SEED` runs one alone.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};

/// How many seeds an ordinary run of the tests plays.
pub(crate) const SEEDS: u64 = 200;

/// The seeds of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeds(Range<u64>);

impl Seeds {
    /// What the environment asks for.
    pub(crate) fn asked() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let many = 0..number("BOURSE_SIMULATION_SEEDS").unwrap_or(SEEDS);
        Self(number("BOURSE_SIMULATION_SEED").map_or(many, |seed| seed..seed + 1))
    }

    /// How many, if so many that all kinds of fault must have been met; none below [`SEEDS`].
    pub(crate) fn enough(&self) -> Option<u64> {
        let count = self.0.end - self.0.start;
        (count >= SEEDS).then_some(count)
    }

    /// What every seed gave, in no order; or the least seed that failed by giving nothing. After a failure no further
    /// seed is begun.
    pub(crate) fn play<T: Send>(&self, play: impl Fn(u64) -> Option<T> + Sync) -> Result<Vec<T>, u64> {
        let (next, failed) = (AtomicU64::new(self.0.start), AtomicBool::new(false));
        let one_core = || {
            let mut given = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.0.end {
                    break;
                }
                given.push(play(seed).ok_or(seed).inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
            }
            Ok(given)
        };
        let cores = available_parallelism().map_or(1, usize::from);
        let shares: Vec<Result<Vec<T>, u64>> = scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one_core)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a simulation catches its panics"))
                .collect()
        });
        if let Some(least) = shares.iter().filter_map(|share| share.as_ref().err().copied()).min() {
            return Err(least);
        }
        Ok(shares.into_iter().flatten().flatten().collect())
    }
}

#[test]
fn each_seed_is_played_once_and_the_least_that_fails_is_told() {
    let seeds = Seeds(3..40);
    let mut given = seeds.play(Some).unwrap();
    given.sort_unstable();
    assert_eq!(given, (3..40).collect::<Vec<_>>());
    assert_eq!(seeds.play(|seed| (seed < 17).then_some(seed)), Err(17));
    assert_eq!((Seeds(0..SEEDS - 1).enough(), Seeds(0..SEEDS).enough()), (None, Some(SEEDS)));
}
