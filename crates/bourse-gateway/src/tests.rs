//! Whole requests through a whole gateway: fake money, scripted sellers, paused time.

mod api;
mod fakes;
mod faults;
mod life;
mod nodes;
mod socket;
mod spans;
mod telemetry;
