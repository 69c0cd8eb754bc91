//! What the ledger costs: `cargo run --release -p bourse-exchange --example ledger_bench [PART]`.
//!
//! Prints one JSON object; with a part's name that part alone. `memory` is the state machine alone; `journal` adds SQLite: hold and post
//! pairs in batches, each batch one durable commit; `funds` is the whole exchange as a gateway uses it
//! (receipt, Merkle log, fee and rounding, index, threads; a caller waits for the disk every
//! hundred requests, so that groups stay as small as they are in a market); `single` is 64 callers who each wait until
//! their own hold is durable; `replay` is a market of ten million events replayed and opened; `postgres` is `journal` in PostgreSQL. Beside them the same pairs as rows of a database, in
//! batches of [`ROW_BATCH_PAIRS`], each batch one durable commit: `sqlite_rows` and `postgres_rows`, whose tables keep
//! balances and refuse what is not covered, as an application would write them. CPU is that of the whole process, from
//! `/proc/self/stat`; `null` elsewhere. The server's own is not in it.

#[expect(dead_code, reason = "tests ask it for more")]
#[path = "../tests/cluster/mod.rs"]
mod cluster;
#[path = "ledger_bench/rows.rs"]
mod rows;
#[path = "../tests/support/mod.rs"]
mod support;

use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, PostgresJournal, SqliteJournal, hash_key,
    replay,
};
use bourse_ledger::{
    Account, AccountKind, Applied, BalanceLimit, Event, HashKey, Journal, Limits, State, Transfer,
    TransferKind, encode_batch,
};
use bourse_types::{AccountId, NanoUsd, TransferId, UnixMs};
use bourse_wire::funds::{Funds, FundsError, KeyGrant};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{START, block_on, hold, request, serve};

const MEMORY_PAIRS: u64 = 2_000_000;
const JOURNAL_PAIRS: u64 = 1_000_000;
const BATCH_PAIRS: u64 = 4_000;
/// Pairs in one commit of a database of rows.
pub(crate) const ROW_BATCH_PAIRS: u64 = 1_000;
const ROW_PAIRS: u64 = 60_000;
const FUNDS_PAIRS: u64 = 400_000;
/// Five events each: ten million.
const REPLAY_REQUESTS: u64 = 2_000_000;
const FUNDS_THREADS: u64 = 8;
const FUNDS_UNACKNOWLEDGED: u64 = 100;
const SINGLE_CALLERS: u64 = 64;
const SINGLE_HOLDS_EACH: u64 = 400;
/// `/proc/self/stat` counts CPU in ticks of this many microseconds.
const TICK_US: f64 = 10_000.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let only = std::env::args().nth(1);
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let mut parts = Vec::new();
    if wanted("memory") {
        parts.push(format!("\"memory\":{}", measure(MEMORY_PAIRS, || memory_pairs(MEMORY_PAIRS))?));
    }
    if wanted("journal") {
        let folder = dir.path().join("journal");
        std::fs::create_dir_all(&folder)?;
        let journal = measure(JOURNAL_PAIRS, || journal_pairs(SqliteJournal::open(&folder)?))?;
        parts.push(format!("\"journal\":{journal},\"journal_batch_pairs\":{BATCH_PAIRS}"));
    }
    if wanted("funds") {
        let funds = measure(FUNDS_PAIRS, || funds_pairs(&dir.path().join("funds"), FUNDS_PAIRS))?;
        parts.push(format!("\"funds\":{funds},\"funds_threads\":{FUNDS_THREADS}"));
    }
    if wanted("replay") {
        parts.push(format!("\"replay\":{}", replays(&dir.path().join("replay"))?));
    }
    if wanted("single") {
        parts.push(format!("\"single\":{}", single_holds(&dir.path().join("single"))?));
    }
    if wanted("sqlite_rows") {
        let rows = measure(ROW_PAIRS, || rows::sqlite(&dir.path().join("rows.db"), ROW_PAIRS))?;
        parts.push(format!("\"sqlite_rows\":{rows},\"row_batch_pairs\":{ROW_BATCH_PAIRS}"));
    }
    if wanted("postgres") || wanted("postgres_rows") {
        let cluster = cluster::Cluster::start();
        if wanted("postgres") {
            let journal = PostgresJournal::open(&cluster.url(), Duration::ZERO)?;
            parts.push(format!("\"postgres\":{}", measure(JOURNAL_PAIRS, || journal_pairs(journal))?));
        }
        if wanted("postgres_rows") {
            let rows = measure(ROW_PAIRS, || rows::postgres(&cluster.url(), ROW_PAIRS))?;
            parts.push(format!("\"postgres_rows\":{rows}"));
        }
    }
    println!("{{{}}}", parts.join(","));
    Ok(())
}

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs and reports pairs per second and CPU per pair.
fn measure(pairs: u64, run: impl FnOnce() -> Outcome) -> Result<String, Box<dyn std::error::Error>> {
    let (cpu_before, start) = (cpu_us(), Instant::now());
    run()?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_us().zip(cpu_before).map(|(after, before)| (after - before) / pairs as f64);
    let cpu = cpu.map_or("null".to_owned(), |us| format!("{us:.2}"));
    let rate = pairs as f64 / seconds;
    Ok(format!("{{\"pairs\":{pairs},\"pairs_per_s\":{rate:.0},\"cpu_us_per_pair\":{cpu}}}"))
}

/// User and system time of this process.
fn cpu_us() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks * TICK_US)
}

pub(crate) const CUSTOMERS: u64 = 1_000;

fn bench_state() -> State {
    let mut state = State::new(Limits::default(), HashKey([3, 5]));
    let mut open = |id, kind, limit| {
        state.apply(START, &[Event::Open(Account::of_money(AccountId(id), kind, limit))]);
    };
    open(1, AccountKind::Subsidy, BalanceLimit::None);
    open(2, AccountKind::SellerPayable, BalanceLimit::DebitsWithinCredits);
    for customer in 0..CUSTOMERS {
        open(10 + customer, AccountKind::Customer, BalanceLimit::DebitsWithinCredits);
    }
    for customer in 0..CUSTOMERS {
        let kind = TransferKind::Single {
            debit: AccountId(1),
            credit: AccountId(10 + customer),
            amount: NanoUsd::from_usd(1_000).into(),
        };
        let id = request(u64::MAX - customer, START).transfer(0);
        state.apply(START, &[Event::Transfer(Transfer { id, linked: false, kind })]);
    }
    state
}

/// A hold of 5,000 and a post of 1,234, of one of a thousand customers.
fn pair(n: u64, now: UnixMs) -> [Event; 2] {
    let request = request(n, now);
    let (held, post): (TransferId, TransferId) = (request.transfer(0), request.transfer(2));
    let customer = AccountId(10 + n.wrapping_mul(7_919) % CUSTOMERS);
    let (credit, amount, expires_at) = (AccountId(2), NanoUsd(5_000), UnixMs(now.0 + 60_000));
    let event = |id, kind| Event::Transfer(Transfer { id, linked: false, kind });
    [
        event(held, TransferKind::Pending { debit: customer, credit, amount: amount.into(), expires_at }),
        event(post, TransferKind::Post { pending: held, amount: NanoUsd(1_234).into() }),
    ]
}

fn apply_pair(state: &mut State, n: u64, now: UnixMs) -> Result<[Event; 2], Box<dyn std::error::Error>> {
    let events = pair(n, now);
    for event in &events {
        if state.apply_chain(now, std::slice::from_ref(event))? != Applied::Done {
            return Err("a pair was not new".into());
        }
    }
    Ok(events)
}

/// Open holds in the memory part, as under load.
const DEPTH: u64 = 1_000;

fn memory_pairs(pairs: u64) -> Outcome {
    let mut state = bench_state();
    for n in 0..pairs + DEPTH {
        let now = |n: u64| UnixMs(START.0 + n / 100);
        if n < pairs {
            state.apply_chain(now(n), &pair(n, now(n))[..1])?;
        }
        if n >= DEPTH {
            state.apply_chain(now(n), &pair(n - DEPTH, now(n - DEPTH))[1..])?;
        }
    }
    state.check_books()?;
    Ok(())
}

fn journal_pairs(mut journal: impl Journal) -> Outcome {
    let mut state = bench_state();
    let mut bytes = Vec::new();
    for batch in 0..JOURNAL_PAIRS / BATCH_PAIRS {
        bytes.clear();
        for n in batch * BATCH_PAIRS..(batch + 1) * BATCH_PAIRS {
            let now = UnixMs(START.0 + n / 100);
            encode_batch(now, &apply_pair(&mut state, n, now)?, &mut bytes)?;
        }
        journal.append(&bytes)?;
    }
    Ok(())
}

fn open_market(dir: &Path) -> Result<(Exchange, KeyGrant), Box<dyn std::error::Error>> {
    let config = ExchangeConfig { starting_credit: NanoUsd::from_usd(100_000), ..ExchangeConfig::default() };
    let exchange = Exchange::open(dir, config, START)?;
    let create = AdminRequest::CreateKey(NewKey { label: "bench".to_owned(), ..NewKey::default() });
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(create, START)? else {
        return Err("no key".into());
    };
    let grant = exchange.authenticate(&hash_key(&secret.0), START)?;
    Ok((exchange, grant))
}

/// The port under load: some callers, none waits for its own commit; the end waits for the last.
fn funds_pairs(dir: &Path, pairs: u64) -> Outcome {
    let (exchange, grant) = open_market(dir)?;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..FUNDS_THREADS)
            .map(|caller| {
                let exchange = &exchange;
                scope.spawn(move || {
                    for n in 0..pairs / FUNDS_THREADS {
                        let now = UnixMs(START.0 + n / 100);
                        let served = serve(exchange, caller * pairs + n, grant, now);
                        if n % FUNDS_UNACKNOWLEDGED == 0 {
                            served.and_then(|ticket| block_on(exchange.durable(ticket)))?;
                        }
                    }
                    Ok::<_, FundsError>(())
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or(Err(FundsError::Closing)))
    })?;
    block_on(exchange.durable(exchange.ticket()))?;
    exchange.close()?;
    Ok(())
}

/// A market of [`REPLAY_REQUESTS`] replayed from its beginning, receipts, epochs and signatures checked; and opened again
/// from its snapshot.
fn replays(dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    funds_pairs(dir, REPLAY_REQUESTS)?;
    let start = Instant::now();
    let report = replay(dir, None, |_, _| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let exchange = Exchange::open(dir, ExchangeConfig::default(), START)?;
    let open_ms = start.elapsed().as_secs_f64() * 1_000.0;
    exchange.close()?;
    let (events, receipts) = (report.events, report.receipts);
    let rate = events as f64 / seconds;
    Ok(format!(
        "{{\"events\":{events},\"receipts\":{receipts},\"seconds\":{seconds:.2},\"events_per_s\":{rate:.0},\
         \"open_from_snapshot_ms\":{open_ms:.0}}}"
    ))
}

/// 64 callers, each waiting until its own hold is on disk.
fn single_holds(dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let (exchange, grant) = open_market(dir)?;
    let start = Instant::now();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..SINGLE_CALLERS)
            .map(|caller| {
                let exchange = &exchange;
                scope.spawn(move || {
                    let one = |n: u64| {
                        let start = Instant::now();
                        let id = request(caller * SINGLE_HOLDS_EACH + n, START);
                        let held = exchange.hold(&hold(id, grant, 5_000, START));
                        held.and_then(|()| block_on(exchange.durable(exchange.ticket()))).ok()?;
                        Some(start.elapsed())
                    };
                    (0..SINGLE_HOLDS_EACH).filter_map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().filter_map(|caller| caller.join().ok()).flatten().collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    if latencies.len() as u64 != SINGLE_CALLERS * SINGLE_HOLDS_EACH {
        return Err("a hold failed".into());
    }
    latencies.sort_unstable();
    let percentile = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    let rate = latencies.len() as f64 / seconds;
    Ok(format!(
        "{{\"callers\":{SINGLE_CALLERS},\"holds_per_s\":{rate:.0},\"p50_ms\":{:.2},\"p99_ms\":{:.2}}}",
        percentile(50),
        percentile(99)
    ))
}
