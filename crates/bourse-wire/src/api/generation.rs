//! Schemas of the endpoints that generate: what their parsers require and bound, and what their answers promise.
//!
//! They are written down here and not derived, because requests and answers pass through as bytes: a member that is
//! not named goes on to the seller, and what is inside a message is the seller's to judge. Bounds come from the
//! constants that the parsers use. Schemas name each other as components; see [`components`].

mod answer;
mod request;

use crate::dialect::Api;
use serde_json::{Map, Value, json};

/// What an endpoint takes and gives, as names of [`components`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shapes {
    /// The request.
    pub request: &'static str,
    /// The request as a form, where the endpoint takes one.
    pub form: Option<&'static str>,
    /// The whole answer; none: raw sound.
    pub answer: Option<&'static str>,
    /// Whether the answer can be a stream of events.
    pub streams: bool,
}

/// What an endpoint takes and gives.
pub fn shapes(api: Api) -> Shapes {
    let (request, answer, streams) = match api {
        Api::Chat => ("ChatRequest", "ChatCompletion", true),
        Api::Text => ("CompletionRequest", "TextCompletion", true),
        Api::Responses => ("ResponsesRequest", "Response", true),
        Api::Messages => ("MessagesRequest", "Message", true),
        Api::Embeddings => ("EmbeddingsRequest", "Embeddings", false),
        Api::Rerank => ("RerankRequest", "Ranking", false),
        Api::Images => ("ImagesRequest", "Images", true),
        Api::Speech => ("SpeechRequest", "", true),
        Api::Transcription => ("TranscriptionRequest", "Transcription", true),
    };
    Shapes {
        request,
        form: (api == Api::Transcription).then_some("TranscriptionForm"),
        answer: (!answer.is_empty()).then_some(answer),
        streams,
    }
}

/// The request of `messages/count_tokens`: `messages` without a bound of the answer.
pub const COUNT_REQUEST: &str = "CountRequest";
/// The answer of `messages/count_tokens`.
pub const COUNT_ANSWER: &str = "TokenCount";

/// All schemas of generations, by name.
pub fn components() -> Map<String, Value> {
    let mut all = Map::new();
    request::add(&mut all);
    answer::add(&mut all);
    all
}

/// A reference to another schema.
fn to(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object of which more than the named members may come.
fn object(required: &[&str], properties: Value) -> Value {
    let mut out = json!({ "type": "object", "required": required });
    out["properties"] = properties;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                    found.push(name.replace("#/components/schemas/", ""));
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_name_is_there_and_every_schema_is_named() {
        let all = components();
        let mut named = Vec::new();
        references(&Value::Object(all.clone()), &mut named);
        for api in Api::ALL {
            let shapes = shapes(api);
            let names = [Some(shapes.request), shapes.form, shapes.answer];
            named.extend(names.into_iter().flatten().map(str::to_owned));
        }
        named.extend([COUNT_REQUEST.to_owned(), COUNT_ANSWER.to_owned()]);
        for name in &named {
            assert!(all.contains_key(name), "{name} is named and not there");
        }
        for name in all.keys() {
            assert!(named.contains(name), "{name} is there and never named");
        }
    }
}
