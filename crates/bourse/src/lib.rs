//! The binary's library: configuration, the wiring of a whole market, and the commands.
//!
//! A market on one machine is two processes. `bourse up` holds gateway and exchange and starts
//! `bourse node` as its child, so that a crash of the engine is a message and not an outage. The path of
//! a start: [`config`] is layered and resolved, [`data_dir`] is made and locked, the exchange replays its
//! journal, the gateway binds, the node dials in, and the line that a script waits for is printed
//! ([`cmd::up`]). More gateways run elsewhere ([`cmd::gateway`], [`remote`]). Tests and embedders start the same market in their own process with [`market::Market`].
//!
//! Only this crate reads the environment, and only once. Errors of the parts are told here in plain words
//! with a hint ([`report`]).

pub mod admin;
pub mod attach;
pub mod cli;
pub mod client;
pub mod cmd;
pub mod config;
pub mod data_dir;
mod data_plane;
pub mod market;
pub mod model;
pub mod remote;
pub mod report;
pub mod runtime;
pub mod supervise;
pub mod wiring;
