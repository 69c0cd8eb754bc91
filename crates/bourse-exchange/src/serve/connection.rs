//! One gateway: its handshake, its calls, and what it is told unasked.

use super::questions::Questions;
use super::session::{FundsSession, SessionEnd};
use super::{House, TURN_BYTES, WRITE_WITHIN, draw};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::FundsError;
use bourse_wire::funds::port::{
    self, Drawn, HELLO_BYTES_MAX, Message, NO_CALL, PORT_VERSION, Reply, Request, Side,
};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsStream;

/// Why a connection ended before the gateway ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
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
    #[error("it says nothing")]
    Silent,
    #[error("there are too many gateways")]
    TooMany,
    /// Said to whoever dials, so it tells no more than that.
    #[error("{0}")]
    Stopped(FundsError),
}

impl From<CanonicalError> for Cut {
    fn from(error: CanonicalError) -> Self {
        Self::Session(error.into())
    }
}

pub(super) struct Connection {
    house: Arc<House>,
    stream: TlsStream<TcpStream>,
    /// Room for a read.
    chunk: Box<[u8]>,
    session: FundsSession,
    questions: Questions,
    heard: Instant,
    /// Its place among the gateways, once it has proven to be one.
    place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Opens a connection: an encrypted channel, in which each side proves itself to the other.
    pub(super) async fn greet(house: &Arc<House>, stream: TcpStream) -> Result<Self, Cut> {
        stream.set_nodelay(true)?;
        let channel = house.acceptor.accept(stream).await?;
        let mut this = Self {
            house: Arc::clone(house),
            stream: channel.stream,
            chunk: vec![0; TURN_BYTES].into(),
            session: FundsSession::new(Arc::clone(&house.exchange)),
            questions: Questions::new(&house.exchange),
            heard: Instant::now(),
            place: None,
        };
        if let Some(why) = this.session.stopped() {
            this.session.answer(NO_CALL, &Reply::Refused(why.clone()))?;
            this.flush().await?;
            return Err(Cut::Stopped(why));
        }
        let challenge = draw(&house.exchange)?;
        this.session.answer(NO_CALL, &Reply::Challenge(challenge))?;
        this.flush().await?;
        let (nonce, proof) = match this.next(HELLO_BYTES_MAX).await? {
            Some((_, Request::Hello { version: PORT_VERSION, nonce, proof })) => (nonce, proof),
            Some((_, Request::Hello { version, .. })) => return Err(Cut::Version(version)),
            _ => return Err(Cut::Secret),
        };
        let drawn = Drawn { challenge, nonce, binding: channel.binding };
        let secret = &house.config.secret;
        // Both are hashes, so that the comparison takes the same time wherever they differ.
        if secret.proof(Side::Gateway, &drawn, 0) != blake3::Hash::from_bytes(proof) {
            return Err(Cut::Secret);
        }
        // Before it is welcome, so that it tries another exchange instead of this one again.
        let place = Arc::clone(&house.gateways).try_acquire_owned();
        this.place = Some(place.map_err(|_| Cut::TooMany)?);
        let (incarnation, wall) = (house.incarnation, (house.config.clock)());
        let proof = *secret.proof(Side::Exchange, &drawn, incarnation).as_bytes();
        this.session.answer(NO_CALL, &Reply::Welcome { incarnation, proof, wall })?;
        this.flush().await?;
        this.heard = Instant::now();
        Ok(this)
    }

    /// Answers until the gateway goes.
    pub(super) async fn run(mut self) -> Result<(), Cut> {
        loop {
            self.session.take_turn((self.house.config.clock)())?;
            for (call, question) in std::mem::take(&mut self.session.asked) {
                if let Some(refused) = self.questions.ask(call, question) {
                    self.session.answer(call, &Reply::Refused(refused))?;
                }
            }
            if let Some((call, part)) = self.questions.next_part() {
                self.session.answer(call, &part)?;
            }
            self.flush().await?;
            tokio::task::yield_now().await;
            let session = &mut self.session;
            let room = TURN_BYTES.saturating_sub(session.input.len());
            let silent_at = self.heard + self.house.config.silent_after;
            tokio::select! {
                biased;
                read = self.stream.read(&mut self.chunk[..room]) => {
                    self.heard = Instant::now();
                    match read {
                        Ok(len @ 1..) => session.input.extend_from_slice(&self.chunk[..len]),
                        Ok(_) => return self.ended(),
                        // A process that is killed says no farewell.
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return self.ended(),
                        Err(error) => return Err(error.into()),
                    }
                }
                changed = session.progress.changed() => changed.map_err(|_| SessionEnd::Stopped)?,
                is_fine = self.questions.answered() => {
                    if !is_fine && session.is_stopped() {
                        return Err(SessionEnd::Stopped.into());
                    }
                }
                () = sleep_until(silent_at) => return Err(Cut::Silent),
            }
        }
    }

    fn ended(&self) -> Result<(), Cut> {
        if self.session.input.is_empty() { Ok(()) } else { Err(Cut::Torn) }
    }

    async fn flush(&mut self) -> Result<(), Cut> {
        let output = &mut self.session.output;
        if output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        timeout(WRITE_WITHIN, write).await.map_err(|_| Cut::Deaf)??;
        output.clear();
        output.shrink_to(TURN_BYTES);
        Ok(())
    }

    /// The next frame, before the connection is open.
    async fn next<M: Message>(&mut self, frame_bytes_max: usize) -> Result<Option<(u64, M)>, Cut> {
        loop {
            if let Some(taken) = port::decode(&self.session.input, frame_bytes_max)? {
                self.session.input.drain(..taken.bytes);
                return Ok(Some((taken.call, taken.message)));
            }
            let room = (frame_bytes_max + port::LENGTH_BYTES).saturating_sub(self.session.input.len());
            match self.stream.read(&mut self.chunk[..room]).await? {
                0 => return Ok(None),
                len => self.session.input.extend_from_slice(&self.chunk[..len]),
            }
        }
    }
}
