//! What a plan reads of an offer's health: 32 bytes, side by side for all offers.
//!
//! Everything here is computed when an outcome arrives, so that a plan only compares and multiplies.

use super::burden::{PRIOR_CACHED_SHARE, UNKNOWN_BURDEN};
use bourse_types::UnixMs;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Everything.
    Closed,
    /// Nothing until then.
    Open {
        /// End of the cooldown.
        until: UnixMs,
    },
    /// One request at a time.
    HalfOpen,
}

/// Why an offer does not take part in the ordinary choice right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It has been failing; the time is the end of its cooldown, or now where one probe is under way.
    Failing(UnixMs),
    /// It asked for a pause until then.
    Paused(UnixMs),
    /// It serves as many requests as it can without answering 429, this many.
    Capped(u32),
}

/// How reliable an offer has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Standing {
    /// Uptime of at least 95 %, or too few requests to tell.
    #[default]
    Normal = 0,
    /// Uptime of 80 to 95 %: after all that are normal.
    Degraded = 1,
    /// Uptime below 80 %: only when nobody else is left.
    LastResort = 2,
}

/// How good its answers are, as far as programs can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Quality {
    /// At or above every bar.
    Good = 0,
    /// Too little is known.
    #[default]
    InsufficientData = 1,
    /// Below a bar: tried after the others where quality matters.
    Deprioritised = 2,
}

/// The hot part of an offer's health.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Vital {
    /// The offer rests until then, by the breaker or by a pause that it asked for; 0 when neither.
    pub rests_until: UnixMs,
    /// Attempts started and not ended.
    pub in_flight: u32,
    /// Attempts in flight at which the seller starts to answer 429; `u32::MAX` when it never did.
    pub in_flight_max: u32,
    /// Of prompt tokens that this offer has seen before, the share that it really reads from its cache,
    /// 0 to 1. It applies to a conversation that goes on there, not to every prompt.
    pub cached_share: f32,
    /// What a good answer costs here over its price, at least 1: failures, 429s, slowness against peers.
    pub burden: f32,
    /// Mean time to the first content in milliseconds; infinite before the first success.
    pub ttft_ms: f32,
    /// How good its answers are.
    pub quality: Quality,
    /// How reliable it has been.
    pub standing: Standing,
    /// 1 from the opening of the breaker until a success closes it, else 0.
    pub opened: u8,
    /// Always 0: the bytes of two vitals are equal exactly when the vitals are.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Vital>() == 32);

impl Vital {
    /// An offer of which nothing is known.
    pub const UNKNOWN: Self = Self {
        rests_until: UnixMs(0),
        in_flight: 0,
        in_flight_max: u32::MAX,
        cached_share: PRIOR_CACHED_SHARE,
        burden: UNKNOWN_BURDEN,
        ttft_ms: f32::INFINITY,
        quality: Quality::InsufficientData,
        standing: Standing::Normal,
        opened: 0,
        reserved: 0,
    };

    /// What the breaker lets through now.
    pub fn breaker(&self, now: UnixMs) -> Breaker {
        if self.opened == 0 {
            Breaker::Closed
        } else if now < self.rests_until {
            Breaker::Open { until: self.rests_until }
        } else {
            Breaker::HalfOpen
        }
    }

    /// Whether the offer takes part in the ordinary choice.
    pub fn admits(&self, now: UnixMs) -> bool {
        let room = if self.opened == 0 { self.in_flight_max } else { 1 };
        now >= self.rests_until && self.in_flight < room
    }

    /// Why it does not, if it does not.
    pub fn rest(&self, now: UnixMs) -> Option<Rest> {
        if self.admits(now) {
            None
        } else if self.opened != 0 {
            Some(Rest::Failing(self.rests_until.max(now)))
        } else if now < self.rests_until {
            Some(Rest::Paused(self.rests_until))
        } else {
            Some(Rest::Capped(self.in_flight_max))
        }
    }

    /// Mean time to the first content, in milliseconds; none before the first success.
    pub fn ttft_ms(&self) -> Option<f32> {
        self.ttft_ms.is_finite().then_some(self.ttft_ms)
    }
}

impl Default for Vital {
    fn default() -> Self {
        Self::UNKNOWN
    }
}
