//! What a gateway needs from outside: time, randomness, connections, money, records.
//!
//! Timers go through `tokio::time`, so a paused runtime is virtual time; wall-clock instants come from
//! [`Clock`]. With both and [`Entropy`] from a seed, a whole market runs the same way twice.

use crate::io::Io;
use bourse_types::UnixMs;
use bourse_wire::funds::{Accounts, BoxFuture, Funds, Outcomes, Records, Workspaces};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;
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

/// Draws that are made at once.
const DRAWS_AT_ONCE: usize = 32;

/// Random bytes, from one seed: the same seed gives the same bytes in the same order of calls.
///
/// They are the output of BLAKE3 keyed with the seed, from its start on, which nobody can predict without the seed.
pub struct Entropy(Mutex<Drawer>);

struct Drawer {
    source: blake3::OutputReader,
    /// What was made and is not drawn yet, from its end.
    made: Vec<[u8; 32]>,
}

impl Entropy {
    /// Bytes from a seed.
    pub fn seeded(seed: [u8; 32]) -> Self {
        let source = blake3::Hasher::new_keyed(&seed).finalize_xof();
        Self(Mutex::new(Drawer { source, made: Vec::with_capacity(DRAWS_AT_ONCE) }))
    }

    /// Bytes from a seed of the operating system.
    pub fn of_system() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Self::seeded(seed))
    }

    /// The next 32 bytes.
    pub(crate) fn draw(&self) -> [u8; 32] {
        let Drawer { source, made } = &mut *self.0.lock();
        made.pop().unwrap_or_else(|| {
            made.resize(DRAWS_AT_ONCE, [0; 32]);
            source.fill(made.as_flattened_mut());
            made.pop().unwrap_or_default()
        })
    }
}

/// Without the seed.
impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
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
    /// Answers for who asks again; without them who does so is told of a conflict.
    pub outcomes: Option<Arc<dyn Outcomes>>,
    /// Keys as their owners administer them, when they may.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// Workspaces and limits as their owners set them, when they may.
    pub workspaces: Option<Arc<dyn Workspaces>>,
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
    use std::collections::HashSet;

    #[test]
    fn a_seed_repeats_and_two_differ() {
        let draw = |seed: u8| {
            let entropy = Entropy::seeded([seed; 32]);
            std::array::from_fn::<_, { 2 * DRAWS_AT_ONCE + 1 }, _>(|_| entropy.draw())
        };
        assert_eq!(draw(1), draw(1));
        let distinct: HashSet<_> = draw(1).into_iter().collect();
        assert_eq!(distinct.len(), 2 * DRAWS_AT_ONCE + 1);
        assert_ne!(draw(1)[0], draw(2)[0]);
    }
}
