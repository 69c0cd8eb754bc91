//! The data plane: public API, admission, plan, hold, dispatch, relay, settlement.
//!
//! A request passes the phases of [`phase`](crate) in their order; each is one module. The gateway knows
//! money only through [`Funds`](bourse_wire::funds::Funds) and the past only through
//! [`Records`](bourse_wire::funds::Records); time, randomness and connections come in as [`Ports`], so that
//! a whole market can run in memory and in virtual time. [`Gateway::serve`] answers buyers,
//! [`Gateway::serve_nodes`] takes nodes in, [`Gateway::handle`] answers one request without a socket.
//!
//! Cost shapes the inside: no task and no timer per request on the ordinary path, a seller's connection is
//! driven by whoever waits for it, and what one read brought leaves in one write.

pub mod adapter;
mod body;
mod byok;
mod config;
mod conversation;
mod count;
mod deadline;
mod decisions;
mod durable;
mod executions;
mod explain;
mod failure;
mod fingerprint;
mod gate;
mod gateway;
mod head_clock;
mod io;
mod lists;
mod market;
mod metrics;
mod named;
mod node;
mod phase;
mod policy;
mod ports;
mod prefix;
mod provider;
mod quality;
mod recent;
mod recount;
mod repeat;
mod resume;
mod routes;
mod secret;
mod server;
mod source;
mod stall;
mod traces;
mod unroutable;
mod upstream;

pub use body::Body;
pub use byok::OWN_KEYS_MAX;
pub use config::{
    ANSWER_BYTES_MAX, Alias, ByokKey, ByokMode, CONNECTIONS_MAX, DEDUPE_WINDOW_MAX, Durability,
    ERROR_BYTES_MAX, FollowedList, GatewayConfig, HEAD_BYTES_MAX, HEADERS_MAX, HEADERS_READ_MAX, HOLD_GRACE,
    JOB_QUEUE_BYTES_MAX, LIST_EVERY_DEFAULT, LiveRule, ModelTokenizer, NODES_MAX, NodeAdmission,
    PEEK_BYTES_MAX, POOL_IDLE_AGE_MAX, POOL_IDLE_MAX, Pattern, Preset, ProviderConfig, ProviderModel,
    Timeouts,
};
pub use count::{COUNT_WITHIN, COUNTS_MAX, ESTIMATE_HEADER};
pub use decisions::{DECISION_FILE_BYTES, DECISION_FILE_SUFFIX, PENDING_BYTES_MAX, Recorder, decision_files};
pub use executions::{ASKS_MAX, EXECUTIONS_MAX};
pub use explain::EXPLAIN_HEADER;
pub use failure::{Failure, FailureClass};
pub use gateway::{COST_HEADER, Gateway};
pub use io::{Io, NetConnect, Pipe};
pub use lists::{LIST_BYTES_MAX, LIST_WITHIN, RETRY_FIRST};
pub use market::MarketError;
pub use named::{GENERATION_HEADER, RECEIPT_HEADER};
pub use node::hub::NodeLinkError;
pub use ports::{AdminPort, Clock, Connect, Entropy, Ports, SystemClock, Target};
pub use provider::ProviderError;
pub use recent::RECENT_MAX;
pub use recount::{ANSWER_RECOUNT_BYTES_MAX, INLINE_BYTES, PROMPT_BYTES_MAX, RECOUNTS_MAX};
pub use secret::Secret;
pub use traces::{SPAN_TARGET, TraceContext};

#[cfg(test)]
mod tests;
