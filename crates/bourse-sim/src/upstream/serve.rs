//! One connection: reads calls, decides what each meets, and plays the script.
//!
//! Whatever the script does, the client's close is watched for at the same time and noted in the log:
//! that a market cancels a seller whose buyer has gone can only be seen from here.

use super::answer::Answer;
use super::config::SellerConfig;
use super::http::{HttpRequest, Inbox};
use super::record::{Ending, Seen, UsageSeen};
use super::request::{Call, Surface};
use super::script::{Close, Script, Step, respond};
use super::seller::Shared;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// Bytes of a request body that the log keeps.
const LOG_BODY_BYTES_MAX: usize = 64 * 1024;
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
    let path = http.path.split('?').next().unwrap_or_default();
    let surface = match (http.method.as_str(), path) {
        ("POST", "/v1/chat/completions") => Some(Surface::Chat),
        ("POST", "/v1/completions") => Some(Surface::Completion),
        _ => None,
    };
    let Some(surface) = surface else {
        let script = if (http.method.as_str(), path) == ("GET", "/v1/models") {
            Script::json(200, &[], &models(&shared.config))
        } else {
            Script::error(404, &[], "Unknown request URL", "not_found")
        };
        let mut player = Player { reader, writer, inbox, shared, order: None };
        return player.play(script).await;
    };
    let order = shared.calls.fetch_add(1, Ordering::SeqCst);
    let already_open = shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = OpenAnswer(&shared.open);
    let script = decide(shared, surface, http, order, connection, already_open);
    let mut player = Player { reader, writer, inbox, shared, order: Some(order) };
    player.play(script).await
}

fn models(config: &SellerConfig) -> String {
    let data: Vec<_> = config
        .listings
        .iter()
        .map(|listing| {
            json!({
                "id": listing.id, "object": "model", "created": 0, "owned_by": config.name,
                "context_length": listing.context_length_tokens,
                "pricing": {
                    "prompt": listing.price_prompt.to_usd_per_token_string(),
                    "completion": listing.price_completion.to_usd_per_token_string(),
                },
            })
        })
        .collect();
    json!({"object": "list", "data": data}).to_string()
}

/// Chooses the response to a call and writes the call into the log.
fn decide(
    shared: &Shared,
    surface: Surface,
    http: HttpRequest,
    order: u64,
    connection: u64,
    already_open: usize,
) -> Script {
    let config = &shared.config;
    let now = config.time_of_day.unwrap_or_else(SystemTime::now);
    let created_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let call = Call::read(surface, &http, config.tokens);
    let listed = |call: &Call| config.listings.iter().any(|listing| listing.id == call.model);
    let (fault, truth, script) = match &call {
        _ if config.bearer.is_some() && http.bearer() != config.bearer.as_deref() => (
            None,
            UsageSeen::default(),
            Script::error(401, &[], "Incorrect API key provided", "invalid_api_key"),
        ),
        Err(error) => {
            (None, UsageSeen::default(), Script::error(400, &[], &error.to_string(), "invalid_request_error"))
        }
        Ok(call) if !listed(call) => {
            let message = format!("The model `{}` does not exist", call.model);
            (None, UsageSeen::default(), Script::error(404, &[], &message, "model_not_found"))
        }
        Ok(_) if already_open >= config.capacity => {
            let later = [("retry-after", "1".to_owned())];
            (
                None,
                UsageSeen::default(),
                Script::error(429, &later, "Too many requests", "rate_limit_exceeded"),
            )
        }
        Ok(call) => {
            let fault = call.fault.or_else(|| shared.script.borrow().choose(order));
            let answer = Answer::compose(call, config, fault, order, created_s);
            (fault, answer.usage, respond(fault, call, &answer, config, now))
        }
    };
    let HttpRequest { path, headers, mut body, .. } = http;
    body.truncate(LOG_BODY_BYTES_MAX);
    shared.push(Seen {
        order,
        connection,
        at: shared.started.elapsed(),
        path,
        headers,
        body,
        fault,
        stream: call.is_ok_and(|call| call.stream),
        truth,
        tokens_sent: 0,
        ending: Ending::Open,
        client_gone_at: None,
        bytes_after_client_gone: 0,
    });
    script
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
