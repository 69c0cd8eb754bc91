//! What the tests of remote gateways share: books, clients, a proxy that cuts, load.

pub(crate) mod load;
pub(crate) mod process;
mod proxy;

use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, Holds, NewKey, hash_key};
use bourse_link::{RemoteFunds, RemoteFundsConfig};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::port::PortSecret;
pub(crate) use proxy::Proxy;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More patience than a standby needs on a slow machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    UnixMs(since.as_millis() as u64)
}

pub(crate) fn config(holds: Holds) -> ExchangeConfig {
    ExchangeConfig { starting_credit: NanoUsd::from_usd(1_000), holds, ..ExchangeConfig::default() }
}

pub(crate) fn secret() -> PortSecret {
    PortSecret::of("the secret of these tests").expect("long enough")
}

pub(crate) fn client(addresses: &[SocketAddr]) -> RemoteFunds {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let secret = secret();
    RemoteFunds::start(RemoteFundsConfig { addresses, secret, call_within: PATIENCE }).expect("a client")
}

/// Begins the market and gives back two keys, the first with a limit.
pub(crate) fn begin(dir: &Path) -> Vec<KeyHash> {
    let exchange = Exchange::open(dir, config(Holds::EndWithExchange), clock()).expect("a market");
    let key = |limit: Option<&str>| {
        let key =
            NewKey { label: "gateway".to_owned(), limit_usd: limit.map(str::to_owned), ..NewKey::default() };
        match exchange.admin(AdminRequest::CreateKey(key), clock()).expect("a key") {
            AdminReply::KeyCreated { secret, .. } => hash_key(&secret.0),
            other => panic!("{other:?}"),
        }
    };
    vec![key(Some("900")), key(None)]
}
