//! Accounts, transfers and holds as a deterministic state machine, and the journal it is replayed from.
//!
//! The ledger decides whether money may move. It is one [`State`] with one writer: events go in with
//! `now`, outcomes come out, and nothing else has an influence, so that a journal of the applied events
//! rebuilds the state bit for bit ([`State::digest`] shows it). Double entry throughout: every transfer
//! debits one account and credits another by the same amount, so all balances always sum to zero.
//!
//! The shape follows the two-phase transfers of TigerBeetle: *pending* (a hold), then *post* or *void*;
//! `linked` transfers succeed or fail as one chain; ids are made by the client before its first try and
//! are idempotency keys. Two things differ. A hold can be raised in place, because a streamed answer
//! reserves money in steps and one hold per request keeps its settlement one short chain. And memory is
//! bounded: ids are remembered in a window of fixed size, and an id older than what the window forgot
//! is refused instead of being taken for new (see [`State`]).
//!
//! The crate is pure: no clock, no I/O, no threads, no randomness.

mod account;
mod books;
mod codec;
pub mod conformance;
mod event;
mod hash;
mod journal;
mod limits;
mod snapshot;
mod state;
mod window;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountKind, Amount, Balance, BalanceLimit, Unit};
pub use books::{BooksError, Totals};
pub use codec::{Batch, CodecError, FORMAT_VERSION, Reader, batch_time, decode_batch, encode_batch};
pub use event::{Applied, ChainRefusal, Event, Outcome, Refusal, ReleaseReason, Transfer, TransferKind};
pub use hash::HashKey;
pub use journal::{
    GROUP_BYTES_MAX, Group, Journal, JournalError, MemoryJournal, Position, Snapshot, chain_hash, verified,
};
pub use limits::{ACCOUNTS_MAX, CHAIN_EVENTS_MAX, ID_AHEAD_MAX, KNOWN_IDS_MAX, Limits, PENDINGS_MAX};
pub use snapshot::SnapshotError;
pub use state::{Pending, ReplayError, State};
