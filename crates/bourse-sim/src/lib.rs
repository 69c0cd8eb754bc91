//! Test support: the parts of a market that misbehave on purpose.
//!
//! [`upstream`] plays sellers behind an OpenAI-compatible API, each with prices, a speed, a capacity, a
//! quality and a script of faults, down to the byte. [`client`] plays buyers: it sends any bytes and shows
//! exactly what came back. [`world`] runs whole markets in virtual time. Everything random is drawn from
//! a seed ([`seed`]), and all waiting goes through `tokio::time`, so a run can be repeated exactly.

pub mod client;
pub mod seed;
pub mod upstream;
pub mod world;
