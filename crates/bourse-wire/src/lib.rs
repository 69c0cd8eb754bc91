//! Bytes to domain and back.
//!
//! This crate alone owns the shapes of other people's protocols and of ours: what buyers send
//! ([`dialect`], [`sse`], [`error`]), what nodes and gateways say to each other, what a gateway asks of the exchange
//! ([`funds`]), what the API answers beside generations ([`api`]) and what a receipt looks like as bytes
//! ([`receipt`]). It decides nothing and does no I/O.

pub mod api;
pub mod canonical;
pub mod dialect;
pub mod error;
pub mod funds;
pub mod json;
pub mod node;
pub mod receipt;
pub mod receipt_json;
pub mod sse;
