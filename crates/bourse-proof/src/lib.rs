//! Proofs of what happened.
//!
//! - [`merkle`]: the shape and hashes of Merkle trees, and how inclusion and consistency are checked.
//! - [`log`]: the append-only receipts log: appending, roots, proofs from bounded memory.
//! - [`liabilities`]: what the house owes as a Merkle-sum tree, and the proof for each account.
//! - [`sign`]: ed25519 signatures over canonical bytes, checkpoints included.
//! - [`receipt`]: the offline check of a receipt document, check by check.
//! - [`trace`]: what a node commits to about a generation: run seed, prompt and token hashes.
//!
//! Pure: keys, times and stored hashes come in as values.

pub mod liabilities;
pub mod log;
pub mod merkle;
pub mod receipt;
pub mod sign;
pub mod trace;
