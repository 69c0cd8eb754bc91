//! A very cheap OpenAI-shaped upstream for measuring gateways on loopback.
//!
//! `mock [ADDRESS]` prints the address it listens on (`127.0.0.1:0` unless given) and serves on one thread:
//! `POST …/chat/completions` gives a fixed answer of about 1 KB with usage, or with `"stream":true` as many
//! deltas as `max_tokens` says (20 if absent), one write each; `POST /control?gap_us=G` pauses G microseconds
//! between deltas from then on; `GET …/models` lists `mock-model`; `GET /health` is what routers ask before they
//! send anything.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bourse_bench_gateway::{Connection, Side, number};
use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Deltas of a stream whose request names no limit.
const DELTAS_DEFAULT: u64 = 20;

/// Every byte that is ever sent, made once.
struct Canned {
    plain: Vec<u8>,
    models: Vec<u8>,
    ok: Vec<u8>,
    not_found: Vec<u8>,
    stream_head: Vec<u8>,
    first: Vec<u8>,
    deltas: Vec<Vec<u8>>,
    stop: Vec<u8>,
    usage: Vec<u8>,
    done: Vec<u8>,
}

struct Mock {
    canned: Canned,
    gap_us: Cell<u64>,
}

fn answer() -> String {
    let text =
        "The quick brown fox jumps over the lazy dog while a patient gateway counts every token. ".repeat(8);
    format!(
        concat!(
            r#"{{"id":"chatcmpl-mock0000000000000000000001","object":"chat.completion","created":1760000000,"#,
            r#""model":"mock-model","system_fingerprint":"fp_mock","choices":[{{"index":0,"message":{{"role":"assistant","#,
            r#""content":"{}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"#,
            r#""usage":{{"prompt_tokens":57,"completion_tokens":128,"total_tokens":185,"#,
            r#""prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#
        ),
        text.trim_end()
    )
}

fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn framed(event: &str) -> Vec<u8> {
    let event = format!("data: {event}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

fn chunk(delta: &str, finish: &str) -> Vec<u8> {
    framed(&format!(
        concat!(
            r#"{{"id":"chatcmpl-mock0000000000000000000001","object":"chat.completion.chunk","created":1760000000,"#,
            r#""model":"mock-model","choices":[{{"index":0,"delta":{},"logprobs":null,"finish_reason":{}}}]}}"#
        ),
        delta, finish
    ))
}

fn canned() -> Canned {
    let words = [" river", " stone", " cloud", " ember", " field", " tiger", " ocean", " maple"];
    Canned {
        plain: json("200 OK", &answer()),
        models: json("200 OK", r#"{"object":"list","data":[{"id":"mock-model","object":"model"}]}"#),
        ok: json("200 OK", r#"{"status":"ok"}"#),
        not_found: json("404 Not Found", r#"{"error":{"message":"not found"}}"#),
        stream_head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
            cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
        first: chunk(r#"{"role":"assistant","content":""}"#, "null"),
        // Not all alike: some gateways take many equal deltas in a row for a stuck model.
        deltas: words.iter().map(|w| chunk(&format!(r#"{{"content":"{w}"}}"#), "null")).collect(),
        stop: chunk("{}", r#""stop""#),
        usage: framed(concat!(
            r#"{"id":"chatcmpl-mock0000000000000000000001","object":"chat.completion.chunk","created":1760000000,"#,
            r#""model":"mock-model","choices":[],"usage":{"prompt_tokens":57,"completion_tokens":20,"total_tokens":77}}"#
        )),
        done: [framed("[DONE]"), b"0\r\n\r\n".to_vec()].concat(),
    }
}

/// What follows `"name":` in a body, blanks skipped.
fn field<'a>(body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let at = memmem::find(body, name.as_bytes())? + name.len();
    body[at..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

impl Mock {
    async fn serve(&self, stream: TcpStream) {
        let mut connection = Connection::new(stream);
        let mut body = Vec::with_capacity(16 * 1024);
        while let Some(message) = connection.read(Side::Request, &mut body).await {
            let path = message.head.split(|b| *b == b' ').nth(1).unwrap_or(b"/");
            let sent = self.respond(&mut connection.stream, path, &body).await;
            if sent.is_err() || !message.keep_alive {
                return;
            }
        }
    }

    async fn respond(&self, to: &mut TcpStream, path: &[u8], body: &[u8]) -> std::io::Result<()> {
        let canned = &self.canned;
        if path.ends_with(b"/chat/completions") {
            if field(body, "\"stream\"").is_some_and(|value| value.starts_with(b"true")) {
                let limit =
                    field(body, "\"max_completion_tokens\"").or_else(|| field(body, "\"max_tokens\""));
                return self.stream(to, limit.and_then(number).unwrap_or(DELTAS_DEFAULT)).await;
            }
            return to.write_all(&canned.plain).await;
        }
        if let Some(at) = memmem::find(path, b"gap_us=") {
            self.gap_us.set(number(&path[at + 7..]).unwrap_or(0));
            return to.write_all(&canned.ok).await;
        }
        if path.ends_with(b"/health") {
            return to.write_all(&canned.ok).await;
        }
        let known = path.ends_with(b"/models");
        to.write_all(if known { &canned.models } else { &canned.not_found }).await
    }

    async fn stream(&self, to: &mut TcpStream, deltas: u64) -> std::io::Result<()> {
        let canned = &self.canned;
        let gap_us = self.gap_us.get();
        to.write_all(&canned.stream_head).await?;
        to.write_all(&canned.first).await?;
        for delta in canned.deltas.iter().cycle().take(deltas as usize) {
            if gap_us > 0 {
                tokio::time::sleep(Duration::from_micros(gap_us)).await;
            } else {
                tokio::task::yield_now().await;
            }
            to.write_all(delta).await?;
        }
        to.write_all(&canned.stop).await?;
        to.write_all(&canned.usage).await?;
        to.write_all(&canned.done).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let mock = Rc::new(Mock { canned: canned(), gap_us: Cell::new(0) });
    tokio::task::LocalSet::new()
        .run_until(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let mock = Rc::clone(&mock);
                tokio::task::spawn_local(async move { mock.serve(stream).await });
            }
        })
        .await
}
