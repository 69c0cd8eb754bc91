//! Claims: what a buyer says so that a request which is sent twice is charged once.
//!
//! A claim travels with the hold, so the books decide who was first: of two gateways, or before and after a crash, one
//! request runs under a claim. It has a name (whose claim it is) and a fingerprint (what was asked), both digests, from
//! which nobody reads a key or a prompt. A stream that several sellers deliver is several requests under one claim; they
//! name the first of them.
//!
//! A claim whose requests cost nothing is free again: to try once more is what it is for. One that was paid for names
//! the request that was. What that request was answered can be kept beside the books, sealed by the gateway under a key
//! that only the buyer can name: see [`Outcomes`]. An answer may be lost; it is not money.

use super::{BoxFuture, FundsError};
use bourse_types::{Digest32, DurationMs, RequestId, UnixMs};
use bytes::Bytes;

/// How long a claim that was paid for is known, at most, from its first hold on.
pub const CLAIM_AGE_MAX: DurationMs = DurationMs(24 * 60 * 60 * 1_000);
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Largest sealed answer that is kept, in bytes.
pub const SEALED_BYTES_MAX: usize = 4 * 1024 * 1024 + 64 * 1024;

/// A claim, as a hold carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is: a digest of the account and of what its owner calls the request.
    pub name: Digest32,
    /// What is asked: a digest of method, path and body.
    pub fingerprint: Digest32,
    /// The first request under it: the one that holds, or the one that it goes on with.
    pub first: RequestId,
    /// How long it is known, from its first hold on; more than [`CLAIM_AGE_MAX`] means that.
    pub kept_for: DurationMs,
}

/// An answer that was paid for, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The claim's name.
    pub name: Digest32,
    /// The first request under it.
    pub request: RequestId,
    /// The answer, at most [`SEALED_BYTES_MAX`] bytes that mean nothing to whoever keeps them.
    pub sealed: Bytes,
    /// The caller's clock.
    pub now: UnixMs,
}

/// What became of claims, and the answers that are kept for who asks again.
pub trait Outcomes: Send + Sync + 'static {
    /// Whether a request may begin under a claim. Refused as its hold would be: with [`FundsError::ClaimTaken`],
    /// [`FundsError::ClaimOpen`] or [`FundsError::ClaimPaid`].
    fn claimed(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError>;
    /// Keeps an answer. Begins at once; completes when a crash of the process cannot lose it any more. Dropping the
    /// future changes nothing. An error means that it is not kept.
    fn keep(&self, outcome: Outcome) -> BoxFuture<'static, Result<(), FundsError>>;
    /// The sealed answer of the first request under a claim, from the moment on at which it was given to
    /// [`Outcomes::keep`]. `Ok(None)`: it was never kept, was too old, or made room for others.
    fn outcome(
        &self,
        name: Digest32,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Option<Bytes>, FundsError>>;
}
