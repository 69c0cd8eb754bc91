//! The exchange under a plan, and the model beside it.
//!
//! What is waited for is kept by group: when the store has a group, the model of that moment is the truth after a crash.

use super::Tally;
use super::model::{Expected, Model, Window, is_in_workspace, window_of};
use super::plan::{Asked, CUSTOMERS, KEYS_PER_CUSTOMER, Plan, Step};
use super::store::{Store, StoreFault};
use crate::core::Core;
use crate::data_dir::Entropy;
use crate::exchange::Parts;
use crate::index::MemoryIndex;
use crate::limits::ScopeId;
use crate::names::{CLEARING, ESCROW, FEE, ROUNDING};
use crate::tests::support::{START, charge, hold, settlement};
use crate::{
    AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, NewWorkspace, PayoutTerms, ScopeText,
    hash_key,
};
use bourse_ledger::{AccountKind, Balance, Journal as _, Limits};
use bourse_proof::sign::Signer;
use bourse_rails::{FakeRail, Fault as RailFault, FaultyRail, Rail};
use bourse_types::{AccountId, Digest32, NanoUsd, UnixMs};
use bourse_wire::funds::{
    CommitTicket, Funds as _, FundsError, HoldExtension, HoldRequest, KeyGrant, Records as _, Settlement,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the workspace of each customer is called.
const WORKSPACE: &str = "team";
/// How long setting the market up may take before the plan begins.
const SETUP_MS: u64 = 5_000;
/// Who sells.
const SELLER: &str = "local";
/// More than all sellers can earn.
const ESCROW_USD: &str = "1";
/// Some sales.
const PAYOUT_MINIMUM: NanoUsd = NanoUsd(2_000);
/// Runs after which the slowest payout has ended, and whatever is left of the rail's faults is over.
const PAY_OUT_RUNS: usize = 120;
/// Beyond every expiry of a plan.
const LATE_MS: u64 = 10_000_000_000;

/// The step at which a run broke, and how.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) step: usize,
    pub(super) what: String,
}

pub(super) struct World<'a> {
    plan: &'a Plan,
    store: Store,
    exchange: Option<Exchange>,
    keys: Vec<KeyGrant>,
    model: Model,
    /// The other side of the payment rail, which no crash of the exchange takes back.
    payments: Arc<FakeRail>,
    rail: Arc<FaultyRail>,
    /// The model as it was when the group of that number was closed.
    at_group: BTreeMap<u64, Model>,
    /// Settlements that were answered and are not yet durable.
    answered: Vec<(CommitTicket, usize, u64)>,
    /// Those that were waited for.
    acknowledged: BTreeMap<usize, u64>,
    now: UnixMs,
    tally: Tally,
}

type Checked = Result<(), String>;

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let payments = Arc::new(FakeRail::default());
        let mut world = Self {
            rail: Arc::new(FaultyRail::before(payments.clone(), [])),
            payments,
            plan,
            store: Store::default(),
            exchange: None,
            keys: Vec::new(),
            model: Model::new(plan.limits),
            at_group: BTreeMap::new(),
            answered: Vec::new(),
            acknowledged: BTreeMap::new(),
            now: UnixMs(START.0 - SETUP_MS),
            tally: Tally { requests: plan.requests.len() as u64, ..Tally::default() },
        };
        let entropy = Entropy::Seed { seed: [plan.seed as u8; 32], drawn: 0 };
        world.open(entropy, world.now);
        (0..CUSTOMERS).for_each(|who| world.make_workspace(who));
        for key in 0..CUSTOMERS * KEYS_PER_CUSTOMER {
            world.make_key(key);
        }
        for customer in 0..CUSTOMERS {
            let now = world.next_setup();
            world.credit(customer, plan.credit, now, None).expect("a new market takes money");
        }
        let now = world.next_setup();
        let covers = AdminRequest::Deposit {
            account: "subsidy".to_owned(),
            amount_usd: ESCROW_USD.to_owned(),
            idempotency_key: None,
        };
        world.exchange().admin(covers, now).expect("a new market takes money");
        world.address(now).expect("a new market takes an address");
        world.at_group = BTreeMap::from([(world.store.last().seq, world.model.clone())]);
        world
    }

    pub(super) fn take(&mut self, step: &Step) -> Checked {
        match *step {
            Step::Hold { n, now } => self.hold(n, now)?,
            Step::Raise { n, step, now } => self.raise(n, step, now)?,
            Step::Meter { n, charge, now } => self.meter(n, charge, now)?,
            Step::Settle { n, other, now } => self.settle(n, other, now)?,
            Step::Credit { customer, amount, now, fault } => self.credit(customer, amount, now, fault)?,
            Step::Tick { now } => self.tick(now)?,
            Step::Flush { fault } => self.flush(fault)?,
            Step::Epoch { now, fault } => self.epoch(now, fault)?,
            Step::Pay { now, rail, fault } => self.pay(now, rail, fault)?,
            Step::Address { now } => self.address(now)?,
            Step::Kill { now } => self.restart(now)?,
        }
        self.compare()
    }

    /// The end: everything is flushed, every hold is over, and the audit finds what the model says.
    pub(super) fn close(mut self) -> Result<Tally, String> {
        self.flush(None)?;
        self.pay_out()?;
        self.tick(UnixMs(self.now.0 + LATE_MS))?;
        self.compare()?;
        self.flush(None)?;
        let exchange = self.exchange();
        same("phantom holds", exchange.open_holds(), 0)?;
        let report = exchange.check(self.now).map_err(|error| error.to_string())?;
        let damage = "the snapshot cannot be read";
        let is_seen = report.problems.iter().any(|problem| problem == damage);
        same("the damage that the audit sees", is_seen, self.store.is_damaged())?;
        let late = exchange.shared.core.lock().payouts.open().len();
        if !is_seen {
            same("problems of the audit", report.problems.len(), late)?;
        }
        let facts = report.facts.ok_or("no facts")?;
        same("state after replay", facts.state_digest, exchange.digest().to_string())?;
        same("receipts", facts.receipts, self.model.settled.len() as u64)?;
        for (n, charge) in &self.acknowledged {
            let asked = &self.plan.requests[*n];
            let found = exchange.generation(asked.id).map_err(|error| error.to_string())?;
            let found = found.ok_or_else(|| format!("request {n} was acknowledged and is lost"))?;
            same("an acknowledged charge", found.receipt.charge.total.0, *charge)?;
        }
        self.tally.acknowledged = self.acknowledged.len() as u64;
        self.tally.store_faults = self.store.faults_met();
        self.tally.snapshots_used = self.store.snapshots_read();
        Ok(self.tally)
    }

    pub(super) fn digest(&self) -> Digest32 {
        self.exchange().digest()
    }

    fn exchange(&self) -> &Exchange {
        self.exchange.as_ref().expect("it is open between steps")
    }

    fn open(&mut self, entropy: Entropy, now: UnixMs) {
        let config = ExchangeConfig {
            starting_credit: NanoUsd::ZERO,
            snapshot_events: self.plan.snapshot_events,
            payouts: PayoutTerms { minimum: PAYOUT_MINIMUM, rail: Rail::of(self.rail.clone()) },
            limits: Limits { known_ids_max: self.plan.known_ids_max, ..Limits::default() },
            ..ExchangeConfig::default()
        };
        self.store.arm(None);
        let parts = Parts {
            journal: Box::new(self.store.clone()),
            reader: Box::new(self.store.clone()),
            index: Box::new(MemoryIndex::default()),
            signer: Signer::from_bytes(&[7; 32]),
            entropy,
        };
        let exchange = Exchange::assemble(parts, config, now).expect("a whole journal opens");
        let books = exchange.shared.core.lock().state.now();
        self.model.restart(books);
        self.exchange = Some(exchange);
        self.at_group = BTreeMap::from([(self.store.last().seq, self.model.clone())]);
    }

    /// A workspace with two budgets and a rate of requests, an organisation with one and a rate of tokens.
    fn make_workspace(&mut self, who: usize) {
        let (limits, account) = (self.plan.limits, Some(customer(who)));
        let slug = WORKSPACE.to_owned();
        let workspace = || ScopeText::Workspace { workspace: slug.clone(), account: account.clone() };
        let organization = || ScopeText::Organization { account: account.clone() };
        let new = NewWorkspace { slug: slug.clone(), name: None, account: account.clone() };
        let budget = |of, interval: &str, limit| AdminRequest::SetBudget {
            of,
            interval: interval.to_owned(),
            limit_usd: Some(NanoUsd(limit).to_usd_string()),
            includes_byok: None,
        };
        let rates = |of, requests_per_minute, tokens_per_minute| AdminRequest::SetRates {
            of,
            requests_per_minute,
            tokens_per_minute,
        };
        for asked in [
            AdminRequest::CreateWorkspace(new),
            budget(workspace(), "daily", limits.workspace),
            budget(workspace(), "lifetime", 2 * limits.workspace),
            budget(organization(), "daily", limits.organisation),
            rates(workspace(), Some(limits.requests), None),
            rates(organization(), None, Some(limits.tokens)),
        ] {
            let now = self.next_setup();
            self.exchange().admin(asked, now).expect("a new market takes limits");
        }
        self.at_group = BTreeMap::from([(self.store.last().seq, self.model.clone())]);
    }

    /// A small window of ids would forget the last one if all were made at one time.
    fn next_setup(&mut self) -> UnixMs {
        self.now = UnixMs(self.now.0 + 10);
        self.now
    }

    fn make_key(&mut self, key: usize) {
        let (limit, reset) = match window_of(key) {
            Window::None => (None, "none"),
            Window::Day => (Some(self.plan.limits.key), "daily"),
            Window::Ever => (Some(self.plan.limits.key), "none"),
        };
        let now = self.next_setup();
        let create = AdminRequest::CreateKey(NewKey {
            label: format!("key {key}"),
            account: Some(customer(key / KEYS_PER_CUSTOMER)),
            limit_usd: limit.map(|limit| NanoUsd(limit).to_usd_string()),
            reset: Some(reset.to_owned()),
            workspace: is_in_workspace(key).then(|| WORKSPACE.to_owned()),
            ..NewKey::default()
        });
        let AdminReply::KeyCreated { secret, .. } = self.exchange().admin(create, now).expect("a key") else {
            unreachable!("a key was asked for")
        };
        let grant = self.exchange().authenticate(&hash_key(&secret.0), START).expect("the key is there");
        self.keys.push(grant);
        self.at_group = BTreeMap::from([(self.store.last().seq, self.model.clone())]);
    }

    fn asked(&self, n: usize) -> &'a Asked {
        &self.plan.requests[n]
    }

    /// The books' own time, where it is later than the caller's.
    fn time(&self, now: UnixMs) -> UnixMs {
        self.exchange().shared.core.lock().now().max(now)
    }

    fn hold(&mut self, n: usize, now: UnixMs) -> Checked {
        let asked = self.asked(n);
        let grant = self.keys[asked.key];
        let (expires, tokens) = (asked.expires, Some(asked.tokens));
        let request = HoldRequest { expires, tokens, ..hold(asked.id, grant, asked.amount, now) };
        let answer = self.exchange().hold(&request);
        let time = self.time(now);
        self.judge("hold", answer.as_ref().err(), |model| model.hold(n, asked, time))
    }

    fn raise(&mut self, n: usize, step: u16, now: UnixMs) -> Checked {
        let asked = self.asked(n);
        let more = asked.raises[step as usize - 1];
        let (request, amount) = (asked.id, NanoUsd(more));
        let answer = self.exchange().extend(&HoldExtension {
            request,
            step,
            amount,
            byok: NanoUsd::ZERO,
            tokens: more / 3,
            now,
        });
        let time = self.time(now);
        self.judge("raise", answer.as_ref().err(), |model| model.raise(n, step, more, time))
    }

    fn ended(&self, n: usize, total: u64, now: UnixMs) -> Settlement {
        let asked = self.asked(n);
        let mut ended = settlement(asked.id, self.keys[asked.key], total, now);
        ended.receipt.charge = charge(total);
        ended
    }

    fn meter(&mut self, n: usize, total: u64, now: UnixMs) -> Checked {
        let answer = self.exchange().metered(self.ended(n, total, now));
        self.judge("meter", answer.as_ref().err(), |model| model.meter(n, total))
    }

    fn settle(&mut self, n: usize, other: u64, now: UnixMs) -> Checked {
        let total = self.asked(n).charge + other;
        let ended = self.ended(n, total, now);
        let answer = self.exchange().settle(ended);
        // Repeating a settlement that is done moves no time.
        let time = self.exchange().shared.core.lock().now();
        if let Ok(settled) = &answer {
            same("the cost told", settled.cost.0, total)?;
            self.answered.push((settled.ticket, n, total));
        }
        let wrong_by = self.plan.is_wrong_by;
        self.judge("settle", answer.as_ref().err(), |model| model.settle(n, total, time, wrong_by))
    }

    fn tick(&mut self, now: UnixMs) -> Checked {
        let entries = |world: &Self| world.exchange().shared.core.lock().rate_entries();
        let of_rates = entries(self);
        let released = self.exchange().tick(now).map_err(|error| error.to_string())?;
        let released = released - (of_rates - entries(self));
        let (before, allowances) = self.model.holds_open();
        let books = self.exchange().shared.core.lock().state.now();
        let (expired, metered) = self.model.expire(now, books);
        self.tally.metered += metered as u64;
        let (after, left) = self.model.holds_open();
        same("holds given back", released, before + allowances - after - left)?;
        self.tally.expired += expired as u64;
        Ok(())
    }

    fn credit(&mut self, who: usize, amount: u64, now: UnixMs, fault: Option<StoreFault>) -> Checked {
        let before = self.model.clone();
        self.model.credited[who] += amount;
        let credit = AdminRequest::Credit {
            account: customer(who),
            amount_usd: NanoUsd(amount).to_usd_string(),
            idempotency_key: None,
        };
        let answer =
            self.write(fault, |exchange| exchange.admin(credit, now).map(drop).map_err(|e| e.to_string()));
        if answer.is_err() {
            self.model = before;
            return self.restart(now);
        }
        Ok(())
    }

    fn address(&mut self, now: UnixMs) -> Checked {
        let asked = AdminRequest::PayoutAddress { seller: SELLER.to_owned(), address: Some("a".to_owned()) };
        self.write(None, |exchange| exchange.admin(asked, now).map(drop).map_err(|error| error.to_string()))
    }

    /// Sellers are paid; what the rail did is there for ever, what the books say of it may be lost and found again.
    fn pay(&mut self, now: UnixMs, rail: [RailFault; 3], fault: Option<StoreFault>) -> Checked {
        for fault in rail {
            self.rail.then(fault);
        }
        // One group before the rail is called and one after.
        self.at_group.insert(self.store.last().seq + 2, self.model.clone());
        let before = self.payments.payments().len();
        let paid = self.write(fault, |exchange| exchange.run_payouts(now).map_err(|error| error.to_string()));
        self.tally.payments += (self.payments.payments().len() - before) as u64;
        if paid.is_err() {
            self.tally.broken_payments += 1;
            return self.restart(now);
        }
        self.now = self.time(self.now);
        Ok(())
    }

    /// Until everything that is on its way has ended, and nothing new begins.
    fn pay_out(&mut self) -> Checked {
        let now = self.time(self.now);
        let stop = AdminRequest::PayoutAddress { seller: SELLER.to_owned(), address: None };
        self.write(None, |exchange| exchange.admin(stop, now).map(drop).map_err(|error| error.to_string()))?;
        for _ in 0..PAY_OUT_RUNS {
            self.pay(now, [RailFault::None; 3], None)?;
        }
        let core = self.exchange().shared.core.lock();
        same("payouts on their way", core.payouts.holds(), 0)?;
        let late: u64 = core.payouts.open().map(|(_, payout)| payout.amount.0).sum();
        let booked = core.state.account(ESCROW).map_or(0, |(_, balance)| balance.credits_posted);
        let paid: u64 = self.payments.payments().iter().map(|payment| payment.amount.0).sum();
        same("what the other side was paid", u128::from(paid), booked + u128::from(late))
    }

    /// Nobody is paid twice, and nothing is paid that the books do not know.
    fn compare_payments(&self, core: &Core) -> Checked {
        let mut ids = BTreeSet::new();
        for payment in self.payments.payments() {
            if !ids.insert(payment.id) {
                return Err(format!("{} was paid twice", payment.id));
            }
            let known = core.payouts.get(payment.id).map(|payout| payout.amount);
            same("what the books know of a payment", known, Some(payment.amount))?;
        }
        let holds = core.state.pendings().into_iter().filter(|(_, hold)| hold.credit == ESCROW).count();
        same("holds of payouts", holds, core.payouts.holds())
    }

    fn flush(&mut self, fault: Option<StoreFault>) -> Checked {
        let written = self.write(fault, |exchange| exchange.flush().map(drop).map_err(|e| e.to_string()));
        if written.is_err() { self.restart(self.now) } else { Ok(()) }
    }

    /// What is signed is what the model owes.
    fn epoch(&mut self, now: UnixMs, fault: Option<StoreFault>) -> Checked {
        let mut signed = None;
        let written = self.write(fault, |exchange| {
            signed = exchange.close_epoch(now).map_err(|error| error.to_string())?;
            Ok(())
        });
        if written.is_err() {
            return self.restart(now);
        }
        let Some(signed) = signed else { return Ok(()) };
        let customers = (0..CUSTOMERS).map(|who| self.model.credited[who] - self.model.spent[who]);
        let paid = self.exchange().shared.core.lock().state.account(ESCROW);
        let paid = paid.map_or(0, |(_, balance)| balance.credits_posted);
        let owed = u128::from(customers.sum::<u64>() + self.model.sellers) - paid;
        same("what is signed to be owed", signed.epoch.total_nano_usd, owed)
    }

    /// Has something written. Who waited for it hears of it only when all went well.
    fn write(
        &mut self,
        fault: Option<StoreFault>,
        write: impl FnOnce(&Exchange) -> Result<(), String>,
    ) -> Result<(), String> {
        self.at_group.insert(self.store.last().seq + 1, self.model.clone());
        self.store.arm(fault);
        let written = write(self.exchange());
        self.store.arm(None);
        let durable = self.exchange().shared.progress.borrow().durable;
        let (told, waiting) = self.answered.drain(..).partition(|(ticket, ..)| ticket.0 <= durable);
        self.answered = waiting;
        let told: Vec<_> = told;
        self.acknowledged.extend(told.into_iter().map(|(_, n, charge)| (n, charge)));
        written
    }

    /// The exchange dies; the next one opens what the store has.
    fn restart(&mut self, now: UnixMs) -> Checked {
        let old = self.exchange.take().expect("it is open between steps");
        old.shared.core.lock().stop(FundsError::Closing);
        let entropy = old.shared.entropy.lock().clone();
        drop(old);
        let seq = self.store.last().seq;
        let known = self.at_group.remove(&seq);
        self.model = known.ok_or_else(|| format!("nobody knows of group {seq}"))?;
        self.answered.clear();
        self.open(entropy, now);
        self.tally.restarts += 1;
        Ok(())
    }

    /// Whether the answer is what the model expects. A bound may turn anything away, and then nothing has changed.
    fn judge(
        &mut self,
        what: &str,
        error: Option<&FundsError>,
        model: impl FnOnce(&mut Model) -> Expected,
    ) -> Checked {
        self.now = self.time(self.now);
        if matches!(error, Some(FundsError::TooMany(_))) {
            self.tally.refused += 1;
            return Ok(());
        }
        let expected = model(&mut self.model);
        let is_as_expected = match error {
            None => matches!(expected, Expected::Done | Expected::Again),
            Some(FundsError::InsufficientFunds { .. }) => expected == Expected::NoMoney,
            Some(FundsError::OverBudget { .. }) => expected == Expected::OverLimit,
            Some(FundsError::RateLimited { .. }) => expected == Expected::OverRate,
            Some(FundsError::ExceedsHold { .. }) => expected == Expected::OverHold,
            Some(FundsError::Conflict) => expected == Expected::Conflict,
            // What the ledger has forgotten was never there.
            Some(FundsError::NoHold) => {
                matches!(expected, Expected::NoHold | Expected::Conflict | Expected::Again)
            }
            Some(_) => false,
        };
        self.tally.refused += u64::from(error.is_some());
        self.tally.repeated += u64::from(expected == Expected::Again);
        if is_as_expected {
            Ok(())
        } else {
            Err(format!("{what}: {error:?}, and the model says {expected:?}"))
        }
    }

    /// Every account against the model, and every hold.
    fn compare(&self) -> Checked {
        let core = self.exchange().shared.core.lock();
        let balance = |id: AccountId| core.state.account(id).map(|(_, balance)| balance).unwrap_or_default();
        for who in 0..CUSTOMERS {
            let account = core.names.account(&customer(who)).ok_or("a customer is gone")?;
            let Balance { debits_posted, debits_pending, credits_posted, .. } = balance(account);
            same("credit", credits_posted, u128::from(self.model.credited[who]))?;
            same("spending", debits_posted, u128::from(self.model.spent[who]))?;
            same("money held", debits_pending, u128::from(self.model.held(who)))?;
            if debits_posted + debits_pending > credits_posted {
                return Err(format!("customer {who} is overdrawn"));
            }
        }
        let sellers = core.state.accounts().filter(|(account, _)| account.kind == AccountKind::SellerPayable);
        let sellers: u128 = sellers.map(|(_, balance)| balance.credits_posted).sum();
        same("what sellers are owed", sellers, u128::from(self.model.sellers))?;
        same("fees", balance(FEE).credits_posted, u128::from(self.model.fees))?;
        same("rounding", balance(ROUNDING).credits_posted, u128::from(self.model.rounding))?;
        same("clearing", balance(CLEARING).net_posted(), 0)?;
        let (money, allowances) = self.model.holds_open();
        same("open requests", core.requests_open(), money)?;
        let of_rates = core.rate_entries();
        same(
            "open holds",
            core.state.pendings_count() - of_rates - core.payouts.holds(),
            money + allowances,
        )?;
        self.compare_payments(&core)?;
        for who in 0..CUSTOMERS {
            let account = core.names.account(&customer(who)).ok_or("a customer is gone")?;
            let workspace = core.scopes.named(account, WORKSPACE).ok_or("a workspace is gone")?;
            let used = |scope| core.rate_statuses(&scope, UnixMs(0)).first().map(|rate| rate.used);
            let is = [used(ScopeId::Workspace(workspace)), used(ScopeId::Organisation(account))];
            let should = self.model.asked_for(who, core.now());
            same("what rates have let in", is, should.map(Some))?;
        }
        core.state.check_books().map(drop).map_err(|error| error.to_string())
    }
}

fn customer(n: usize) -> String {
    format!("customer-{n}")
}

#[expect(clippy::needless_pass_by_value, reason = "numbers, nearly all")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Checked {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?}, and the model says {should:?}")) }
}
