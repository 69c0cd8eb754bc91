//! Replays a journal: the same events through the same code.

use super::policy::{Choice, ReplayPolicy};
use super::{DecisionEvent, DecisionRecord, plan_digest};
use crate::health::HealthTable;
use crate::plan::{Plan, PlanError, plan};
use crate::snapshot::MarketSnapshot;
use bourse_types::RequestId;

/// Most requests that a report names for being decided otherwise.
pub const REQUESTS_NAMED_MAX: usize = 100;

/// Why an event cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A journal starts with a book and a checkpoint.
    #[error("the journal does not start with a book and the health of its offers")]
    NoStart,
    /// A checkpoint of another number of offers than the book has.
    #[error("a checkpoint of {health} offers stands beside a book of {book}")]
    AnotherBook {
        /// Offers of the checkpoint.
        health: usize,
        /// Offers of the book.
        book: usize,
    },
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// It changed the book or the health.
    Applied,
    /// A checkpoint was compared with the replayed health.
    Checkpoint {
        /// Whether they are equal to the bit.
        is_identical: bool,
    },
    /// A decision was made again.
    Decision(Box<Redecided>),
}

/// A decision that was made again.
#[derive(Debug, Clone, PartialEq)]
pub struct Redecided {
    /// The request.
    pub request: RequestId,
    /// Whether the plan is the recorded one to the bit.
    pub is_identical: bool,
    /// The plan as it was made now.
    pub plan: Result<Plan, PlanError>,
    /// What it asks first; none without a plan.
    pub chosen: Option<Choice>,
    /// What the other policy asks first; none without a plan.
    pub instead: Option<Choice>,
}

/// The market of a journal, as far as it has been fed.
#[derive(Debug, Clone, Default)]
pub struct Replayer {
    market: Option<(MarketSnapshot, Option<HealthTable>)>,
    policy: Option<ReplayPolicy>,
}

impl Replayer {
    /// A replay that compares with what was recorded, and shows what `policy` would have chosen.
    pub fn new(policy: Option<ReplayPolicy>) -> Self {
        Self { market: None, policy }
    }

    /// The book in force and the health of its offers; none before the journal's start was fed.
    pub fn market(&self) -> Option<(&MarketSnapshot, &HealthTable)> {
        let (book, health) = self.market.as_ref()?;
        Some((book, health.as_ref()?))
    }

    /// Applies the next event.
    pub fn feed(&mut self, event: DecisionEvent) -> Result<Replayed, ReplayError> {
        match event {
            DecisionEvent::Book(book) => {
                let health = match self.market.take() {
                    Some((before, Some(health))) => Some(health.carried(&before, &book)),
                    _ => None,
                };
                self.market = Some((*book, health));
                Ok(Replayed::Applied)
            }
            DecisionEvent::Checkpoint(checkpoint) => self.check(*checkpoint),
            DecisionEvent::Started(offer) => {
                self.health()?.on_start(offer);
                Ok(Replayed::Applied)
            }
            DecisionEvent::Outcome { offer, now, outcome } => {
                self.health()?.on_outcome(offer, now, outcome);
                Ok(Replayed::Applied)
            }
            DecisionEvent::Decision(record) => self.decide(&record),
        }
    }

    fn health(&mut self) -> Result<&mut HealthTable, ReplayError> {
        self.market.as_mut().and_then(|(_, health)| health.as_mut()).ok_or(ReplayError::NoStart)
    }

    fn check(&mut self, checkpoint: HealthTable) -> Result<Replayed, ReplayError> {
        let (book, health) = self.market.as_mut().ok_or(ReplayError::NoStart)?;
        let counts = (checkpoint.vitals().len(), book.offers().len());
        if counts.0 != counts.1 {
            return Err(ReplayError::AnotherBook { health: counts.0, book: counts.1 });
        }
        let is_identical = health.as_ref().is_none_or(|health| *health == checkpoint);
        *health = Some(checkpoint);
        Ok(Replayed::Checkpoint { is_identical })
    }

    fn decide(&self, record: &DecisionRecord) -> Result<Replayed, ReplayError> {
        let (book, health) = self.market().ok_or(ReplayError::NoStart)?;
        let (demand, now, seed) = (record.demand.as_demand(), record.now, record.seed);
        let made = plan(book, health, &demand, now, seed);
        let other = self.policy.map(|policy| policy.plan(book, health, &demand, now, seed));
        Ok(Replayed::Decision(Box::new(Redecided {
            request: record.request,
            is_identical: plan_digest(&made) == record.digest,
            chosen: Choice::of(&made, book, health, &demand),
            instead: other.and_then(|other| Choice::of(&other, book, health, &demand)),
            plan: made,
        })))
    }
}

/// What a whole replay comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplayReport {
    /// Decisions made again.
    pub decisions: u64,
    /// Of these, identical to the recorded ones.
    pub identical: u64,
    /// Checkpoints that differ from the replayed health.
    pub checkpoints_differing: u64,
    /// The first requests that were decided otherwise, at most [`REQUESTS_NAMED_MAX`].
    pub differing: Vec<RequestId>,
    /// Decisions where both the market and the other policy had a choice.
    pub compared: u64,
    /// Of these, with another first attempt.
    pub chosen_otherwise: u64,
    /// What the market's choices should have cost by list prices, in pico-dollars.
    pub list_pico: f64,
    /// What they should really have cost.
    pub effective_pico: f64,
    /// What the other policy's choices should have cost by list prices.
    pub list_pico_instead: f64,
    /// What they should really have cost.
    pub effective_pico_instead: f64,
}

impl ReplayReport {
    /// Takes in what came of one event.
    pub fn add(&mut self, replayed: &Replayed) {
        let decision = match replayed {
            Replayed::Applied => return,
            Replayed::Checkpoint { is_identical } => {
                self.checkpoints_differing += u64::from(!is_identical);
                return;
            }
            Replayed::Decision(decision) => decision,
        };
        self.decisions += 1;
        if decision.is_identical {
            self.identical += 1;
        } else if self.differing.len() < REQUESTS_NAMED_MAX {
            self.differing.push(decision.request);
        }
        if let (Some(chosen), Some(instead)) = (decision.chosen, decision.instead) {
            self.compared += 1;
            self.chosen_otherwise += u64::from(chosen.offer != instead.offer);
            self.list_pico += chosen.list_pico;
            self.effective_pico += chosen.effective_pico;
            self.list_pico_instead += instead.list_pico;
            self.effective_pico_instead += instead.effective_pico;
        }
    }
}
