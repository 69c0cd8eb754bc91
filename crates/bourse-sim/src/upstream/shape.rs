//! The API shapes that a seller can speak, and which request belongs to which.
//!
//! A shape is one vendor's way of asking for one kind of work, at its own paths. One seller may speak
//! several; the paths never meet. Facts are the vendors' own API references. Not imitated: Gemini's
//! `streamGenerateContent` without `alt=sse` (an array that grows), batch and file endpoints.

use super::http::HttpRequest;
use std::fmt;

/// One API shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// OpenAI chat completions: `POST /v1/chat/completions`.
    Chat,
    /// OpenAI text completions: `POST /v1/completions`.
    Completions,
    /// Anthropic messages: `POST /v1/messages` and `/v1/messages/count_tokens`.
    Messages,
    /// OpenAI responses: `POST /v1/responses`.
    Responses,
    /// Google Gemini: `POST /v1beta/models/{id}:generateContent`, `:streamGenerateContent`, `:countTokens`;
    /// the same below `/v1`, where Google's own clients have moved.
    Gemini,
    /// Ollama chat: `POST /api/chat`, streamed as lines of JSON unless told otherwise.
    Ollama,
    /// Cohere chat: `POST /v2/chat`.
    Cohere,
    /// OpenAI embeddings: `POST /v1/embeddings`.
    Embeddings,
    /// Documents by relevance: `POST /v1/rerank` (Jina's answer) and `/v2/rerank` (Cohere's).
    Rerank,
    /// OpenAI images: `POST /v1/images/generations`.
    Images,
    /// OpenAI speech: `POST /v1/audio/speech`, answered in bytes.
    Speech,
    /// OpenAI transcriptions: `POST /v1/audio/transcriptions`, asked as a form.
    Transcriptions,
}

/// What a call of a shape wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// An answer; whether it is streamed stands in the body.
    Answer,
    /// A streamed answer, said by the path.
    Stream,
    /// The size of a prompt.
    CountTokens,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) shape: Shape,
    pub(super) action: Action,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 12] = [
        Self::Chat,
        Self::Completions,
        Self::Messages,
        Self::Responses,
        Self::Gemini,
        Self::Ollama,
        Self::Cohere,
        Self::Embeddings,
        Self::Rerank,
        Self::Images,
        Self::Speech,
        Self::Transcriptions,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Messages => "messages",
            Self::Responses => "responses",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Images => "images",
            Self::Speech => "speech",
            Self::Transcriptions => "transcriptions",
        }
    }

    /// The part of its paths that clients are configured with as the base URL; empty for Ollama and Cohere, whose
    /// clients add `/api` and the version themselves.
    pub const fn base_path(self) -> &'static str {
        match self {
            Self::Gemini => "/v1beta",
            Self::Ollama | Self::Cohere => "",
            _ => "/v1",
        }
    }

    /// The path of a plain call of this model. Only Gemini names the model there.
    pub fn path(self, model: &str) -> String {
        match self {
            Self::Chat => "/v1/chat/completions".to_owned(),
            Self::Completions => "/v1/completions".to_owned(),
            Self::Messages => "/v1/messages".to_owned(),
            Self::Responses => "/v1/responses".to_owned(),
            Self::Gemini => format!("/v1beta/models/{model}:generateContent"),
            Self::Ollama => "/api/chat".to_owned(),
            Self::Cohere => "/v2/chat".to_owned(),
            Self::Embeddings => "/v1/embeddings".to_owned(),
            Self::Rerank => "/v1/rerank".to_owned(),
            Self::Images => "/v1/images/generations".to_owned(),
            Self::Speech => "/v1/audio/speech".to_owned(),
            Self::Transcriptions => "/v1/audio/transcriptions".to_owned(),
        }
    }

    /// True when it generates text, and can therefore be streamed.
    pub const fn streams(self) -> bool {
        matches!(
            self,
            Self::Chat
                | Self::Completions
                | Self::Messages
                | Self::Responses
                | Self::Gemini
                | Self::Ollama
                | Self::Cohere
        )
    }

    /// True when its answer can come in events, be it no text.
    pub const fn has_events(self) -> bool {
        self.streams() || matches!(self, Self::Images | Self::Speech | Self::Transcriptions)
    }

    /// True when its answers can call tools.
    pub const fn has_tools(self) -> bool {
        self.streams() && !matches!(self, Self::Completions)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a shape; `--help` shows them all")]
pub struct UnknownShape(String);

impl std::str::FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        let found = Self::ALL.iter().copied().find(|shape| shape.name() == text);
        found.ok_or_else(|| UnknownShape(text.chars().take(64).collect()))
    }
}

/// The shape, among those that a seller speaks, that this request belongs to.
pub(super) fn route(http: &HttpRequest, shapes: &[Shape]) -> Option<Route> {
    if http.method != "POST" {
        return None;
    }
    let path = http.path.split('?').next().unwrap_or_default();
    let plain = |shape| Some(Route { shape, action: Action::Answer, model: None });
    let found = match path {
        "/v1/chat/completions" => plain(Shape::Chat),
        "/v1/completions" => plain(Shape::Completions),
        "/v1/messages" => plain(Shape::Messages),
        "/v1/messages/count_tokens" => {
            Some(Route { shape: Shape::Messages, action: Action::CountTokens, model: None })
        }
        "/v1/responses" => plain(Shape::Responses),
        "/api/chat" => plain(Shape::Ollama),
        "/v2/chat" => plain(Shape::Cohere),
        "/v1/embeddings" => plain(Shape::Embeddings),
        "/v1/rerank" | "/v2/rerank" => plain(Shape::Rerank),
        "/v1/images/generations" => plain(Shape::Images),
        "/v1/audio/speech" => plain(Shape::Speech),
        "/v1/audio/transcriptions" => plain(Shape::Transcriptions),
        _ => gemini_route(path),
    };
    found.filter(|route| shapes.contains(&route.shape))
}

fn gemini_route(path: &str) -> Option<Route> {
    let below = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let (model, method) = below.rsplit_once(':')?;
    let action = match method {
        "generateContent" => Action::Answer,
        "streamGenerateContent" => Action::Stream,
        "countTokens" => Action::CountTokens,
        _ => return None,
    };
    let model = Some(model.replace("%2F", "/").replace("%2f", "/").replace("%40", "@"));
    Some(Route { shape: Shape::Gemini, action, model })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, shapes: &[Shape]) -> Option<Route> {
        let http = HttpRequest { method: "POST".to_owned(), path: path.to_owned(), ..HttpRequest::default() };
        route(&http, shapes)
    }

    #[test]
    fn every_shape_is_found_at_its_path_and_only_where_it_is_sold() {
        for shape in Shape::ALL {
            assert_eq!(shape.name().parse(), Ok(shape));
            let path = shape.path("a/b");
            assert_eq!(at(&path, &Shape::ALL).map(|route| route.shape), Some(shape));
            assert_eq!(at(&path, &[]), None, "{shape}");
            assert!(path.starts_with(shape.base_path()), "{shape}");
        }
        assert!("soap".parse::<Shape>().is_err());
    }

    #[test]
    fn gemini_names_model_and_method_in_its_path() {
        let found = at("/v1beta/models/a%2Fb:streamGenerateContent?alt=sse", &[Shape::Gemini]).unwrap();
        assert_eq!((found.action, found.model.as_deref()), (Action::Stream, Some("a/b")));
        assert_eq!(at("/v1beta/models/a:batchEmbed", &[Shape::Gemini]), None);
        let stable = at("/v1/models/a/b:countTokens", &[Shape::Gemini]).unwrap();
        assert_eq!((stable.action, stable.model.as_deref()), (Action::CountTokens, Some("a/b")));
    }
}
