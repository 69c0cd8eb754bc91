//! Phase 7: every request that was held settles exactly once.
//!
//! [`Open`] is the obligation: from the first hold on, whoever owns it either settles it or drops it, and a
//! drop (the buyer went away, a bug, the market closing) settles what was delivered. The exchange makes
//! repeating harmless; this makes forgetting impossible.

use super::admit;
use super::gather::Whole;
use super::hold::Held;
use super::prove::{Draft, hash};
use crate::conversation::Conversation;
use crate::executions::Considered;
use crate::gateway::Shared;
use crate::market::Attempt;
use crate::recount::Gauge;
use crate::traces::RequestTrace;
use bourse_market::{Basis, Bill, Doubts, Free, MeterError, Served, StreamEnd, ToolCalls};
use bourse_types::{Charge, Digest32, DurationMs, Gift, NanoUsd, PriceSchedule, TokenCount, Usage};
use bourse_wire::dialect::neutral::Notice;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{Billing, FundsError, Settled, Settlement};
use bourse_wire::receipt::Finish;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Completion tokens after which a stream is metered again: the most that a crash costs a seller, with what comes within
/// [`METERED_EVERY`].
pub(crate) const METERED_TOKENS: u64 = 64;
/// Least time between two records of one stream.
pub(crate) const METERED_EVERY: Duration = Duration::from_millis(50);

/// A request whose money is held.
pub(crate) struct Open {
    pub(crate) shared: Arc<Shared>,
    pub(crate) held: Held,
    pub(crate) draft: Draft,
    pub(crate) started: Instant,
    /// Everything ends by then, all attempts included.
    pub(crate) deadline: Instant,
    /// Counts what goes to the buyer, under the prices of the seller that delivers it.
    pub(crate) counting: Option<(Gauge, PriceSchedule)>,
    /// What the seller that delivers gives away or is paid for by the market, where the buyer pays nothing.
    pub(crate) free: Free,
    hasher: Option<Box<Sha256>>,
    /// The answer's hash when it went out in one piece.
    whole_hash: Option<Digest32>,
    is_settled: bool,
    metered: Box<LastMetered>,
    /// Which conversation it goes on with, if any.
    pub(crate) conversation: Option<Box<Conversation>>,
    /// Why all that the answer may cost was held at once; none: the hold grows with it.
    pub(crate) whole: Option<Whole>,
    /// Who could serve it, for the report.
    pub(crate) considered: Option<Considered>,
    /// What was left out of the request for the seller that answers.
    pub(crate) notices: Vec<Notice>,
    /// The whole request's; gone where somebody else ends it.
    pub(crate) trace: Option<RequestTrace>,
}

/// What was last [metered](Open::meter) of a stream, and when.
#[derive(Debug, Clone, Copy, Default)]
struct LastMetered {
    tokens: u64,
    at: Option<Instant>,
    bill: Option<Bill>,
}

impl Open {
    pub(crate) fn new(shared: Arc<Shared>, held: Held, draft: Draft, started: Instant) -> Self {
        let deadline = started + shared.config.timeouts.total;
        Self {
            shared,
            held,
            draft,
            started,
            deadline,
            counting: None,
            free: Free::No,
            hasher: None,
            whole_hash: None,
            is_settled: false,
            metered: Box::default(),
            conversation: None,
            whole: None,
            considered: None,
            notices: Vec::new(),
            trace: None,
        }
    }

    /// Milliseconds since the request arrived.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Adds bytes that go to the buyer to the answer's hash.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        self.hasher.get_or_insert_default().update(bytes);
    }

    /// Takes the hash of an answer that goes to the buyer in one piece.
    pub(crate) fn sent_whole(&mut self, bytes: &[u8]) {
        self.whole_hash = Some(hash(bytes));
    }

    /// The bill for what was delivered. Adds to the hold when it does not cover the bill; when that is
    /// refused, the bill is cut to the hold.
    pub(crate) fn bill(&mut self, end: StreamEnd) -> Result<Bill, MeterError> {
        let Some((gauge, prices)) = &self.counting else { return Ok(nothing()) };
        let whole = gauge.settle(end, prices, NanoUsd::MAX)?;
        let total = whole.charge.total;
        let now = || self.shared.ports.clock.now();
        let is_covered = self.held.is_open() && total <= self.held.covered()
            || self.held.cover(&*self.shared.ports.funds, total, now()).is_ok();
        let bill = if is_covered { whole } else { gauge.settle(end, prices, self.held.covered())? };
        if bill.doubts != Doubts::NONE {
            self.shared.metrics.doubts(bill.doubts);
        }
        Ok(bill)
    }

    /// Whether the buyer's own key serves.
    pub(crate) fn is_byok(&self) -> bool {
        self.held.fee_bps.is_some()
    }

    /// The bill as the buyer sees it: what it is charged, and that is the market's fee where its own key served.
    pub(crate) fn shown(&self, bill: &Bill) -> Bill {
        let Some(bps) = self.held.fee_bps else { return *bill };
        let (ports, list) = (&self.shared.ports, bill.charge.total);
        let told = ports.funds.byok_fee(&self.held.grant, list, ports.clock.now());
        charged(bill, told.or(list.share_bps_floor(bps).ok()).unwrap_or(list))
    }

    /// What a bill of nothing would have been at list price.
    fn gift(&self, bill: &Bill) -> Option<Gift> {
        let Free::Listed { list, giver } = self.free else { return None };
        if bill.basis == Basis::Nothing || bill.charge.total > NanoUsd::ZERO {
            return None;
        }
        match list.charge(&bill.usage) {
            Ok(charge) => Some(Gift { list: charge.total, giver }),
            Err(error) => {
                // Counted as tokens of no known value then.
                tracing::warn!(request = %self.held.request, %error, "a free answer could not be priced at list price");
                None
            }
        }
    }

    /// Tells the market how good an answer was that ended well.
    pub(crate) fn served(
        &self,
        attempt: Attempt,
        (ttft, whole): (DurationMs, DurationMs),
        tools: ToolCalls,
        bill: &Bill,
    ) {
        attempt.recounted(bill);
        let tokens = |n: TokenCount| u32::try_from(n.0).unwrap_or(u32::MAX);
        let served = Served {
            ttft,
            whole,
            prompt_tokens: tokens(bill.usage.prompt),
            cached_tokens: tokens(bill.usage.cached_prompt),
            completion_tokens: tokens(bill.usage.completion),
            tools,
            ..Served::default()
        };
        attempt.served(self.shared.ports.clock.now(), served, self.conversation.as_deref());
    }

    /// Posts, gives back and logs.
    pub(crate) fn settle(&mut self, bill: &Bill, finish: Finish) -> Result<Settled, FundsError> {
        self.is_settled = true;
        let response_hash = self.whole_hash.unwrap_or_else(|| match self.hasher.take() {
            Some(hasher) => Digest32(hasher.finalize().into()),
            None => hash(b""),
        });
        let total_ms = self.elapsed_ms();
        let (request, grant) = (self.held.request, self.held.grant);
        // Nobody's key served where nothing was delivered.
        let is_byok = self.is_byok() && self.draft.seller.is_some();
        let tokenizer = self.counting.as_ref().and_then(|(gauge, _)| gauge.pin());
        let receipt = self.draft.receipt(request, &grant, (bill, tokenizer), finish, response_hash, total_ms);
        if receipt.is_suspended() {
            let seller = receipt.seller.as_ref().map(tracing::field::display);
            tracing::warn!(%request, seller, "a seller claimed more than the market counted: its share waits in suspense");
        }
        let now = self.shared.ports.clock.now();
        let executed = self.considered.take().and_then(|considered| considered.executed(&receipt, now));
        let mut note = *std::mem::take(&mut self.draft.note);
        note.gift = self.gift(bill);
        if let Some(id) = &note.upstream_id {
            self.shared.recent.put(&grant.account_digest, id.as_str(), request);
        }
        let billing = if is_byok { Billing::Byok } else { Billing::Credits };
        let settled =
            self.shared.ports.funds.settle(Settlement { note, billing, ..Settlement::new(receipt, now) });
        self.shared.metrics.settled(bill, finish);
        if let Some(trace) = &mut self.trace {
            trace.settled(bill, finish);
        }
        if let Err(error) = &settled {
            // The hold gives itself back when it expires; the market bears what was delivered.
            tracing::error!(%request, %error, "a request could not be settled");
            self.shared.metrics.settle_failures.add(1);
        } else if let Some(executed) = executed {
            self.shared.executions.push(executed);
        }
        settled
    }

    /// Tells the exchange what the request would settle as if nobody came back for it, where that is due: what was
    /// delivered, as to a buyer that goes away.
    pub(crate) fn meter(&mut self) {
        let Some((gauge, prices)) = &self.counting else { return };
        let last = &mut *self.metered;
        let tokens = gauge.meter.generated();
        let is_due = tokens >= last.tokens.saturating_add(METERED_TOKENS)
            && last.at.is_none_or(|at| at.elapsed() >= METERED_EVERY);
        if !is_due || !self.held.is_open() {
            return;
        }
        (last.tokens, last.at) = (tokens, Some(Instant::now()));
        // What has no price so far is told at the end, too.
        let Ok(bill) = gauge.settle(StreamEnd::Cancelled, prices, self.held.covered()) else { return };
        last.bill = Some(bill);
        let response_hash = self
            .hasher
            .as_ref()
            .map_or_else(|| hash(b""), |so_far| Digest32(so_far.clone().finalize().into()));
        let mut draft = self.draft.clone();
        let (request, grant, total_ms) = (self.held.request, self.held.grant, self.elapsed_ms());
        let receipt =
            draft.receipt(request, &grant, (&bill, gauge.pin()), Finish::Bourse, response_hash, total_ms);
        let billing = if self.is_byok() { Billing::Byok } else { Billing::Credits };
        let (mut note, now) = (*draft.note, self.shared.ports.clock.now());
        note.gift = self.gift(&bill);
        let so_far = Settlement { note, billing, ..Settlement::new(receipt, now) };
        if let Err(error) = self.shared.ports.funds.metered(so_far) {
            // The one before, or none, is what counts then; the settlement itself does not depend on it.
            tracing::debug!(%request, %error, "what a stream has cost so far could not be noted");
        }
    }

    /// Whether it may be charged although its settlement failed so: nobody answers for it, or the hold is gone, and with it
    /// what was metered may have been settled.
    pub(crate) fn is_in_doubt(&self, error: &FundsError) -> bool {
        error.leaves_doubt() || self.metered.bill.is_some()
    }

    /// The most that it costs while nobody answers for its settlement: the bill, or what was metered where that is more,
    /// because the exchange settles that if it hears no more.
    pub(crate) fn at_most(&self, bill: &Bill) -> Bill {
        let metered = self.metered.bill.filter(|metered| metered.charge.total > bill.charge.total);
        metered.map_or(*bill, |metered| self.shown(&metered))
    }

    /// Settles a request of which nothing was delivered.
    pub(crate) fn give_back(&mut self, finish: Finish) {
        self.counting = None;
        if self.held.is_open() && !self.is_settled {
            // The failure is logged and counted by `settle`; there is nothing else to do about it here.
            let _ = self.settle(&nothing(), finish);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.is_settled || !self.held.is_open() {
            return;
        }
        let (end, finish) = if self.shared.is_closing() || std::thread::panicking() {
            (StreamEnd::Market, Finish::Bourse)
        } else {
            (StreamEnd::Cancelled, Finish::Cancelled)
        };
        let bill = self.bill(end).unwrap_or_else(|_| nothing());
        // As in `give_back`.
        let _ = self.settle(&bill, finish);
    }
}

/// The same bill with a fee in place of the price.
pub(crate) fn charged(bill: &Bill, fee: NanoUsd) -> Bill {
    Bill { charge: Charge { request: fee, total: fee, ..Charge::ZERO }, ..*bill }
}

/// What is told of an answer whose settlement failed and that costs at most so much. Not for clients to repeat by
/// themselves where it costs anything.
pub(crate) fn unsettled(at_most: NanoUsd) -> ApiError {
    if at_most > NanoUsd::ZERO {
        let usd = at_most.to_usd_string();
        let message = format!(
            "the books do not answer: this answer costs at most ${usd}, once, and its receipt tells whether; ask for that first"
        );
        return ApiError::new(ErrorType::Timeout, message);
    }
    admit::books_stopped()
}

/// A bill of nothing.
pub(crate) fn nothing() -> Bill {
    Bill {
        usage: Usage::default(),
        charge: Charge::ZERO,
        claimed: None,
        basis: Basis::Nothing,
        doubts: Doubts::NONE,
        recount: None,
    }
}
