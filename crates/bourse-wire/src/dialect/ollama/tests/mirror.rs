//! The grammar in the laws over all of them.

use crate::dialect::neutral::{Media, Part, Request, StreamEvent, ToolChoice};
use crate::dialect::tests::{Gist, Lost, Mirror, add, arguments, replace_parts, word};
use crate::receipt::Finish;
use serde_json::{Value, json};

pub(in crate::dialect::ollama) const MIRROR: Mirror = Mirror {
    lost: Lost::all(),
    signs: |_| false,
    say,
    hear,
    audible,
    places: &[
        ("temperature", "/options/temperature"),
        ("top_p", "/options/top_p"),
        ("top_k", "/options/top_k"),
        ("presence_penalty", "/options/presence_penalty"),
        ("frequency_penalty", "/options/frequency_penalty"),
        ("logprobs", "/logprobs"),
        ("stop", "/options/stop"),
        ("seed", "/options/seed"),
        ("reasoning", "/think"),
    ],
    refuses,
    sayable,
};

fn is_refused(part: &Part) -> bool {
    matches!(part, Part::Audio { .. } | Part::File { .. } | Part::Image { source: Media::Url(_), .. })
}

fn refuses(request: &Request) -> Vec<&'static str> {
    let must_call = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)));
    let fields = [
        (request.choices > 1, "n"),
        (must_call && !request.tools.is_empty(), "tool_choice"),
        (request.messages.iter().flat_map(|message| &message.parts).any(is_refused), "messages"),
    ];
    fields.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, field)| field).collect()
}

fn sayable(mut request: Request) -> Request {
    replace_parts(&mut request, is_refused);
    Request { tool_choice: None, choices: 1, ..request }
}

/// Pictures come without their type.
fn audible(mut gist: Gist) -> Gist {
    for media in &mut gist.media {
        *media = media.rsplit(' ').next().unwrap_or_default().to_owned();
    }
    gist
}

fn say(event: &StreamEvent<'_>, events: &[StreamEvent<'_>]) -> Option<Value> {
    let message = match event {
        StreamEvent::Text { text, .. } => json!({ "content": text }),
        StreamEvent::Reasoning { text, .. } => json!({ "content": "", "thinking": text }),
        StreamEvent::ToolCall { choice, call, id, name } => {
            let function = json!({ "name": name, "arguments": arguments(*choice, *call, events) });
            json!({ "content": "", "tool_calls": [{ "id": id, "function": function }] })
        }
        StreamEvent::Finish { finish, .. } => {
            let word = if *finish == Finish::Length { "length" } else { "stop" };
            return Some(
                json!({ "done": true, "done_reason": word, "prompt_eval_count": 3, "eval_count": 2 }),
            );
        }
        _ => return None,
    };
    Some(json!({ "message": message, "done": false }))
}

fn hear(body: &Value) -> Gist {
    let mut gist = Gist::default();
    for message in body["messages"].as_array().unwrap() {
        let content = word(&message["content"]);
        match message["role"].as_str().unwrap() {
            "system" => add(&mut gist.rules, &content),
            "tool" => gist.results.push((word(&message["tool_call_id"]), content.replace('\n', ""))),
            _ => add(&mut gist.texts, &content),
        }
        gist.media.extend(message["images"].as_array().into_iter().flatten().map(word));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            gist.calls.push((word(&call["id"]), word(&function["name"]), function["arguments"].clone()));
        }
    }
    gist.format = body.get("format").cloned();
    gist
}
