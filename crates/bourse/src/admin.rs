//! The operator's requests, wherever the market is: asked of the process that runs, else done on the data.
//!
//! A running market leaves its address and a token that only its owner can read in the data directory; the
//! token is made anew at each start. When nothing runs, the exchange is opened, asked and closed here, under
//! the same lock that a market takes, so that two of them can never write at once.

use crate::attach;
use crate::client::{Client, ClientError};
use crate::config::Environment;
use crate::data_dir::{DataDir, Runtime};
use crate::report::{Failure, Plain};
use crate::{cmd, runtime, wiring};
use bourse_exchange::{
    AdminReply, AdminRequest, DataDirError, Exchange, ExchangeConfig, Holds, JournalError, OpenError,
};
use bourse_gateway::{AdminPort, Clock, SystemClock};
use bourse_types::Fault;
use std::sync::Arc;

/// Path of the operator's endpoint, beside the public API.
const ADMIN_PATH: &str = "/admin";

/// The exchange as the gateway's port for operators.
pub struct ExchangeAdmin(pub Arc<Exchange>);

impl AdminPort for ExchangeAdmin {
    fn call(&self, body: &[u8]) -> (u16, Vec<u8>) {
        let refused = |status: u16, message: String| {
            let body = serde_json::json!({"error": {"code": status, "message": message}});
            (status, body.to_string().into_bytes())
        };
        let request: AdminRequest = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return refused(400, format!("not an operator's request: {error}")),
        };
        match self.0.admin(request, SystemClock.now()) {
            Ok(reply) => match serde_json::to_vec(&reply) {
                Ok(bytes) => (200, bytes),
                Err(error) => refused(500, error.to_string()),
            },
            Err(error) if error.fault() == Fault::Buyer => refused(400, error.to_string()),
            Err(error) => refused(500, error.to_string()),
        }
    }
}

/// Asks, and gives back the answer of a live or a stopped market.
pub fn ask(
    data_dir: &DataDir,
    environment: &Environment,
    request: AdminRequest,
) -> Result<AdminReply, Failure> {
    if let Some(running) = data_dir.runtime()? {
        match ask_live(&running, &request) {
            // What a killed market left behind: nobody answers there.
            Err(ClientError::Connect { .. }) => {}
            answered => return answered.map_err(refused),
        }
    }
    ask_stopped(data_dir, environment, request)
}

fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { message, .. } => Plain::new(message).boxed(),
        other => other.into(),
    }
}

fn ask_live(running: &Runtime, request: &AdminRequest) -> Result<AdminReply, ClientError> {
    let root = running.base_url.trim_end_matches("/v1");
    let client = Client::new(root, Some(running.admin_token.clone()))?;
    let request = serde_json::to_value(request).map_err(|error| ClientError::Malformed(error.to_string()))?;
    let asking = async { client.post(ADMIN_PATH, &request).await };
    let reply = runtime::small_reactor()
        .map_err(|error| ClientError::Malformed(error.to_string()))?
        .block_on(asking)?;
    serde_json::from_value(reply).map_err(|error| ClientError::Malformed(error.to_string()))
}

fn ask_stopped(
    data_dir: &DataDir,
    environment: &Environment,
    request: AdminRequest,
) -> Result<AdminReply, Failure> {
    if matches!(request, AdminRequest::RunPayouts {}) {
        // Its rail and least payout may stand in a file that only its start named.
        return Err(Plain::new(
            "payouts are made by a running market, on the terms that it was started with",
        )
        .hint("`bourse up` makes them after each epoch; then `bourse payout run` makes them at once")
        .boxed());
    }
    attach::books(data_dir)?;
    let loaded = cmd::config::load(None, data_dir, environment, Vec::new())?;
    // Gateways elsewhere may wait for the market to start again: an operator's request ends no hold.
    let config = ExchangeConfig {
        holds: Holds::OutliveExchange,
        ..wiring::exchange(&loaded.config, data_dir.root())?
    };
    let now = SystemClock.now();
    let exchange =
        Exchange::open(data_dir.root(), config, now).map_err(|error| cannot_open(data_dir, error))?;
    let reply = exchange.admin(request, now).map_err(|error| Plain::new(error.to_string()))?;
    exchange.close().map_err(|error| Plain::new("the books did not close").because(error))?;
    Ok(reply)
}

/// Whether a folder names a database that holds its books; a name that cannot be read is none.
fn is_shared(data_dir: &DataDir) -> bool {
    bourse_exchange::are_in_a_database(data_dir.root()).unwrap_or(false)
}

/// Tells why a market's data cannot be opened.
pub fn cannot_open(data_dir: &DataDir, error: OpenError) -> Plain {
    let root = data_dir.root().display();
    match error {
        OpenError::DataDir(DataDirError::InUse) => {
            let place = data_dir.runtime().ok().flatten();
            let at = place.map_or_else(String::new, |running| format!(" at {}", running.base_url));
            Plain::new(format!("a market already uses {root}{at}")).hint(
                "stop it first, or give another --data-dir; one that is starting or stopping needs a moment",
            )
        }
        OpenError::Journal(JournalError::InUse) => {
            Plain::new("another exchange writes to the database of these books").hint(
                "it is on another machine or in a copy of this folder; when it ends, its lease does within seconds",
            )
        }
        error @ OpenError::NoGroup { .. } => {
            Plain::new(error.to_string()).hint("`bourse ledger check` says how many there are")
        }
        error @ OpenError::NoMovement { .. } => Plain::new(error.to_string())
            .hint("`bourse ledger statement --json` shows each line's transfer"),
        error @ (OpenError::Replay { .. } | OpenError::Journal(JournalError::Damaged { .. })) => {
            Plain::new(format!("the books in {root} are damaged"))
                .because(error)
                .hint("nothing was changed; `bourse ledger check` says more; restore the folder from a copy")
        }
        OpenError::Journal(error @ JournalError::Store(_)) if is_shared(data_dir) => {
            Plain::new(format!("the books of {root} cannot be opened in their database"))
                .because(error)
                .hint("check that it runs and lets this exchange in; `exchange.journal` in the folder names it")
        }
        error => Plain::new(format!("the market's data in {root} cannot be opened"))
            .because(error)
            .hint("check that the folder is yours, whole and on a disk with space left"),
    }
}
