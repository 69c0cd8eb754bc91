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
//! starts. An exchange whose journal failed or that is closing ends its connections without an answer and welcomes
//! nobody, because what it would say is about itself and the gateway's money is with the next one.
//!
//! What is said on a connection, without the socket, is in [`FundsSession`].
//!
//! Limits: at most [`GATEWAYS_MAX`] gateways and [`STRANGERS_MAX`] connections that have proven nothing yet;
//! [`DURABLE_CALLS_MAX`] calls of a connection wait for the disk. Gateways know one secret and trust each other in what
//! they do with their requests' ids, which are random; TLS is a later matter, so the port belongs on a private network.
//! A repeated settlement of a buyer's own key may read the index, which the other gateways wait for.

pub(crate) mod session;

pub use session::{FundsSession, SessionEnd};

use crate::exchange::{Exchange, wall_clock};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::port::{
    self, Drawn, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Message, NO_CALL, PORT_VERSION, PortSecret, Reply,
    Request, Side,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Gateways that are connected, at most.
pub const GATEWAYS_MAX: usize = 64;
/// Connections that have not proven the secret, at most.
pub(crate) const STRANGERS_MAX: usize = 64;
/// How long a stranger has for its hello.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// How long a gateway may leave its answers unread.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Taken of one connection before the others have their turn.
const TURN_BYTES: usize = FRAME_BYTES_MAX + port::LENGTH_BYTES;
/// Between two tries when the system has no room for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

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
        secret: PortSecret,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let incarnation = draw(&exchange)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopping) = watch::channel(false);
        let house = Arc::new(House { exchange, secret, incarnation: u128::from_le_bytes(incarnation) });
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
    secret: PortSecret,
    incarnation: u128,
}

async fn serve(
    house: &Arc<House>,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let gateways = Arc::new(Semaphore::new(GATEWAYS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.changed() => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a gateway was not let in");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // One too many is closed at once: it dials again.
        let Ok(stranger) = Arc::clone(&strangers).try_acquire_owned() else { continue };
        let (house, gateways) = (Arc::clone(house), Arc::clone(&gateways));
        connections.spawn(async move {
            let greeted = timeout(HELLO_WITHIN, Connection::greet(&house, stream)).await;
            let known = match greeted {
                Ok(Ok(connection)) => connection,
                Ok(Err(why)) => return tracing::warn!(%why, "a stranger at the funds port"),
                Err(_) => return,
            };
            drop(stranger);
            let Ok(_gateway) = gateways.try_acquire_owned() else {
                return tracing::warn!(GATEWAYS_MAX, "too many gateways");
            };
            match known.run().await {
                Ok(()) => tracing::debug!("a gateway has gone"),
                Err(why) => tracing::warn!(%why, "a gateway was cut off"),
            }
        });
    }
}

/// Why a connection ended before the gateway ended it.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionEnd),
    #[error("it closed in the middle of a frame")]
    Torn,
    #[error("it does not know the secret")]
    Secret,
    #[error("it speaks version {0} of the port")]
    Version(u8),
    #[error("it does not read its answers")]
    Deaf,
}

impl From<CanonicalError> for Cut {
    fn from(error: CanonicalError) -> Self {
        Self::Session(error.into())
    }
}

struct Connection {
    house: Arc<House>,
    stream: TcpStream,
    /// Room for a read.
    chunk: Box<[u8]>,
    session: FundsSession,
}

impl Connection {
    /// Opens a connection: proves each side to the other.
    async fn greet(house: &Arc<House>, stream: TcpStream) -> Result<Self, Cut> {
        stream.set_nodelay(true)?;
        let session = FundsSession::new(Arc::clone(&house.exchange));
        let mut this = Self { house: Arc::clone(house), stream, chunk: vec![0; TURN_BYTES].into(), session };
        this.house.exchange.shared.core.lock().running().map_err(|_| SessionEnd::Stopped)?;
        let challenge = draw(&this.house.exchange)?;
        this.session.answer(NO_CALL, &Reply::Challenge(challenge))?;
        this.flush().await?;
        let (nonce, proof) = match this.next(HELLO_BYTES_MAX).await? {
            Some((_, Request::Hello { version: PORT_VERSION, nonce, proof })) => (nonce, proof),
            Some((_, Request::Hello { version, .. })) => return Err(Cut::Version(version)),
            _ => return Err(Cut::Secret),
        };
        let drawn = Drawn { challenge, nonce };
        // Both are hashes, so that the comparison takes the same time wherever they differ.
        if this.house.secret.proof(Side::Gateway, &drawn, 0) != blake3::Hash::from_bytes(proof) {
            return Err(Cut::Secret);
        }
        let incarnation = this.house.incarnation;
        let proof = *this.house.secret.proof(Side::Exchange, &drawn, incarnation).as_bytes();
        this.session.answer(NO_CALL, &Reply::Welcome { incarnation, proof })?;
        this.flush().await?;
        Ok(this)
    }

    /// Answers until the gateway goes.
    async fn run(mut self) -> Result<(), Cut> {
        loop {
            self.session.take_turn(wall_clock())?;
            self.flush().await?;
            tokio::task::yield_now().await;
            let session = &mut self.session;
            let room = TURN_BYTES.saturating_sub(session.input.len());
            tokio::select! {
                read = self.stream.read(&mut self.chunk[..room]) => {
                    match read? {
                        0 if session.input.is_empty() => return Ok(()),
                        0 => return Err(Cut::Torn),
                        len => session.input.extend_from_slice(&self.chunk[..len]),
                    }
                }
                changed = session.progress.changed() => changed.map_err(|_| SessionEnd::Stopped)?,
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Cut> {
        let output = &mut self.session.output;
        if output.is_empty() {
            return Ok(());
        }
        timeout(WRITE_WITHIN, self.stream.write_all(output)).await.map_err(|_| Cut::Deaf)??;
        output.clear();
        output.shrink_to(TURN_BYTES);
        Ok(())
    }

    /// The next frame, before the connection is open.
    async fn next<M: Message>(&mut self, frame_bytes_max: usize) -> Result<Option<(u64, M)>, Cut> {
        let input = &mut self.session.input;
        loop {
            if let Some(taken) = port::decode(input, frame_bytes_max)? {
                input.drain(..taken.bytes);
                return Ok(Some((taken.call, taken.message)));
            }
            let room = (frame_bytes_max + port::LENGTH_BYTES).saturating_sub(input.len());
            match self.stream.read(&mut self.chunk[..room]).await? {
                0 => return Ok(None),
                len => input.extend_from_slice(&self.chunk[..len]),
            }
        }
    }
}

fn draw<const N: usize>(exchange: &Exchange) -> io::Result<[u8; N]> {
    exchange.shared.entropy.lock().draw().map_err(io::Error::other)
}
