//! The connection's thread: dials the exchanges in turn, proves itself, and carries bytes between socket and state.
//!
//! All of it goes through an encrypted [channel](crate::channel), whose binding both proofs cover. Reading and writing
//! go on side by side, so that two ends that both have much to say do not wait for each other.
//! Everything that was asked meanwhile leaves in one write. An exchange that answers nothing for [`SILENT_AFTER`], not
//! even a ping, is taken for dead, as one whose machine vanished would be; so is one that has something to write and
//! does not for [`DISK_SILENT_AFTER`], as one that has lost its database would. Then the next address is dialled. To be
//! taken for dead harms no exchange that is alive: when the turn comes to it again, it goes on. When none of them could be
//! reached in a whole round, the log says why, once until one is.

use super::Shared;
use super::state::Broken;
use crate::channel::ChannelConnector;
use bourse_types::UnixMs;
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::FundsError;
use bourse_wire::funds::port::{
    self, Drawn, FRAME_BYTES_MAX, NO_CALL, PORT_VERSION, PortSecret, Reply, Request, Side,
};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsStream;

/// From looking up the name to the welcome.
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
    #[error("it closed before its welcome: it has too many gateways, has stopped, or knows another secret")]
    NotWelcome,
    #[error("the exchange takes nobody: {0}")]
    Refused(FundsError),
    #[error("the exchange does not answer")]
    Silent,
    #[error("whoever listens there does not know the secret")]
    Secret,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Where to dial, and how.
pub(super) struct Dialler {
    pub(super) addresses: Vec<String>,
    pub(super) secret: PortSecret,
    pub(super) connector: ChannelConnector,
}

/// Keeps a connection until it is closed for good.
pub(super) async fn keep(shared: &Shared, dialler: &Dialler) {
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
        () = dialler.dial(shared) => {}
        () = looks => {}
    }
}

impl Dialler {
    async fn dial(&self, shared: &Shared) {
        // Addresses that were dialled in vain since the last connection.
        let mut in_vain = 0;
        for address in self.addresses.iter().cycle() {
            // One that was there is asked first when its connection breaks.
            loop {
                let opened = timeout(GREETED_WITHIN, self.open(address)).await;
                match opened.unwrap_or(Err(Down::Silent)) {
                    Ok(wire) => {
                        in_vain = 0;
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
                        in_vain += 1;
                        self.tell(address, &why, in_vain);
                        break;
                    }
                }
            }
            sleep(DIAL_AGAIN).await;
        }
    }

    /// The second round in vain is told in full: in the first one a standby may be about to take over.
    fn tell(&self, address: &str, why: &Down, in_vain: usize) {
        let all = self.addresses.len();
        if (all + 1..=2 * all).contains(&in_vain) {
            tracing::warn!(%address, %why, "no exchange can be reached");
        } else {
            tracing::debug!(%address, %why, "no exchange there");
        }
    }

    async fn open(&self, address: &str) -> Result<Wire, Down> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let channel = self.connector.connect(stream).await?;
        let chunk = vec![0; CHUNK_BYTES].into();
        let mut wire = Wire {
            stream: channel.stream,
            input: Vec::new(),
            chunk,
            incarnation: 0,
            clocks: (UnixMs(0), UnixMs(0)),
        };
        let challenge = match wire.next().await? {
            Reply::Challenge(challenge) => challenge,
            Reply::Refused(why) => return Err(Down::Refused(why)),
            _ => return Err(Down::Secret),
        };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(Down::NoRandomness)?;
        let drawn = Drawn { challenge, nonce, binding: channel.binding };
        let proof = *self.secret.proof(Side::Gateway, &drawn, 0).as_bytes();
        let mut hello = Vec::new();
        port::encode(NO_CALL, &Request::Hello { version: PORT_VERSION, nonce, proof }, &mut hello)?;
        wire.stream.write_all(&hello).await?;
        wire.stream.flush().await?;
        let Reply::Welcome { incarnation, proof, wall } = wire.next().await? else {
            return Err(Down::Secret);
        };
        // Hashes are compared in the same time wherever they differ.
        if self.secret.proof(Side::Exchange, &drawn, incarnation) != proof {
            return Err(Down::Secret);
        }
        (wire.incarnation, wire.clocks) = (incarnation, (wall, wall_clock()));
        Ok(wire)
    }
}

/// An open connection.
struct Wire {
    stream: TlsStream<TcpStream>,
    input: Vec<u8>,
    chunk: Box<[u8]>,
    incarnation: u128,
    /// The exchange's and this machine's, at the welcome.
    clocks: (UnixMs, UnixMs),
}

impl Wire {
    /// The next frame of the handshake.
    async fn next(&mut self) -> Result<Reply, Down> {
        loop {
            if let Some(taken) = port::decode(&self.input, FRAME_BYTES_MAX)? {
                self.input.drain(..taken.bytes);
                return Ok(taken.message);
            }
            match self.stream.read(&mut self.chunk).await {
                Ok(0) => return Err(Down::NotWelcome),
                Ok(read) => self.input.extend_from_slice(&self.chunk[..read]),
                Err(error) if is_end(&error) => return Err(Down::NotWelcome),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Carries bytes until the connection breaks; says why it did.
    async fn run(self, shared: &Shared) -> Down {
        {
            let mut state = shared.state.lock();
            let (wall, own) = self.clocks;
            state.told_clock(wall, own);
            state.link_up(self.incarnation, Instant::now());
        }
        let (reader, writer) = tokio::io::split(self.stream);
        let ended = tokio::select! {
            ended = hear(reader, self.input, self.chunk, shared) => ended,
            ended = say(writer, shared) => ended,
            ended = look(shared) => ended,
        };
        ended.err().unwrap_or(Down::Closed)
    }
}

/// Hands on what the exchange says.
async fn hear(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    mut input: Vec<u8>,
    mut chunk: Box<[u8]>,
    shared: &Shared,
) -> Result<(), Down> {
    loop {
        take_answers(&mut input, shared)?;
        match reader.read(&mut chunk).await {
            Ok(0) => return Ok(()),
            Ok(len) => input.extend_from_slice(&chunk[..len]),
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everything that was asked since the last write leaves in one.
async fn say(mut writer: WriteHalf<TlsStream<TcpStream>>, shared: &Shared) -> Result<(), Down> {
    let mut out = Vec::new();
    loop {
        shared.state.lock().take_outbox(&mut out);
        if out.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
        out.shrink_to(BUFFER_KEPT_BYTES_MAX);
    }
}

/// Looks from time to time whether anybody is there.
async fn look(shared: &Shared) -> Result<(), Down> {
    let mut looks = interval(SILENT_AFTER / 4);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        {
            let (mut state, now) = (shared.state.lock(), Instant::now());
            if state.is_silent(now, SILENT_AFTER, DISK_SILENT_AFTER) {
                return Err(Down::Silent);
            }
            state.ping(now);
        }
        shared.wake.notify_one();
    }
}

fn wall_clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Whether the other end has gone: a process that is killed says no farewell.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelAcceptor;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_exchange_that_takes_nobody_is_told_from_one_with_another_secret() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialler = Dialler {
            addresses: vec![listener.local_addr().unwrap().to_string()],
            secret: PortSecret::of("a secret of these tests").unwrap(),
            connector: ChannelConnector::new().unwrap(),
        };
        let exchange = async {
            for reply in [Reply::Refused(FundsError::Closing), Reply::Done] {
                let acceptor = ChannelAcceptor::new().unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap().stream;
                let mut frame = Vec::new();
                port::encode(NO_CALL, &reply, &mut frame).unwrap();
                stream.write_all(&frame).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        let gateway = async {
            let mut tries = Vec::new();
            for _ in 0..2 {
                tries.push(dialler.open(&dialler.addresses[0]).await.map(drop).unwrap_err());
            }
            tries
        };
        let ((), tries) = tokio::join!(exchange, gateway);
        assert!(matches!(tries[..], [Down::Refused(FundsError::Closing), Down::Secret]), "{tries:?}");
        assert_eq!(tries[0].to_string(), "the exchange takes nobody: the exchange is closing");
    }
}
