//! From a failing run to the few items that it needs.
//!
//! Delta debugging (Zeller 1999) over the list of items: leave out a part, and keep what still fails.
//! Items do not depend on each other, so any sublist is a run. The number of tries is bounded; what is
//! left then is small, if not always the smallest.

use super::run::World;
use super::script::{Item, items};
use super::{Violation, WorldConfig};
use bourse_types::UnixMs;
use std::fmt;

/// Most runs that shrinking makes.
pub const SHRINK_RUNS_MAX: usize = 200;

/// A failing run, cut down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The seed.
    pub seed: u64,
    /// The law that is broken.
    pub violation: Violation,
    /// Items that are left.
    pub items: usize,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} ({} items are enough)", self.seed, self.violation, self.items)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Cuts a failing run down; `None` when it does not fail.
pub fn shrink(config: &WorldConfig) -> Option<Shrunk> {
    let fails = |list: &[(UnixMs, Item)]| violation(config, list, &mut None).is_some();
    let list = smallest(items(config), fails);
    let mut trace = Some(Vec::new());
    let violation = violation(config, &list, &mut trace)?;
    Some(Shrunk { seed: config.seed, violation, items: list.len(), trace: trace.unwrap_or_default() })
}

fn violation(
    config: &WorldConfig,
    list: &[(UnixMs, Item)],
    trace: &mut Option<Vec<String>>,
) -> Option<Violation> {
    let mut world = match World::new(config, list.to_vec(), trace.take()) {
        Ok(world) => world,
        Err(violation) => return Some(violation),
    };
    let result = world.run().err();
    *trace = world.take_trace();
    result
}

/// The smallest list found that still fails, after at most [`SHRINK_RUNS_MAX`] runs; the list itself when it does not
/// fail.
pub fn smallest<T: Clone>(mut list: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let (mut runs, mut parts) = (1, 2);
    if !fails(&list) {
        return list;
    }
    while list.len() > 1 && runs < SHRINK_RUNS_MAX {
        let size = list.len().div_ceil(parts);
        let smaller = list.chunks(size).enumerate().take(SHRINK_RUNS_MAX - runs).find_map(|(skipped, _)| {
            runs += 1;
            let parts = list.chunks(size).enumerate().filter(|(index, _)| *index != skipped);
            let rest: Vec<T> = parts.flat_map(|(_, part)| part.to_vec()).collect();
            fails(&rest).then_some(rest)
        });
        match smaller {
            Some(rest) => {
                list = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(list.len()),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_items_that_matter() {
        let list: Vec<u32> = (0..1_000).collect();
        let left = smallest(list, |list| list.contains(&17) && list.contains(&803));
        assert_eq!(left, [17, 803]);
    }

    #[test]
    fn a_run_that_holds_is_not_shrunk() {
        assert_eq!(smallest(vec![1, 2, 3], |_| false), [1, 2, 3]);
        assert_eq!(shrink(&WorldConfig::new(1, 20)), None);
    }
}
