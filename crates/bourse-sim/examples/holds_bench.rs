//! What is held against what is charged: `cargo run --release -p bourse-sim --example holds_bench -- --trace FILE.csv`.
//!
//! Every request of a trace (arrival, prompt tokens, generated tokens) goes through the market's own hold window and meter
//! and a real exchange in memory, in virtual time, overlapping as in the trace. Prints a table, and the figures as JSON
//! into `--out`. The ratio of a request is the most that was ever held for it over what it was charged at the end; the
//! weighted one is all money held over its time against all money charged over the same time.
//!
//! The trace says neither what was asked nor in what pieces it was answered, so there are cases:
//!
//! | case | prompt | answer |
//! | --- | --- | --- |
//! | `counted` | counted by the model's tokenizer, with the tolerance that sellers have | a node's frames, which carry their counts |
//! | `hosted` | counted | a hosted seller's events: text of [`BYTES_PER_TOKEN`], mostly a token each |
//! | `bytes` | bounded by its bytes, [`BYTES_PER_TOKEN`] | the same |
//! | `gathered 1024` | counted | as `hosted`, gathered into one piece, with `max_tokens` of 1,024 |
//! | `gathered` | counted | the same, of any length |
//! | `plain 1024` | counted | in one piece that nobody saw grow, with `max_tokens` of 1,024 |
//! | `plain` | counted | the same, of any length |
//!
//! Beside them, on disk and in real time, what raises cost the ledger: the same holds and settlements without any and
//! with as many as the trace needs.

#[path = "../../bourse-exchange/tests/support/mod.rs"]
mod support;

use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_market::{
    ClaimedUsage, Counting, Demand, HoldWindow, Meter, MeterRules, Offer, Preferences, StreamEnd,
};
use bourse_sim::seed::Random;
use bourse_types::{
    DurationMs, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule, SellerName, UnixMs, Usage,
};
use bourse_wire::funds::{Funds, FundsError, HoldExtension, HoldRequest, KeyGrant};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::time::Instant;
use support::{START, block_on, request, settlement};

/// Bytes of text of a token, in hundredths: English in the vocabularies of today.
const BYTES_PER_TOKEN: u64 = 420;
/// What a seller's count of a prompt may exceed the market's by.
const TOLERANCE_BPS: u64 = 300;
const TOLERANCE_TOKENS: u64 = 16;
const CONTEXT_TOKENS: u64 = 131_072;
/// Until the first token: a base, and reading the prompt.
const FIRST_TOKEN_MS: u64 = 200;
const PROMPT_TOKENS_PER_MS: u64 = 5;
/// Between tokens, at least; twice this at most.
const TOKEN_MS: u64 = 15;
/// Names, and dollars per million prompt and completion tokens.
const OFFERS: [(&str, u64, u64); 3] =
    [("1:1", 880_000, 880_000), ("1:4", 2_500_000, 10_000_000), ("1:5", 3_000_000, 15_000_000)];
const CASES: [Case; 7] = [
    Case::Counted,
    Case::Hosted,
    Case::Bytes,
    Case::Gathered(Some(1_024)),
    Case::Gathered(None),
    Case::Plain(Some(1_024)),
    Case::Plain(None),
];
const FLUSH_EVERY: u64 = 512;
const RATE_REQUESTS: u64 = 100_000;
const RATE_THREADS: u64 = 2;
const UNACKNOWLEDGED: u64 = 100;
/// `/proc/self/stat` counts CPU in ticks of this many microseconds.
const TICK_US: f64 = 10_000.0;

type Failure = Box<dyn std::error::Error>;

#[derive(clap::Parser)]
struct Args {
    /// Comma-separated rows of a time, prompt tokens and generated tokens under one line of heads, as of Azure's traces.
    #[arg(long)]
    trace: PathBuf,
    /// Nothing on disk: the ratios alone, which depend on no machine.
    #[arg(long)]
    ratios_only: bool,
    /// Where the figures go as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Counted,
    Hosted,
    Bytes,
    Gathered(Option<u64>),
    Plain(Option<u64>),
}

impl Case {
    fn name(self) -> String {
        match self {
            Self::Counted => "counted".to_owned(),
            Self::Hosted => "hosted".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Gathered(None) => "gathered".to_owned(),
            Self::Gathered(Some(max)) => format!("gathered {max}"),
            Self::Plain(None) => "plain".to_owned(),
            Self::Plain(Some(max)) => format!("plain {max}"),
        }
    }

    fn counting(self) -> Counting {
        match self {
            Self::Counted => Counting::Exact,
            Self::Hosted | Self::Bytes | Self::Gathered(_) => Counting::Streamed,
            Self::Plain(_) => Counting::Whole,
        }
    }
}

/// A line of the trace.
#[derive(Debug, Clone, Copy)]
struct Row {
    at: DurationMs,
    prompt: u64,
    generated: u64,
}

fn main() -> Result<(), Failure> {
    let args = <Args as clap::Parser>::parse();
    let rows = read(&std::fs::read_to_string(&args.trace)?)?;
    println!("{} requests; held / charged: the peak of each request, and weighted by time", rows.len());
    println!(
        "{:<14}{:<7}{:>8}{:>8}{:>8}{:>10}{:>9}{:>9}{:>9}",
        "case", "prices", "p50", "p95", "p99", "weighted", "raises", "p99", "events"
    );
    let mut cases = Vec::new();
    for case in CASES {
        for (name, prompt, completion) in OFFERS {
            let figures = Run::of(case, &offer(prompt, completion)?, &rows)?.figures()?;
            let number = |key: &str| figures[key].as_f64().unwrap_or_default();
            println!(
                "{:<14}{name:<7}{:>8.3}{:>8.3}{:>8.3}{:>10.3}{:>9.2}{:>9}{:>9.2}",
                case.name(),
                number("p50"),
                number("p95"),
                number("p99"),
                number("weighted"),
                number("raises_mean"),
                number("raises_p99"),
                number("events_per_request"),
            );
            cases.push(json!({ "case": case.name(), "prices": name, "figures": figures }));
        }
    }
    let mut figures = json!({ "requests": rows.len(), "cases": cases });
    if !args.ratios_only {
        let raises = figures["cases"][1]["figures"]["raises_mean"].as_f64().unwrap_or_default();
        let (without, with) = (rate(0.0)?, rate(raises)?);
        println!(
            "on disk, {RATE_THREADS} callers: {without} without raises, {with} with {raises:.2} a request"
        );
        (figures["without_raises"], figures["with_raises"]) = (without, with);
    }
    if let Some(out) = args.out {
        std::fs::write(out, format!("{figures:#}\n"))?;
    }
    Ok(())
}

fn read(text: &str) -> Result<Vec<Row>, Failure> {
    let row = |line: &str| {
        let mut fields = line.trim().split(',');
        let (time, prompt, generated) = (fields.next()?, fields.next()?, fields.next()?);
        // The day does not matter: an hour of one day.
        let mut clock = time.split_once(' ')?.1.split(':');
        let (hours, minutes, seconds) = (clock.next()?, clock.next()?, clock.next()?);
        let seconds = 3_600 * hours.parse::<u64>().ok()?
            + 60 * minutes.parse::<u64>().ok()?
            + seconds.parse::<f64>().ok().map(|s| s as u64)?;
        let millis = seconds * 1_000;
        Some(Row { at: DurationMs(millis), prompt: prompt.parse().ok()?, generated: generated.parse().ok()? })
    };
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    rows.map(|line| row(line).ok_or_else(|| format!("no row of a trace: {line}").into())).collect()
}

/// A prompt's count with what a seller may count beyond it.
fn allowed(prompt: u64) -> u64 {
    prompt + (prompt * TOLERANCE_BPS).div_ceil(10_000) + TOLERANCE_TOKENS
}

fn offer(prompt: u64, completion: u64) -> Result<Offer, Failure> {
    let prices = PriceSchedule::per_token(PicoUsdPerToken(prompt), PicoUsdPerToken(completion));
    Ok(Offer::new(ModelSlug::parse("m/one")?, SellerName::parse("local")?, Some(prices), CONTEXT_TOKENS))
}

/// A request under way.
struct Flight {
    window: HoldWindow,
    meter: Meter,
    random: Random,
    held: NanoUsd,
    steps: u16,
    left: u64,
    begun: UnixMs,
    since: UnixMs,
    /// Money held times milliseconds.
    held_ms: u128,
}

/// What came of a request.
struct Landed {
    ratio: f64,
    raises: u16,
    held_ms: u128,
    charged_ms: u128,
}

/// One case under one offer.
struct Run<'a> {
    case: Case,
    offer: &'a Offer,
    exchange: Exchange,
    grant: KeyGrant,
    events_before: u64,
    agenda: BinaryHeap<Reverse<(UnixMs, usize)>>,
    flights: Vec<Option<Flight>>,
    landed: Vec<Landed>,
}

impl<'a> Run<'a> {
    fn of(case: Case, offer: &'a Offer, rows: &[Row]) -> Result<Self, Failure> {
        let config =
            ExchangeConfig { starting_credit: NanoUsd::from_usd(1_000_000), ..ExchangeConfig::default() };
        let exchange = Exchange::in_memory(config, [9; 32], START)?;
        let grant = key(&exchange)?;
        let events_before = events(&exchange)?;
        let flights = rows.iter().map(|_| None).collect();
        let (agenda, landed) = (BinaryHeap::new(), Vec::new());
        let mut run = Self { case, offer, exchange, grant, events_before, agenda, flights, landed };
        let first = rows.first().map_or(DurationMs(0), |row| row.at);
        for (n, row) in rows.iter().enumerate() {
            run.agenda.push(Reverse((START.plus(DurationMs(row.at.0.saturating_sub(first.0))), n)));
        }
        let mut turns = 0;
        while let Some(Reverse((now, n))) = run.agenda.pop() {
            let next = if run.flights[n].is_some() {
                run.look(n, now, rows[n])?
            } else {
                run.begin(n, now, rows[n])?
            };
            if let Some(after) = next {
                run.agenda.push(Reverse((now.plus(after), n)));
            }
            turns += 1;
            if turns % FLUSH_EVERY == 0 {
                run.exchange.flush()?;
            }
        }
        Ok(run)
    }

    /// The first hold; until the first piece.
    fn begin(&mut self, n: usize, now: UnixMs, row: Row) -> Result<Option<DurationMs>, Failure> {
        let wishes = Preferences::default();
        let max_tokens = if let Case::Plain(max) | Case::Gathered(max) = self.case { max } else { None };
        let demand = Demand {
            prompt_bytes: row.prompt * BYTES_PER_TOKEN / 100,
            messages: 1,
            prompt_tokens_max: (self.case != Case::Bytes).then_some(allowed(row.prompt)),
            max_tokens,
            ..Demand::new("m/one", &wishes)
        };
        let is_plain = matches!(self.case, Case::Plain(_));
        let window = if is_plain { HoldWindow::whole } else { HoldWindow::first }(self.offer, &demand)?;
        let (held, steps) = (window.held(), 0);
        let (id, grant) = (request(n as u64, START), self.grant);
        let expires = now.plus(DurationMs(600_000));
        self.exchange.hold(&HoldRequest {
            request: id,
            grant,
            amount: held,
            byok: NanoUsd::ZERO,
            tokens: None,
            expires,
            now,
            claim: None,
        })?;
        let mut meter = Meter::new(MeterRules::new(self.offer, &demand, self.case.counting()));
        if self.case == Case::Counted {
            meter.on_prompt(row.prompt, 0);
        }
        let random = Random::new(n as u64);
        let left = row.generated;
        self.flights[n] =
            Some(Flight { window, meter, random, held, steps, left, begun: now, since: now, held_ms: 0 });
        let whole = if is_plain { row.generated * TOKEN_MS * 3 / 2 } else { 0 };
        Ok(Some(DurationMs(FIRST_TOKEN_MS + row.prompt / PROMPT_TOKENS_PER_MS + whole)))
    }

    /// One piece of the answer, or its end.
    fn look(&mut self, n: usize, now: UnixMs, row: Row) -> Result<Option<DurationMs>, Failure> {
        let Some(flight) = &mut self.flights[n] else { return Ok(None) };
        if flight.left == 0 {
            return self.land(n, now, row).map(|()| None);
        }
        let is_plain = matches!(self.case, Case::Plain(_));
        // Mostly a token at a time; now and then a few that were waiting.
        let tokens = match flight.random.below(20) {
            _ if is_plain => flight.left,
            0..17 => 1,
            17..19 => 2 + flight.random.below(3),
            _ => 5 + flight.random.below(8),
        };
        let tokens = tokens.min(flight.left);
        flight.left -= tokens;
        let bytes = (tokens * BYTES_PER_TOKEN + flight.random.below(100)) / 100;
        match self.case {
            Case::Counted => flight.meter.on_tokens(tokens, bytes),
            _ => flight.meter.on_content(bytes),
        }
        if let Some(extension) = flight.window.extension(flight.meter.to_cover())? {
            let total = flight.window.held().checked_add(extension.amount)?;
            raise(&self.exchange, n, flight, total, now)?;
            flight.window.grant(&extension)?;
        }
        Ok(Some(DurationMs(if is_plain { 0 } else { tokens * (TOKEN_MS + flight.random.below(TOKEN_MS)) })))
    }

    fn land(&mut self, n: usize, now: UnixMs, row: Row) -> Result<(), Failure> {
        let Some(mut flight) = self.flights[n].take() else { return Ok(()) };
        let prices = self.offer.prices.ok_or("an offer has prices")?;
        let claim = ClaimedUsage { prompt: row.prompt, completion: row.generated, ..ClaimedUsage::default() };
        flight.meter.on_claim(claim);
        let charge = flight.meter.settle(StreamEnd::Complete, &prices, NanoUsd::MAX)?.charge.total;
        let truth = prices.charge(&Usage::of_tokens(row.prompt, 0, row.generated))?.total;
        if charge != truth {
            return Err(format!("request {n} is charged {charge} and cost {truth}").into());
        }
        if charge > flight.held {
            raise(&self.exchange, n, &mut flight, charge, now)?;
        }
        flight.pass(now);
        let settlement = settlement(request(n as u64, START), self.grant, charge.0, now);
        self.exchange.settle(settlement)?;
        self.landed.push(Landed {
            ratio: flight.held.0 as f64 / charge.0.max(1) as f64,
            raises: flight.steps,
            held_ms: flight.held_ms,
            charged_ms: u128::from(charge.0) * u128::from(now.since(flight.begun).0),
        });
        Ok(())
    }

    fn figures(mut self) -> Result<Value, Failure> {
        if self.exchange.open_holds() > 0 {
            return Err("a hold was left open".into());
        }
        let requests = self.landed.len();
        let events = events(&self.exchange)? - self.events_before;
        let sum = |of: fn(&Landed) -> u128| self.landed.iter().map(of).sum::<u128>() as f64;
        let weighted = sum(|one| one.held_ms) / sum(|one| one.charged_ms);
        let raises = sum(|one| u128::from(one.raises));
        let place = |share: usize| (requests - 1) * share / 100;
        self.landed.sort_by_key(|one| one.raises);
        let (raises_p99, raises_max) = (self.landed[place(99)].raises, self.landed[requests - 1].raises);
        self.landed.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let ratio = |share: usize| self.landed[place(share)].ratio;
        Ok(json!({
            "p50": ratio(50),
            "p95": ratio(95),
            "p99": ratio(99),
            "max": self.landed[requests - 1].ratio,
            "weighted": weighted,
            "raises_mean": raises / requests as f64,
            "raises_p99": raises_p99,
            "raises_max": raises_max,
            "events_per_request": events as f64 / requests as f64,
        }))
    }
}

impl Flight {
    /// Time has passed under what was held.
    fn pass(&mut self, now: UnixMs) {
        self.held_ms += u128::from(self.held.0) * u128::from(now.since(self.since).0);
        self.since = now;
    }
}

/// Makes the hold `total`.
fn raise(
    exchange: &Exchange,
    n: usize,
    flight: &mut Flight,
    total: NanoUsd,
    now: UnixMs,
) -> Result<(), Failure> {
    flight.pass(now);
    let (step, amount) = (flight.steps + 1, total.checked_sub(flight.held)?);
    let request = request(n as u64, START);
    exchange.extend(&HoldExtension { request, step, amount, byok: NanoUsd::ZERO, tokens: 0, now })?;
    (flight.held, flight.steps) = (total, step);
    Ok(())
}

fn events(exchange: &Exchange) -> Result<u64, Failure> {
    let report = exchange.check(START)?;
    if !report.is_clean() {
        return Err(format!("{:?}", report.problems).into());
    }
    Ok(report.facts.ok_or("books that cannot be read")?.events)
}

fn key(exchange: &Exchange) -> Result<KeyGrant, Failure> {
    let create = AdminRequest::CreateKey(NewKey { label: "bench".to_owned(), ..NewKey::default() });
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(create, START)? else {
        return Err("no key".into());
    };
    Ok(exchange.authenticate(&hash_key(&secret.0), START)?)
}

/// Requests a second on disk, and CPU of each, with so many raises on average; who asks waits for the disk every
/// [`UNACKNOWLEDGED`] requests.
fn rate(raises: f64) -> Result<Value, Failure> {
    let dir = tempfile::tempdir()?;
    let config = ExchangeConfig { starting_credit: NanoUsd::from_usd(100_000), ..ExchangeConfig::default() };
    let exchange = Exchange::open(dir.path(), config, START)?;
    let grant = key(&exchange)?;
    let (cpu_before, start) = (cpu_us(), Instant::now());
    let one = |number: u64, owed: &mut f64| {
        let (id, now) = (request(number, START), UnixMs(START.0 + number / 100));
        exchange.hold(&support::hold(id, grant, 5_000, now))?;
        *owed += raises;
        let mut step = 0;
        while *owed >= 1.0 {
            *owed -= 1.0;
            step += 1;
            let (amount, byok) = (NanoUsd(500), NanoUsd::ZERO);
            exchange.extend(&HoldExtension { request: id, step, amount, byok, tokens: 0, now })?;
        }
        let ticket = exchange.settle(settlement(id, grant, 1_234, now))?.ticket;
        if number.is_multiple_of(UNACKNOWLEDGED) { block_on(exchange.durable(ticket)) } else { Ok(()) }
    };
    std::thread::scope(|scope| {
        let callers = (0..RATE_THREADS).map(|caller| {
            let one = &one;
            scope.spawn(move || {
                let mut owed = 0.0;
                let numbers = (0..RATE_REQUESTS / RATE_THREADS).map(|n| caller * RATE_REQUESTS + n);
                numbers.into_iter().try_for_each(|number| one(number, &mut owed))
            })
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or(Err(FundsError::Closing)))
    })?;
    block_on(exchange.durable(exchange.ticket()))?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_us().zip(cpu_before).map(|(after, before)| (after - before) / RATE_REQUESTS as f64);
    exchange.close()?;
    Ok(json!({
        "requests_per_s": (RATE_REQUESTS as f64 / seconds).round(),
        "cpu_us_per_request": cpu.map(|us| (us * 100.0).round() / 100.0),
    }))
}

/// User and system time of this process.
fn cpu_us() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks * TICK_US)
}
