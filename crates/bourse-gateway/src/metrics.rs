//! Counters, gauges and histograms, as Prometheus text.
//!
//! Plain atomics, without locks and without allocation: a request touches about twenty of them. What can be read when
//! somebody asks is not counted on the way: the health of offers, queues, what is open now. Labels come from closed
//! sets or from a bounded one ([`OFFERS_LABELLED_MAX`]); amounts are told of all buyers together and of none alone.

mod exposition;
mod families;
mod histogram;
mod offers;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use offers::{OFFERS_LABELLED_MAX, Tallies, Tally, word_of};

use crate::failure::FailureClass;
use crate::market::OfferHealth;
use crate::traces::{AttemptReason, RequestOutcome, front_word};
use bourse_market::{Bill, Breaker, Doubts};
use bourse_wire::dialect::Api;
use bourse_wire::receipt::Finish;
use exposition::Exposition;
use histogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The kinds of tokens that are counted.
const TOKEN_KINDS: [&str; 4] = ["prompt", "cached_prompt", "cache_write", "completion"];

/// Everything that is counted on the way of a request.
pub(crate) struct Metrics {
    answers: [Counter; 6],
    requests: [[Counter; RequestOutcome::ALL.len()]; Api::ALL.len()],
    pub(crate) requests_begun: Counter,
    pub(crate) streams_begun: Counter,
    pub(crate) streams_ended: Counter,
    finishes: [Counter; Finish::ALL.len()],
    doubts: [Counter; 6],
    tokens: [Counter; TOKEN_KINDS.len()],
    charged_nano_usd: Counter,
    attempts_started: [Counter; AttemptReason::ALL.len()],
    attempt_failures: [Counter; FailureClass::ALL.len()],
    pub(crate) durations: Histogram,
    pub(crate) first_content: Histogram,
    pub(crate) output_token: Histogram,
    pub(crate) overhead: Histogram,
    pub(crate) hedges_won: Counter,
    pub(crate) continuations: Counter,
    pub(crate) settle_failures: Counter,
    pub(crate) connections_refused: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Default::default(),
            requests: Default::default(),
            requests_begun: Counter::default(),
            streams_begun: Counter::default(),
            streams_ended: Counter::default(),
            finishes: Default::default(),
            doubts: Default::default(),
            tokens: Default::default(),
            charged_nano_usd: Counter::default(),
            attempts_started: Default::default(),
            attempt_failures: Default::default(),
            durations: Histogram::new(&histogram::DURATIONS_US),
            first_content: Histogram::new(&histogram::FIRST_CONTENT_US),
            output_token: Histogram::new(&histogram::OUTPUT_TOKEN_US),
            overhead: Histogram::new(&histogram::OVERHEAD_US),
            hedges_won: Counter::default(),
            continuations: Counter::default(),
            settle_failures: Counter::default(),
            connections_refused: Counter::default(),
        }
    }
}

/// What is read when somebody asks.
pub(crate) struct Readings {
    pub(crate) offers: u64,
    pub(crate) nodes: u64,
    pub(crate) durable_waiting: u64,
    pub(crate) decisions_pending_bytes: u64,
    pub(crate) decisions_dropped_bytes: u64,
    /// Of offers that have series of their own.
    pub(crate) health: Vec<OfferHealth>,
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16) {
        self.answers[usize::from(status / 100).min(5)].add(1);
    }

    pub(crate) fn ended(&self, api: Api, outcome: RequestOutcome) {
        self.requests[api as usize][outcome as usize].add(1);
    }

    pub(crate) fn asked(&self, reason: AttemptReason) {
        self.attempts_started[reason as usize].add(1);
    }

    pub(crate) fn attempt_failed(&self, class: FailureClass) {
        self.attempt_failures[class as usize].add(1);
    }

    pub(crate) fn settled(&self, bill: &Bill, finish: Finish) {
        self.finishes[finish as usize].add(1);
        let usage = &bill.usage;
        let kinds = [usage.prompt, usage.cached_prompt, usage.cache_write, usage.completion];
        for (counter, tokens) in self.tokens.iter().zip(kinds).filter(|(_, tokens)| tokens.0 > 0) {
            counter.add(tokens.0);
        }
        self.charged_nano_usd.add(bill.charge.total.0);
    }

    pub(crate) fn doubts(&self, doubts: Doubts) {
        for (counter, one) in self.doubts.iter().zip(Doubts::ALL.members()) {
            counter.add(u64::from(doubts.contains(one)));
        }
    }

    /// The exposition text.
    pub(crate) fn text(&self, tallies: &Tallies, readings: &Readings) -> String {
        let mut out = Exposition::default();
        self.push_requests(&mut out);
        self.push_money(&mut out);
        self.push_attempts(&mut out, tallies);
        out.value(&families::CONNECTIONS_REFUSED, self.connections_refused.get());
        out.value(&families::OFFERS, readings.offers);
        out.value(&families::NODES, readings.nodes);
        push_health(&mut out, &readings.health);
        out.value(&families::DURABLE_WAITING, readings.durable_waiting);
        out.value(&families::DECISIONS_PENDING, readings.decisions_pending_bytes);
        out.value(&families::DECISIONS_DROPPED, readings.decisions_dropped_bytes);
        out.text()
    }

    fn push_requests(&self, out: &mut Exposition) {
        let mut ended = 0;
        let mut requests = out.family(&families::REQUESTS);
        for (api, counters) in Api::ALL.iter().zip(&self.requests) {
            for (outcome, counter) in RequestOutcome::ALL.iter().zip(counters) {
                requests.sample(&[front_word(*api), outcome.as_str()], counter.get());
                ended += counter.get();
            }
        }
        let mut answers = out.family(&families::ANSWERS);
        for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(self.answers.iter().skip(1)) {
            answers.sample(&[class], counter.get());
        }
        // Begun is read after ended, so that what lies between is never less than nothing.
        out.value(&families::REQUESTS_OPEN, self.requests_begun.get().saturating_sub(ended));
        let ended = self.streams_ended.get();
        out.value(&families::STREAMS_OPEN, self.streams_begun.get().saturating_sub(ended));
        out.histogram(&families::REQUEST_DURATION, &self.durations);
        out.histogram(&families::FIRST_CONTENT, &self.first_content);
        out.histogram(&families::OUTPUT_TOKEN, &self.output_token);
        out.histogram(&families::OVERHEAD, &self.overhead);
    }

    fn push_money(&self, out: &mut Exposition) {
        let mut settlements = out.family(&families::SETTLEMENTS);
        for (finish, counter) in Finish::ALL.iter().zip(&self.finishes) {
            settlements.sample(&[finish.as_str()], counter.get());
        }
        out.value(&families::SETTLE_FAILURES, self.settle_failures.get());
        let mut tokens = out.family(&families::TOKENS);
        for (kind, counter) in TOKEN_KINDS.iter().zip(&self.tokens) {
            tokens.sample(&[kind], counter.get());
        }
        out.value(&families::CHARGED, self.charged_nano_usd.get());
        let mut doubts = out.family(&families::DOUBTS);
        for (counter, one) in self.doubts.iter().zip(Doubts::ALL.members()) {
            doubts.sample(&[&one.to_string()], counter.get());
        }
    }

    fn push_attempts(&self, out: &mut Exposition, tallies: &Tallies) {
        let mut started = out.family(&families::ATTEMPTS_STARTED);
        for (reason, counter) in AttemptReason::ALL.iter().zip(&self.attempts_started) {
            started.sample(&[reason.as_str()], counter.get());
        }
        let mut attempts = out.family(&families::ATTEMPTS);
        for (seller, model, tally) in tallies.list() {
            for (outcome, count) in tally.counts() {
                attempts.sample(&[&seller, &model, outcome], count);
            }
        }
        let mut failures = out.family(&families::ATTEMPT_FAILURES);
        for (class, counter) in FailureClass::ALL.iter().zip(&self.attempt_failures) {
            failures.sample(&[class.as_str()], counter.get());
        }
        out.value(&families::HEDGES_WON, self.hedges_won.get());
        out.value(&families::CONTINUATIONS, self.continuations.get());
        let list = tallies.list();
        let mut recounted = out.family(&families::RECOUNTED);
        for (seller, model, tally) in &list {
            for (count, tokens) in tally.recounts() {
                recounted.sample(&[seller, model, count], tokens);
            }
        }
        let mut exceeded = out.family(&families::RECOUNTS_EXCEEDED);
        for (seller, model, tally) in &list {
            exceeded.sample(&[seller, model], tally.exceeded());
        }
    }
}

fn push_health(out: &mut Exposition, health: &[OfferHealth]) {
    let seconds = |ms: f32| f64::from(ms) / 1_000.0;
    let mut family = out.family(&families::OFFER_UPTIME);
    for offer in health {
        family.reading(&offer.names(), offer.uptime.map(f64::from));
    }
    let mut family = out.family(&families::OFFER_FIRST_CONTENT);
    for offer in health {
        let [seller, model] = offer.names();
        family.reading(&[seller, model, "0.5"], offer.first_content_ms.map(|ms| seconds(ms.p50)));
        family.reading(&[seller, model, "0.99"], offer.first_content_ms.map(|ms| seconds(ms.p99)));
    }
    let mut family = out.family(&families::OFFER_THROUGHPUT);
    for offer in health {
        family.reading(&offer.names(), offer.tokens_per_s.map(f64::from));
    }
    let mut family = out.family(&families::OFFER_BREAKER);
    for offer in health {
        family.sample(&offer.names(), breaker_number(offer.breaker));
    }
    let mut family = out.family(&families::OFFER_IN_FLIGHT);
    for offer in health {
        family.sample(&offer.names(), offer.in_flight.into());
    }
    let mut family = out.family(&families::OFFER_IN_FLIGHT_MAX);
    for offer in health.iter().filter(|offer| offer.in_flight_max != u32::MAX) {
        family.sample(&offer.names(), offer.in_flight_max.into());
    }
}

fn breaker_number(breaker: Breaker) -> u64 {
    match breaker {
        Breaker::Closed => 0,
        Breaker::HalfOpen => 1,
        Breaker::Open { .. } => 2,
    }
}
