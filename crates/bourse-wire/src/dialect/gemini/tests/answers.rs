//! Answers: whole ones, streams, and what goes wrong in them.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::neutral::Media;
use crate::dialect::neutral::strategies::{answer_of, merged, normal_answer};
use crate::receipt::Finish;
use proptest::prelude::*;
use std::borrow::Cow;

fn text(text: &str) -> StreamEvent<'static> {
    StreamEvent::Text { choice: 0, text: text.to_owned().into(), logprobs_json: None }
}

fn signed(data: &str, id: Option<&str>) -> StreamEvent<'static> {
    let signed =
        Signed { origin: Origin::Google, id: id.map(str::to_owned), data: data.into(), is_encrypted: true };
    StreamEvent::Signed { choice: 0, signed }
}

fn finish(finish: Finish, native: &str) -> StreamEvent<'static> {
    StreamEvent::Finish { choice: 0, finish, native: Some(native.to_owned().into()) }
}

#[test]
fn thoughts_calls_and_signatures_keep_their_places() {
    let (events, news) = read_stream(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"**Looking**\n","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9,"totalTokenCount":21,"thoughtsTokenCount":12},"modelVersion":"gemini-3.8-flash","responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"Let me "},{"text":"see."}],"role":"model"},"index":0}],"responseId":"r1"}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"look","args":{"at":"é"},"id":"fc_1"},"thoughtSignature":"c2ln"},{"functionCall":{"name":"wait","id":"fc_2"}}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":8,"totalTokenCount":29,"thoughtsTokenCount":12}}"#,
    ])
    .unwrap();
    let call = |call, id: &str, name: &str| StreamEvent::ToolCall {
        choice: 0,
        call,
        id: id.to_owned().into(),
        name: name.to_owned().into(),
    };
    let arguments =
        |call, json: &str| StreamEvent::ToolArguments { choice: 0, call, json: json.to_owned().into() };
    let thought = StreamEvent::Reasoning { choice: 0, text: "**Looking**\n".into(), is_summary: false };
    let want = [
        thought,
        text("Let me "),
        text("see."),
        signed("c2ln", Some("fc_1")),
        call(0, "fc_1", "look"),
        arguments(0, r#"{"at":"é"}"#),
        call(1, "fc_2", "wait"),
        arguments(1, "{}"),
        finish(Finish::ToolCalls, "STOP"),
    ];
    assert_eq!(events, want);
    let usage = SellerUsage { prompt: 9, cached: 0, cache_write: 0, completion: 20, reasoning: 12 };
    assert_eq!(news, StreamNews { usage: Some(Some(usage)), is_last: false });
}

#[test]
fn a_signature_on_text_stands_before_it() {
    let (events, _) = read_stream(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"lo","thoughtSignature":"YQ=="}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"Yg=="}]},"finishReason":"MAX_TOKENS"}]}"#,
        r#"{"usageMetadata":{}}"#,
    ])
    .unwrap();
    let want = [
        text("Hel"),
        signed("YQ==", None),
        text("lo"),
        signed("Yg==", None),
        finish(Finish::Length, "MAX_TOKENS"),
    ];
    assert_eq!(events, want);
}

#[test]
fn calls_without_ids_get_one_each() {
    let ids = |chunk: &str| -> Vec<String> {
        let (events, _) = read_stream(&[chunk]).unwrap();
        let id = |event| match event {
            StreamEvent::ToolCall { id, .. } => Some(id.into_owned()),
            _ => None,
        };
        events.into_iter().filter_map(id).collect()
    };
    let chunk = |id: &str| {
        format!(
            r#"{{"responseId":"{id}","candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{{}}}}}},{{"functionCall":{{"name":"f","args":null,"id":""}}}}]}}}}]}}"#
        )
    };
    let (one, two) = (ids(&chunk("a")), ids(&chunk("b")));
    assert_eq!(one, ids(&chunk("a")));
    let mut all: Vec<&String> = one.iter().chain(&two).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn candidates_are_told_apart() {
    let body = r#"{"candidates":[
        {"content":{"parts":[{"text":"a"}]},"finishReason":"STOP","index":1},
        {"content":{"parts":[{"text":"b"},{"inlineData":{"mimeType":"image/png","data":"aGk="}}]},"finishReason":"SAFETY","index":0}],
        "usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"serviceTier":"STANDARD"},"modelVersion":"m","responseId":"r"}"#;
    let answer = Gemini.read_answer(body).unwrap();
    assert_eq!((answer.id.as_deref(), answer.model.as_deref()), (Some("r"), Some("m")));
    assert_eq!(answer.service_tier.as_deref(), Some("default"));
    let picture = Media::Base64 { media_type: "image/png".into(), data: "aGk=".into() };
    let picture = Part::Image { source: picture, detail: None, cache: None };
    let [first, second] = answer.choices.as_slice() else { panic!("two choices") };
    assert_eq!((&first.parts, first.finish), (&vec![Part::text("b"), picture], Some(Finish::ContentFilter)));
    assert_eq!((&second.parts, second.finish), (&vec![Part::text("a")], Some(Finish::Stop)));
    assert_eq!(second.native_finish.as_deref(), Some("STOP"));
}

#[test]
fn probabilities_become_openais_items() {
    let body = r#"{"candidates":[{"content":{"parts":[{"text":"hé"}]},"finishReason":"STOP","logprobsResult":{
        "topCandidates":[{"candidates":[{"token":"h","tokenId":1,"logProbability":-0.5},{"token":"x","logProbability":-2}]}],
        "chosenCandidates":[{"token":"h","tokenId":1,"logProbability":-0.5},{"token":"é","logProbability":-0.25}]}}]}"#;
    let answer = Gemini.read_answer(body).unwrap();
    assert_eq!(
        answer.choices[0].logprobs_json.as_deref(),
        Some(
            r#"{"token":"h","logprob":-0.5,"bytes":[104],"top_logprobs":[{"token":"h","logprob":-0.5,"bytes":[104]},{"token":"x","logprob":-2.0,"bytes":[120]}]},{"token":"é","logprob":-0.25,"bytes":[195, 169],"top_logprobs":[]}"#
        )
    );
}

#[test]
fn every_reason_to_end_has_a_meaning() {
    for (word, want) in [
        ("STOP", Some(Finish::Stop)),
        ("MAX_TOKENS", Some(Finish::Length)),
        ("SAFETY", Some(Finish::ContentFilter)),
        ("RECITATION", Some(Finish::ContentFilter)),
        ("BLOCKLIST", Some(Finish::ContentFilter)),
        ("PROHIBITED_CONTENT", Some(Finish::ContentFilter)),
        ("SPII", Some(Finish::ContentFilter)),
        ("LANGUAGE", Some(Finish::ContentFilter)),
        ("A_NEW_WORD", Some(Finish::Stop)),
        ("MALFORMED_FUNCTION_CALL", None),
        ("UNEXPECTED_TOOL_CALL", None),
        ("MISSING_THOUGHT_SIGNATURE", None),
        ("OTHER", None),
    ] {
        let read = read_stream(&[&format!(r#"{{"candidates":[{{"finishReason":"{word}"}}]}}"#)]);
        match (want, read) {
            (Some(want), Ok((events, _))) => assert_eq!(events, [finish(want, word)]),
            (None, Err(error)) => {
                assert_eq!((error.kind, error.message.contains(word)), (SellerErrorKind::Unavailable, true));
            }
            (want, read) => panic!("{word}: {want:?} {read:?}"),
        }
    }
    let unsaid = r#"{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}"#;
    assert_eq!(read_stream(&[unsaid]).unwrap().0, []);
    let stop = r#"{"candidates":[{"finishReason":"STOP"}]}"#;
    assert_eq!(read_stream(&[stop, stop]).unwrap().0.len(), 1);
}

#[test]
fn what_goes_wrong_is_an_error() {
    let check = |chunk: &str, kind: SellerErrorKind, message: &str| {
        for error in [read_stream(&[chunk]).unwrap_err(), Gemini.read_answer(chunk).unwrap_err()] {
            assert_eq!(error.kind, kind, "{chunk}");
            assert!(error.message.starts_with(message), "{error}");
        }
    };
    check(
        r#"{"promptFeedback":{"blockReason":"SAFETY","blockReasonMessage":"harm"},"usageMetadata":{"promptTokenCount":4}}"#,
        SellerErrorKind::ContentPolicy,
        "the prompt was blocked for SAFETY: harm",
    );
    check(
        r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
        SellerErrorKind::Overloaded,
        "The model is overloaded.",
    );
    check(
        r#"{"candidates":[{"index":128,"content":{}}]}"#,
        SellerErrorKind::Unavailable,
        "a candidate has an index that nobody asked for",
    );
    check(r#"{"candidates":[{"#, SellerErrorKind::Unavailable, "an answer does not have the grammar's form");
    check("[]", SellerErrorKind::Unavailable, "an answer does not have the grammar's form");
    assert!(Gemini.read_answer("{}").is_err());
    assert!(read_stream(&[r#"{"candidates":[{"index":127,"content":{}}]}"#]).is_ok());
}

#[test]
fn parts_of_unknown_kinds_say_nothing() {
    let (events, _) = read_stream(&[
        r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"1"}},{"text":7},{"functionCall":{"args":{}}},{"text":"\ud83d!"}]},"groundingMetadata":{},"citationMetadata":[]}],"promptFeedback":{"safetyRatings":[]},"new":1}"#,
    ])
    .unwrap();
    assert_eq!(events, [text("\u{fffd}!")]);
}

/// A whole answer of these pieces, and the chunks of a stream that says them one by one.
fn spoken(pieces: &[(u8, String)]) -> (String, Vec<String>) {
    let pieces: Vec<serde_json::Value> = pieces
        .iter()
        .enumerate()
        .map(|(n, (kind, text))| match kind {
            0 => serde_json::json!({ "text": text, "thought": true }),
            1 => serde_json::json!({ "text": text }),
            2 => serde_json::json!({ "text": text, "thoughtSignature": format!("s{n}") }),
            3 => serde_json::json!({ "text": "", "thoughtSignature": format!("s{n}") }),
            4 => serde_json::json!({ "functionCall": { "name": "f", "args": { "a": text }, "id": format!("c{n}") } }),
            _ => {
                serde_json::json!({ "functionCall": { "name": "g", "id": format!("c{n}") }, "thoughtSignature": format!("s{n}") })
            }
        })
        .collect();
    let chunk = |pieces: &[serde_json::Value], end: Option<&str>| {
        serde_json::json!({ "candidates": [{ "content": { "parts": pieces }, "finishReason": end }] })
            .to_string()
    };
    let mut chunks: Vec<String> = pieces.chunks(1).map(|piece| chunk(piece, None)).collect();
    chunks.push(chunk(&[], Some("STOP")));
    (chunk(&pieces, Some("STOP")), chunks)
}

proptest! {
    #[test]
    fn a_stream_amounts_to_the_whole_answer(pieces in proptest::collection::vec((0u8..6, "[a-zé\"]{0,6}"), 0..8)) {
        let (whole, chunks) = spoken(&pieces);
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let (events, _) = read_stream(&chunks).unwrap();
        let streamed = answer_of(&merged(&events));
        prop_assert_eq!(normal_answer(Gemini.read_answer(&whole).unwrap()), normal_answer(streamed));
    }

    #[test]
    fn foreign_bytes_break_nothing(
        member in "(candidates|usageMetadata|promptFeedback|error|responseId)",
        value in "([0-9]{1,12}|null|\"[a-z]{0,3}\"|\\[\\]|\\{\\}|\\[\\{\"(index|content|finishReason|logprobsResult)\":(7|null|\"x\"|\\{\\}|\\{\"parts\":\\[(1|\\{\"(text|thought|functionCall|thoughtSignature)\":(1|\"\\\\\\\\ud83d\"|true|\\{\"name\":\"f\"\\})\\})\\]\\})\\}\\])",
        cut in 0usize..120,
    ) {
        let data = format!("{{\"{member}\":{value}}}");
        let cut = data.floor_char_boundary(cut);
        for data in [data.as_str(), &data[..cut]] {
            let _ = read_stream(&[data, data]);
            let _ = Gemini.read_answer(data);
            let _ = Gemini.read_error(400, data.as_bytes());
        }
    }
}

#[test]
fn text_is_borrowed_where_it_can_be() {
    let chunk = r#"{"candidates":[{"content":{"parts":[{"text":"plain"}]}}]}"#;
    let mut is_borrowed = false;
    Gemini
        .reader()
        .read(chunk, &mut |event| {
            is_borrowed = matches!(event, StreamEvent::Text { text: Cow::Borrowed("plain"), .. });
        })
        .unwrap();
    assert!(is_borrowed);
}
