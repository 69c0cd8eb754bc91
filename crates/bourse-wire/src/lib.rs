//! Bytes to domain and back.
//!
//! This crate alone owns the shapes of other people's protocols and of ours: what buyers send
//! ([`dialect`], [`sse`], [`error`]), what nodes and gateways say to each other, what a gateway asks of the exchange
//! ([`funds`]), what the API answers beside generations ([`api`]), and what a receipt and a proof of a debt look like as bytes
//! ([`receipt`], [`liability`]). It decides nothing and does no I/O.

pub mod api;
pub mod canonical;
pub mod dialect;
pub mod error;
pub mod funds;
pub mod json;
pub mod liability;
pub mod liability_json;
pub mod node;
pub mod receipt;
pub mod receipt_json;
pub mod sse;
pub mod tokens;
