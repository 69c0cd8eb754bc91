//! Reasoning of earlier turns: who takes it back gets it, who refuses it does not.

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
