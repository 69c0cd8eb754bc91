//! Requests that are sent twice: under one `Idempotency-Key` a buyer is charged once.
//!
//! A key belongs to an account. The first request under it runs. One that comes while it runs is told when to come
//! again; one that comes later gets the same bytes with [`REPLAYED_HEADER`], and nobody is asked and nothing is held.
//! The same key for another path or another body is a conflict. What cost nothing, because it failed, frees its key:
//! to try again is what the key is for. What was charged and cannot be given again (a stream that its buyer left, an
//! answer that is too large to keep) stays a conflict that names its receipt.
//!
//! Limits: all of it is in memory, bounded by [`Bounds`]; when it is full, the oldest answers go first, and a restart
//! forgets all. A key that is forgotten is as good as new.

use crate::body::Body;
use bourse_types::Digest32;
use bourse_wire::dialect::Api;
use bourse_wire::error::{ApiError, ErrorType};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Names the request that must not be charged twice.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Keys.
    keys: usize,
    /// Bytes of all answers.
    bytes: usize,
    /// Bytes of one answer.
    answer_bytes: usize,
    /// Since the first request.
    age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let age = Duration::from_hours(24);
        Self { keys: 65_536, bytes: 64 * 1024 * 1024, answer_bytes: 4 * 1024 * 1024, age }
    }
}

/// The key of a request, if it has one.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    let Some(key) = headers.get(KEY_HEADER).map(HeaderValue::as_bytes) else { return Ok(None) };
    let is_one = headers.get_all(KEY_HEADER).iter().nth(1).is_none();
    if is_one && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(Some(key));
    }
    let message =
        format!("`Idempotency-Key` must be there once and have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
    Err(ApiError::field("Idempotency-Key", message))
}

/// A request under a key: whose key it is, and what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    name: [u8; 32],
    content: [u8; 32],
}

impl Named {
    pub(crate) fn new(account: Digest32, key: &[u8], api: Api, body: &[u8]) -> Self {
        let name = *blake3::Hasher::new().update(&account.0).update(key).finalize().as_bytes();
        let path = format!("{api:?}\0");
        let content = *blake3::Hasher::new().update(path.as_bytes()).update(body).finalize().as_bytes();
        Self { name, content }
    }
}

/// What a key stands for.
enum State {
    Running,
    Kept(HeaderMap, Bytes),
    /// Charged, and cannot be given again: the receipt's id.
    Spent(String),
}

struct Entry {
    number: u64,
    content: [u8; 32],
    since: Duration,
    state: State,
}

#[derive(Default)]
struct Table {
    entries: HashMap<[u8; 32], Entry>,
    /// By number, which is by age; entries that are gone are skipped.
    order: VecDeque<(u64, [u8; 32])>,
    numbers: u64,
    bytes: usize,
}

/// The keys of all accounts.
#[derive(Default)]
pub(crate) struct Repeats {
    bounds: Bounds,
    table: Mutex<Table>,
}

/// What comes of a request under a key.
pub(crate) enum Begun {
    /// It is the first: it runs.
    First(Claim),
    /// It was answered before.
    Again(Response<Body>),
}

impl Repeats {
    /// Begins a request under a key. `now` is since any fixed moment.
    pub(crate) fn begin(self: &Arc<Self>, named: Named, now: Duration) -> Result<Begun, ApiError> {
        let mut table = self.table.lock();
        table.forget(|entry| now >= entry.since + self.bounds.age);
        if let Some(entry) = table.entries.get(&named.name) {
            return entry.again(&named);
        }
        if table.entries.len() >= self.bounds.keys {
            table.forget_oldest();
        }
        if table.entries.len() >= self.bounds.keys {
            let message = "too many requests with an `Idempotency-Key` are open: try again in a moment";
            let full = ApiError::new(ErrorType::RateLimitExceeded, message);
            return Err(ApiError { retry_after_s: Some(1), ..full });
        }
        table.numbers += 1;
        let number = table.numbers;
        table.order.push_back((number, named.name));
        let entry = Entry { number, content: named.content, since: now, state: State::Running };
        table.entries.insert(named.name, entry);
        let repeats = Arc::clone(self);
        Ok(Begun::First(Claim {
            repeats,
            name: named.name,
            head: None,
            bytes: Some(Vec::new()),
            is_over: false,
        }))
    }

    fn end(&self, name: &[u8; 32], state: Option<State>) {
        let mut table = self.table.lock();
        let Some(state) = state else {
            table.entries.remove(name);
            return;
        };
        if let State::Kept(_, body) = &state {
            let bytes = body.len();
            while table.bytes + bytes > self.bounds.bytes && table.forget_oldest() {}
            table.bytes += bytes;
        }
        if let Some(entry) = table.entries.get_mut(name) {
            entry.state = state;
        }
    }
}

impl Entry {
    fn again(&self, named: &Named) -> Result<Begun, ApiError> {
        let conflict = |message: String| Err(ApiError::new(ErrorType::Conflict, message));
        if self.content != named.content {
            return conflict("this `Idempotency-Key` was used for another request: use a new one".to_owned());
        }
        match &self.state {
            State::Running => {
                let message = "the first request under this `Idempotency-Key` is being answered: come again";
                let running = ApiError::new(ErrorType::Conflict, message);
                Err(ApiError { retry_after_s: Some(1), ..running })
            }
            State::Kept(headers, body) => {
                let mut response = Response::new(Body::whole(body.clone()));
                *response.headers_mut() = headers.clone();
                response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
                Ok(Begun::Again(response))
            }
            State::Spent(receipt) => conflict(format!(
                "what this `Idempotency-Key` paid for cannot be given again: see receipt `{receipt}`, or use a new key"
            )),
        }
    }
}

impl Table {
    /// Forgets the oldest entry that has ended, if there is one.
    fn forget_oldest(&mut self) -> bool {
        let mut is_first = true;
        self.forget(|_| std::mem::take(&mut is_first)) == 1
    }

    /// Forgets the entries that have ended and that `is_old` says so of, oldest first. How many.
    fn forget(&mut self, mut is_old: impl FnMut(&Entry) -> bool) -> usize {
        let Self { entries, order, bytes, .. } = self;
        let before = entries.len();
        let mut goes_on = true;
        order.retain(|(number, name)| {
            let Some(entry) = entries.get(name).filter(|entry| entry.number == *number) else { return false };
            if !goes_on || matches!(entry.state, State::Running) {
                return true;
            }
            if !is_old(entry) {
                goes_on = false;
                return true;
            }
            if let Some(Entry { state: State::Kept(_, body), .. }) = entries.remove(name) {
                *bytes -= body.len();
            }
            false
        });
        before - entries.len()
    }
}

/// The right to answer under a key. Dropped before there is an answer, it frees the key.
pub(crate) struct Claim {
    repeats: Arc<Repeats>,
    name: [u8; 32],
    /// The answer's head, once there is one.
    head: Option<HeaderMap>,
    /// What was answered so far; none when it is too much to keep.
    bytes: Option<Vec<u8>>,
    is_over: bool,
}

impl Claim {
    /// Keeps an answer: at once when it is whole, as it passes when it is a stream.
    pub(crate) fn keep(mut self, response: Response<Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        self.head = Some(head.headers.clone());
        Response::from_parts(head, body.kept(self))
    }

    /// A piece that went to the buyer.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        let answer_bytes = self.repeats.bounds.answer_bytes;
        if self.bytes.as_ref().is_some_and(|bytes| bytes.len() + piece.len() > answer_bytes) {
            self.bytes = None;
        }
        if let Some(bytes) = &mut self.bytes {
            bytes.extend_from_slice(piece);
        }
    }

    /// The answer is whole. What cost nothing frees its key.
    pub(crate) fn end(mut self, is_free: bool) {
        self.is_over = true;
        let state = match (self.bytes.take(), self.head.take()) {
            _ if is_free => None,
            (Some(bytes), Some(head)) => Some(State::Kept(head, Bytes::from(bytes))),
            (None, Some(head)) => Some(State::Spent(receipt_in(&head))),
            (_, None) => None,
        };
        self.repeats.end(&self.name, state);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_over {
            // A stream that was begun was paid for as far as it came.
            let state = self.head.take().map(|head| State::Spent(receipt_in(&head)));
            self.repeats.end(&self.name, state);
        }
    }
}

fn receipt_in(head: &HeaderMap) -> String {
    let id = head.get(crate::gateway::RECEIPT_HEADER).and_then(|value| value.to_str().ok());
    id.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(bounds: Bounds) -> Arc<Repeats> {
        Arc::new(Repeats { bounds, table: Mutex::default() })
    }

    fn named(key: &str, body: &str) -> Named {
        Named::new(Digest32([1; 32]), key.as_bytes(), Api::Chat, body.as_bytes())
    }

    fn answer(bytes: usize) -> Response<Body> {
        Response::new(Body::whole(vec![b'x'; bytes]))
    }

    fn run(repeats: &Arc<Repeats>, key: &str, bytes: usize) {
        let Ok(Begun::First(claim)) = repeats.begin(named(key, "b"), Duration::ZERO) else { panic!("{key}") };
        drop(claim.keep(answer(bytes)));
    }

    fn status(repeats: &Arc<Repeats>, named: Named, now: Duration) -> u16 {
        match repeats.begin(named, now) {
            // Its claim is dropped, which frees the key again.
            Ok(Begun::First(_)) => 0,
            Ok(Begun::Again(response)) => response.status().as_u16(),
            Err(error) => error.status(),
        }
    }

    #[test]
    fn a_key_runs_once_and_is_answered_again() {
        let repeats = repeats(Bounds::default());
        let Ok(Begun::First(claim)) = repeats.begin(named("a", "b"), Duration::ZERO) else { panic!() };
        let running = repeats.begin(named("a", "b"), Duration::ZERO).err().expect("it runs");
        assert_eq!((running.status(), running.retry_after_s), (409, Some(1)));
        drop(claim);
        assert_eq!(status(&repeats, named("a", "b"), Duration::ZERO), 0, "what failed frees its key");
        run(&repeats, "a", 3);
        assert_eq!(status(&repeats, named("a", "b"), Duration::ZERO), 200);
        assert_eq!(status(&repeats, named("a", "other"), Duration::ZERO), 409);
        assert_eq!(status(&repeats, named("c", "b"), Duration::ZERO), 0);
        let others = Named::new(Digest32([2; 32]), b"a", Api::Chat, b"b");
        assert_eq!(status(&repeats, others, Duration::ZERO), 0, "a key belongs to an account");
    }

    #[test]
    fn a_day_old_key_is_as_good_as_new() {
        let repeats = repeats(Bounds::default());
        run(&repeats, "a", 3);
        let at = |second| status(&repeats, named("a", "b"), Duration::from_secs(second));
        assert_eq!((at(86_399), at(86_400)), (200, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let bounds = Bounds { keys: 3, bytes: 10, answer_bytes: 6, age: Duration::from_secs(9) };
        let now = Duration::ZERO;
        let small = repeats(bounds);
        run(&small, "large", 7);
        assert_eq!(status(&small, named("large", "b"), now), 409, "charged, and one byte too large to keep");
        let small = repeats(bounds);
        for key in ["a", "b", "c"] {
            run(&small, key, 5);
        }
        assert_eq!(small.table.lock().bytes, 10);
        let after = ["a", "b", "c"].map(|key| status(&small, named(key, "b"), now));
        assert_eq!(after, [0, 200, 200], "the oldest answer went first");
        for key in ["d", "e"] {
            run(&small, key, 0);
        }
        assert_eq!(small.table.lock().entries.len(), 3);
        assert_eq!(status(&small, named("b", "b"), now), 0);
        let full = repeats(bounds);
        let claims: Vec<_> =
            ["a", "b", "c"].map(|key| full.begin(named(key, "b"), now)).into_iter().collect();
        assert_eq!(status(&full, named("d", "b"), now), 429, "what runs is not forgotten");
        drop(claims);
    }

    #[test]
    fn keys_are_bounded() {
        let of = |bytes: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(KEY_HEADER, HeaderValue::try_from("k".repeat(bytes)).unwrap());
            key_of(&headers).map(|key| key.map(<[u8]>::len))
        };
        assert_eq!(of(IDEMPOTENCY_KEY_BYTES_MAX), Ok(Some(IDEMPOTENCY_KEY_BYTES_MAX)));
        assert_eq!(of(IDEMPOTENCY_KEY_BYTES_MAX + 1).unwrap_err().status(), 400);
        assert_eq!(of(0).unwrap_err().status(), 400);
        assert_eq!(key_of(&HeaderMap::new()), Ok(None));
    }
}
