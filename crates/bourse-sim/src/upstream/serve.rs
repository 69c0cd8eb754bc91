//! One connection: reads calls, has each decided about, and plays the script.
//!
//! Whatever the script does, the client's close is watched for at the same time and noted in the log:
//! that a market cancels a seller whose buyer has gone can only be seen from here.

use super::decide::{Arrival, decide};
use super::http::{HttpRequest, Inbox};
use super::models;
use super::record::{Ending, Seen};
use super::script::{Close, Script, Step};
use super::seller::Shared;
use super::shape::{Shape, route};
use super::trouble::{Kind, Trouble};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A byte stream that a seller can serve: a socket, or a pipe inside one process.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close a reset, where that exists.
    fn prepare_reset(&self) {}
}

impl Connection for TcpStream {
    fn prepare_reset(&self) {
        // A failure leaves an orderly close, which the client must survive just as well.
        let _ = self.set_zero_linger();
    }
}

impl Connection for tokio::io::DuplexStream {}

/// Serves one connection to its end.
pub(super) async fn serve_connection<C: Connection>(shared: &Shared, connection: C, number: u64) {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut inbox = Inbox::default();
    let close = loop {
        match inbox.peek(&mut reader).await {
            Ok(Some(TLS_HANDSHAKE)) => break Close::Reset,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break Close::Fin,
        }
        let Ok(Some(request)) = inbox.request(&mut reader).await else { break Close::Fin };
        let keep_alive = request.keep_alive;
        let close = answer(shared, request, number, &mut reader, &mut writer, &mut inbox).await;
        if close != Close::KeepAlive || !keep_alive {
            break close;
        }
    };
    let connection = reader.unsplit(writer);
    if close == Close::Reset {
        connection.prepare_reset();
    }
}

/// Counts an open answer for as long as it lives.
struct OpenAnswer<'a>(&'a AtomicUsize);

impl Drop for OpenAnswer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer<C: Connection>(
    shared: &Shared,
    http: HttpRequest,
    connection: u64,
    reader: &mut ReadHalf<C>,
    writer: &mut WriteHalf<C>,
    inbox: &mut Inbox,
) -> Close {
    let Some(route) = route(&http, &shared.config.shapes) else {
        let script = match models::answer(&http, &shared.config) {
            Some(list) => Script::json(200, &[], &list),
            None => Script::error(Shape::Chat, &Trouble::new(Kind::NoSuchPath, "Unknown request URL"), &[]),
        };
        let mut player = Player { reader, writer, inbox, shared, order: None };
        return player.play(script).await;
    };
    let order = shared.calls.fetch_add(1, Ordering::SeqCst);
    let already_open = shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = OpenAnswer(&shared.open);
    let script = decide(shared, &route, http, Arrival { order, connection, already_open });
    let mut player = Player { reader, writer, inbox, shared, order: Some(order) };
    player.play(script).await
}

struct Player<'a, C> {
    reader: &'a mut ReadHalf<C>,
    writer: &'a mut WriteHalf<C>,
    inbox: &'a mut Inbox,
    shared: &'a Shared,
    /// `None` for requests that the log does not keep.
    order: Option<u64>,
}

impl<C: Connection> Player<'_, C> {
    /// Plays a script to its end, or until the client leaves.
    async fn play(&mut self, script: Script) -> Close {
        for step in script.steps {
            let stays = match step {
                Step::Send { bytes, tokens, .. } => self.send(&bytes, tokens).await,
                Step::Wait(time) => self.wait(time).await,
                Step::Repeat { bytes, every } => {
                    while self.send(&bytes, 0).await && self.wait(every).await {}
                    false
                }
                Step::Hang => {
                    self.client_gone().await;
                    false
                }
            };
            if !stays {
                self.note_client_gone();
                if !script.ignores_client {
                    return Close::Fin;
                }
            }
        }
        self.note(|seen| {
            if seen.ending == Ending::Open {
                seen.ending = Ending::Sent;
            }
        });
        script.close
    }

    /// Writes; `false` once the client has left.
    async fn send(&mut self, bytes: &[u8], tokens: u64) -> bool {
        let written = tokio::select! {
            biased;
            written = async { self.writer.write_all(bytes).await?; self.writer.flush().await } => written.is_ok(),
            () = client_gone(self.inbox, self.reader) => false,
        };
        self.note(|seen| {
            if written {
                seen.tokens_sent += tokens;
            }
            if seen.client_gone_at.is_some() {
                seen.bytes_after_client_gone += bytes.len() as u64;
            }
        });
        written
    }

    /// Waits; `false` as soon as the client leaves.
    async fn wait(&mut self, time: Duration) -> bool {
        if time.is_zero() {
            tokio::task::yield_now().await;
            return true;
        }
        let left = self.note(|seen| seen.client_gone_at).flatten().is_some();
        if left {
            tokio::time::sleep(time).await;
            return false;
        }
        tokio::select! {
            biased;
            () = client_gone(self.inbox, self.reader) => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    async fn client_gone(&mut self) {
        client_gone(self.inbox, self.reader).await;
    }

    fn note_client_gone(&self) {
        let now = self.shared.started.elapsed();
        self.note(|seen| {
            seen.client_gone_at.get_or_insert(now);
            seen.ending = Ending::ClientGone;
        });
    }

    fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> Option<T> {
        let mut out = None;
        if let Some(order) = self.order {
            self.shared.update(order, |seen| out = Some(change(seen)));
        }
        out
    }
}

/// Returns when the client has closed. What it sends meanwhile waits for its turn.
async fn client_gone<R: AsyncRead + Unpin>(inbox: &mut Inbox, reader: &mut R) {
    while matches!(inbox.fill(reader).await, Ok(true)) {}
}
