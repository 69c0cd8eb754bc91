//! The decision journal: everything that a plan was made from, so that each can be made again.
//!
//! A plan is a function of the book, the health of its offers, the demand, the time and a seed. The
//! journal holds all five: the book in full whenever it changes, the health once at the start and then
//! every event that changes it, and each decision with its demand, time and seed and the digest of what
//! was decided. A [`Replayer`] feeds the events through the same code and says of each decision whether
//! its plan is the same to the bit; and it can ask what another [`ReplayPolicy`] would have chosen.
//!
//! Health depends on the order of events, so that a journal must have one writer that sees starts,
//! outcomes, books and decisions in the order in which they took effect; the gateway writes it under the
//! lock that guards the health. Canonical bytes and no names of people: a demand holds counts of bytes
//! and tokens, wishes about sellers and a request id, never a prompt, a key or an account.
//!
//! The pieces: [`JournalWriter`] appends frames to a buffer that the shell stores; [`JournalReader`]
//! takes them out again, and tells a torn tail (cut it off and go on) from damage (do not trust the
//! rest). A file starts with a book and a checkpoint, so that each one replays alone.

mod book;
mod demand;
mod frame;
mod policy;
mod replay;

pub use demand::RecordedDemand;
pub use frame::{FRAME_BYTES_MAX, JournalError, JournalReader, JournalWriter};
pub use policy::{Choice, ReplayPolicy};
pub use replay::{REQUESTS_NAMED_MAX, Redecided, ReplayError, ReplayReport, Replayed, Replayer};

use crate::health::{HealthTable, Outcome};
use crate::offer::OfferIndex;
use crate::plan::{Plan, PlanError};
use crate::snapshot::MarketSnapshot;
use bourse_types::{Digest32, RequestId, UnixMs};

/// One entry of the journal. Positions of offers are in the book of the last [`DecisionEvent::Book`].
#[derive(Debug, Clone)]
pub enum DecisionEvent {
    /// Another book is in force; health is carried over by name.
    Book(Box<MarketSnapshot>),
    /// The health at this moment: the first one is where a replay starts, later ones are compared.
    Checkpoint(Box<HealthTable>),
    /// An attempt started.
    Started(OfferIndex),
    /// An attempt ended.
    Outcome {
        /// The offer that was attempted.
        offer: OfferIndex,
        /// When it ended.
        now: UnixMs,
        /// How.
        outcome: Outcome,
    },
    /// A plan was made, or could not be.
    Decision(Box<DecisionRecord>),
}

/// What a plan was made from, beside book and health, and what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRecord {
    /// The request.
    pub request: RequestId,
    /// The time that the plan was made for.
    pub now: UnixMs,
    /// The seed of the draw.
    pub seed: u64,
    /// What was asked for.
    pub demand: RecordedDemand,
    /// [`plan_digest`] of what came of it.
    pub digest: Digest32,
}

/// Domain of the digest of a failure to plan.
const NO_PLAN_DOMAIN: &[u8] = b"bourse/no-plan/2";

/// BLAKE3 of the canonical bytes of a plan, or of the reasons why there is none.
pub fn plan_digest(made: &Result<Plan, PlanError>) -> Digest32 {
    let bytes = match made {
        Ok(plan) => plan.digest_bytes(),
        Err(PlanError::ModelNotFound) => NO_PLAN_DOMAIN.to_vec(),
        Err(PlanError::NoOffers { rejected }) => {
            let mut bytes = NO_PLAN_DOMAIN.to_vec();
            rejected.put_bytes(&mut bytes);
            bytes
        }
    };
    Digest32(*blake3::hash(&bytes).as_bytes())
}

#[cfg(test)]
mod tests;
