//! The bounds of a ledger: everything that grows has one, with a name.

use bourse_types::DurationMs;

/// Accounts in one ledger, at most.
pub const ACCOUNTS_MAX: usize = 1 << 20;
/// Open holds in one ledger, at most.
pub const PENDINGS_MAX: usize = 1 << 20;
/// Chain ids remembered, at most: 10 MiB. At two chains a request and a thousand requests a second, the
/// ledger remembers two minutes.
pub const KNOWN_IDS_MAX: usize = 1 << 18;
/// Events in one chain, at most.
pub const CHAIN_EVENTS_MAX: usize = 64;
/// How far ahead of the ledger's time an id may be. An id from the future would, once forgotten, turn
/// away every honest id until that future is past.
pub const ID_AHEAD_MAX: DurationMs = DurationMs(60_000);

/// Bounds of one ledger; part of its identity, as replay depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`ACCOUNTS_MAX`].
    pub accounts_max: usize,
    /// See [`PENDINGS_MAX`].
    pub pendings_max: usize,
    /// See [`KNOWN_IDS_MAX`].
    pub known_ids_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { accounts_max: ACCOUNTS_MAX, pendings_max: PENDINGS_MAX, known_ids_max: KNOWN_IDS_MAX }
    }
}
