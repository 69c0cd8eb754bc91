//! Whole requests through a whole gateway: fake money, scripted sellers, paused time.

mod api;
mod byok;
pub(crate) mod fakes;
mod faults;
mod figures;
mod gather;
mod gifts;
mod life;
mod limits;
mod media;
mod metered;
mod names;
mod nodes;
mod reasoning;
mod recount;
mod refusals;
mod repeats;
mod socket;
mod spans;
mod telemetry;
mod weights;
