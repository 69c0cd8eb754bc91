//! What endpoints that generate take.

use super::{COUNT_REQUEST, object, to};
use crate::dialect::fields::{METADATA_PAIRS_MAX, METADATA_VALUE_CHARS_MAX, PREFERENCE_WORD_BYTES_MAX};
use crate::dialect::passthrough::{DOCUMENTS_MAX, IMAGES_MAX, INPUTS_MAX, SPEECH_CHARACTERS_MAX};
use crate::dialect::{
    CHOICES_MAX, LOGIT_BIAS_MAX, MAX_TOKENS_MAX, MESSAGES_MAX, MODELS_MAX, PREFERENCE_NAMES_MAX,
    SESSION_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX, TOOLS_MAX, TOP_K_MAX, TOP_LOGPROBS_MAX,
};
use serde_json::{Map, Value, json};

pub(super) fn add(all: &mut Map<String, Value>) {
    let mut put = |name: &str, schema: Value| all.insert(name.to_owned(), schema);
    put("ModelName", model());
    put("ProviderPreferences", provider());
    put("SellerNames", seller_names());
    put("ChatRequest", chat());
    put("CompletionRequest", text());
    put("ResponsesRequest", responses());
    put("MessagesRequest", messages(&["model", "max_tokens", "messages"]));
    put(COUNT_REQUEST, messages(&["model", "messages"]));
    put("EmbeddingsRequest", embeddings());
    put("RerankRequest", rerank());
    put("ImagesRequest", images());
    put("SpeechRequest", speech());
    put("TranscriptionRequest", transcription());
    put("TranscriptionForm", form());
}

fn model() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": 128, "examples": ["author/name"],
        "description": "A model of `GET /v1/models`, with a variant such as `:floor` behind it or not.",
    })
}

fn seller_names() -> Value {
    json!({ "type": "array", "maxItems": PREFERENCE_NAMES_MAX, "items": { "type": "string", "minLength": 1, "maxLength": 128 } })
}

/// The `provider` object. Unknown members are refused.
fn provider() -> Value {
    let words = json!({
        "type": ["array", "null"], "maxItems": PREFERENCE_NAMES_MAX,
        "items": { "type": "string", "minLength": 1, "maxLength": PREFERENCE_WORD_BYTES_MAX },
    });
    let names = json!({ "anyOf": [to("SellerNames"), { "type": "null" }] });
    let sorts = json!(["price", "throughput", "latency", "exacto"]);
    let dollars = json!({ "type": ["number", "string", "null"], "minimum": 0 });
    let level = json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1_000_000_000 });
    let cutoffs = json!({ "anyOf": [level, {
        "type": "object", "additionalProperties": false,
        "properties": { "p50": level, "p75": level, "p90": level, "p99": level },
    }] });
    json!({
        "type": "object", "additionalProperties": false,
        "description": "Which sellers may serve, and in which order.",
        "properties": {
            "order": names, "only": names, "ignore": names,
            "allow_fallbacks": flag(), "require_parameters": flag(), "zdr": flag(),
            "enforce_distillable_text": flag(),
            "data_collection": { "enum": ["allow", "deny", null] },
            "quantizations": words, "regions": words,
            "sort": { "anyOf": [{ "type": "null" }, { "enum": sorts }, {
                "type": "object", "additionalProperties": false,
                "properties": { "by": { "enum": sorts }, "partition": { "enum": ["model", "none", null] } },
            }] },
            "max_price": {
                "type": ["object", "null"], "additionalProperties": false,
                "description": "Dollars per million tokens, per request, per image, per unit of sound.",
                "properties": { "prompt": dollars, "completion": dollars, "request": dollars, "image": dollars, "audio": dollars },
            },
            "preferred_min_throughput": cutoffs,
            "preferred_max_latency": cutoffs,
        },
    })
}

fn flag() -> Value {
    json!({ "type": ["boolean", "null"] })
}

fn number(min: f64, max: f64) -> Value {
    json!({ "type": ["number", "null"], "minimum": min, "maximum": max })
}

fn above_zero(max: f64) -> Value {
    json!({ "type": ["number", "null"], "exclusiveMinimum": 0, "maximum": max })
}

fn whole(min: u32, max: u32) -> Value {
    json!({ "type": ["integer", "null"], "minimum": min, "maximum": max })
}

/// The members that the market reads on every endpoint, with an endpoint's own.
fn with_routing(required: &[&str], own: Value) -> Value {
    let models = json!({ "type": ["array", "null"], "maxItems": MODELS_MAX, "items": to("ModelName") });
    let mut properties = json!({
        "model": to("ModelName"),
        "models": models,
        "fallbacks": models,
        "provider": { "anyOf": [to("ProviderPreferences"), { "type": "null" }] },
        "route": { "enum": ["fallback", "sort", null] },
        "session_id": { "type": ["string", "null"], "minLength": 1, "maxLength": SESSION_BYTES_MAX },
        "metadata": {
            "type": ["object", "null"], "maxProperties": METADATA_PAIRS_MAX,
            "additionalProperties": { "type": "string", "maxLength": METADATA_VALUE_CHARS_MAX },
        },
        "stream_failure": { "enum": ["error", "continue", null] },
    });
    if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
        all.extend(own);
    }
    object(required, properties)
}

/// How tokens are chosen, in the words of chat and completions.
fn sampled(required: &[&str], own: Value) -> Value {
    let token = number(-100.0, 100.0);
    let mut properties = json!({
        "stream": flag(),
        "stream_options": { "type": ["object", "null"] },
        "n": whole(1, CHOICES_MAX),
        "max_tokens": whole(1, MAX_TOKENS_MAX),
        "temperature": number(0.0, 2.0),
        "top_p": above_zero(1.0),
        "top_k": whole(0, TOP_K_MAX),
        "min_p": number(0.0, 1.0),
        "presence_penalty": number(-2.0, 2.0),
        "frequency_penalty": number(-2.0, 2.0),
        "repetition_penalty": above_zero(2.0),
        "logit_bias": { "type": ["object", "null"], "maxProperties": LOGIT_BIAS_MAX,
            "propertyNames": { "pattern": "^[0-9]{1,9}$" }, "additionalProperties": token },
        "stop": { "anyOf": [{ "type": "null" }, stop(), { "type": "array", "maxItems": STOPS_MAX, "items": stop() }] },
        "seed": { "type": ["integer", "null"] },
    });
    if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
        all.extend(own);
    }
    with_routing(required, properties)
}

fn stop() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": STOP_BYTES_MAX })
}

fn chat() -> Value {
    let message = object(
        &["role"],
        json!({
            "role": { "enum": ["system", "developer", "user", "assistant", "tool", "function"] },
            "content": { "type": ["string", "array", "null"] },
        }),
    );
    sampled(
        &["model", "messages"],
        json!({
            "messages": { "type": "array", "minItems": 1, "maxItems": MESSAGES_MAX, "items": message },
            "max_completion_tokens": whole(1, MAX_TOKENS_MAX),
            "logprobs": flag(),
            "top_logprobs": whole(0, u32::from(TOP_LOGPROBS_MAX)),
            "tools": { "type": ["array", "null"], "maxItems": TOOLS_MAX, "items": { "type": "object" } },
            "response_format": { "anyOf": [{ "type": "null" }, object(&["type"],
                json!({ "type": { "enum": ["text", "json_object", "json_schema"] } }))] },
        }),
    )
}

fn text() -> Value {
    let one = json!({ "type": "string", "minLength": 1 });
    sampled(
        &["model", "prompt"],
        json!({
            "prompt": { "anyOf": [one, { "type": "array", "minItems": 1, "maxItems": 1, "items": one }] },
            "best_of": whole(1, CHOICES_MAX),
            "logprobs": whole(0, u32::from(TOP_LOGPROBS_MAX)),
        }),
    )
}

fn responses() -> Value {
    let items =
        json!({ "type": "array", "minItems": 1, "maxItems": MESSAGES_MAX, "items": { "type": "object" } });
    with_routing(
        &["model", "input"],
        json!({
            "input": { "anyOf": [{ "type": "string", "minLength": 1 }, items] },
            "instructions": { "type": ["string", "null"] },
            "stream": flag(),
            "max_output_tokens": whole(1, MAX_TOKENS_MAX),
            "temperature": number(0.0, 2.0),
            "top_p": above_zero(1.0),
            "top_logprobs": whole(0, u32::from(TOP_LOGPROBS_MAX)),
            "tools": { "type": ["array", "null"], "maxItems": TOOLS_MAX, "items": { "type": "object" } },
            "parallel_tool_calls": flag(),
            "store": flag(),
        }),
    )
}

fn messages(required: &[&str]) -> Value {
    let message = object(
        &["role", "content"],
        json!({ "role": { "enum": ["user", "assistant"] }, "content": { "type": ["string", "array"] } }),
    );
    with_routing(
        required,
        json!({
            "messages": { "type": "array", "minItems": 1, "maxItems": MESSAGES_MAX, "items": message },
            "max_tokens": { "type": "integer", "minimum": 1, "maximum": MAX_TOKENS_MAX },
            "system": { "type": ["string", "array", "null"] },
            "stream": flag(),
            "temperature": number(0.0, 1.0),
            "tools": { "type": ["array", "null"], "maxItems": TOOLS_MAX, "items": { "type": "object" } },
            "metadata": { "type": ["object", "null"], "properties": { "user_id": { "type": ["string", "null"] } } },
        }),
    )
}

fn embeddings() -> Value {
    let one = json!({ "type": "string", "minLength": 1 });
    with_routing(
        &["model", "input"],
        json!({
            "input": { "anyOf": [one, { "type": "array", "minItems": 1, "maxItems": INPUTS_MAX }] },
            "encoding_format": { "enum": ["float", "base64", null] },
        }),
    )
}

fn rerank() -> Value {
    let document = json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] });
    with_routing(
        &["model", "query", "documents"],
        json!({
            "query": { "type": "string", "minLength": 1 },
            "documents": { "type": "array", "minItems": 1, "maxItems": DOCUMENTS_MAX, "items": document },
            "top_n": { "type": ["integer", "null"], "minimum": 1 },
        }),
    )
}

fn images() -> Value {
    with_routing(
        &["model", "prompt"],
        json!({ "prompt": { "type": "string", "minLength": 1 }, "n": whole(1, IMAGES_MAX), "stream": flag() }),
    )
}

fn speech() -> Value {
    with_routing(
        &["model", "input"],
        json!({
            "input": { "type": "string", "minLength": 1, "maxLength": SPEECH_CHARACTERS_MAX },
            "voice": { "type": ["string", "object", "null"] },
            "response_format": { "type": ["string", "null"] },
            "stream_format": { "enum": ["sse", "audio", null] },
            "stream": { "enum": [false, null] },
        }),
    )
}

fn transcription() -> Value {
    let sound = object(&["data"], json!({ "data": { "type": "string" }, "format": { "type": "string" } }));
    with_routing(
        &["model", "input_audio"],
        json!({ "input_audio": sound, "language": { "type": ["string", "null"] }, "stream": flag() }),
    )
}

fn form() -> Value {
    object(
        &["model", "file"],
        json!({
            "model": to("ModelName"),
            "file": { "type": "string", "format": "binary", "minLength": 1 },
            "language": { "type": "string" },
            "response_format": { "type": "string" },
            "stream": { "enum": ["true", "false"] },
        }),
    )
}
