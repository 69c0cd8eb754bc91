//! An honest call of every shape, for tests of sellers and of what stands in front of them.
//!
//! The smallest call that keeps to the vendor's grammar, asking the same question in every shape.

use super::expectation::Mode;
use super::shape::Shape;
use crate::client::request;
use serde_json::{Value, json};

/// The question.
const QUESTION: &str = "what is the price of a market that never sleeps";
/// Length of the sound that is transcribed.
const SOUND_BYTES: usize = 64_000;
const BOUNDARY: &str = "sim-boundary-7";

/// A call before it is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    shape: Shape,
    path: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    /// A call of this model. A shape that does not stream is asked plainly in either mode.
    pub fn new(shape: Shape, mode: Mode, model: &str) -> Self {
        let is_stream = mode == Mode::Stream && shape.streams();
        let mut path = shape.path(model);
        if shape == Shape::Gemini && is_stream {
            path = path.replace(":generateContent", ":streamGenerateContent?alt=sse");
        }
        let mut fields = vec![("content-type".to_owned(), "application/json".to_owned())];
        if shape == Shape::Messages {
            fields.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
        }
        let mut body = body(shape, model).to_string().into_bytes();
        if is_stream {
            body = streamed(shape, body_value(&body)).to_string().into_bytes();
        }
        if shape == Shape::Transcriptions {
            fields[0].1 = format!("multipart/form-data; boundary={BOUNDARY}");
            body = form(model);
        }
        Self { shape, path, fields, body }
    }

    /// The body as JSON; null where it is a form.
    pub fn body(&self) -> Value {
        body_value(&self.body)
    }

    /// The same call with these members set in its body, and those that are null taken out.
    #[must_use]
    pub fn with(mut self, members: &Value) -> Self {
        let mut body = self.body();
        for (name, value) in members.as_object().into_iter().flatten() {
            match (body.as_object_mut(), value) {
                (Some(map), Value::Null) => drop(map.remove(name)),
                (Some(map), _) => drop(map.insert(name.clone(), value.clone())),
                (None, _) => {}
            }
        }
        self.body = body.to_string().into_bytes();
        self
    }

    /// The same call with one more part, where its body is a form.
    #[must_use]
    pub fn with_part(mut self, name: &str, value: &str) -> Self {
        let end = format!("--{BOUNDARY}--");
        if let Some(at) = memchr::memmem::rfind(&self.body, end.as_bytes()) {
            let part =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            self.body.splice(at..at, part.into_bytes());
        }
        self
    }

    /// The same call with the key where this shape has it.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.fields.push(match self.shape {
            Shape::Messages => ("x-api-key".to_owned(), key.to_owned()),
            Shape::Gemini => ("x-goog-api-key".to_owned(), key.to_owned()),
            _ => ("authorization".to_owned(), format!("Bearer {key}")),
        });
        self
    }

    /// The same call with one more header field.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The whole HTTP request.
    pub fn bytes(&self) -> Vec<u8> {
        let fields: Vec<(&str, &str)> =
            self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        request("POST", &self.path, &fields, &self.body)
    }
}

fn body_value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

fn body(shape: Shape, model: &str) -> Value {
    let chat = json!([{"role": "user", "content": QUESTION}]);
    match shape {
        Shape::Chat | Shape::Cohere => json!({"model": model, "messages": chat}),
        Shape::Completions | Shape::Images => json!({"model": model, "prompt": QUESTION}),
        Shape::Messages => json!({"model": model, "max_tokens": 4_096, "messages": chat}),
        Shape::Responses => json!({"model": model, "input": QUESTION, "store": false}),
        Shape::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}),
        Shape::Ollama => json!({"model": model, "messages": chat, "stream": false}),
        Shape::Embeddings => json!({"model": model, "input": [QUESTION, "another text"]}),
        Shape::Rerank => json!({"model": model, "query": QUESTION,
            "documents": ["nothing at all", "the price of a market", "a market never sleeps"]}),
        Shape::Speech => json!({"model": model, "input": QUESTION, "voice": "alloy"}),
        Shape::Transcriptions => Value::Null,
    }
}

fn streamed(shape: Shape, mut body: Value) -> Value {
    if shape != Shape::Gemini {
        body["stream"] = json!(true);
    }
    if matches!(shape, Shape::Chat | Shape::Completions) {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn form(model: &str) -> Vec<u8> {
    let part = |head: &str, bytes: &[u8]| {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let sound = [b"RIFF".to_vec(), vec![0; SOUND_BYTES]].concat();
    let parts = [part("name=\"model\"", model.as_bytes()), part("name=\"file\"; filename=\"a.wav\"", &sound)];
    [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
}
