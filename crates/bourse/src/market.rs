//! A whole market in one process, the node beside it: what `bourse up` runs and tests start.
//!
//! The order of a start: bind (so that a taken port costs nothing), open the books (replay, release what a
//! crash left held, unless gateways elsewhere go on with it), make sure of the operator's key, serve, start the node.
//! The order of an end is the reverse of what money needs: no new requests, open streams to their terminals while node
//! and books are still there, then the node, then gateways elsewhere, who go to the next exchange, then the books. Dropping a [`RunningMarket`] without
//! [`RunningMarket::shutdown`] ends it like a crash, which is allowed and replayed at the next start.

use crate::admin::{ExchangeAdmin, cannot_open};
use crate::config::{Config, Environment};
use crate::data_dir::{DataDir, DataDirError, Runtime, write_private};
use crate::data_plane::{DataPlane, listen, local, no_gateway, no_randomness, token, told, unusable};
use crate::report::Plain;
use crate::supervise::{ChildState, NodeProcess, Supervisor};
use crate::wiring::{self, LOCAL_SELLER, WiringError};
use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, FundsServer, FundsServerConfig, NewKey, OPERATOR_NAME, hash_key,
};
use bourse_gateway::{
    Clock as _, Entropy, Gateway, GatewayConfig, NetConnect, NodeAdmission, Ports, Secret, SystemClock,
};
use bourse_market::DataPolicy;
use bourse_types::{NodeId, SellerName};
use bourse_wire::funds::Funds as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a node may take from its start until the gateway has welcomed it.
pub const NODE_TIMEOUT: Duration = Duration::from_mins(2);
/// Starts of the node that may fail before the market's start is called failed.
pub const NODE_FAILURES_MAX: u32 = 3;

/// Everything a market is made from.
pub struct MarketConfig {
    /// Where its state lives.
    pub data_dir: DataDir,
    /// What it decides by.
    pub config: Config,
    /// Where providers' keys are.
    pub environment: Environment,
    /// The node to run, if any.
    pub node: Option<NodeLaunch>,
    /// Its books, where they are open already.
    pub exchange: Option<Exchange>,
}

/// The node to run beside the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLaunch {
    /// The `bourse` program.
    pub program: PathBuf,
    /// The weights.
    pub model: PathBuf,
    /// The node's key, as in its data directory.
    pub node: NodeId,
}

/// Why a market did not start.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Wiring(#[from] WiringError),
    /// The data directory cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    DataDir(#[from] DataDirError),
    /// The books cannot be opened, or something else that says it all.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(#[from] Plain),
    /// Somebody else listens there.
    #[error("{0} is taken")]
    #[diagnostic(help(
        "a market may already run there; --listen 127.0.0.1:0 lets the system choose another port"
    ))]
    Taken(SocketAddr),
    /// Nobody can listen there.
    #[error("cannot listen on {address}")]
    #[diagnostic(help("give --listen an address of this machine, such as 127.0.0.1:8420"))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The node does not stay.
    #[error("the node ended {0} times before it was ready")]
    #[diagnostic(help("its own messages above say why; --no-node starts the market without it"))]
    NodeFails(u32),
    /// The node does not get ready.
    #[error("the node was not ready after {} seconds", NODE_TIMEOUT.as_secs())]
    #[diagnostic(help("is the machine very busy? --no-node starts the market without it"))]
    NodeSlow,
}

/// Starts markets.
pub struct Market;

/// A market that serves.
pub struct RunningMarket {
    /// Where buyers on this machine connect, such as `http://127.0.0.1:8420/v1`.
    pub base_url: String,
    /// The operator's key.
    pub key: String,
    data_dir: DataDir,
    plane: DataPlane,
    exchange: Arc<Exchange>,
    /// Serves gateways elsewhere, where there may be any.
    funds: Option<FundsServer>,
    stop_nodes: watch::Sender<bool>,
    nodes: Option<JoinHandle<std::io::Result<()>>>,
    supervisor: Option<Supervisor>,
}

impl Market {
    /// Starts everything; the node may still be on its way ([`RunningMarket::node_ready`]).
    pub async fn start(config: MarketConfig) -> Result<RunningMarket, StartError> {
        let MarketConfig { data_dir, config, environment, node, exchange } = config;
        let mut gateway_config = wiring::gateway(&config, &environment)?;
        gateway_config.tokenizers = wiring::tokenizers(&config, node.as_ref().map(|node| &*node.model))?;
        let listener = listen(config.gateway.listen).await?;
        let nodes_listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let nodes_address = local(&nodes_listener)?;
        let funds_listener = config.exchange.listen.map(listen_std).transpose()?;
        data_dir.create()?;
        let exchange_config = wiring::exchange(&config, data_dir.root())?;
        let exchange = match exchange {
            Some(open) => open,
            None => Exchange::open(data_dir.root(), exchange_config, SystemClock.now())
                .map_err(|error| cannot_open(&data_dir, error))?,
        };
        let exchange = Arc::new(exchange);
        let key = operator_key(&data_dir, &exchange)?;
        gateway_config.byok = wiring::byok(&config, &environment, |name| exchange.account(name))?;
        let entropy = Entropy::of_system().map_err(no_randomness)?;
        let admin_token = token()?;
        gateway_config.admin_token = Some(Secret::new(admin_token.as_str()));
        if let Some(node) = &node {
            gateway_config.nodes.push(admission(&config, node)?);
        }
        let gateway = gateway(gateway_config, &exchange, entropy)?;
        let funds = funds_listener.map(|listener| serve_gateways(&exchange, listener, &config, &data_dir));
        let funds = funds.transpose()?;
        let plane = DataPlane::start(gateway, listener, &data_dir, config.gateway.decisions_bytes_max)?;
        let (stop_nodes, stopping) = watch::channel(false);
        let mut market = RunningMarket {
            base_url: plane.base_url.clone(),
            key,
            data_dir,
            plane,
            exchange,
            funds,
            stop_nodes,
            nodes: None,
            supervisor: None,
        };
        if let Some(node) = node {
            let gateway = market.gateway().clone();
            market.nodes =
                Some(tokio::spawn(async move { gateway.serve_nodes(nodes_listener, told(stopping)).await }));
            market.supervisor = Some(Supervisor::start(NodeProcess {
                program: node.program,
                gateway: nodes_address,
                data_dir: market.data_dir.root().to_owned(),
                slug: config.node.model.clone(),
                model: node.model,
                threads: config.node.threads,
            }));
        }
        let runtime = Runtime { base_url: market.base_url.clone(), pid: std::process::id(), admin_token };
        market.data_dir.publish(&runtime)?;
        Ok(market)
    }
}

impl RunningMarket {
    /// Waits until the node sells; gives back its process. `None` when no node was asked for.
    pub async fn node_ready(&self) -> Result<Option<u32>, StartError> {
        let Some(supervisor) = &self.supervisor else { return Ok(None) };
        let mut child = supervisor.state();
        let mut connected = self.plane.gateway.nodes_connected();
        let ready = async {
            tokio::select! {
                _ = connected.wait_for(|count| *count > 0) => Ok(()),
                _ = child.wait_for(|state| state.ended >= NODE_FAILURES_MAX) => {
                    Err(StartError::NodeFails(NODE_FAILURES_MAX))
                }
            }
        };
        tokio::time::timeout(NODE_TIMEOUT, ready).await.map_err(|_| StartError::NodeSlow)??;
        Ok(self.node_pid())
    }

    /// The node's process at this moment.
    pub fn node_pid(&self) -> Option<u32> {
        self.supervisor.as_ref().and_then(|supervisor| supervisor.state().borrow().pid)
    }

    /// What is known of the node's process, now and later.
    pub fn node_state(&self) -> Option<watch::Receiver<ChildState>> {
        self.supervisor.as_ref().map(Supervisor::state)
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.plane.gateway
    }

    /// Where gateways on other machines connect, if they may.
    pub fn exchange_address(&self) -> Option<SocketAddr> {
        self.funds.as_ref().map(FundsServer::address)
    }

    /// The books, for embedders.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Completes if the market stops serving by itself, which it never should.
    pub async fn failed(&mut self) {
        self.plane.failed().await;
    }

    /// Stops in order: open streams end with a terminal, the node leaves, the books close.
    pub async fn shutdown(mut self) -> Result<(), Plain> {
        let _ = self.data_dir.withdraw();
        self.plane.drain().await;
        if let Some(supervisor) = self.supervisor {
            supervisor.stop().await;
        }
        let _ = self.stop_nodes.send(true);
        if let Some(nodes) = self.nodes {
            let _ = nodes.await;
        }
        self.plane.close().await;
        let (exchange, funds) = (self.exchange, self.funds);
        let closed = tokio::task::spawn_blocking(move || {
            drop(funds);
            exchange.close()
        });
        let closed = closed.await;
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Plain::new("the books did not close").because(error)),
            Err(error) => Err(Plain::new("the books did not close").because(error)),
        }
    }
}

/// Says early whether somebody else listens there.
pub fn probe(address: SocketAddr) -> Result<(), StartError> {
    std::net::TcpListener::bind(address).map(drop).map_err(|source| unusable(address, source))
}

fn listen_std(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    std::net::TcpListener::bind(address).map_err(|source| unusable(address, source))
}

/// Lets gateways on other machines in. The first start makes the secret.
fn serve_gateways(
    exchange: &Arc<Exchange>,
    listener: std::net::TcpListener,
    config: &Config,
    data_dir: &DataDir,
) -> Result<FundsServer, StartError> {
    let file = wiring::secret_file(config, data_dir);
    if !file.exists() {
        write_private(&file, format!("{}\n", token()?).as_bytes())?;
    }
    let secret = wiring::secret(config, data_dir)?;
    let served = FundsServer::start(Arc::clone(exchange), listener, FundsServerConfig::of(secret));
    Ok(served.map_err(|error| Plain::new("gateways cannot be served").because(error))?)
}

fn admission(config: &Config, node: &NodeLaunch) -> Result<NodeAdmission, StartError> {
    let (prices, free) = (wiring::node_prices(config)?, wiring::node_free(config)?);
    let seller = SellerName::parse(LOCAL_SELLER)
        .map_err(|source| WiringError::Name { field: LOCAL_SELLER.to_owned(), source })?;
    // The operator's own node writes no prompt and no answer anywhere.
    Ok(NodeAdmission { node: node.node, seller, prices, free, data: DataPolicy::ALL })
}

fn gateway(config: GatewayConfig, exchange: &Arc<Exchange>, entropy: Entropy) -> Result<Gateway, StartError> {
    let ports = Ports {
        funds: exchange.clone(),
        records: exchange.clone(),
        outcomes: Some(exchange.clone()),
        accounts: Some(exchange.clone()),
        workspaces: Some(exchange.clone()),
        admin: Some(Arc::new(ExchangeAdmin(exchange.clone()))),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(entropy),
        connect: Arc::new(NetConnect::new()),
    };
    Gateway::new(config, ports).map_err(no_gateway)
}

/// The kept key while the books know it; else a new one, which is kept. A key that the operator revoked is
/// replaced like one that was lost.
fn operator_key(data_dir: &DataDir, exchange: &Exchange) -> Result<String, StartError> {
    if let Some(key) = data_dir.operator_key()? {
        if exchange.authenticate(&hash_key(&key), SystemClock.now()).is_ok() {
            return Ok(key);
        }
        tracing::warn!("the books do not honour the kept operator key: making a new one");
    }
    let request = AdminRequest::CreateKey(NewKey { label: OPERATOR_NAME.to_owned(), ..NewKey::default() });
    let failed = || Plain::new("the operator's key could not be made");
    match exchange.admin(request, SystemClock.now()) {
        Ok(AdminReply::KeyCreated { secret, .. }) => {
            data_dir.keep_operator_key(&secret.0)?;
            Ok(secret.0)
        }
        Ok(_) => Err(failed().into()),
        Err(error) => Err(failed().because(error).into()),
    }
}
