//! A buyer: asks a gateway, reads, may leave, and remembers what it was told.

use crate::plan::Ask;
use bourse_gateway::Gateway;
use bourse_types::{NanoUsd, RequestId};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(crate) const MODEL: &str = "m/one";

/// How far an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heard {
    /// Nobody was there to be asked.
    #[default]
    Nothing,
    /// It was asked, and its gateway died or nobody answered yet.
    Asked,
    /// The buyer left.
    Left,
    /// To its end.
    Whole,
}

/// What a buyer knows of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) buyer: usize,
    pub(crate) heard: Heard,
    /// The receipt's, where one was named.
    pub(crate) request: Option<RequestId>,
    pub(crate) status: u16,
    /// What the answer said that it cost.
    pub(crate) cost: Option<NanoUsd>,
    /// It is an error, or a stream that ended with one.
    pub(crate) has_failed: bool,
    /// It said that the cost is the most that it may be.
    pub(crate) is_doubtful: bool,
}

/// What happened, line by line.
#[derive(Clone)]
pub(crate) struct Diary {
    pub(crate) born: Instant,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.lines.lock().push(format!("{:>6} ms  {what}", self.born.elapsed().as_millis()));
    }
}

/// All that buyers know, by the number of the request.
pub(crate) type Knowledge = Arc<Mutex<Vec<Told>>>;

pub(crate) struct Buyer {
    pub(crate) gateway: Gateway,
    pub(crate) key: String,
    pub(crate) known: Knowledge,
    pub(crate) diary: Diary,
}

impl Buyer {
    pub(crate) async fn ask(self, ask: Ask) {
        let number = ask.number;
        let patience = ask.leaves_ms.map_or(Duration::from_hours(1), Duration::from_millis);
        let is_there = timeout(patience, self.talk(&ask)).await.is_ok();
        let mut known = self.known.lock();
        let told = &mut known[number];
        told.heard = if is_there { Heard::Whole } else { Heard::Left };
        let Told { heard, status, cost, has_failed, is_doubtful, .. } = told;
        self.diary.note(format!(
            "#{number}: {heard:?}, {status}, cost {cost:?}, failed {has_failed}, doubtful {is_doubtful}"
        ));
    }

    async fn talk(&self, ask: &Ask) {
        let body = json!({
            "model": MODEL, "stream": ask.is_stream, "max_tokens": ask.max_tokens, "n": ask.choices,
            "messages": [{"role": "user", "content": match ask.key {
                Some(key) => format!("question under key {key}"),
                None => format!("question number {}", ask.number),
            }}],
        });
        let mut request = http::Request::post("/v1/chat/completions");
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let response = self.gateway.handle(request).await;
        let (head, body) = response.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let is_events = header("content-type") == Some("text/event-stream");
        let receipt = header("x-bourse-receipt").and_then(|id| RequestId::parse(id).ok());
        self.tell(ask, |told| (told.status, told.request) = (head.status.as_u16(), receipt));
        let text = body.collect().await.expect("bodies do not fail").to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let documents: Vec<Value> = if is_events {
            assert_eq!(text.matches("data: [DONE]").count(), 1, "exactly one terminal: {text}");
            let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
            events.filter_map(|event| serde_json::from_str(event).ok()).collect()
        } else {
            serde_json::from_str(&text).into_iter().collect()
        };
        let cost = documents.iter().rev().find_map(|document| document["usage"]["cost"].as_f64());
        let error = documents.iter().map(|document| &document["error"]).find(|error| !error.is_null());
        let most = error.and_then(|error| {
            let words = error["message"].as_str()?.split_once("at most $")?.1;
            words.split([',', ' ']).next()?.parse::<f64>().ok()
        });
        let has_failed = error.is_some();
        self.tell(ask, |told| {
            told.cost = most.or(cost).map(|usd| NanoUsd((usd * 1e9).round() as u64));
            (told.has_failed, told.is_doubtful) = (has_failed, most.is_some());
        });
    }

    fn tell(&self, ask: &Ask, note: impl FnOnce(&mut Told)) {
        note(&mut self.known.lock()[ask.number]);
    }
}
