//! A gateway without books: it sells through exchanges elsewhere. What `bourse gateway` runs.
//!
//! It keeps no money and no keys, only a folder for its journal of decisions, and may start before its exchange does:
//! until one answers it refuses requests with 503. The order of an end: no new requests, open streams to their terminals,
//! then it waits until the books have on disk what only it knows, at most [`OWED_WITHIN`]; whatever it still holds by
//! then gives itself back when it expires. Killed, it leaves the same, and what was metered of its streams is settled.
//!
//! It has no node and no operator's endpoint: keys and credit are the exchange's, where `bourse key` and
//! `bourse ledger` ask. Answers under an idempotency key are not kept for it: a request that was paid for is refused with
//! 409 when it is repeated, and not charged again.

use crate::config::{Config, Environment};
use crate::data_dir::{DataDir, DataDirError, Runtime};
use crate::data_plane::{self, DataPlane};
use crate::market::StartError;
use crate::report::Plain;
use crate::{attach, wiring};
use bourse_gateway::{Entropy, Gateway, NetConnect, Ports, Secret, SystemClock};
use bourse_link::{CALL_WITHIN, RemoteFunds, RemoteFundsConfig};
use bourse_types::AccountId;
use bourse_wire::funds::FundsError;
use std::cell::RefCell;
use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long an end waits for the books, beyond the open requests: as long as a standby needs, and some more.
pub const OWED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether anything is owed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Everything a gateway is made from.
pub struct RemoteGatewayConfig {
    /// Where it keeps its decisions.
    pub data_dir: DataDir,
    /// What it decides by, and where its exchanges are.
    pub config: Config,
    /// Where providers' keys are.
    pub environment: Environment,
}

/// A gateway that serves, with its exchange elsewhere.
pub struct RemoteGateway {
    /// Where buyers on this machine connect.
    pub base_url: String,
    plane: DataPlane,
    funds: Arc<RemoteFunds>,
    data_dir: DataDir,
    /// Its folder is nobody else's while it lives.
    _lock: File,
}

impl RemoteGateway {
    /// Starts it. Whether an exchange answers is not waited for, unless own keys of buyers name accounts.
    pub async fn start(config: RemoteGatewayConfig) -> Result<Self, StartError> {
        let RemoteGatewayConfig { data_dir, config, environment } = config;
        let mut gateway_config = wiring::gateway(&config, &environment)?;
        gateway_config.tokenizers = wiring::tokenizers(&config, None)?;
        let addresses = wiring::addresses(&config)?;
        if addresses.is_empty() {
            return Err(Plain::new("no exchange is named")
                .hint("--exchange HOST:PORT,HOST:PORT, or `gateway.exchange` in the configuration; `bourse up` has one inside")
                .into());
        }
        is_no_market(&data_dir)?;
        let listener = data_plane::listen(config.gateway.listen).await?;
        data_dir.create()?;
        let lock = lock(&data_dir)?;
        let secret = secret(&config, &data_dir)?;
        let funds = RemoteFunds::start(RemoteFundsConfig { addresses, secret, call_within: CALL_WITHIN });
        let funds = funds.map_err(|error| Plain::new("the exchange cannot be dialled").because(error))?;
        let funds = Arc::new(funds);
        gateway_config.byok = own_keys(&config, &environment, &funds)?;
        let admin_token = data_plane::token()?;
        // Nobody can use it here; commands of this user find the address in the same file.
        gateway_config.admin_token = Some(Secret::new(admin_token.as_str()));
        let ports = Ports {
            funds: funds.clone(),
            records: funds.clone(),
            outcomes: Some(funds.clone()),
            accounts: Some(funds.clone()),
            workspaces: Some(funds.clone()),
            admin: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Entropy::of_system().map_err(data_plane::no_randomness)?),
            connect: Arc::new(NetConnect::new()),
        };
        let gateway = Gateway::new(gateway_config, ports).map_err(data_plane::no_gateway)?;
        let plane = DataPlane::start(gateway, listener, &data_dir, config.gateway.decisions_bytes_max)?;
        let base_url = plane.base_url.clone();
        data_dir.publish(&Runtime { base_url: base_url.clone(), pid: std::process::id(), admin_token })?;
        Ok(Self { base_url, plane, funds, data_dir, _lock: lock })
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.plane.gateway
    }

    /// Completes if it stops serving by itself, which it never should.
    pub async fn failed(&mut self) {
        self.plane.failed().await;
    }

    /// Stops in order.
    pub async fn shutdown(mut self) -> Result<(), Plain> {
        let _ = self.data_dir.withdraw();
        self.plane.drain().await;
        let until = Instant::now() + OWED_WITHIN;
        while self.funds.owes() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let owes = self.funds.owes();
        self.plane.close().await;
        // Joins the connection's thread.
        let funds = self.funds;
        let _ = tokio::task::spawn_blocking(move || drop(funds)).await;
        if owes {
            return Err(Plain::new("no exchange took the last settlements")
                .hint("whether they were charged is not known, and their receipts tell; what is still held gives itself back when it expires"));
        }
        Ok(())
    }
}

/// A folder with books is a market's.
fn is_no_market(data_dir: &DataDir) -> Result<(), StartError> {
    if attach::books(data_dir).is_err() {
        return Ok(());
    }
    Err(Plain::new(format!("{} is the folder of a market with books of its own", data_dir.root().display()))
        .hint("give the gateway a folder of its own with --data-dir DIR, and the secret with --secret-file FILE")
        .into())
}

fn lock(data_dir: &DataDir) -> Result<File, StartError> {
    let path = data_dir.root().join("gateway.lock");
    let failed = |source| DataDirError::Io { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Plain::new(format!("another gateway uses {}", data_dir.root().display()))
                .hint("give this one a folder of its own with --data-dir DIR")
                .into())
        }
        Err(TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

fn secret(config: &Config, data_dir: &DataDir) -> Result<bourse_wire::funds::port::PortSecret, StartError> {
    let path = wiring::secret_file(config, data_dir);
    if !path.exists() {
        return Err(Plain::new(format!("there is no secret of the exchange at {}", path.display()))
            .hint("copy exchange.secret from the exchange's data folder, for its owner only (chmod 600), or name it with --secret-file FILE")
            .into());
    }
    Ok(wiring::secret(config, data_dir)?)
}

/// Own keys of buyers name accounts, which only the books know.
fn own_keys(
    config: &Config,
    environment: &Environment,
    funds: &RemoteFunds,
) -> Result<Vec<bourse_gateway::ByokKey>, StartError> {
    let unanswered: RefCell<Option<FundsError>> = RefCell::default();
    let account = |name: &str| -> Option<AccountId> {
        match funds.account(name) {
            Ok(account) => account,
            Err(error) => {
                unanswered.replace(Some(error));
                None
            }
        }
    };
    let keys = wiring::byok(config, environment, account);
    match unanswered.into_inner() {
        Some(error) => Err(Plain::new("whose the own keys are could not be asked: no exchange answers")
            .because(error)
            .hint("start the exchange first, or a gateway without [[byok]]")
            .into()),
        None => Ok(keys?),
    }
}
