//! Attendance: that a machine was there to serve, and with how many GPUs.

use bourse_types::{NodeId, SellerName, UnixMs};

/// Longest stretch that one attendance tells of, in milliseconds: a day.
pub const ATTENDED_MS_MAX: u64 = 86_400_000;
/// Most GPUs of one machine.
pub const GPUS_MAX: u32 = 1_024;

/// A stretch of time in which a node was connected to its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendance {
    /// Which node.
    pub node: NodeId,
    /// Under which name it sells.
    pub seller: SellerName,
    /// From when on.
    pub from: UnixMs,
    /// Until when.
    pub until: UnixMs,
    /// GPUs that it computes with; none: it does not say. 0: it has none.
    pub gpus: Option<u32>,
}

impl Attendance {
    /// Whether it tells of a stretch of time that one may tell of, of a machine that can be.
    pub fn is_plausible(&self) -> bool {
        let span = self.until.0.checked_sub(self.from.0);
        span.is_some_and(|span| (1..=ATTENDED_MS_MAX).contains(&span))
            && self.gpus.is_none_or(|n| n <= GPUS_MAX)
    }
}
