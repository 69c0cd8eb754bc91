//! What the funds port costs over a socket: `cargo run --release -p bourse-exchange --example remote_bench`.
//!
//! One JSON object. `alone` is one caller: the time of a hold, and of a request until its settlement is on disk.
//! `together` is [`CALLERS`] callers of one connection who hold, settle and wait for the disk; `direct` is the same
//! without a socket, as in one process.

#[path = "../tests/support/mod.rs"]
mod support;

use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, ExchangeConfig, FundsServer, FundsServerConfig, Holds, NewKey,
    hash_key,
};
use bourse_link::{CALL_WITHIN, RemoteFunds, RemoteFundsConfig};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::port::PortSecret;
use bourse_wire::funds::{Funds, FundsError, KeyGrant};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{block_on, hold, request, serve};

const CALLERS: u64 = 64;
const REQUESTS_EACH: u64 = 1_000;
const ALONE: u64 = 2_000;

/// This machine's clock, as the server's: no hold may end far away from it.
fn clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(since.as_millis() as u64)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let starting_credit = NanoUsd::from_usd(1_000_000);
    let config =
        ExchangeConfig { starting_credit, holds: Holds::OutliveExchange, ..ExchangeConfig::default() };
    let exchange = Arc::new(Exchange::open(dir.path(), config, clock())?);
    let key = NewKey { label: "bench".to_owned(), ..NewKey::default() };
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(AdminRequest::CreateKey(key), clock())? else {
        return Err("no key".into());
    };
    let grant = exchange.authenticate(&hash_key(&secret.0), clock())?;
    let secret = PortSecret::of("the secret of this bench").ok_or("a short secret")?;
    let server = FundsServer::start(
        Arc::clone(&exchange),
        TcpListener::bind("127.0.0.1:0")?,
        FundsServerConfig::of(secret),
    )?;
    let addresses = vec![server.address().to_string()];
    let remote = RemoteFunds::start(RemoteFundsConfig { addresses, secret, call_within: CALL_WITHIN })?;

    let holds = (0..ALONE).map(|n| timed(|| remote.hold(&hold(request(n, clock()), grant, 1, clock()))));
    let hold_us = median(holds.collect::<Result<_, _>>()?);
    let requests = (ALONE..2 * ALONE).map(|n| {
        timed(|| serve(&remote, n, grant, clock()).and_then(|ticket| block_on(remote.durable(ticket))))
    });
    let request_us = median(requests.collect::<Result<_, _>>()?);
    let together = together(&remote, grant, 1)?;
    let direct = self::together(&*exchange, grant, 2)?;
    println!(
        "{{\"alone\":{{\"hold_p50_us\":{hold_us:.0},\"request_p50_us\":{request_us:.0}}},\
         \"together\":{{\"requests_per_s\":{together:.0}}},\"direct\":{{\"requests_per_s\":{direct:.0}}}}}"
    );
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), FundsError>) -> Result<Duration, FundsError> {
    let since = Instant::now();
    work().map(|()| since.elapsed())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Requests a second of all callers.
fn together(funds: &impl Funds, grant: KeyGrant, turn: u64) -> Result<f64, FundsError> {
    let since = Instant::now();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let first = turn * 100_000_000 + caller * REQUESTS_EACH;
                scope.spawn(move || {
                    (first..first + REQUESTS_EACH).try_for_each(|n| {
                        serve(funds, n, grant, clock()).and_then(|ticket| block_on(funds.durable(ticket)))
                    })
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or(Err(FundsError::Closing)))
    })?;
    Ok((CALLERS * REQUESTS_EACH) as f64 / since.elapsed().as_secs_f64())
}
