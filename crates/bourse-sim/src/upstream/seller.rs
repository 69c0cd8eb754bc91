//! One seller on one port: its life, its fault script, its log.
//!
//! A seller owns its tasks: dropping the [`Seller`] ends them and closes the port. While its script says
//! [`FaultScript::Always`]`(`[`Fault::Refuse`]`)` the port stays bound but nobody listens, so that the
//! system itself refuses. The log keeps the last [`LOG_CALLS_MAX`] calls; counters keep everything.

use super::answer_script::AnswerScript;
use super::cache::PrefixCache;
use super::config::{FaultScript, SellerConfig};
use super::fault::Fault;
use super::rate::Bucket;
use super::record::Seen;
use super::serve::{Connection, serve_connection};
use super::shape::Shape;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Calls that the log keeps; the oldest goes first.
pub const LOG_CALLS_MAX: usize = 4_096;
/// Connections waiting to be accepted.
const BACKLOG: u32 = 1_024;

/// What a seller's tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SellerConfig,
    pub(super) script: watch::Sender<FaultScript>,
    pub(super) answers: watch::Sender<AnswerScript>,
    pub(super) cache: Mutex<PrefixCache>,
    pub(super) bucket: Option<Mutex<Bucket>>,
    pub(super) started: Instant,
    log: Mutex<VecDeque<Seen>>,
    changes: watch::Sender<u64>,
    pub(super) calls: AtomicU64,
    connections: AtomicU64,
    pub(super) open: AtomicUsize,
}

/// A running seller.
#[derive(Debug)]
pub struct Seller {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// None without a port.
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Drop for Seller {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Seller {
    /// Starts a seller on a free port of the loopback interface.
    pub async fn start(config: SellerConfig) -> io::Result<Self> {
        Self::start_at(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// A seller without a port, for connections of other kinds alone; see [`Seller::serve`].
    pub fn without_port(config: SellerConfig) -> Self {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { shared: Arc::new(Shared::new(config)), address, task: None }
    }

    /// Starts a seller on this address; port 0 takes a free one.
    pub async fn start_at(config: SellerConfig, address: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(config));
        let socket = bind(address)?;
        let address = socket.local_addr()?;
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(accept_loop(shared.clone(), socket, address, ready));
        // The port listens (or refuses) from here on, so that a caller's first connection is not a race.
        let _ = is_ready.await;
        Ok(Self { shared, address, task: Some(task) })
    }

    /// Where it listens; not anywhere without a port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL that a client of OpenAI's shapes is configured with.
    pub fn base_url(&self) -> String {
        self.base_url_of(Shape::Chat)
    }

    /// The base URL that a client of this shape is configured with: up to and with the version, if any.
    pub fn base_url_of(&self, shape: Shape) -> String {
        format!("{}{}", self.origin(), shape.base_path())
    }

    /// Scheme, host and port, for clients that add the version themselves, as Anthropic's does.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was started with (the fault script may have changed since).
    pub fn config(&self) -> &SellerConfig {
        &self.shared.config
    }

    /// Changes the fault script for coming calls. Entries of [`FaultScript::InOrder`] count from the
    /// first call of the seller's life.
    pub fn set_faults(&self, script: FaultScript) {
        self.shared.script.send_replace(script);
    }

    /// Changes what it says in coming answers.
    pub fn set_answers(&self, script: AnswerScript) {
        self.shared.answers.send_replace(script);
    }

    /// Calls of an endpoint of its shapes so far; lists of models are not counted.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Answers under way.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The last [`LOG_CALLS_MAX`] calls, oldest first.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().iter().cloned().collect()
    }

    /// Waits until the log satisfies a condition; checked again at every change.
    pub async fn wait_for(&self, mut condition: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let log = self.log();
            if condition(&log) || changes.changed().await.is_err() {
                return log;
            }
        }
    }

    /// Serves a connection that does not come from the port, such as one end of a pipe. Returns when the
    /// connection ends.
    pub async fn serve(&self, connection: impl Connection) {
        let number = self.shared.connections.fetch_add(1, Ordering::SeqCst);
        serve_connection(&self.shared, connection, number).await;
    }
}

impl Shared {
    pub(super) fn new(config: SellerConfig) -> Self {
        Self {
            script: watch::Sender::new(config.faults.clone()),
            answers: watch::Sender::new(config.answers.clone()),
            cache: Mutex::default(),
            bucket: config.rate.map(|law| Mutex::new(Bucket::full(law))),
            config,
            started: Instant::now(),
            log: Mutex::new(VecDeque::new()),
            changes: watch::Sender::new(0),
            calls: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        }
    }

    fn refuses(&self) -> bool {
        *self.script.borrow() == FaultScript::Always(Fault::Refuse)
    }

    #[cfg(test)]
    pub(super) fn last(&self) -> Option<Seen> {
        self.log.lock().back().cloned()
    }

    pub(super) fn push(&self, seen: Seen) {
        let mut log = self.log.lock();
        if log.len() == LOG_CALLS_MAX {
            log.pop_front();
        }
        log.push_back(seen);
        drop(log);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn update(&self, order: u64, change: impl FnOnce(&mut Seen)) {
        let mut log = self.log.lock();
        if let Some(seen) = log.iter_mut().rev().find(|seen| seen.order == order) {
            change(seen);
        }
        drop(log);
        self.changes.send_modify(|count| *count += 1);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept_loop(
    shared: Arc<Shared>,
    mut socket: TcpSocket,
    address: SocketAddr,
    ready: tokio::sync::oneshot::Sender<()>,
) -> io::Result<()> {
    let mut ready = Some(ready);
    let mut script = shared.script.subscribe();
    let mut connections = JoinSet::new();
    loop {
        if shared.refuses() {
            connections.shutdown().await;
            ready.take().map(|ready| ready.send(()));
            if script.wait_for(|script| *script != FaultScript::Always(Fault::Refuse)).await.is_err() {
                return Ok(());
            }
        }
        let listener = socket.listen(BACKLOG)?;
        ready.take().map(|ready| ready.send(()));
        while !shared.refuses() {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    stream.set_nodelay(true)?;
                    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                    let shared = shared.clone();
                    connections.spawn(async move { serve_connection(&shared, stream, number).await });
                },
                _ = script.changed() => {}
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop(listener);
        socket = bind(address)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Ending, UsageSeen};
    use super::*;
    use std::time::Duration;

    fn seen(order: u64) -> Seen {
        Seen {
            order,
            connection: 0,
            at: Duration::ZERO,
            path: "/v1/chat/completions".to_owned(),
            headers: vec![("authorization".to_owned(), "Bearer sk-canary".to_owned())],
            body: b"a secret prompt".to_vec(),
            shape: Shape::Chat,
            model: "m".to_owned(),
            tools: Vec::new(),
            images: 0,
            grammar_error: Some("secret: unknown role".to_owned()),
            refused: None,
            fault: None,
            stream: false,
            truth: UsageSeen::default(),
            tokens_sent: 0,
            ending: Ending::Open,
            client_gone_at: None,
            bytes_after_client_gone: 0,
        }
    }

    #[tokio::test]
    async fn the_log_keeps_the_last_calls() {
        let shared = Shared::new(SellerConfig::new("alpha", "m"));
        let count = LOG_CALLS_MAX as u64;
        let length_and_first = || {
            let log = shared.log.lock();
            (log.len(), log[0].order)
        };
        (0..count).for_each(|order| shared.push(seen(order)));
        assert_eq!(length_and_first(), (LOG_CALLS_MAX, 0));
        shared.push(seen(count));
        assert_eq!(length_and_first(), (LOG_CALLS_MAX, 1));
        // What was forgotten is not updated, and nothing else is either.
        shared.update(0, |seen| seen.ending = Ending::Sent);
        assert!(shared.log.lock().iter().all(|seen| seen.ending == Ending::Open));
    }

    #[test]
    fn what_is_printed_of_a_call_shows_no_key_and_no_prompt() {
        let text = format!("{:?}", seen(0));
        assert!(!text.contains("canary") && !text.contains("secret"));
    }
}
