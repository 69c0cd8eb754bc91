//! The funds port on a socket: gateways on other machines ask this exchange.
//!
//! One thread with a reactor of its own serves all gateways: every change goes through one lock anyway, and a thread that
//! does nothing else takes what has arrived on a connection in one go and answers it in one write, so that a thousand
//! holds cost as many system calls as ten. A turn takes at most [`TURN_BYTES`] of one connection, then the others have
//! theirs. What a gateway sends beyond that waits in its own socket, and nothing more is read from one that does not
//! read its answers: it is held up, and after [`WRITE_WITHIN`] cut off, and no other gateway notices.
//!
//! The disk is told of without being asked: each connection hears how far the journal has come, and a call for
//! durability only makes the exchange hurry. Tickets are of one incarnation, see [`port`]; it is drawn when the server
//! starts. An exchange whose journal failed or that is closing ends its connections without an answer, because what it
//! would say is about itself and the gateway's money is with the next one. Whoever dials it then is told why it welcomes
//! nobody, without the words of its disk or database, and goes to the next address.
//!
//! What is off the hot path (the past, keys as their owners administer them) is answered by [`QUESTION_THREADS`] others,
//! see [`questions`]. Everything goes through an encrypted [channel](bourse_link::Channel), and nobody is heard before it
//! has proven the secret inside it.
//!
//! A gateway is heard from all the time, because it asks when it has nothing else to say; one that says nothing for
//! [`FundsServerConfig::silent_after`] has vanished with its machine and makes room. What is said on a connection, without
//! the socket, is in [`FundsSession`].
//!
//! A gateway that is not welcome comes again many times a second, so the log has one line about each machine in a minute
//! ([`Complaints`]).
//!
//! Limits: at most [`GATEWAYS_MAX`] gateways and [`STRANGERS_MAX`] connections that have proven nothing yet. Gateways know one secret and trust each other in what
//! they do with their requests' ids, which are random. A repeated settlement of a buyer's own key may read the index, which
//! the other gateways wait for.

use crate::exchange::{Exchange, wall_clock};
use bourse_link::ChannelAcceptor;
use bourse_types::UnixMs;
use bourse_wire::funds::port::{self, FRAME_BYTES_MAX, PortSecret};
use complaints::Complaints;
use connection::{Connection, Cut};
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

mod complaints;
mod connection;
mod questions;
pub(crate) mod session;
mod upload;

pub use session::{FundsSession, SessionEnd};

/// Gateways that are connected, at most.
pub const GATEWAYS_MAX: usize = 64;
/// Connections that have not proven the secret, at most.
pub(crate) const STRANGERS_MAX: usize = 64;
/// Threads that answer questions.
const QUESTION_THREADS: usize = 4;
/// How long a gateway may say nothing. It asks twice a second when it has nothing else to say.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);
/// How long a stranger has for its hello.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// How long a gateway may leave its answers unread.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Taken of one connection before the others have their turn.
const TURN_BYTES: usize = FRAME_BYTES_MAX + port::LENGTH_BYTES;
/// Between two tries when the system has no room for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How gateways are served.
#[derive(Debug, Clone)]
pub struct FundsServerConfig {
    /// What both ends know.
    pub secret: PortSecret,
    /// See [`SILENT_AFTER`].
    pub silent_after: Duration,
    /// What gateways are told as the time.
    pub clock: fn() -> UnixMs,
}

impl FundsServerConfig {
    /// The usual, with a secret.
    pub fn of(secret: PortSecret) -> Self {
        Self { secret, silent_after: SILENT_AFTER, clock: wall_clock }
    }
}

/// Serves an exchange to gateways on other machines. Dropping it ends its connections.
pub struct FundsServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl FundsServer {
    /// Serves on a listener.
    pub fn start(
        exchange: Arc<Exchange>,
        listener: std::net::TcpListener,
        config: FundsServerConfig,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let incarnation = draw(&exchange)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(QUESTION_THREADS)
            .thread_name("bourse-questions")
            .build()?;
        let (stop, stopping) = watch::channel(false);
        let house = Arc::new(House {
            exchange,
            config,
            acceptor: ChannelAcceptor::new()?,
            incarnation: u128::from_le_bytes(incarnation),
            gateways: Arc::new(Semaphore::new(GATEWAYS_MAX)),
            complaints: Mutex::default(),
        });
        let thread = std::thread::Builder::new().name("bourse-funds".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = runtime.block_on(serve(&house, listener, stopping)) {
                tracing::error!(%error, "gateways cannot be served");
            }
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FundsServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that serves gateways had panicked");
        }
    }
}

/// What all connections share.
struct House {
    exchange: Arc<Exchange>,
    config: FundsServerConfig,
    acceptor: ChannelAcceptor,
    incarnation: u128,
    /// Places for gateways.
    gateways: Arc<Semaphore>,
    complaints: Mutex<Complaints>,
}

impl House {
    /// Says why somebody was not let in, unless the log has just had that machine.
    fn complain(&self, peer: SocketAddr, why: &Cut) {
        let told = self.complaints.lock().tell(peer.ip(), Instant::now());
        if let Some(untold) = told {
            tracing::warn!(%peer, %why, untold, "not let in at the funds port");
        } else {
            tracing::debug!(%peer, %why, "not let in at the funds port");
        }
    }
}

async fn serve(
    house: &Arc<House>,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.changed() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a gateway was not let in");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // One too many is closed at once: it dials again.
        let Ok(stranger) = Arc::clone(&strangers).try_acquire_owned() else { continue };
        let house = Arc::clone(house);
        connections.spawn(async move {
            let greeted = timeout(HELLO_WITHIN, Connection::greet(&house, stream)).await;
            let gateway = match greeted {
                Ok(Ok(gateway)) => gateway,
                Ok(Err(why)) => return house.complain(peer, &why),
                Err(_) => return,
            };
            drop(stranger);
            match gateway.run().await {
                Ok(()) => tracing::debug!("a gateway has gone"),
                Err(why) => tracing::warn!(%why, "a gateway was cut off"),
            }
        });
    }
}

fn draw<const N: usize>(exchange: &Exchange) -> io::Result<[u8; N]> {
    exchange.shared.entropy.lock().draw().map_err(io::Error::other)
}
