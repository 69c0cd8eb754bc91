//! Whether the log is told that somebody was not let in.
//!
//! A gateway that is refused dials again after [50 ms](bourse_link), for as long as it runs: a line each time would bury
//! the one that says what is wrong. So each machine has one line in [`TELL_EVERY`], with the number of those that were
//! left out before it.
//!
//! Limits: [`PEERS_MAX`] machines in that time; what more come are not told of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two lines about one machine.
pub(super) const TELL_EVERY: Duration = Duration::from_mins(1);
/// Machines that are remembered, at most.
pub(super) const PEERS_MAX: usize = 64;

/// Who was told of, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints(HashMap<IpAddr, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Complaints since then that the log has not.
    untold: u64,
}

impl Complaints {
    /// How many complaints about a machine were left out since its last line, when it is time for the next; none while
    /// it is not.
    pub(super) fn tell(&mut self, peer: IpAddr, now: Instant) -> Option<u64> {
        let is_due = |told: &Told| now.saturating_duration_since(told.at) >= TELL_EVERY;
        if let Some(told) = self.0.get_mut(&peer) {
            if !is_due(told) {
                told.untold += 1;
                return None;
            }
            let untold = std::mem::take(&mut told.untold);
            told.at = now;
            return Some(untold);
        }
        if self.0.len() >= PEERS_MAX {
            self.0.retain(|_, told| !is_due(told));
        }
        if self.0.len() >= PEERS_MAX {
            return None;
        }
        self.0.insert(peer, Told { at: now, untold: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(n: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap()))
    }

    #[test]
    fn one_line_about_each_machine_in_a_minute() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut tell = |n, after_ms| complaints.tell(peer(n), start + Duration::from_millis(after_ms));
        assert_eq!((tell(1, 0), tell(1, 50), tell(1, 59_999)), (Some(0), None, None));
        assert_eq!(tell(2, 100), Some(0), "another machine has its own");
        assert_eq!((tell(1, 60_000), tell(1, 60_001)), (Some(2), None));
        assert_eq!(tell(1, 120_000), Some(1));
    }

    #[test]
    fn a_crowd_is_bounded_and_goes() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        for n in 0..PEERS_MAX {
            assert_eq!(complaints.tell(peer(n), start), Some(0));
        }
        assert_eq!(complaints.tell(peer(PEERS_MAX), start), None, "one past the most");
        assert_eq!(complaints.tell(peer(PEERS_MAX), start + TELL_EVERY), Some(0));
        assert_eq!(complaints.0.len(), 1);
    }
}
