//! Which conversation a request goes on with, so that it can go where its prompt is cached.
//!
//! The key is, in this order: `session_id`, the header `x-session-id`, `prompt_cache_key`, or what the conversation
//! began with: its first system message and its first other message. What a buyer names is explicit; the rest is a guess,
//! and the market's [`StickyTable`](bourse_market::StickyTable) treats it as one. A `prompt_cache_key` may be common to all
//! requests of an application, so it names no session. Keys never leave the account: the same
//! words of two buyers are two conversations.

use crate::fingerprint::fingerprint;
use bourse_market::{Session, StickyKey};
use bourse_types::Digest32;
use bourse_wire::dialect::{Job, SESSION_BYTES_MAX};
use http::HeaderMap;

/// Names the session where the body does not.
pub(crate) const SESSION_HEADER: &str = "x-session-id";
/// Bytes of each message that are looked at: openings differ early or not at all.
const OPENING_BYTES_MAX: usize = 16 * 1024;

/// The conversation of one request.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) key: StickyKey,
    pub(crate) session: Session,
    /// Whether the buyer named this session, and not only what its requests have in common.
    pub(crate) is_named: bool,
}

impl Conversation {
    pub(crate) fn of(job: &Job, headers: &HeaderMap, account: Digest32) -> Option<Self> {
        let named = named(job, headers);
        let is_named = named.is_some();
        let (session, conversation) = named.map(|key| (Session::Explicit, key)).or_else(|| key_of(job))?;
        let key = StickyKey { account, model: job.model.clone(), conversation };
        Some(Self { key, session, is_named })
    }
}

/// The session that the buyer named.
fn named(job: &Job, headers: &HeaderMap) -> Option<u128> {
    if let Some(span) = &job.session {
        return Some(fingerprint(&[b"session", job.text(span).as_bytes()]));
    }
    let header = headers.get(SESSION_HEADER).map(http::HeaderValue::as_bytes);
    let name = header.filter(|name| (1..=SESSION_BYTES_MAX).contains(&name.len()))?;
    Some(fingerprint(&[b"session", name]))
}

fn key_of(job: &Job) -> Option<(Session, u128)> {
    if let Some(key) = &job.routing.prompt_cache_key {
        return Some((Session::Explicit, fingerprint(&[b"cache", key.as_bytes()])));
    }
    let (system, first) = job.opening()?;
    Some((Session::Derived, fingerprint(&[b"opening", start(system), start(first)])))
}

fn start(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(OPENING_BYTES_MAX)]
}
