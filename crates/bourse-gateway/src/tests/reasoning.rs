//! Reasoning: that of earlier turns goes to sellers that take it back, and a buyer that wants none shown gets none.

use super::fakes::*;
use bourse_market::Supports;
use serde_json::json;

/// What seller `a` is sent, and the notice about it.
async fn sent(path: &str, takes: bool, body: &serde_json::Value) -> (String, Option<String>) {
    let house = House::build(&["a"], 10_000_000_000, |config| {
        let supports = &mut config.providers[0].models[0].supports;
        let one = Supports::REASONING_REPLAY;
        *supports = if takes { supports.with(one) } else { supports.without(one) };
        config.providers[0].kind = "openai-compatible".into();
    });
    house.net.script("a", good_plain());
    let reply = house.call("POST", path, &[], &body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let notice = reply.headers.get("x-bourse-notice").map(|value| value.to_str().unwrap().to_owned());
    (house.net.requests.lock().pop().unwrap(), notice)
}

#[tokio::test(start_paused = true)]
async fn it_goes_to_sellers_that_take_it_back() {
    let thought = json!({ "role": "assistant", "content": "b", "reasoning_content": "SECOND THOUGHT" });
    let chat = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "a" }, thought, { "role": "user", "content": "c" }] });
    let thinking = json!({ "type": "thinking", "thinking": "SECOND THOUGHT", "signature": "" });
    let messages = json!({ "model": MODEL, "max_tokens": 9, "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": [thinking, { "type": "text", "text": "b" }] },
        { "role": "user", "content": "c" },
    ] });
    for (path, body) in [("/v1/chat/completions", &chat), ("/v1/messages", &messages)] {
        let (body_of_taker, notice) = sent(path, true, body).await;
        assert!(
            body_of_taker.contains("SECOND THOUGHT") && notice.is_none(),
            "{path}: {body_of_taker} {notice:?}"
        );
        let (body_of_other, notice) = sent(path, false, body).await;
        assert!(!body_of_other.contains("SECOND THOUGHT"), "{path}: {body_of_other}");
        assert!(body_of_other.contains(r#""content":"b""#), "{path}: {body_of_other}");
        assert!(notice.unwrap().contains("does not take back"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_without_any_is_sent_as_it_is() {
    let chat = json!({ "model": MODEL, "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": "b", "reasoning": null },
        { "role": "user", "content": "c" },
    ] });
    let (body, notice) = sent("/v1/chat/completions", false, &chat).await;
    assert!(body.contains(r#""reasoning":null"#) && notice.is_none(), "{body} {notice:?}");
}

/// What a seller of that kind is sent.
async fn sent_to(kind: &str, available: u64, rest: &str) -> String {
    let house = House::build(&["a"], available, |config| config.providers[0].kind = kind.into());
    house.net.script("a", good_plain());
    let reply = house.chat(rest).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let sent = house.net.requests.lock().pop().unwrap();
    sent.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(start_paused = true)]
async fn openai_is_told_only_what_its_page_lists() {
    const RICH: u64 = 10_000_000_000;
    for (rest, there, absent) in [
        (r#","max_tokens":9"#, r#""max_completion_tokens":9"#, "max_tokens"),
        (r#","max_tokens":9,"max_completion_tokens":9"#, r#""max_completion_tokens":9"#, r#""max_tokens""#),
        (r#","reasoning":{"effort":"high"}"#, r#""reasoning_effort":"high""#, r#""reasoning":"#),
        (r#","top_k":5,"seed":7"#, r#""seed":7"#, "top_k"),
        (r#","cache_control":{"type":"ephemeral"}"#, r#""content":"hi""#, "cache_control"),
        (r#","include_reasoning":true,"user":"u""#, r#""user":"u""#, "include_reasoning"),
    ] {
        let body = sent_to("openai", RICH, rest).await;
        assert!(
            body.contains(there) && !body.replace("max_completion_tokens", "").contains(absent),
            "{rest}: {body}"
        );
        let routed = sent_to("openrouter", RICH, rest).await;
        assert!(routed.contains(rest.trim_start_matches(',')), "a router is told all: {routed}");
    }
    // The market's own cap has the same name.
    let body = sent_to("openai", 2_000_000, "").await;
    assert!(body.contains(r#""max_completion_tokens":"#) && !body.contains(r#""max_tokens""#), "{body}");
}

#[tokio::test(start_paused = true)]
async fn servers_get_their_own_word_for_it_back() {
    let body = json!({ "model": MODEL, "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": "b", "reasoning": "T", "reasoning_details": [{ "type": "reasoning.text", "text": "T", "signature": "SIG" }] },
        { "role": "user", "content": "c" },
    ] });
    let (sent, notice) = sent("/v1/chat/completions", true, &body).await;
    assert!(sent.contains(r#""reasoning_content":"T""#) && !sent.contains("SIG"), "{sent}");
    assert_eq!(notice, None, "what the model reads is there");
}

#[tokio::test(start_paused = true)]
async fn what_is_excluded_is_not_shown_and_is_billed() {
    for wish in [r#","reasoning":{"exclude":true}"#, r#","include_reasoning":false"#] {
        for rest in ["", r#","stream":true"#] {
            let house = House::build(&["a"], 10_000_000_000, |config| {
                config.providers[0].kind = "openai-compatible".into();
            });
            let thought = r#"{"reasoning_content":"SECRET THOUGHT"}"#;
            house.net.script("a", if rest.is_empty() {
                let answer = json!({ "id": "x", "choices": [{ "message": { "role": "assistant", "content": "b", "reasoning_content": "SECRET THOUGHT" }, "finish_reason": "stop" }], "usage": { "prompt_tokens": 9, "completion_tokens": 10 } });
                vec![Act::Read, json_answer(200, "", &answer.to_string())]
            } else {
                let thought = chunk(thought, "null");
                vec![Act::Read, stream_head(), events(&[&role(), &thought, &text("b"), &stop(), &usage(9, 10), "[DONE]"]), stream_end()]
            });
            let reply = house.chat(&format!("{wish}{rest}")).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(!reply.text.contains("SECRET THOUGHT"), "{}", reply.text);
            assert!(reply.text.contains(r#""content":"b""#), "{}", reply.text);
            assert_eq!(house.funds.receipts()[0].usage_billed.completion.0, 10);
        }
    }
}
