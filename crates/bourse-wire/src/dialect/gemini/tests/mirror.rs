//! The grammar in the laws over all of them.

use crate::dialect::neutral::strategies::choice_of;
use crate::dialect::neutral::{Origin, StreamEvent};
use crate::dialect::tests::{Gist, Lost, Mirror, add, arguments, word};
use crate::receipt::Finish;
use serde_json::{Value, json};

pub(in crate::dialect::gemini) const MIRROR: Mirror = Mirror {
    lost: Lost { ids: true, summaries: true, encryption: true, choices: false, filter: false },
    signs: |origin| origin == Origin::Google,
    say,
    hear,
    audible: |gist| gist,
    places: &[
        ("temperature", "/generationConfig/temperature"),
        ("top_p", "/generationConfig/topP"),
        ("top_k", "/generationConfig/topK"),
        ("presence_penalty", "/generationConfig/presencePenalty"),
        ("frequency_penalty", "/generationConfig/frequencyPenalty"),
        ("logprobs", "/generationConfig/responseLogprobs"),
        ("stop", "/generationConfig/stopSequences"),
        ("seed", "/generationConfig/seed"),
        ("reasoning", "/generationConfig/thinkingConfig"),
        ("n", "/generationConfig/candidateCount"),
        ("tool_choice", "/toolConfig/functionCallingConfig/mode"),
    ],
    refuses: |_| Vec::new(),
    sayable: |request| request,
};

fn say(event: &StreamEvent<'_>, events: &[StreamEvent<'_>]) -> Option<Value> {
    let part = match event {
        StreamEvent::Text { text, .. } => json!({ "text": text }),
        StreamEvent::Reasoning { text, .. } => json!({ "text": text, "thought": true }),
        StreamEvent::Signed { signed, .. } => json!({ "text": "", "thoughtSignature": signed.data }),
        StreamEvent::ToolCall { choice, call, id, name } => {
            json!({ "functionCall": { "id": id, "name": name, "args": arguments(*choice, *call, events) } })
        }
        StreamEvent::Finish { choice, finish, .. } => {
            let word = match finish {
                Finish::Length => "MAX_TOKENS",
                Finish::ContentFilter => "SAFETY",
                _ => "STOP",
            };
            let usage =
                json!({ "promptTokenCount": 3, "cachedContentTokenCount": 1, "candidatesTokenCount": 2 });
            return Some(
                json!({ "candidates": [{ "index": choice, "finishReason": word }], "usageMetadata": usage }),
            );
        }
        StreamEvent::ToolArguments { .. } | StreamEvent::Refusal { .. } => return None,
    };
    Some(json!({ "candidates": [{ "index": choice_of(event), "content": { "parts": [part] } }] }))
}

fn hear(body: &Value) -> Gist {
    let mut gist = Gist::default();
    for part in body["systemInstruction"]["parts"].as_array().into_iter().flatten() {
        add(&mut gist.rules, &word(&part["text"]));
    }
    let turns = body["contents"].as_array().unwrap();
    for part in turns.iter().flat_map(|turn| turn["parts"].as_array().unwrap()) {
        add(&mut gist.texts, &word(&part["text"]));
        if let Some(data) = part.get("inlineData") {
            gist.media.push(format!("{} {}", word(&data["mimeType"]), word(&data["data"])));
        }
        gist.media.extend(part.get("fileData").map(|data| word(&data["fileUri"])));
        if let Some(call) = part.get("functionCall") {
            gist.calls.push((word(&call["id"]), word(&call["name"]), call["args"].clone()));
        }
        if let Some(result) = part.get("functionResponse") {
            let response = &result["response"];
            let text = word(response.get("error").unwrap_or(&response["output"]));
            gist.results.push((word(&result["id"]), text.replace('\n', "")));
        }
    }
    let config = &body["generationConfig"];
    gist.format = config
        .get("responseMimeType")
        .map(|_| config.get("responseJsonSchema").cloned().unwrap_or("json".into()));
    gist
}
