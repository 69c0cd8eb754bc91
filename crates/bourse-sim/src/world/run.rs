//! The run itself: the front door's steps as events in virtual time.

use super::agenda::Agenda;
use super::cast::Cast;
use super::flight::Flight;
use super::house::{Books, House};
use super::performance::{Beat, Wanted, perform};
use super::script::{EPOCH, Item, order};
use super::{Violation, WorldConfig};
use crate::seed::{Random, mix};
use bourse_market::{HealthTable, Outcome, StreamEnd, plan};
use bourse_types::{DurationMs, NanoUsd, RequestId, UnixMs, Usage};
use bourse_wire::funds::{Funds, FundsError, HoldExtension, HoldRequest, Settlement};
use bourse_wire::receipt::{AttemptRecord, Finish, Receipt};
use std::collections::BTreeMap;

/// Between two commits of the journal, in milliseconds.
const COMMIT_MS: u64 = 20;
/// Between two sweeps for overdue holds, in milliseconds.
const SWEEP_MS: u64 = 5_000;
/// How long a hold lasts, in milliseconds; longer than any answer.
const HOLD_MS: u64 = 180_000;
/// Lines that a trace keeps.
const TRACE_LINES_MAX: usize = 10_000;

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Requests that ended as the model wanted.
    pub completed: u64,
    /// Requests that broke off after content.
    pub broken_off: u64,
    /// Requests that no seller answered.
    pub unanswered: u64,
    /// Requests whose buyer gave up.
    pub cancelled: u64,
    /// Requests that ended because the purse was empty in the middle.
    pub out_of_budget: u64,
    /// Requests refused for want of money before anything was sent.
    pub refused: u64,
    /// Requests that no offer could serve.
    pub unroutable: u64,
    /// Requests that died with the market.
    pub orphaned: u64,
    /// Requests whose front door vanished: their holds ran out.
    pub vanished: u64,
    /// Attempts beyond the first of a request.
    pub failovers: u64,
    /// Extensions of holds.
    pub extensions: u64,
    /// What the books say.
    pub books: Books,
}

impl Report {
    /// Requests that came to an end, of whichever kind.
    pub fn requests(&self) -> u64 {
        self.completed
            + self.broken_off
            + self.unanswered
            + self.cancelled
            + self.out_of_budget
            + self.refused
            + self.unroutable
            + self.orphaned
            + self.vanished
    }
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Item(Item),
    Beat { number: u32, beat: Beat, attempt: usize },
    Cancel(u32),
    Commit,
    Sweep,
}

pub(super) struct World {
    seed: u64,
    cast: Cast,
    house: House,
    health: HealthTable,
    agenda: Agenda<Due>,
    flights: BTreeMap<u32, Flight>,
    items_left: usize,
    report: Report,
    trace: Option<Vec<String>>,
}

fn broken(what: impl std::fmt::Display) -> Violation {
    Violation(what.to_string())
}

impl World {
    pub(super) fn new(
        config: &WorldConfig,
        items: Vec<(UnixMs, Item)>,
        trace: Option<Vec<String>>,
    ) -> Result<Self, Violation> {
        let cast = Cast::new(config.seed, config.fault_permille).map_err(broken)?;
        let mut agenda = Agenda::new();
        let items_left = items.len();
        for (at, item) in items {
            agenda.book(at, Due::Item(item));
        }
        agenda.book(EPOCH.plus(DurationMs(COMMIT_MS)), Due::Commit);
        agenda.book(EPOCH.plus(DurationMs(SWEEP_MS)), Due::Sweep);
        Ok(Self {
            seed: config.seed,
            health: HealthTable::new(&cast.snapshot),
            cast,
            house: House::open(config.seed, EPOCH)?,
            agenda,
            flights: BTreeMap::new(),
            items_left,
            report: Report::default(),
            trace,
        })
    }

    pub(super) fn take_trace(&mut self) -> Option<Vec<String>> {
        self.trace.take()
    }

    /// Plays everything to its end and closes the books.
    pub(super) fn run(&mut self) -> Result<Report, Violation> {
        let mut last = EPOCH;
        while let Some((now, due)) = self.agenda.next() {
            last = now;
            match due {
                Due::Item(item) => {
                    self.items_left -= 1;
                    self.item(now, item)?;
                }
                Due::Beat { number, beat, attempt } => self.beat(now, number, beat, attempt)?,
                Due::Cancel(number) => {
                    if self.flights.contains_key(&number) {
                        self.land(now, number, StreamEnd::Cancelled, Finish::Cancelled)?;
                    }
                }
                Due::Commit => self.repeat(now, COMMIT_MS, Due::Commit, |world| world.house.commit())?,
                Due::Sweep => {
                    self.repeat(now, SWEEP_MS, Due::Sweep, |world| world.house.sweep(now).map(drop))?;
                }
            }
        }
        let end = last.plus(DurationMs(2 * HOLD_MS));
        self.house.sweep(end)?;
        self.report.books = self.house.close(end)?;
        Ok(self.report)
    }

    /// Does something again and again while anything else is to come.
    fn repeat(
        &mut self,
        now: UnixMs,
        every_ms: u64,
        due: Due,
        act: impl FnOnce(&mut Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        act(self)?;
        if self.items_left > 0 || !self.flights.is_empty() {
            self.agenda.book(now.plus(DurationMs(every_ms)), due);
        }
        Ok(())
    }

    fn note(&mut self, now: UnixMs, line: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.len() < TRACE_LINES_MAX) {
            trace.push(format!("{:>8} ms  {}", now.since(EPOCH).0, line()));
        }
    }

    fn item(&mut self, now: UnixMs, item: Item) -> Result<(), Violation> {
        match item {
            Item::Request(number) => self.arrive(now, number),
            Item::TopUp { buyer, cents } => {
                self.note(now, || format!("buyer-{buyer} is credited {cents} cents"));
                self.house.credit(buyer, cents, now)
            }
            Item::Restart => {
                let open = std::mem::take(&mut self.flights);
                self.note(now, || format!("the market dies with {} requests and starts again", open.len()));
                self.report.orphaned += open.len() as u64;
                self.health = HealthTable::new(&self.cast.snapshot);
                self.house.restart(now)
            }
        }
    }

    fn arrive(&mut self, now: UnixMs, number: u32) -> Result<(), Violation> {
        let order = order(self.seed, number);
        let buyer = order.buyer;
        let grant =
            self.house.exchange()?.authenticate(&self.house.buyers[buyer].key, now).map_err(broken)?;
        let planned = plan(&self.cast.snapshot, &self.health, &order.demand(), now, order.seed);
        let Ok(planned) = planned else {
            self.report.unroutable += 1;
            return Ok(());
        };
        let mut windows = Vec::new();
        for index in &planned.attempts {
            let offer = self.cast.snapshot.offer(*index).ok_or_else(|| broken("a plan names no offer"))?;
            windows.push(order.window(offer).map_err(broken)?);
        }
        let amount = windows.iter().map(bourse_market::HoldWindow::held).max().unwrap_or(NanoUsd::ZERO);
        let window = windows.into_iter().next().ok_or_else(|| broken("a plan has no attempts"))?;
        let mut random = [0u8; 10];
        random[..8].copy_from_slice(&mix(order.seed).to_le_bytes());
        let request = RequestId::new(now, random);
        let hold = HoldRequest {
            request,
            grant,
            amount,
            byok: NanoUsd::ZERO,
            expires: now.plus(DurationMs(HOLD_MS)),
            tokens: Some(0),
            now,
            claim: None,
        };
        let held = self.house.exchange()?.hold(&hold);
        self.note(now, || format!("#{number} buyer-{buyer} {} holds {amount}: {held:?}", order.model));
        match held {
            Ok(()) => {}
            Err(FundsError::InsufficientFunds { .. } | FundsError::OverBudget { .. }) => {
                self.report.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(broken(error)),
        }
        if order.repeats {
            self.house.exchange()?.hold(&hold).map_err(broken)?;
        }
        if let Some(after) = order.cancel_after {
            self.agenda.book(now.plus(after), Due::Cancel(number));
        }
        let flight = Flight {
            number,
            request,
            order,
            grant,
            plan: planned,
            arrived: now,
            first_content: None,
            attempt: 0,
            dispatched: now,
            attempts: Vec::new(),
            meter: None,
            window,
            held: amount,
            steps: 0,
            beats: Vec::new().into_iter(),
        };
        self.flights.insert(number, flight);
        self.dispatch(now, number)
    }

    /// Sends a request to the seller of its current attempt.
    fn dispatch(&mut self, now: UnixMs, number: u32) -> Result<(), Violation> {
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        let index = flight.offer_index().ok_or_else(|| broken("no attempt is left"))?;
        let offer = self.cast.snapshot.offer(index).ok_or_else(|| broken("a plan names no offer"))?;
        let seller = self.cast.seller(&offer.seller).ok_or_else(|| broken("an offer has no seller"))?;
        if offer.prices.is_none() {
            return Err(broken("a plan names an offer without a price"));
        }
        let order = &flight.order;
        let mut random = Random::new(order.seed ^ mix(flight.attempt as u64));
        let wanted = Wanted {
            mode: order.mode,
            prompt_tokens: order.prompt_tokens,
            max_tokens: order.max_tokens,
            choices: order.choices,
        };
        let fault = seller.faults.choose(mix(order.seed ^ flight.attempt as u64));
        flight.beats = perform(&mut random, fault, seller.speed, wanted).into_iter();
        flight.meter = Some(order.meter(offer));
        flight.window = order.window(offer).map_err(broken)?;
        flight.dispatched = now;
        let (attempt, name) = (flight.attempt, offer.seller.clone());
        self.health.on_start(index);
        self.note(now, || format!("#{number} attempt {attempt} at {name}: {fault:?}"));
        self.book_beat(now, number)
    }

    fn book_beat(&mut self, now: UnixMs, number: u32) -> Result<(), Violation> {
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        let (wait, beat) = flight.beats.next().ok_or_else(|| broken("a seller falls silent for ever"))?;
        self.agenda.book(now.plus(wait), Due::Beat { number, beat, attempt: flight.attempt });
        Ok(())
    }

    fn beat(&mut self, now: UnixMs, number: u32, beat: Beat, attempt: usize) -> Result<(), Violation> {
        let Some(flight) = self.flights.get_mut(&number).filter(|flight| flight.attempt == attempt) else {
            return Ok(());
        };
        match beat {
            Beat::Content { events, bytes_each } => {
                if let Some(meter) = &mut flight.meter {
                    (0..events).for_each(|_| meter.on_content(bytes_each));
                }
                flight.first_content.get_or_insert(now);
                if !self.extend(now, number)? {
                    return self.land(now, number, StreamEnd::Budget, Finish::Budget);
                }
                self.book_beat(now, number)
            }
            Beat::Claim(claim) => {
                if let Some(meter) = &mut flight.meter {
                    meter.on_claim(claim);
                }
                self.book_beat(now, number)
            }
            Beat::Finish => self.land(now, number, StreamEnd::Complete, Finish::Stop),
            Beat::Fail { status, outcome } => self.fail(now, number, status, outcome),
        }
    }

    /// Extends the hold when it is due. `false` when the purse does not allow it.
    fn extend(&mut self, now: UnixMs, number: u32) -> Result<bool, Violation> {
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(true) };
        let Some(extension) = flight.extension().map_err(broken)? else { return Ok(true) };
        let covered = flight.window.held().checked_add(extension.amount).map_err(broken)?;
        let amount = NanoUsd(covered.0.saturating_sub(flight.held.0));
        if amount > NanoUsd::ZERO {
            let step = flight.steps + 1;
            let asked =
                HoldExtension { request: flight.request, step, amount, byok: NanoUsd::ZERO, tokens: 0, now };
            let exchange = self.house.exchange()?;
            match exchange.extend(&asked) {
                Ok(()) => {}
                Err(FundsError::InsufficientFunds { .. } | FundsError::OverBudget { .. }) => {
                    return Ok(false);
                }
                Err(error) => return Err(broken(error)),
            }
            if flight.order.repeats {
                exchange.extend(&asked).map_err(broken)?;
            }
            flight.steps = step;
            flight.held = flight.held.checked_add(amount).map_err(broken)?;
            self.report.extensions += 1;
        }
        flight.window.grant(&extension).map_err(broken)?;
        Ok(true)
    }

    fn fail(&mut self, now: UnixMs, number: u32, status: u16, outcome: Outcome) -> Result<(), Violation> {
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        if flight.has_content() {
            return self.land(now, number, StreamEnd::SellerFailed, Finish::SellerError);
        }
        self.end_attempt(now, number, status, outcome)?;
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        flight.attempt += 1;
        if flight.offer_index().is_some() {
            self.report.failovers += 1;
            return self.dispatch(now, number);
        }
        self.land(now, number, StreamEnd::SellerFailed, Finish::NoSeller)
    }

    /// Notes what came of an attempt.
    fn end_attempt(
        &mut self,
        now: UnixMs,
        number: u32,
        status: u16,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        let index = flight.offer_index().ok_or_else(|| broken("an attempt ends that never began"))?;
        let offer = self.cast.snapshot.offer(index).ok_or_else(|| broken("a plan names no offer"))?;
        flight.attempts.push(AttemptRecord { seller: offer.seller.clone(), status });
        self.health.on_outcome(index, now, outcome);
        Ok(())
    }

    /// Ends a request: bills, settles, forgets it.
    fn land(&mut self, now: UnixMs, number: u32, end: StreamEnd, finish: Finish) -> Result<(), Violation> {
        if finish != Finish::NoSeller {
            let outcome = match end {
                StreamEnd::Complete => Outcome::success(DurationMs(1)),
                StreamEnd::SellerFailed | StreamEnd::TakenUp => Outcome::Failure,
                StreamEnd::Cancelled | StreamEnd::Budget | StreamEnd::Market => Outcome::Neutral,
            };
            self.end_attempt(now, number, 200, outcome)?;
        }
        let Some(flight) = self.flights.remove(&number) else { return Ok(()) };
        // A front door that vanishes never settles: its hold runs out by itself.
        if flight.order.seed.is_multiple_of(211) {
            self.report.vanished += 1;
            self.note(now, || format!("#{number} vanishes"));
            return Ok(());
        }
        let counter = match finish {
            Finish::NoSeller => &mut self.report.unanswered,
            Finish::Cancelled => &mut self.report.cancelled,
            Finish::Budget => &mut self.report.out_of_budget,
            Finish::SellerError => &mut self.report.broken_off,
            _ => &mut self.report.completed,
        };
        *counter += 1;
        self.settle(now, &flight, end, finish)
    }

    fn settle(
        &mut self,
        now: UnixMs,
        flight: &Flight,
        end: StreamEnd,
        finish: Finish,
    ) -> Result<(), Violation> {
        let receipt = self.receipt(now, flight, end, finish)?;
        let (cost, billed) = (receipt.charge.total, receipt.usage_billed);
        if cost > flight.held {
            return Err(Violation(format!(
                "{}: a bill of {cost} over a hold of {}",
                flight.request, flight.held
            )));
        }
        if !flight.has_content() && cost > NanoUsd::ZERO {
            return Err(Violation(format!("{}: {cost} charged for nothing", flight.request)));
        }
        let settlement = Settlement::new(receipt, now);
        let exchange = self.house.exchange()?;
        let again = flight.order.repeats.then(|| settlement.clone());
        let settled = exchange.settle(settlement).map_err(broken)?;
        if let Some(again) = again {
            let repeated = exchange.settle(again).map_err(broken)?;
            if repeated.cost != settled.cost {
                return Err(broken("a repeated settlement has another outcome"));
            }
        }
        let number = flight.number;
        self.note(now, || format!("#{number} {finish:?}: {billed:?} for {cost}"));
        self.house.note(flight.order.buyer, flight.request, settled.cost, settled.ticket);
        Ok(())
    }

    fn receipt(
        &self,
        now: UnixMs,
        flight: &Flight,
        end: StreamEnd,
        finish: Finish,
    ) -> Result<Receipt, Violation> {
        // Without an answer the last seller asked is nobody's seller.
        let index = flight.offer_index().or_else(|| flight.plan.attempts.last().copied());
        let offer = index.and_then(|index| self.cast.snapshot.offer(index));
        let offer = offer.ok_or_else(|| broken("a request without an offer"))?;
        let prices = offer.prices.ok_or_else(|| broken("an offer without a price"))?;
        let meter = flight.meter.as_ref().ok_or_else(|| broken("a request without a meter"))?;
        let bill = meter.settle(end, &prices, flight.held).map_err(broken)?;
        let answered = bill.usage != Usage::default();
        Ok(Receipt {
            request: flight.request,
            account_digest: flight.grant.account_digest,
            key_digest: flight.grant.key_digest,
            model: offer.model.clone(),
            constraints_digest: self.cast.snapshot.digest(),
            price_snapshot_digest: self.cast.snapshot.digest(),
            plan_digest: flight.plan.snapshot,
            attempts: flight.attempts.clone(),
            seller: answered.then(|| offer.seller.clone()),
            node: None,
            usage_claimed: bill.claimed,
            usage_billed: bill.usage,
            recount: None,
            charge: bill.charge,
            fee: NanoUsd::ZERO,
            request_hash: self.cast.snapshot.digest(),
            response_hash: self.cast.snapshot.digest(),
            finish,
            streamed: flight.order.mode == crate::upstream::Mode::Stream,
            created: flight.arrived,
            first_content_ms: flight.first_content.map(|at| at.since(flight.arrived).0),
            total_ms: now.since(flight.arrived).0,
        })
    }
}
