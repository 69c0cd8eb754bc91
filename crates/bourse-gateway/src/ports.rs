//! What a gateway needs from outside: time, randomness, connections, money, records.
//!
//! Timers go through `tokio::time`, so a paused runtime is virtual time; wall-clock instants come from
//! [`Clock`]. With both and [`Entropy`] from a seed, a whole market runs the same way twice.

use crate::io::Io;
use bourse_types::UnixMs;
use bourse_wire::funds::{Accounts, BoxFuture, Funds, Records};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> UnixMs;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Random bytes, from one seed: the same seed gives the same bytes in the same order of calls.
///
/// Output number *n* is BLAKE3 keyed with the seed over *n*, which nobody can predict without the seed.
#[derive(Debug)]
pub struct Entropy {
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Entropy {
    /// Bytes from a seed.
    pub fn seeded(seed: [u8; 32]) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// Bytes from a seed of the operating system.
    pub fn of_system() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self::seeded(seed))
    }

    /// The next 32 bytes.
    pub(crate) fn draw(&self) -> [u8; 32] {
        let n = self.drawn.fetch_add(1, Ordering::Relaxed);
        *blake3::keyed_hash(&self.seed, &n.to_le_bytes()).as_bytes()
    }
}

/// Where a seller's API is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Opens connections to sellers.
pub trait Connect: Send + Sync + 'static {
    /// One connection, with TLS when the target says so.
    fn connect(&self, target: &Target) -> BoxFuture<'static, io::Result<Io>>;
}

/// What an administrator asks of the running market, such as a new key. Bodies are between the binary's
/// own two ends.
pub trait AdminPort: Send + Sync + 'static {
    /// Answers with a status and a JSON body.
    fn call(&self, body: &[u8]) -> (u16, Vec<u8>);
}

/// Everything from outside.
#[derive(Clone)]
pub struct Ports {
    /// Money.
    pub funds: Arc<dyn Funds>,
    /// The past.
    pub records: Arc<dyn Records>,
    /// Keys as their owners administer them, when they may.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// Administration, when there is any.
    pub admin: Option<Arc<dyn AdminPort>>,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// Connections.
    pub connect: Arc<dyn Connect>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_two_differ() {
        let draw = |seed: u8| {
            let entropy = Entropy::seeded([seed; 32]);
            [entropy.draw(), entropy.draw()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1)[0], draw(1)[1]);
        assert_ne!(draw(1)[0], draw(2)[0]);
    }
}
