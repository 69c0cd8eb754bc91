//! What endpoints that generate answer.

use super::{COUNT_ANSWER, object, to};
use serde_json::{Map, Value, json};

pub(super) fn add(all: &mut Map<String, Value>) {
    let mut put = |name: &str, schema: Value| all.insert(name.to_owned(), schema);
    put("ChatCompletion", chat());
    put("ChatUsage", chat_usage());
    put("TextCompletion", text());
    put("Response", response());
    put("Message", message());
    put("Embeddings", embeddings());
    put("Ranking", ranking());
    put("Images", images());
    put("Transcription", object(&["text"], json!({ "text": { "type": "string" } })));
    put(COUNT_ANSWER, object(&["input_tokens"], json!({ "input_tokens": count() })));
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn money() -> Value {
    json!({ "type": "number", "minimum": 0 })
}

/// Usage with the one authoritative `cost`; `cost_details` explains it.
fn chat_usage() -> Value {
    object(
        &["prompt_tokens", "completion_tokens", "total_tokens", "cost"],
        json!({
            "prompt_tokens": count(), "completion_tokens": count(), "total_tokens": count(),
            "cost": money(), "cost_details": { "type": "object" },
        }),
    )
}

fn chat() -> Value {
    let choice = object(
        &["index", "message", "finish_reason"],
        json!({
            "index": count(),
            "message": object(&["role"], json!({ "role": { "const": "assistant" }, "content": { "type": ["string", "array", "null"] } })),
            "finish_reason": { "type": ["string", "null"] },
        }),
    );
    object(
        &["id", "object", "created", "model", "choices", "usage"],
        json!({
            "id": { "type": "string" },
            "object": { "const": "chat.completion" },
            "created": count(),
            "model": { "type": "string" },
            "choices": { "type": "array", "items": choice },
            "usage": to("ChatUsage"),
        }),
    )
}

fn text() -> Value {
    let choice = object(
        &["index", "text", "finish_reason"],
        json!({ "index": count(), "text": { "type": "string" }, "finish_reason": { "type": ["string", "null"] } }),
    );
    object(
        &["id", "object", "created", "model", "choices", "usage"],
        json!({
            "id": { "type": "string" },
            "object": { "const": "text_completion" },
            "created": count(),
            "model": { "type": "string" },
            "choices": { "type": "array", "items": choice },
            "usage": to("ChatUsage"),
        }),
    )
}

fn response() -> Value {
    object(
        &["id", "object", "created_at", "status", "model", "output", "error", "incomplete_details"],
        json!({
            "id": { "type": "string" },
            "object": { "const": "response" },
            "created_at": count(),
            "status": { "enum": ["completed", "incomplete", "failed"] },
            "model": { "type": "string" },
            "output": { "type": "array", "items": object(&["type"], json!({ "type": { "type": "string" } })) },
            "error": { "type": ["object", "null"] },
            "incomplete_details": { "type": ["object", "null"] },
            "usage": object(
                &["input_tokens", "output_tokens", "total_tokens", "cost"],
                json!({ "input_tokens": count(), "output_tokens": count(), "total_tokens": count(), "cost": money() }),
            ),
        }),
    )
}

fn message() -> Value {
    object(
        &["id", "type", "role", "model", "content", "stop_reason", "usage"],
        json!({
            "id": { "type": "string" },
            "type": { "const": "message" },
            "role": { "const": "assistant" },
            "model": { "type": "string" },
            "content": { "type": "array", "items": object(&["type"], json!({ "type": { "type": "string" } })) },
            "stop_reason": { "type": ["string", "null"] },
            "stop_sequence": { "type": ["string", "null"] },
            "usage": object(
                &["input_tokens", "output_tokens", "cost"],
                json!({ "input_tokens": count(), "output_tokens": count(), "cost": money() }),
            ),
        }),
    )
}

fn embeddings() -> Value {
    let one = object(
        &["object", "index", "embedding"],
        json!({
            "object": { "const": "embedding" },
            "index": count(),
            "embedding": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "number" } }] },
        }),
    );
    object(
        &["object", "data", "model"],
        json!({ "object": { "const": "list" }, "data": { "type": "array", "items": one }, "model": { "type": "string" } }),
    )
}

fn ranking() -> Value {
    let one = object(
        &["index", "relevance_score"],
        json!({ "index": count(), "relevance_score": { "type": "number" } }),
    );
    object(&["results"], json!({ "results": { "type": "array", "items": one } }))
}

fn images() -> Value {
    object(
        &["created", "data"],
        json!({ "created": count(), "data": { "type": "array", "items": { "type": "object" } } }),
    )
}
