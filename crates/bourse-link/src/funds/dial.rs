//! The connection's thread: dials the exchanges in turn, proves itself, and carries bytes between socket and state.
//!
//! Reading and writing go on side by side, so that two ends that both have much to say do not wait for each other.
//! Everything that was asked meanwhile leaves in one write. An exchange that answers nothing for [`SILENT_AFTER`], not
//! even a ping, is taken for dead, as one whose machine vanished would be; so is one that has something to write and
//! does not for [`DISK_SILENT_AFTER`], as one that has lost its database would. Then the next address is dialled. To be
//! taken for dead harms no exchange that is alive: when the turn comes to it again, it goes on.

use super::Shared;
use super::state::Broken;
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::port::{
    self, Drawn, FRAME_BYTES_MAX, NO_CALL, PORT_VERSION, PortSecret, Reply, Request, Side,
};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// From dialling to the welcome.
const GREETED_WITHIN: Duration = Duration::from_secs(1);
/// Between two tries.
const DIAL_AGAIN: Duration = Duration::from_millis(50);
/// How long an exchange may answer nothing while it is asked something.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// How long an exchange may take to write what somebody waits for: longer than its lease lasts without a word.
const DISK_SILENT_AFTER: Duration = Duration::from_secs(4);
/// How often it is looked at who waits for too long.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Room for a read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Buffers above this are given back when they are empty.
const BUFFER_KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Down {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame could not be read: {0}")]
    Frame(#[from] CanonicalError),
    #[error("the exchange closed the connection")]
    Closed,
    #[error("the exchange does not answer")]
    Silent,
    #[error("whoever listens there does not know the secret")]
    Secret,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Keeps a connection until it is closed for good.
pub(super) async fn keep(shared: &Shared, addresses: &[SocketAddr], secret: &PortSecret) {
    let looks = async {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            shared.state.lock().wake_overdue(Instant::now());
        }
    };
    tokio::select! {
        () = shared.close.notified() => {}
        () = dial(shared, addresses, secret) => {}
        () = looks => {}
    }
}

async fn dial(shared: &Shared, addresses: &[SocketAddr], secret: &PortSecret) {
    for address in addresses.iter().cycle() {
        // One that was there is asked first when its connection breaks.
        loop {
            match timeout(GREETED_WITHIN, Wire::open(*address, secret)).await.unwrap_or(Err(Down::Silent)) {
                Ok(wire) => {
                    tracing::info!(%address, "connected to the exchange");
                    let why = wire.run(shared).await;
                    shared.state.lock().link_down();
                    tracing::warn!(%address, %why, "the exchange is away");
                    sleep(DIAL_AGAIN).await;
                    if matches!(why, Down::Silent) {
                        break;
                    }
                }
                Err(why) => {
                    tracing::debug!(%address, %why, "no exchange there");
                    break;
                }
            }
        }
        sleep(DIAL_AGAIN).await;
    }
}

/// An open connection.
struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    chunk: Box<[u8]>,
    incarnation: u128,
}

impl Wire {
    async fn open(address: SocketAddr, secret: &PortSecret) -> Result<Self, Down> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let chunk = vec![0; CHUNK_BYTES].into();
        let mut this = Self { stream, input: Vec::new(), chunk, incarnation: 0 };
        let Reply::Challenge(challenge) = this.next().await? else { return Err(Down::Secret) };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(Down::NoRandomness)?;
        let drawn = Drawn { challenge, nonce };
        let proof = *secret.proof(Side::Gateway, &drawn, 0).as_bytes();
        let mut hello = Vec::new();
        port::encode(NO_CALL, &Request::Hello { version: PORT_VERSION, nonce, proof }, &mut hello)?;
        this.stream.write_all(&hello).await?;
        let Reply::Welcome { incarnation, proof } = this.next().await? else { return Err(Down::Secret) };
        // Hashes are compared in the same time wherever they differ.
        if secret.proof(Side::Exchange, &drawn, incarnation) != proof {
            return Err(Down::Secret);
        }
        this.incarnation = incarnation;
        Ok(this)
    }

    /// The next frame of the handshake.
    async fn next(&mut self) -> Result<Reply, Down> {
        loop {
            if let Some(taken) = port::decode(&self.input, FRAME_BYTES_MAX)? {
                self.input.drain(..taken.bytes);
                return Ok(taken.message);
            }
            let read = self.stream.read(&mut self.chunk).await?;
            if read == 0 {
                return Err(Down::Closed);
            }
            self.input.extend_from_slice(&self.chunk[..read]);
        }
    }

    /// Carries bytes until the connection breaks; says why it did.
    async fn run(mut self, shared: &Shared) -> Down {
        shared.state.lock().link_up(self.incarnation, Instant::now());
        match self.carry(shared).await {
            Ok(()) => Down::Closed,
            Err(why) => why,
        }
    }

    async fn carry(&mut self, shared: &Shared) -> Result<(), Down> {
        let Self { stream, input, chunk, .. } = self;
        take_answers(input, shared)?;
        let (mut reader, mut writer) = stream.split();
        let (mut out, mut sent) = (Vec::new(), 0);
        let mut looks = interval(SILENT_AFTER / 4);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if sent == out.len() {
                out.clear();
                out.shrink_to(BUFFER_KEPT_BYTES_MAX);
                sent = 0;
                shared.state.lock().take_outbox(&mut out);
            }
            tokio::select! {
                read = reader.read(chunk) => match read? {
                    0 => return Ok(()),
                    len => {
                        input.extend_from_slice(&chunk[..len]);
                        take_answers(input, shared)?;
                    }
                },
                written = writer.write(&out[sent..]), if sent < out.len() => match written? {
                    0 => return Ok(()),
                    len => sent += len,
                },
                () = shared.wake.notified(), if sent == out.len() => {}
                _ = looks.tick() => {
                    let (mut state, now) = (shared.state.lock(), Instant::now());
                    if state.is_silent(now, SILENT_AFTER, DISK_SILENT_AFTER) {
                        return Err(Down::Silent);
                    }
                    state.ping(now);
                }
            }
        }
    }
}

/// Hands on every answer that is all there.
pub(super) fn take_answers(input: &mut Vec<u8>, shared: &Shared) -> Result<(), Down> {
    let (mut done, now) = (0, super::now());
    let mut state = shared.state.lock();
    while let Some(taken) = port::decode(&input[done..], FRAME_BYTES_MAX)? {
        done += taken.bytes;
        state.answered(taken.call, taken.message, now)?;
    }
    drop(state);
    shared.room.notify_all();
    input.drain(..done);
    Ok(())
}
