//! Provider adapters: what differs between the hosted APIs that are resold.
//!
//! What an API *says* is its grammar and belongs to `bourse-wire`; an adapter is only where to send it and how to
//! show the key. Most are one row of data: a further kind of provider is one more line in [`adapter_of_kind`], with a
//! grammar of its own in `bourse-wire` when it speaks none of those that are there.

use crate::secret::Secret;
use bourse_wire::dialect::chat::Chat;
use bourse_wire::dialect::grammar::{Dialect, Shape};
use bourse_wire::dialect::{Api, front};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// One kind of hosted API.
pub trait ProviderAdapter: Send + Sync + 'static {
    /// The word for it in the configuration.
    fn kind(&self) -> &'static str;
    /// The grammar in which it is asked for what a front asks; none when it cannot serve that front. A grammar
    /// equal to the front's own means that bytes pass unchanged.
    fn shape(&self, api: Api) -> Option<Shape>;
    /// The grammar of that shape as this kind speaks it.
    fn dialect(&self, shape: Shape) -> &'static dyn Dialect {
        front::dialect(shape)
    }
    /// The path of a call below the base URL, with its leading slash and its query.
    fn path(&self, shape: Shape, upstream_id: &str, stream: bool) -> String {
        shape.path(upstream_id, stream)
    }
    /// Headers that every call carries, with the key where there is one. `None` when the key cannot be written in a
    /// header.
    fn authorize(&self, headers: &mut HeaderMap, key: Option<&Secret>) -> Option<()>;
}

/// How a key is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of its own.
    Named(&'static str),
}

/// An adapter that is data.
#[derive(Debug, Clone, Copy)]
struct Row {
    kind: &'static str,
    key: KeyHeader,
    /// Further headers of every call.
    headers: &'static [(&'static str, &'static str)],
    /// Grammars that it speaks, the one for translated fronts first.
    speaks: &'static [Shape],
    /// How it speaks chat.
    chat: Chat,
}

/// What servers with an OpenAI-compatible API speak. Whether one has a certain endpoint for a certain model is told by
/// its offer, not here.
const OPENAI_SHAPES: &[Shape] = &[
    Shape::Chat,
    Shape::Text,
    Shape::Embeddings,
    Shape::Rerank,
    Shape::Images,
    Shape::Speech,
    Shape::Transcription,
];

/// The same, and the API for responses.
const OPENAI_OWN_SHAPES: &[Shape] = &[
    Shape::Chat,
    Shape::Text,
    Shape::Responses,
    Shape::Embeddings,
    Shape::Rerank,
    Shape::Images,
    Shape::Speech,
    Shape::Transcription,
];

const fn row(kind: &'static str, speaks: &'static [Shape], chat: Chat) -> Row {
    Row { kind, key: KeyHeader::Bearer, headers: &[], speaks, chat }
}

const ROWS: [Row; 8] = [
    row("openai", OPENAI_OWN_SHAPES, Chat::Strict),
    row("openai-compatible", OPENAI_SHAPES, Chat::Server),
    row("openrouter", OPENAI_SHAPES, Chat::Router),
    row("vllm", OPENAI_SHAPES, Chat::Server),
    row("llama.cpp", OPENAI_SHAPES, Chat::Server),
    row("ollama", &[Shape::Ollama], Chat::Server),
    Row { key: KeyHeader::Named("x-goog-api-key"), ..row("gemini", &[Shape::Gemini], Chat::Strict) },
    Row {
        key: KeyHeader::Named("x-api-key"),
        headers: &[("anthropic-version", "2023-06-01")],
        ..row("anthropic", &[Shape::Messages], Chat::Strict)
    },
];

/// The adapter of a configured kind.
pub fn adapter_of_kind(kind: &str) -> Option<&'static dyn ProviderAdapter> {
    ROWS.iter().find(|row| row.kind == kind).map(|row| row as &dyn ProviderAdapter)
}

/// The words of all kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.kind)
}

impl ProviderAdapter for Row {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn shape(&self, api: Api) -> Option<Shape> {
        let own = api.shape();
        if self.speaks.contains(&own) {
            return Some(own);
        }
        self.speaks.first().copied().filter(|_| api.is_conversation())
    }

    fn dialect(&self, shape: Shape) -> &'static dyn Dialect {
        match (shape, self.chat) {
            (Shape::Chat, Chat::Strict) => &Chat::Strict,
            (Shape::Chat, Chat::Router) => &Chat::Router,
            (shape, _) => front::dialect(shape),
        }
    }

    fn authorize(&self, headers: &mut HeaderMap, key: Option<&Secret>) -> Option<()> {
        for (name, value) in self.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let Some(key) = key else { return Some(()) };
        let (name, value) = match self.key {
            KeyHeader::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
            KeyHeader::Named(name) => (HeaderName::from_static(name), key.expose().to_owned()),
        };
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONTS: [Api; 4] = [Api::Chat, Api::Text, Api::Responses, Api::Messages];

    /// What every adapter must do.
    fn conforms(adapter: &dyn ProviderAdapter) {
        for api in Api::ALL {
            let shape = adapter.shape(api);
            assert!(
                shape.is_some() || !api.is_conversation(),
                "{} serves every conversation",
                adapter.kind()
            );
            if let Some(shape) = shape {
                let is_spoken = shape.dialect().is_some() || !api.is_conversation();
                assert!(is_spoken, "{} speaks {shape:?}, which is no dialect of sellers", adapter.kind());
                for stream in [false, true] {
                    let path = adapter.path(shape, "up/id", stream);
                    assert!(path.starts_with('/') && path.parse::<http::Uri>().is_ok(), "{path}");
                }
            }
        }
        let mut headers = HeaderMap::new();
        adapter.authorize(&mut headers, Some(&Secret::new("sk-canary"))).unwrap();
        assert!(headers.values().any(|v| v.as_bytes().ends_with(b"sk-canary")));
        assert!(!format!("{headers:?}").contains("canary"), "a key must not show in debug output");
        assert!(adapter.authorize(&mut headers, Some(&Secret::new("line\nbreak"))).is_none());
        assert!(adapter.authorize(&mut HeaderMap::new(), None).is_some());
    }

    #[test]
    fn every_adapter_conforms() {
        for kind in kinds() {
            let adapter = adapter_of_kind(kind).unwrap();
            assert_eq!(adapter.kind(), kind);
            conforms(adapter);
        }
        assert!(adapter_of_kind("OpenAI").is_none());
    }

    #[test]
    fn bytes_pass_unchanged_where_the_grammar_is_spoken() {
        let check = |kind: &str, want: [Option<Shape>; 4]| {
            let adapter = adapter_of_kind(kind).unwrap();
            assert_eq!(FRONTS.map(|api| adapter.shape(api)), want, "{kind}");
        };
        let [chat, text, responses, messages] =
            [Shape::Chat, Shape::Text, Shape::Responses, Shape::Messages].map(Some);
        check("openai", [chat, text, responses, chat]);
        check("vllm", [chat, text, chat, chat]);
        check("anthropic", [messages, None, messages, messages]);
        check("gemini", [Some(Shape::Gemini), None, Some(Shape::Gemini), Some(Shape::Gemini)]);
    }

    #[test]
    fn gemini_has_the_model_in_its_path() {
        let gemini = adapter_of_kind("gemini").unwrap();
        assert_eq!(
            gemini.path(Shape::Gemini, "models/gemini-x", true),
            "/models/gemini-x:streamGenerateContent?alt=sse"
        );
    }
}
