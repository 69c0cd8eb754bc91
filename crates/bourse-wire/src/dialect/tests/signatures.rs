//! Signed thoughts of Google's models on their way through every front: out with an answer, back with the next
//! request, as a client that keeps what it got sends them.

use super::*;
use crate::dialect::grammar::Call;
use crate::dialect::neutral::strategies::{answer_of, merged, of_choice};
use bytes::Bytes;
use serde_json::{Value, json};

/// The request by which a client goes on after an answer, with results for its calls.
fn next_request(api: Api, answer: &Value, calls: &[&str]) -> Value {
    match api {
        Api::Responses => {
            let mut input = vec![json!({ "type": "message", "role": "user", "content": "q" })];
            input.extend(answer["output"].as_array().unwrap().iter().cloned());
            let result = |id: &&str| json!({ "type": "function_call_output", "call_id": id, "output": "r" });
            input.extend(calls.iter().map(result));
            json!({ "model": "a/b", "input": input })
        }
        Api::Messages => {
            let result = |id: &&str| json!({ "type": "tool_result", "tool_use_id": id, "content": "r" });
            let mut last: Vec<Value> = calls.iter().map(result).collect();
            last.push(json!({ "type": "text", "text": "go on" }));
            json!({ "model": "a/b", "max_tokens": 9, "messages": [
                { "role": "user", "content": "q" },
                { "role": "assistant", "content": answer["content"] },
                { "role": "user", "content": last },
            ] })
        }
        _ => {
            let mut messages =
                vec![json!({ "role": "user", "content": "q" }), answer["choices"][0]["message"].clone()];
            let result = |id: &&str| json!({ "role": "tool", "tool_call_id": id, "content": "r" });
            messages.extend(calls.iter().map(result));
            json!({ "model": "a/b", "messages": messages })
        }
    }
}

/// The parts of the model's turn that a seller of Google's grammar gets back, each with its signature.
fn sent_back(api: Api, answer: &Value, calls: &[&str]) -> String {
    let body = next_request(api, answer, calls).to_string();
    let request = front::read(&front::parse(api, Bytes::from(body)).unwrap()).unwrap();
    let call = Call { upstream_id: "gemini-3.8-flash", stream: false, max_tokens: None };
    let written = Gemini.write(&request, &call).unwrap();
    assert_eq!(written.notices, [], "{api:?}");
    let json: Value = serde_json::from_slice(&written.body).unwrap();
    let parts = json["contents"][1]["parts"].as_array().unwrap();
    let short = |part: &Value| {
        let said = part["text"].as_str().or(part["functionCall"]["id"].as_str()).unwrap_or("?").to_owned();
        part["thoughtSignature"].as_str().map_or(said.clone(), |signature| format!("{said}={signature}"))
    };
    parts.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// What a client has after an answer that came whole, and after one that came as a stream, which it puts together.
fn answers(api: Api, body: &str) -> [Value; 2] {
    let answer = Gemini.read_answer(body).unwrap();
    let mut out = Vec::new();
    with_billed(|billed| front::push_answer(api, &head(), &answer, billed, b"", &mut out));
    let whole = serde_json::from_slice(&out).unwrap();

    let mut events = Vec::new();
    Gemini.reader().read(body, &mut |event| events.push(of_choice(event, 0))).unwrap();
    let (mut writer, mut out) = (front::writer(api, &head()), Vec::new());
    for event in &events {
        writer.event(event, &mut out);
    }
    with_billed(|billed| writer.end(billed, b"", &mut out));
    let mut reader = own(api).reader();
    let mut heard = Vec::new();
    for block in String::from_utf8(out).unwrap().split("\n\n") {
        let data = block.lines().find_map(|line| line.strip_prefix("data: "));
        for data in data.into_iter().filter(|data| *data != "[DONE]") {
            reader.read(data, &mut |event| heard.push(of_choice(event, 0))).unwrap();
        }
    }
    let gathered = answer_of(&merged(&heard));
    let mut out = Vec::new();
    with_billed(|billed| front::push_answer(api, &head(), &gathered, billed, b"", &mut out));
    [whole, serde_json::from_slice(&out).unwrap()]
}

fn check(parts: &str, calls: &[&str], want: &str) {
    let body = format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"STOP"}}]}}"#);
    for api in FRONTS {
        for answer in answers(api, &body) {
            assert_eq!(sent_back(api, &answer, calls), want, "{api:?} {answer}");
        }
    }
}

const THOUGHT: &str = r#"{"text":"hm","thought":true}"#;

fn call(id: &str, signature: &str) -> String {
    let signature =
        if signature.is_empty() { String::new() } else { format!(r#","thoughtSignature":"{signature}""#) };
    format!(r#"{{"functionCall":{{"id":"{id}","name":"f","args":{{}}}}{signature}}}"#)
}

#[test]
fn a_calls_signature_comes_back_on_the_call() {
    check(&call("c1", "s1"), &["c1"], "c1=s1");
    check(&format!("{THOUGHT},{}", call("c1", "s1")), &["c1"], "c1=s1");
    check(&format!("{THOUGHT},{{\"text\":\"so\"}},{}", call("c1", "s1")), &["c1"], "so c1=s1");
    check(&format!("{},{}", call("c1", "s1"), call("c2", "")), &["c1", "c2"], "c1=s1 c2");
    check(&format!("{},{}", call("c1", "s1"), call("c2", "s2")), &["c1", "c2"], "c1=s1 c2=s2");
}

#[test]
fn a_texts_signature_comes_back_on_the_text() {
    check(r#"{"text":"so","thoughtSignature":"s1"}"#, &[], "so=s1");
    check(&format!("{THOUGHT},{}", r#"{"text":"so","thoughtSignature":"s1"}"#), &[], "so=s1");
}
