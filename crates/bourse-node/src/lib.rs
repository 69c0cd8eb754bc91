//! The supply daemon: fetches a model, runs an engine, serves jobs over the link, signs what it did.
//!
//! Lowest first:
//! - [`fetch`] finds or fetches a model's file and checks its hash;
//! - [`engine`] is the plug for inference engines: token ids in, token ids out;
//! - tokenizer and template of `bourse-tokens` turn chats into token ids and tokens into text, from the file's own data;
//! - [`NodeService`] puts them together under one key ([`identity`]);
//! - [`serve`](serve::serve) serves one open link; [`Node`] dials, serves and dials again.
//!
//! What a node says about a job is signed before it knows what the buyer paid: hashes of prompt and text,
//! the trace root over its tokens, the run seed's hash and the counts.

pub mod engine;
pub mod fetch;
pub mod identity;
mod job;
mod node;
pub mod serve;
mod service;

pub use job::DEADLINE_MS_MAX;
pub use node::{EventSink, KV_BYTES_DEFAULT, Node, NodeConfig, NodeError, NodeEvent};
pub use service::{JOBS_IN_FLIGHT_DEFAULT, NodeService, ServiceError};
