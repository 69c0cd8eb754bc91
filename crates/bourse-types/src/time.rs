//! Time as an argument: wall-clock instants and spans in milliseconds.
//!
//! Nothing here reads a clock. Shells read it once per event and pass the value in, so that a plan, a
//! breaker or an expiry is a function of its inputs and a test can live through a day in a millisecond.

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

/// A span of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationMs(pub u64);

impl UnixMs {
    /// The instant `span` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}
