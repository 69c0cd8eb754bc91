//! Answers in one piece that are asked for as streams: what they say, what is held for them, and how they end.

use super::fakes::*;
use bourse_types::NanoUsd;
use bourse_wire::funds::FundsError;
use bourse_wire::receipt::Finish;
use serde_json::{Value, json};
use std::time::Duration;

const BEFORE: u64 = 10_000_000_000;
/// A limit far above what comes.
const LONG: &str = r#","max_tokens":4000"#;

/// Sellers `a` and `b` whose streams say all.
fn house_of(available: u64) -> House {
    House::build(&["a", "b"], available, |config| {
        for provider in &mut config.providers {
            provider.kind = "vllm".into();
            // Who goes on costs as much.
            provider.models[0].prices = Some(prices(1_000_000));
        }
    })
}

fn house() -> House {
    house_of(BEFORE)
}

/// A stream of so many words of a token each, so many at a time, without its end.
fn words(pieces: usize, each: usize) -> Vec<Act> {
    let word = text("ab ");
    let piece = events(&vec![word.as_str(); each]);
    let mut script = vec![Act::Read, stream_head(), events(&[&role()])];
    script.extend((0..pieces).flat_map(|_| [piece.clone(), Act::Wait(Duration::from_millis(10))]));
    script
}

fn whole_words(pieces: usize, each: usize) -> Vec<Act> {
    let end = [stop(), usage(9, (pieces * each) as u64), "[DONE]".to_owned()];
    let end: Vec<&str> = end.iter().map(String::as_str).collect();
    [words(pieces, each), vec![events(&end), stream_end()]].concat()
}

/// Members of an answer that differ from seller to seller and say nothing, left out.
fn meaning(mut answer: Value) -> Value {
    for member in ["id", "created", "model", "provider"] {
        answer.as_object_mut().unwrap().remove(member);
    }
    for choice in answer["choices"].as_array_mut().unwrap() {
        let choice = choice.as_object_mut().unwrap();
        choice.retain(|_, value| !value.is_null());
        choice.remove("native_finish_reason");
        choice["message"]
            .as_object_mut()
            .unwrap()
            .retain(|name, value| !value.is_null() || name == "content");
        choice["message"].as_object_mut().unwrap().remove("reasoning_content");
        choice["message"].as_object_mut().unwrap().remove("reasoning_details");
    }
    let prompt = &mut answer["usage"]["prompt_tokens_details"];
    assert!(prompt["cache_write_tokens"].as_u64().unwrap_or_default() == 0);
    prompt.as_object_mut().unwrap().remove("cache_write_tokens");
    answer
}

/// One answer of a seller in its two forms, and what a buyer gets of each who wants it in one piece.
async fn both(rest: &str, plain: &Value, stream: &[Value]) -> (Value, Value) {
    let body = |rest: &str| format!("{rest}{LONG}");
    let house = house();
    house.net.script("a", vec![Act::Read, json_answer(200, "", &plain.to_string())]);
    let whole = {
        let house = House::build(&["a"], BEFORE, |config| {
            config.providers[0].kind = "vllm".into();
            config.providers[0].gathers = Some(false);
        });
        house.net.script("a", vec![Act::Read, json_answer(200, "", &plain.to_string())]);
        let reply = house.chat(&body(rest)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!house.net.requests.lock()[0].contains(r#""stream""#), "it is asked for in one piece");
        house.check_books(BEFORE, 1);
        reply.json()
    };
    let data: Vec<String> = stream.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    house.net.only("a", vec![Act::Read, stream_head(), events(&data), stream_end()]);
    let reply = house.chat(&body(rest)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/json");
    let asked = house.net.requests.lock()[0].clone();
    assert!(asked.contains(r#""stream":true"#), "{asked}");
    assert!(asked.contains(r#""stream_options":{"include_usage":true}"#), "{asked}");
    house.check_books(BEFORE, 1);
    (whole, reply.json())
}

fn piece(choice: u32, delta: &Value, rest: &Value) -> Value {
    let mut one = json!({ "index": choice, "delta": delta, "finish_reason": null });
    one.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({ "id": "up-1", "object": "chat.completion.chunk", "created": 5, "model": "one-up", "choices": [one] })
}

fn claim() -> Value {
    json!({ "prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17,
            "prompt_tokens_details": { "cached_tokens": 4 }, "completion_tokens_details": { "reasoning_tokens": 3 } })
}

fn told() -> Value {
    json!({ "id": "up-1", "object": "chat.completion.chunk", "created": 5, "model": "one-up", "choices": [],
            "usage": claim() })
}

fn said(choices: &Value) -> Value {
    json!({ "id": "up-1", "object": "chat.completion", "created": 5, "model": "one-up", "choices": choices,
            "usage": claim() })
}

#[tokio::test(start_paused = true)]
async fn reasoning_tools_and_usage_are_what_the_whole_answer_says() {
    let call = |arguments: &str| json!({ "index": 0, "function": { "arguments": arguments } });
    let message = json!({ "role": "assistant", "content": "Let me look.", "reasoning": "Hm, so.",
        "tool_calls": [{ "id": "call_7", "type": "function",
                         "function": { "name": "look", "arguments": "{\"at\": \"é\"}" } }] });
    let plain = said(&json!([{ "index": 0, "message": message, "finish_reason": "tool_calls" }]));
    let none = json!({});
    let stream = [
        piece(0, &json!({ "role": "assistant", "content": "" }), &none),
        piece(0, &json!({ "reasoning": "Hm, " }), &none),
        piece(0, &json!({ "reasoning": "so." }), &none),
        piece(0, &json!({ "content": "Let me " }), &none),
        piece(0, &json!({ "content": "look." }), &none),
        piece(
            0,
            &json!({ "tool_calls": [{ "index": 0, "id": "call_7", "type": "function",
                                           "function": { "name": "look", "arguments": "" } }] }),
            &none,
        ),
        piece(0, &json!({ "tool_calls": [call("{\"at\": ")] }), &none),
        piece(0, &json!({ "tool_calls": [call("\"é\"}")] }), &none),
        piece(0, &none, &json!({ "finish_reason": "tool_calls" })),
        told(),
    ];
    let tools = r#","tools":[{"type":"function","function":{"name":"look"}}],"tool_choice":"auto""#;
    let (whole, gathered) = both(tools, &plain, &stream).await;
    assert_eq!(meaning(gathered), meaning(whole));
}

#[tokio::test(start_paused = true)]
async fn choices_and_log_probabilities_are_what_the_whole_answer_says() {
    let item = |token: &str| json!({ "token": token, "logprob": -0.5, "bytes": null, "top_logprobs": [] });
    let choice = |n: u32, text: &str, tokens: &[&str], finish: &str| {
        let items: Vec<Value> = tokens.iter().map(|token| item(token)).collect();
        json!({ "index": n, "message": { "role": "assistant", "content": text },
                "logprobs": { "content": items, "refusal": null }, "finish_reason": finish })
    };
    let plain =
        said(&json!([choice(0, "one two", &["one", " two"], "stop"), choice(1, "six", &["six"], "length")]));
    let part = |n: u32, text: &str| {
        let logprobs = json!({ "logprobs": { "content": [item(text)], "refusal": null } });
        piece(n, &json!({ "content": text }), &logprobs)
    };
    let end = |n: u32, word: &str| piece(n, &json!({}), &json!({ "finish_reason": word }));
    let stream = [part(1, "six"), part(0, "one"), end(1, "length"), part(0, " two"), end(0, "stop"), told()];
    let (whole, gathered) = both(r#","n":2,"logprobs":true"#, &plain, &stream).await;
    assert_eq!(meaning(gathered), meaning(whole));
}

#[tokio::test(start_paused = true)]
async fn the_hold_grows_with_the_answer() {
    for (rest, is_gathered) in [("", true), (LONG, true), (r#","max_tokens":4000,"guided_json":{}"#, false)] {
        let house = house();
        let script = if is_gathered { whole_words(80, 10) } else { good_plain() };
        house.net.script("a", script);
        let reply = house.chat(rest).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        house.check_books(BEFORE, 1);
        let (held, charged) = (house.funds.peaks()[0], house.funds.receipts()[0].charge.total);
        let ratio = held.0 as f64 / charged.0 as f64;
        assert_eq!(ratio < 1.35, is_gathered, "{rest}: {held} held and {charged} charged");
        if is_gathered {
            assert_eq!(reply.json()["choices"][0]["message"]["content"], "ab ".repeat(800));
            assert_eq!(reply.json()["usage"]["completion_tokens"], 800);
        }
        assert_eq!(house.funds.metered().len(), 0, "the buyer's connection has taken nothing before the end");
    }
}

#[tokio::test(start_paused = true)]
async fn the_plan_tells_how_it_was_held() {
    let check = async |rest: &str, script: Vec<Act>, want: Value| {
        let house = house();
        house.net.script("a", script);
        let explain = ("x-bourse-explain", "1");
        let reply = house.call("POST", "/v1/chat/completions", &[explain], &chat_body(rest)).await;
        let told = if rest.contains("stream") {
            reply.payloads().pop().unwrap()["bourse"]["hold"].clone()
        } else {
            reply.json()["bourse"]["hold"].clone()
        };
        assert_eq!((&told["is"], &told["code"]), (&want[0], &want[1]), "{rest}: {told}");
        assert_eq!(told["reason"].is_string(), want[1].is_string());
    };
    check(LONG, good_stream(&["a"]), json!(["steps", null])).await;
    check(r#","stream":true"#, good_stream(&["a"]), json!(["steps", null])).await;
    check(r#","max_tokens":33"#, good_stream(&["a"]), json!(["steps", null])).await;
    check(r#","max_tokens":32"#, good_plain(), json!(["whole", "small"])).await;
    check(r#","prompt_logprobs":2"#, good_plain(), json!(["whole", "request"])).await;
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    let explain = ("x-bourse-explain", "1");
    let reply = house.call("POST", "/v1/chat/completions", &[explain], &chat_body(LONG)).await;
    assert_eq!(reply.json()["bourse"]["hold"]["code"], "seller", "OpenAI's streams have other members");
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_breaks_off_in_the_middle_is_replaced_and_gets_nothing() {
    let house = house();
    house.net.script("a", [words(20, 10), vec![Act::Close]].concat());
    house.net.script("b", whole_words(2, 10));
    let reply = house.chat(LONG).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let json = reply.json();
    assert_eq!((json["provider"].as_str(), &json["usage"]["completion_tokens"]), (Some("b"), &json!(20)));
    assert_eq!(json["choices"][0]["message"]["content"], "ab ".repeat(20), "nothing of the first is in it");
    house.check_books(BEFORE, 1);
    let receipt = &house.funds.receipts()[0];
    let asked: Vec<_> = receipt.attempts.iter().map(|one| (one.seller.as_str(), one.status)).collect();
    assert_eq!(asked, [("a", 200), ("b", 200)]);
    assert_eq!(receipt.seller.as_ref().unwrap().as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_falls_silent_is_replaced() {
    let house = house();
    house.net.script("a", [words(2, 10), vec![Act::Hang]].concat());
    house.net.script("b", whole_words(2, 10));
    let reply = house.chat(LONG).await;
    assert_eq!((reply.status, reply.json()["provider"].as_str()), (200, Some("b")), "{}", reply.text);
    assert_eq!(house.net.cancelled.load(std::sync::atomic::Ordering::Relaxed), 1);
    house.check_books(BEFORE, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_outruns_the_money_ends_there_and_is_paid_as_far_as_it_came() {
    // Money for about 250 tokens of 2,000 nano-dollars.
    const AVAILABLE: u64 = 500_000;
    let house = house_of(AVAILABLE);
    house.net.script("a", whole_words(80, 10));
    let reply = house.chat(LONG).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let json = reply.json();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    let text = json["choices"][0]["message"]["content"].as_str().unwrap();
    let tokens = json["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((150..=250).contains(&tokens), "{tokens}");
    assert!(text.len() as u64 >= 3 * tokens, "nothing is charged that is not there: {} {tokens}", text.len());
    let notice = reply.headers["x-bourse-notice"].to_str().unwrap();
    assert!(notice.starts_with("max_tokens: the budget"), "{notice}");
    house.check_books(AVAILABLE, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.finish, receipt.usage_billed.completion.0), (Finish::Budget, tokens));
    assert!(receipt.charge.total <= house.funds.peaks()[0] && receipt.charge.total > NanoUsd(300_000));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_back_ends_it_and_a_market_that_closes_charges_nothing() {
    for (why, status) in [(FundsError::RevokedKey, 200), (FundsError::Closing, 503)] {
        let house = house();
        house.funds.extend_no_more(why);
        house.net.script("a", whole_words(80, 10));
        let reply = house.chat(LONG).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        house.check_books(BEFORE, 1);
        let charged = house.funds.receipts()[0].charge.total;
        assert_eq!(charged > NanoUsd::ZERO, status == 200);
        if status == 200 {
            let notice = reply.headers["x-bourse-notice"].to_str().unwrap();
            assert!(notice.contains("the key was taken back"), "{notice}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_answers_in_one_piece_all_the_same_is_taken_at_its_word() {
    let house = house();
    house.net.script("a", good_plain());
    let reply = house.chat(LONG).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(reply.json()["usage"]["completion_tokens"], 3);
    house.check_books(BEFORE, 1);
}

#[tokio::test(start_paused = true)]
async fn hidden_reasoning_stays_hidden() {
    let house = house();
    let data = [
        piece(0, &json!({ "reasoning": "secret" }), &json!({})),
        piece(0, &json!({ "content": "shown" }), &json!({})),
        piece(0, &json!({}), &json!({ "finish_reason": "stop" })),
        told(),
    ];
    let data: Vec<String> = data.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    house.net.script("a", vec![Act::Read, stream_head(), events(&data), stream_end()]);
    let reply = house.chat(&format!(r#"{LONG},"reasoning":{{"exclude":true}}"#)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(!reply.text.contains("secret"), "{}", reply.text);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "shown");
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_pays_nothing_and_the_seller_is_told() {
    let house = house();
    house.net.script("a", [words(30, 10), vec![Act::Hang]].concat());
    let left = tokio::time::timeout(Duration::from_secs(5), house.chat(LONG)).await;
    assert!(left.is_err(), "it was still waiting");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.net.cancelled.load(std::sync::atomic::Ordering::Relaxed), 1);
    house.check_books(BEFORE, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.finish, receipt.charge.total), (Finish::Cancelled, NanoUsd::ZERO));
}

/// A seller that gives no ids, and a call without arguments: that one shows at the end, after the other.
#[tokio::test(start_paused = true)]
async fn calls_that_show_late_take_nothing_from_the_others() {
    let house = house();
    let call =
        |index: u32, function: Value| json!({ "tool_calls": [{ "index": index, "function": function }] });
    let none = json!({});
    let data = [
        piece(0, &call(0, json!({ "name": "now", "arguments": "" })), &none),
        piece(0, &call(1, json!({ "name": "look", "arguments": "{\"at\":" })), &none),
        piece(0, &call(1, json!({ "arguments": "1}" })), &none),
        piece(0, &none, &json!({ "finish_reason": "tool_calls" })),
        told(),
    ];
    let data: Vec<String> = data.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    house.net.script("a", vec![Act::Read, stream_head(), events(&data), stream_end()]);
    let reply = house.chat(LONG).await;
    let json = reply.json();
    let calls = json["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    let said = |name: &str| {
        let call = calls.iter().find(|call| call["function"]["name"] == name).unwrap();
        call["function"]["arguments"].clone()
    };
    assert_eq!(
        (calls.len(), said("now"), said("look")),
        (2, json!(""), json!("{\"at\":1}")),
        "{}",
        reply.text
    );
}

#[tokio::test(start_paused = true)]
async fn log_probabilities_of_thoughts_are_in_it() {
    let item = |token: &str| json!({ "token": token, "logprob": -0.5, "bytes": null, "top_logprobs": [] });
    let logprobs = |token: &str| json!({ "logprobs": { "content": [item(token)], "refusal": null } });
    let message = json!({ "role": "assistant", "content": "so", "reasoning": "hm" });
    let plain = said(&json!([{ "index": 0, "message": message, "finish_reason": "stop",
        "logprobs": { "content": [item("hm"), item("so")], "refusal": null } }]));
    let stream = [
        piece(0, &json!({ "role": "assistant", "reasoning": "hm" }), &logprobs("hm")),
        piece(0, &json!({ "content": "so" }), &logprobs("so")),
        piece(0, &json!({}), &json!({ "finish_reason": "stop" })),
        told(),
    ];
    let (whole, gathered) = both(r#","logprobs":true"#, &plain, &stream).await;
    assert_eq!(meaning(gathered), meaning(whole));
}

/// What was held for a seller that broke off is there for the one that goes on.
#[tokio::test(start_paused = true)]
async fn another_seller_goes_as_far_as_the_first_one_could() {
    const AVAILABLE: u64 = 500_000;
    let tokens = async |house: House, provider: &str| {
        let reply = house.chat(LONG).await;
        house.check_books(AVAILABLE, 1);
        let json = reply.json();
        assert_eq!((reply.status, json["provider"].as_str()), (200, Some(provider)), "{}", reply.text);
        json["usage"]["completion_tokens"].as_u64().unwrap()
    };
    let alone = house_of(AVAILABLE);
    alone.net.script("a", whole_words(400, 1));
    let alone = tokens(alone, "a").await;
    for before in [20, 100, alone - 2, alone - 1] {
        let house = house_of(AVAILABLE);
        house.net.script("a", [words(before as usize, 1), vec![Act::Close]].concat());
        house.net.script("b", whole_words(400, 1));
        assert_eq!(tokens(house, "b").await, alone, "{before} tokens came before");
    }
}

/// What came whole was not held for: it is not handed out where the money does not reach for it.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_beyond_the_money_is_not_given_for_the_first_step() {
    const AVAILABLE: u64 = 500_000;
    let choices = json!([{ "index": 0, "finish_reason": "stop",
        "message": { "role": "assistant", "content": "secret ".repeat(2_000) } }]);
    let mut plain = said(&choices);
    plain["usage"] = json!({ "prompt_tokens": 9, "completion_tokens": 2_000, "total_tokens": 2_009 });
    let whole = || vec![Act::Read, json_answer(200, "", &plain.to_string())];
    let house = house_of(AVAILABLE);
    house.net.script("a", whole());
    house.net.script("b", whole());
    let reply = house.chat(LONG).await;
    assert_eq!(reply.status, 402, "{}", &reply.text[..200]);
    assert!(!reply.text.contains("secret"));
    house.check_books(AVAILABLE, 1);
    assert_eq!(house.funds.receipts()[0].charge.total, NanoUsd::ZERO);
    // Whoever lets itself be asked for a stream gives as much as there is money for.
    let house = house_of(AVAILABLE);
    house.net.script("a", whole());
    house.net.script("b", whole_words(80, 10));
    let reply = house.chat(LONG).await;
    assert_eq!((reply.status, reply.json()["provider"].as_str()), (200, Some("b")), "{}", reply.text);
    house.check_books(AVAILABLE, 1);
    // And with enough money the whole is covered before it is charged.
    let house = house_of(BEFORE);
    house.net.script("a", whole());
    let reply = house.chat(LONG).await;
    assert_eq!((reply.status, reply.json()["usage"]["completion_tokens"].as_u64()), (200, Some(2_000)));
    house.check_books(BEFORE, 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_first_content_is_bounded() {
    let silent = |bytes: usize| {
        let item = json!({ "token": "x".repeat(bytes), "logprob": -0.5, "bytes": null, "top_logprobs": [] });
        let logprobs = json!({ "logprobs": { "content": [item], "refusal": null } });
        piece(0, &json!({ "role": "assistant", "content": "" }), &logprobs).to_string()
    };
    for (pieces, seller) in [(3, "a"), (5, "b")] {
        let house = house();
        let data = vec![silent(crate::config::PEEK_BYTES_MAX / 4); pieces];
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let mut script = whole_words(1, 1);
        script.insert(2, events(&data));
        script.insert(3, Act::Wait(Duration::from_secs(1)));
        house.net.script("a", script);
        house.net.script("b", whole_words(1, 1));
        let reply = house.chat(LONG).await;
        assert_eq!((reply.status, reply.json()["provider"].as_str()), (200, Some(seller)), "{pieces}");
        house.check_books(BEFORE, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_was_still_talking_at_the_end_of_all_time_was_not_silent() {
    let house = House::build(&["a"], BEFORE, |config| {
        config.providers[0].kind = "vllm".into();
        config.timeouts.total = Duration::from_secs(1);
    });
    house.net.script("a", words(300, 1));
    let reply = house.chat(LONG).await;
    assert_eq!(reply.status, 504, "{}", reply.text);
    assert!(reply.text.contains("no whole answer within 1000 ms"), "{}", reply.text);
    house.check_books(BEFORE, 1);
}

/// Grammars with one choice hand on no other.
#[tokio::test(start_paused = true)]
async fn a_choice_that_nobody_asked_for_costs_nothing() {
    let none = json!({});
    let data = [
        piece(0, &json!({ "role": "assistant", "content": "one two three" }), &none),
        piece(1, &json!({ "content": "more ".repeat(200) }), &none),
        piece(1, &none, &json!({ "finish_reason": "stop" })),
        piece(0, &none, &json!({ "finish_reason": "stop" })),
        json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 400, "total_tokens": 409 } }),
    ];
    let data: Vec<String> = data.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let message = |text: String| json!({ "role": "assistant", "content": text });
    let mut plain = said(&json!([
        { "index": 0, "finish_reason": "stop", "message": message("one two three".to_owned()) },
        { "index": 1, "finish_reason": "stop", "message": message("more ".repeat(200)) },
    ]));
    plain["usage"] = json!({ "prompt_tokens": 9, "completion_tokens": 400, "total_tokens": 409 });
    let streamed = vec![Act::Read, stream_head(), events(&data), stream_end()];
    let whole = vec![Act::Read, json_answer(200, "", &plain.to_string())];
    for (stream, script) in [("false", &streamed), ("true", &streamed), ("false", &whole)] {
        let house = house();
        house.net.script("a", script.clone());
        let body = format!(r#"{{"model":"{MODEL}","input":"x","max_output_tokens":4000,"stream":{stream}}}"#);
        let reply = house.call("POST", "/v1/responses", &[], &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!reply.text.contains("more"), "{}", reply.text);
        house.check_books(BEFORE, 1);
        let billed = house.funds.receipts()[0].usage_billed.completion.0;
        // Two bytes a token at least, and what frames a choice.
        assert!(billed <= 13_u64.div_ceil(2) + 2, "{stream}: {billed}");
    }
}
