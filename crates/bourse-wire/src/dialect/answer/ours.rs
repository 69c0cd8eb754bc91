//! What the market writes itself: what chunks begin and end with, and the ends of streams.
//!
//! Every chunk of one stream begins with the same bytes, so they are made once ([`AnswerHead`]); a chunk is
//! that head and what is new. Nothing is escaped twice and nothing goes through a JSON tree but the legacy
//! form of log-probabilities.

use crate::dialect::Api;
use crate::dialect::grammar::Head;
use crate::error::ApiError;
use crate::json::{JsonError, Walk, push_string, push_u64};
use crate::receipt::Finish;
use serde::Deserialize;

/// The members that every chunk of one stream begins with, as raw JSON without the opening brace's
/// `choices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    api: Api,
    /// `{"id":…,…,` up to where `"choices"` follows.
    text: Vec<u8>,
}

impl AnswerHead {
    /// As [`AnswerHead::ours`].
    pub(crate) fn of(api: Api, streamed: bool, head: &Head) -> Self {
        Self::ours(api, streamed, &head.id, head.created_s, &head.model, &head.provider)
    }

    /// What every chunk begins with, up to where `"choices"` follows.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The head of an answer that the market itself writes.
    pub(crate) fn ours(
        api: Api,
        streamed: bool,
        id: &str,
        created_s: u64,
        model: &str,
        provider: &str,
    ) -> Self {
        let mut text = Vec::with_capacity(192);
        text.extend_from_slice(b"{\"id\":");
        push_string(&mut text, id);
        text.extend_from_slice(b",\"object\":");
        push_string(&mut text, object_name(api, streamed));
        text.extend_from_slice(b",\"created\":");
        push_u64(&mut text, created_s);
        text.extend_from_slice(b",\"model\":");
        push_string(&mut text, model);
        text.extend_from_slice(b",\"provider\":");
        push_string(&mut text, provider);
        // Strict clients want it in a whole answer, be it null, and take no null in a stream.
        text.extend_from_slice(if streamed { b"," } else { b",\"system_fingerprint\":null," });
        Self { api, text }
    }

    /// The head of a seller's stream, from its first event, so that our last events look like its own.
    pub(crate) fn of_chunk(api: Api, data: &str) -> Option<Self> {
        let mut text = Vec::with_capacity(192);
        text.push(b'{');
        let mut walk = Walk::new(data);
        walk.members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            let name = walk.text(key.clone());
            if matches!(name, "id" | "object" | "created" | "model" | "provider" | "system_fingerprint") {
                text.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
                text.push(b',');
            }
            Ok(())
        })
        .ok()?;
        Some(Self { api, text })
    }

    /// Appends the event that carries the usage. `more` is raw text with a leading comma.
    pub(crate) fn push_usage_event(&self, out: &mut Vec<u8>, usage: &[u8], more: &[u8]) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.text);
        out.extend_from_slice(b"\"choices\":[],\"usage\":");
        out.extend_from_slice(usage);
        out.extend_from_slice(more);
        out.extend_from_slice(b"}\n\n");
    }

    /// Appends the event of a stream that failed after content: a top-level error, the finish reason
    /// `error`, and the usage that was billed.
    pub(crate) fn push_error_event(&self, out: &mut Vec<u8>, error: &ApiError, usage: &[u8], more: &[u8]) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.text);
        out.extend_from_slice(b"\"error\":");
        error.push_object(out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,");
        out.extend_from_slice(match self.api {
            Api::Text => b"\"text\":\"\"".as_slice(),
            _ => b"\"delta\":{\"content\":\"\"}".as_slice(),
        });
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":\"error\"}],\"usage\":");
        out.extend_from_slice(usage);
        out.extend_from_slice(more);
        out.extend_from_slice(b"}\n\n");
    }
}

/// The end marker of a stream.
pub(crate) const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

fn object_name(api: Api, streamed: bool) -> &'static str {
    match (api, streamed) {
        (Api::Text, _) => "text_completion",
        (_, true) => "chat.completion.chunk",
        (_, false) => "chat.completion",
    }
}

/// Items of an array with or without its brackets.
pub(in crate::dialect) fn bare_items(json: &str) -> &str {
    let json = json.trim_ascii();
    json.strip_prefix('[').and_then(|j| j.strip_suffix(']')).unwrap_or(json).trim_ascii()
}

/// Appends `,"logprobs":…`. `offset` is how many characters of text came before these items.
pub(crate) fn push_logprobs(out: &mut Vec<u8>, api: Api, items: Option<&str>, offset: u64) {
    out.extend_from_slice(b",\"logprobs\":");
    match (api, items.map(bare_items)) {
        (_, None) => out.extend_from_slice(b"null"),
        (Api::Text, Some(items)) => push_text_logprobs(out, items, offset),
        (_, Some(items)) => {
            out.extend_from_slice(b"{\"content\":[");
            out.extend_from_slice(items.as_bytes());
            out.extend_from_slice(b"],\"refusal\":null}");
        }
    }
}

/// The legacy form: parallel arrays instead of one object per token. Offsets count characters of the answer's
/// own text, from 0.
fn push_text_logprobs(out: &mut Vec<u8>, items: &str, offset: u64) {
    #[derive(Deserialize)]
    struct Item {
        token: String,
        logprob: f64,
        #[serde(default)]
        top_logprobs: Vec<Top>,
    }
    #[derive(Deserialize)]
    struct Top {
        token: String,
        logprob: f64,
    }
    let items: Vec<Item> = serde_json::from_str(&format!("[{items}]")).unwrap_or_default();
    let top = |i: &Item| -> serde_json::Value {
        i.top_logprobs
            .iter()
            .map(|t| (t.token.clone(), serde_json::json!(t.logprob)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let mut next = offset;
    let mut offsets = Vec::with_capacity(items.len());
    for item in &items {
        offsets.push(next);
        next += item.token.chars().count() as u64;
    }
    let json = serde_json::json!({
        "tokens": items.iter().map(|i| i.token.as_str()).collect::<Vec<_>>(),
        "token_logprobs": items.iter().map(|i| i.logprob).collect::<Vec<_>>(),
        "top_logprobs": items.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    });
    out.extend_from_slice(json.to_string().as_bytes());
}

/// Appends `,"finish_reason":…`, and the seller's own word for the end where there is one.
pub(crate) fn push_end(out: &mut Vec<u8>, finish: Option<Finish>, native: Option<&str>) {
    out.extend_from_slice(b",\"finish_reason\":");
    match finish {
        Some(finish) => push_string(out, buyer_word(finish)),
        None => out.extend_from_slice(b"null"),
    }
    if let Some(native) = native {
        out.extend_from_slice(b",\"native_finish_reason\":");
        push_string(out, native);
    }
}

/// OpenAI's word for an end; ends that it does not know are errors.
fn buyer_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        _ => "error",
    }
}
