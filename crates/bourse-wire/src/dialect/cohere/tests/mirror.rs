//! The grammar in the laws over all of them.

use crate::dialect::cohere::reader::items;
use crate::dialect::neutral::{Part, Request, ResponseFormat, StreamEvent};
use crate::dialect::tests::{Gist, Lost, Mirror, add, replace_parts, word};
use crate::receipt::Finish;
use serde_json::{Value, json};

pub(in crate::dialect::cohere) const MIRROR: Mirror = Mirror {
    lost: Lost::all(),
    signs: |_| false,
    say,
    hear,
    audible: |gist| gist,
    places: &[
        ("temperature", "/temperature"),
        ("top_p", "/p"),
        ("top_k", "/k"),
        ("presence_penalty", "/presence_penalty"),
        ("frequency_penalty", "/frequency_penalty"),
        ("logprobs", "/logprobs"),
        ("stop", "/stop_sequences"),
        ("seed", "/seed"),
        ("reasoning", "/thinking"),
        ("tool_choice", "/tool_choice"),
    ],
    refuses,
    sayable,
};

fn say(event: &StreamEvent<'_>, _: &[StreamEvent<'_>]) -> Option<Value> {
    let said = |kind: &str, index: u32, message: Value| {
        Some(json!({ "type": kind, "index": index, "delta": { "message": message } }))
    };
    match event {
        StreamEvent::Text { text, .. } => said("content-delta", 0, json!({ "content": { "text": text } })),
        StreamEvent::Reasoning { text, .. } => {
            said("content-delta", 0, json!({ "content": { "thinking": text } }))
        }
        StreamEvent::ToolCall { call, id, name, .. } => {
            let function = json!({ "name": name, "arguments": "" });
            let call_json = json!({ "id": id, "type": "function", "function": function });
            said("tool-call-start", *call, json!({ "tool_calls": call_json }))
        }
        StreamEvent::ToolArguments { call, json, .. } => {
            let function = json!({ "arguments": json });
            said("tool-call-delta", *call, json!({ "tool_calls": { "function": function } }))
        }
        StreamEvent::Finish { finish, .. } => {
            let word = match finish {
                Finish::Length => "MAX_TOKENS",
                Finish::ToolCalls => "TOOL_CALL",
                _ => "COMPLETE",
            };
            let usage = json!({ "billed_units": { "input_tokens": 3, "output_tokens": 2 },
                "tokens": { "input_tokens": 70, "output_tokens": 9 }, "cached_tokens": 1 });
            Some(json!({ "type": "message-end", "delta": { "finish_reason": word, "usage": usage } }))
        }
        _ => None,
    }
}

fn hear(body: &Value) -> Gist {
    let mut gist = Gist::default();
    for message in body["messages"].as_array().unwrap() {
        let mut texts = String::new();
        for block in items(&message["content"]) {
            add(&mut texts, &word(&block["text"]));
            let url = word(&block["image_url"]["url"]);
            let media = url.strip_prefix("data:").map(|url| url.replace(";base64,", " "));
            gist.media.extend(Some(media.unwrap_or(url)).filter(|url| !url.is_empty()));
        }
        match message["role"].as_str().unwrap() {
            "system" => gist.rules.push_str(&texts),
            "tool" => gist.results.push((word(&message["tool_call_id"]), texts)),
            _ => gist.texts.push_str(&texts),
        }
        for call in items(&message["tool_calls"]) {
            let arguments = serde_json::from_str(&word(&call["function"]["arguments"])).unwrap();
            gist.calls.push((word(&call["id"]), word(&call["function"]["name"]), arguments));
        }
    }
    let schema = body.get("response_format").map(|format| format.get("json_schema"));
    gist.format = schema.map(|schema| schema.cloned().unwrap_or("json".into()));
    gist
}

fn is_refused(part: &Part) -> bool {
    matches!(part, Part::Audio { .. } | Part::File { .. })
}

fn refuses(request: &Request) -> Vec<&'static str> {
    let has_format = request.response_format != ResponseFormat::Text;
    let fields = [
        (request.choices > 1, "n"),
        (has_format && !request.tools.is_empty(), "response_format"),
        (request.messages.iter().flat_map(|message| &message.parts).any(is_refused), "messages"),
    ];
    fields.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, field)| field).collect()
}

fn sayable(mut request: Request) -> Request {
    replace_parts(&mut request, is_refused);
    if !request.tools.is_empty() {
        request.response_format = ResponseFormat::Text;
    }
    Request { choices: 1, ..request }
}
