//! The hedging budget: how often a second seller may be asked beside a stalled one.
//!
//! Asking twice costs somebody twice, so it must stay rare whatever happens: every attempt earns one fiftieth of a
//! hedge, and at most [`HEDGES_SAVED_MAX`] are saved up. In any run of *n* attempts at most *n*/50 + [`HEDGES_SAVED_MAX`]
//! are hedged; when a whole market stalls, the hedges run out and the load does not double.

/// Attempts that earn one hedge: 2 %.
pub const ATTEMPTS_PER_HEDGE: u32 = 50;
/// Most hedges that are saved up.
pub const HEDGES_SAVED_MAX: u32 = 10;

/// What was earned and not yet used, in fiftieths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgeBudget(u32);

impl Default for HedgeBudget {
    /// One hedge, so that the first stall of a quiet market is answered.
    fn default() -> Self {
        Self(ATTEMPTS_PER_HEDGE)
    }
}

impl HedgeBudget {
    /// An attempt was made.
    pub fn earn(&mut self) {
        self.0 = (self.0 + 1).min(ATTEMPTS_PER_HEDGE * HEDGES_SAVED_MAX);
    }

    /// Takes one hedge; false when none was earned.
    pub fn take(&mut self) -> bool {
        let left = self.0.checked_sub(ATTEMPTS_PER_HEDGE);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_fifty_and_no_more() {
        let mut budget = HedgeBudget::default();
        let taken = (0..10_000).filter(|_| {
            budget.earn();
            budget.take()
        });
        assert_eq!(taken.count(), 10_000 / ATTEMPTS_PER_HEDGE as usize + 1);
    }

    #[test]
    fn savings_are_bounded() {
        let mut budget = HedgeBudget::default();
        for _ in 0..100_000 {
            budget.earn();
        }
        let burst = (0..100).filter(|_| budget.take()).count();
        assert_eq!(burst, HEDGES_SAVED_MAX as usize);
    }
}
