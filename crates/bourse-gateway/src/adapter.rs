//! Provider adapters: what differs between the hosted APIs that are resold.
//!
//! What an API *says* is its grammar and belongs to `bourse-wire`; an adapter is only where to send it, how to show the
//! key, and what is assumed of it where a `[[provider]]` is silent. Most are one row of data: a further kind of provider
//! is one more row here, with a grammar of its own in `bourse-wire` when it speaks none of those that are there.
//!
//! Assumptions are taken from the vendors' references and the servers' own lists of parameters (OpenAI, Anthropic,
//! Google, OpenRouter, vLLM, llama.cpp, Ollama, Cohere). They are soft: a parameter that an offer is not known to support
//! sends a request elsewhere as long as somebody else has it, and `require_parameters` makes it hard.

use crate::secret::Secret;
use bourse_market::{Operations, Supports};
use bourse_wire::dialect::chat::Chat;
use bourse_wire::dialect::grammar::{Dialect, Shape};
use bourse_wire::dialect::{Api, front};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// One kind of hosted API.
pub trait ProviderAdapter: Send + Sync + 'static {
    /// What a `[[provider]]` of this kind usually does.
    fn kind(&self) -> &Kind;
    /// The grammar in which it is asked for what a front asks; none when it cannot serve that front. A grammar
    /// equal to the front's own means that bytes pass unchanged.
    fn shape(&self, api: Api) -> Option<Shape>;
    /// How it speaks the grammar of chats.
    fn chat(&self) -> Chat {
        Chat::Router
    }
    /// The path of a call below the base URL, with its leading slash and its query.
    fn path(&self, shape: Shape, upstream_id: &str, stream: bool) -> String {
        shape.path(upstream_id, stream)
    }
    /// Headers that every call carries, with the key where there is one. `None` when the key cannot be written in a
    /// header.
    fn authorize(&self, headers: &mut HeaderMap, key: Option<&Secret>) -> Option<()>;
}

impl dyn ProviderAdapter {
    /// The grammar of that shape as this kind speaks it.
    pub fn dialect(&self, shape: Shape) -> &'static dyn Dialect {
        match (shape, self.chat()) {
            (Shape::Chat, Chat::Strict) => &Chat::Strict,
            (Shape::Chat, Chat::Router) => &Chat::Router,
            (shape, _) => front::dialect(shape),
        }
    }
}

/// The usual ways of one kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The word for it in the configuration.
    pub word: &'static str,
    /// Where its API is; none where every provider of the kind has another address.
    pub base_url: Option<&'static str>,
    /// What its models can do.
    pub supports: Supports,
    /// Which kinds of requests they serve.
    pub operations: Operations,
    /// Whether a call may name the service tier.
    pub takes_tier: bool,
    /// Whether its streams say all that its answers in one piece do, as far as a neutral form holds it; see
    /// [`ProviderConfig::gathers`](crate::ProviderConfig::gathers).
    pub gathers: bool,
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
    kind: Kind,
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

/// All that a hosted chat API can do and shows: hidden reasoning is declared, never assumed.
const ALL: Supports = Supports::ALL.without(Supports::HIDDEN_REASONING);
/// What engines sample by and OpenAI does not.
const ENGINE_SAMPLING: Supports =
    Supports::TOP_K.with(Supports::MIN_P).with(Supports::REPETITION_PENALTY).with(Supports::TOP_A);

/// A kind that speaks OpenAI's grammar as servers of open weights do.
const fn server(word: &'static str, base_url: Option<&'static str>, supports: Supports) -> Row {
    let operations = Operations::CHAT.with(Operations::TEXT);
    Row {
        kind: Kind { word, base_url, supports, operations, takes_tier: false, gathers: false },
        key: KeyHeader::Bearer,
        headers: &[],
        speaks: OPENAI_SHAPES,
        chat: Chat::Server,
    }
}

/// A kind that speaks one grammar of conversations and nothing else.
const fn talker(
    word: &'static str,
    base_url: &'static str,
    speaks: &'static [Shape],
    supports: Supports,
) -> Row {
    let row = server(word, Some(base_url), supports);
    Row { kind: Kind { operations: Operations::CHAT, ..row.kind }, speaks, chat: Chat::Strict, ..row }
}

impl Row {
    /// The same for a vendor or a router that takes a tier.
    const fn with_tier(self, speaks: &'static [Shape], chat: Chat) -> Self {
        Self { kind: Kind { takes_tier: true, ..self.kind }, speaks, chat, ..self }
    }

    /// The same for streams that say all that whole answers do.
    const fn gathered(self) -> Self {
        Self { kind: Kind { gathers: true, ..self.kind }, ..self }
    }

    /// The same with the key in a header of its own.
    const fn with_key_in(self, header: &'static str) -> Self {
        Self { key: KeyHeader::Named(header), ..self }
    }
}

/// All kinds, in the order in which they are explained.
const ROWS: [Row; 9] = [
    server(
        "openai",
        Some("https://api.openai.com/v1"),
        ALL.without(ENGINE_SAMPLING.with(Supports::REASONING_REPLAY)),
    )
    .with_tier(OPENAI_OWN_SHAPES, Chat::Strict),
    server("openai-compatible", None, ALL),
    server("openrouter", Some("https://openrouter.ai/api/v1"), ALL).with_tier(OPENAI_SHAPES, Chat::Router),
    server("vllm", Some("http://127.0.0.1:8000/v1"), ALL.without(Supports::VERBOSITY.with(Supports::TOP_A)))
        .gathered(),
    server(
        "llama.cpp",
        Some("http://127.0.0.1:8080/v1"),
        ALL.without(Supports::VERBOSITY.with(Supports::TOP_A).with(Supports::CHOICES)),
    )
    .gathered(),
    talker(
        "ollama",
        "http://127.0.0.1:11434",
        &[Shape::Ollama],
        ALL.without(Supports::VERBOSITY.with(Supports::TOP_A).with(Supports::CHOICES))
            .without(Supports::LOGPROBS.with(Supports::LOGIT_BIAS).with(Supports::PARALLEL_TOOLS)),
    )
    .gathered(),
    // Its thoughts are billed in full and shown as summaries at most.
    talker(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        &[Shape::Gemini],
        Supports::ALL
            .without(Supports::MIN_P.with(Supports::REPETITION_PENALTY).with(Supports::TOP_A))
            .without(Supports::LOGIT_BIAS.with(Supports::VERBOSITY).with(Supports::PARALLEL_TOOLS)),
    )
    .with_key_in("x-goog-api-key"),
    Row {
        headers: &[("anthropic-version", "2023-06-01")],
        ..talker(
            "anthropic",
            "https://api.anthropic.com/v1",
            &[Shape::Messages],
            Supports::TOOLS
                .with(Supports::PARALLEL_TOOLS)
                .with(Supports::RESPONSE_FORMAT)
                .with(Supports::STRUCTURED_OUTPUTS)
                .with(Supports::TOP_K)
                .with(Supports::REASONING)
                .with(Supports::REASONING_REPLAY)
                .with(Supports::MEDIA),
        )
        .gathered()
        .with_key_in("x-api-key")
    },
    // Some of its models see, which its list tells, and some think, which is declared.
    talker(
        "cohere",
        "https://api.cohere.com",
        &[Shape::Cohere],
        Supports::TOOLS
            .with(Supports::RESPONSE_FORMAT)
            .with(Supports::STRUCTURED_OUTPUTS)
            .with(Supports::TOP_K)
            .with(Supports::SEED)
            .with(Supports::PENALTIES)
            .with(Supports::LOGPROBS)
            .with(Supports::REASONING_REPLAY),
    )
    .gathered(),
];

/// The adapter of a configured kind.
pub fn adapter_of_kind(word: &str) -> Option<&'static dyn ProviderAdapter> {
    ROWS.iter().find(|row| row.kind.word == word).map(|row| row as &dyn ProviderAdapter)
}

/// All kinds.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    ROWS.iter().map(|row| &row.kind)
}

impl ProviderAdapter for Row {
    fn kind(&self) -> &Kind {
        &self.kind
    }

    fn shape(&self, api: Api) -> Option<Shape> {
        let own = api.shape();
        if self.speaks.contains(&own) {
            return Some(own);
        }
        self.speaks.first().copied().filter(|_| api.is_conversation())
    }

    fn chat(&self) -> Chat {
        self.chat
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
                "{:?} serves every conversation",
                adapter.kind()
            );
            if let Some(shape) = shape {
                let is_spoken = shape.dialect().is_some() || !api.is_conversation();
                assert!(is_spoken, "{:?} speaks {shape:?}, which is no dialect of sellers", adapter.kind());
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
            let adapter = adapter_of_kind(kind.word).unwrap();
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
        check("cohere", [Some(Shape::Cohere), None, Some(Shape::Cohere), Some(Shape::Cohere)]);
    }

    #[test]
    fn what_a_kind_lacks_is_what_its_api_lacks() {
        let check = |word: &str, lacks: &str| {
            let kind = adapter_of_kind(word).unwrap().kind();
            assert_eq!(Supports::ALL.without(kind.supports).to_string(), lacks, "{word}");
        };
        check("openai", "top_k, min_p, repetition_penalty, hidden_reasoning, top_a, reasoning_replay");
        check("openai-compatible", "hidden_reasoning");
        check("vllm", "hidden_reasoning, verbosity, top_a");
        check("llama.cpp", "n, hidden_reasoning, verbosity, top_a");
        check("ollama", "logprobs, n, logit_bias, hidden_reasoning, parallel_tool_calls, verbosity, top_a");
        check("gemini", "logit_bias, min_p, repetition_penalty, parallel_tool_calls, verbosity, top_a");
        check(
            "anthropic",
            "logprobs, n, seed, logit_bias, penalties, min_p, repetition_penalty, hidden_reasoning, verbosity, top_a",
        );
        check(
            "cohere",
            "n, logit_bias, min_p, repetition_penalty, reasoning, hidden_reasoning, media, parallel_tool_calls, verbosity, top_a",
        );
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
