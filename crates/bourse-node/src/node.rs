//! The daemon: load the model, dial the gateway, serve, dial again.
//!
//! The node dials out. A lost link is dialled again after a pause that doubles up to a bound, with some
//! randomness so that many nodes do not come back in step; a link that cannot ever open (another version)
//! ends the node, as does a dead engine: whoever started it starts it again.

use crate::engine::Engine;
use crate::engine::reference::{ReferenceEngine, ReferenceEngineError};
use crate::identity::{self, KeyError};
use crate::job::prepare::CHOICES_MAX;
use crate::serve::{ServeEnd, ServeError, serve};
use crate::service::{NodeService, ServiceError};
use bourse_engine::{EngineConfig, KV_TOKENS_MAX, LoadError, LoadOptions, Model, ModelInfo};
use bourse_link::{FramedLink, LinkError, greet_gateway};
use bourse_types::{ModelSlug, NodeId, Retry};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// For connecting to the gateway.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// For the gateway's challenge and welcome.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the first redial.
const REDIAL_MIN: Duration = Duration::from_millis(100);
/// Longest pause between redials, randomness aside.
const REDIAL_MAX: Duration = Duration::from_secs(5);
/// KV cache of a node, unless configured otherwise.
pub const KV_BYTES_DEFAULT: u64 = 512 * 1024 * 1024;
/// Fewest tokens that a KV cache is made for.
const KV_TOKENS_MIN: usize = 256;

/// What a node is to do.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The gateway's node listener, as `host:port`.
    pub gateway: String,
    /// Where the key lies.
    pub data_dir: PathBuf,
    /// The model that is sold.
    pub model: ModelSlug,
    /// Its file; see [`crate::fetch`].
    pub model_path: PathBuf,
    /// Threads of the engine; 0 means one for each core.
    pub threads: usize,
    /// Bytes of KV cache.
    pub kv_bytes_max: u64,
    /// Jobs that are taken at once.
    pub jobs_in_flight_max: u32,
    /// Time that open jobs have to end when the node is stopped.
    pub drain: Duration,
    /// Time without a link after which the node ends; none to try for ever.
    pub give_up_after: Option<Duration>,
}

/// What happens to a node, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// The model is being read.
    Loading {
        /// Bytes read.
        bytes_done: u64,
        /// Bytes in all.
        bytes_total: u64,
    },
    /// The model is loaded.
    Loaded {
        /// The engine and its kernels.
        engine: String,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// The gateway welcomed the node: it serves.
    Welcomed {
        /// The node's name.
        node: NodeId,
        /// Jobs at once.
        jobs_in_flight_max: u32,
    },
    /// There is no link; the node tries again.
    LinkLost {
        /// Why.
        reason: String,
        /// Milliseconds until it dials.
        redial_ms: u64,
    },
}

/// Takes what happens to a node. Called from more than one thread.
pub type EventSink = Arc<dyn Fn(NodeEvent) + Send + Sync>;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its model.
    #[error("the model cannot be loaded")]
    Model(#[from] LoadError),
    /// Its engine.
    #[error("the engine cannot be started")]
    Engine(#[from] ReferenceEngineError),
    /// Tokenizer or template.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The task that loads the model broke.
    #[error("loading the model failed: {0}")]
    Load(String),
    /// A link that dialling again cannot mend.
    #[error("the gateway {gateway} cannot be served")]
    Gateway {
        /// Its address.
        gateway: String,
        /// Why.
        source: LinkError,
    },
    /// No link for too long.
    #[error("no link to the gateway {gateway} for {} s: {reason}", after.as_secs())]
    GaveUp {
        /// Its address.
        gateway: String,
        /// How long.
        after: Duration,
        /// Why the last try failed.
        reason: String,
    },
    /// The engine died.
    #[error("the engine has stopped")]
    EngineStopped,
}

/// A loaded node.
#[derive(Debug)]
pub struct Node {
    service: Arc<NodeService>,
    gateway: String,
    drain: Duration,
    give_up_after: Option<Duration>,
}

impl Node {
    /// Loads key, model, engine, tokenizer and template. Seconds of computation, off the reactor.
    pub async fn load(config: NodeConfig, events: EventSink) -> Result<Self, NodeError> {
        let loading = tokio::task::spawn_blocking(move || Self::load_blocking(&config, &events));
        loading.await.map_err(|error| NodeError::Load(error.to_string()))?
    }

    fn load_blocking(config: &NodeConfig, events: &EventSink) -> Result<Self, NodeError> {
        let signer = identity::load_or_create(&config.data_dir)?;
        let began = std::time::Instant::now();
        let options = LoadOptions { threads: config.threads, ..LoadOptions::default() };
        let model = Model::load(&config.model_path, &options, &mut |progress| {
            let (bytes_done, bytes_total) = (progress.bytes_done, progress.bytes_total);
            events(NodeEvent::Loading { bytes_done, bytes_total });
        })?;
        let model = Arc::new(model);
        let engine = ReferenceEngine::start(Arc::clone(&model), engine_config(config, model.info()))?;
        let name = engine.capabilities().name.clone();
        let service = NodeService::new(
            config.model.clone(),
            Arc::new(engine),
            model.vocabulary(),
            signer,
            config.jobs_in_flight_max,
        )?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        events(NodeEvent::Loaded { engine: name, elapsed_ms });
        Ok(Self {
            service: Arc::new(service),
            gateway: config.gateway.clone(),
            drain: config.drain,
            give_up_after: config.give_up_after,
        })
    }

    /// A node around a service that is already set up, such as one with a fake engine.
    pub fn with_service(service: Arc<NodeService>, gateway: String, drain: Duration) -> Self {
        Self { service, gateway, drain, give_up_after: None }
    }

    /// Loads and serves until `shutdown` completes; then open jobs have their time to end.
    pub async fn run(
        config: NodeConfig,
        events: EventSink,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), NodeError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let node = tokio::select! {
            loaded = Self::load(config, Arc::clone(&events)) => loaded?,
            () = &mut shutdown => return Ok(()),
        };
        node.serve(&events, shutdown).await
    }

    /// Serves until `shutdown` completes or serving again is hopeless.
    pub async fn serve(
        self,
        events: &EventSink,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), NodeError> {
        let (leave, leaving) = watch::channel(false);
        let mut serving = std::pin::pin!(self.dial_for_ever(events, leaving));
        let mut shutdown = std::pin::pin!(shutdown);
        tokio::select! {
            ended = &mut serving => return ended,
            () = &mut shutdown => leave.send_replace(true),
        };
        serving.await
    }

    async fn dial_for_ever(
        &self,
        events: &EventSink,
        mut leaving: watch::Receiver<bool>,
    ) -> Result<(), NodeError> {
        let mut pause = REDIAL_MIN;
        let mut linked = Instant::now();
        while !*leaving.borrow() {
            let began = Instant::now();
            let reason = match self.link_once(events, leaving.clone()).await {
                Ok(ServeEnd::ShutDown) => return Ok(()),
                Ok(ServeEnd::GatewayLeft) => "the gateway closed the link".to_owned(),
                Err(Ended::Serving(ServeError::EngineStopped)) => return Err(NodeError::EngineStopped),
                Err(Ended::Serving(ServeError::Link(error))) => describe(&error),
                Err(Ended::Dialling(source)) if source.retry() == Retry::Never => {
                    return Err(NodeError::Gateway { gateway: self.gateway.clone(), source });
                }
                Err(Ended::Dialling(error)) => {
                    self.check_patience(linked, &error)?;
                    pause = (pause * 2).min(REDIAL_MAX);
                    let wait = self.announce(events, describe(&error), pause);
                    rest(wait, &mut leaving).await;
                    continue;
                }
            };
            // There was a link: begin again with the shortest pause, unless it closed at once.
            pause = if began.elapsed() > REDIAL_MAX { REDIAL_MIN } else { (pause * 2).min(REDIAL_MAX) };
            linked = Instant::now();
            let wait = self.announce(events, reason, pause);
            rest(wait, &mut leaving).await;
        }
        Ok(())
    }

    fn announce(&self, events: &EventSink, reason: String, pause: Duration) -> Duration {
        let wait = with_jitter(pause);
        tracing::info!(gateway = %self.gateway, reason, wait_ms = wait.as_millis(), "no link to the gateway");
        events(NodeEvent::LinkLost { reason, redial_ms: wait.as_millis() as u64 });
        wait
    }

    fn check_patience(&self, linked: Instant, error: &LinkError) -> Result<(), NodeError> {
        match self.give_up_after {
            Some(after) if linked.elapsed() >= after => {
                Err(NodeError::GaveUp { gateway: self.gateway.clone(), after, reason: describe(error) })
            }
            _ => Ok(()),
        }
    }

    async fn link_once(&self, events: &EventSink, leaving: watch::Receiver<bool>) -> Result<ServeEnd, Ended> {
        let dialled = timeout(DIAL_TIMEOUT, TcpStream::connect(&self.gateway)).await;
        let late = || LinkError::Timeout("connection", DIAL_TIMEOUT.as_millis() as u64);
        let stream = dialled.map_err(|_| late()).and_then(|dialled| dialled.map_err(LinkError::from));
        let mut link = stream.and_then(FramedLink::tcp).map_err(Ended::Dialling)?;
        let signer = self.service.signer();
        let sign = |bytes: &[u8]| signer.sign(bytes);
        let greeting =
            greet_gateway(&mut link, signer.node_id(), sign, self.service.card(), HANDSHAKE_TIMEOUT);
        let welcome = greeting.await.map_err(Ended::Dialling)?;
        let jobs_in_flight_max = welcome.jobs_in_flight_max;
        tracing::info!(gateway = %self.gateway, jobs_in_flight_max, "welcomed");
        events(NodeEvent::Welcomed { node: signer.node_id(), jobs_in_flight_max });
        let served = serve(link, Arc::clone(&self.service), jobs_in_flight_max, leaving, self.drain);
        served.await.map_err(Ended::Serving)
    }
}

/// Where a link failed: before or after it was open.
enum Ended {
    Dialling(LinkError),
    Serving(ServeError),
}

fn describe(error: &LinkError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Waits, or less if the node is told to leave.
async fn rest(span: Duration, leaving: &mut watch::Receiver<bool>) {
    // A time-out is the ordinary end of the wait, and so is a sender that is gone.
    let _ = timeout(span, leaving.wait_for(|leave| *leave)).await;
}

/// Up to a quarter more, so that nodes do not come back in step. Without randomness the pause is plain.
fn with_jitter(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    let random = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 0 };
    pause + pause * random / 1024
}

fn engine_config(config: &NodeConfig, info: &ModelInfo) -> EngineConfig {
    let each = info.kv_bytes_per_token.max(1);
    let tokens = usize::try_from(config.kv_bytes_max / each).unwrap_or(usize::MAX);
    EngineConfig {
        threads: config.threads,
        kv_tokens_max: tokens.clamp(KV_TOKENS_MIN, KV_TOKENS_MAX),
        // Every choice of every job may wait, so the queue is full only if the gateway breaks its word.
        queue_max: (config.jobs_in_flight_max.saturating_mul(CHOICES_MAX) as usize)
            .clamp(1, bourse_engine::QUEUE_MAX),
        ..EngineConfig::default()
    }
}

#[cfg(test)]
mod tests;
