//! Sellers that misbehave: silent failover before content, an explicit terminal after it.

use super::fakes::*;
use crate::Timeouts;
use bourse_wire::receipt::Finish;
use std::time::Duration;

fn html() -> Vec<Act> {
    vec![Act::Read, Act::Write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".into())]
}

fn gzip() -> Vec<Act> {
    vec![
        Act::Read,
        Act::Write("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nxyz".into()),
    ]
}

fn stream_of(data: &[&str]) -> Vec<Act> {
    vec![Act::Read, stream_head(), events(data), stream_end()]
}

/// Faults that show before content, with the status when nobody else is there.
fn early() -> Vec<(&'static str, Option<Vec<Act>>, u16)> {
    let error = r#"{"error":{"message":"overheated"}}"#;
    vec![
        ("refused", None, 502),
        ("closed", Some(vec![Act::Read, Act::Close]), 502),
        ("hangs", Some(vec![Act::Read, Act::Hang]), 504),
        ("429", Some(vec![Act::Read, json_answer(429, "retry-after: 7\r\n", error)]), 429),
        ("500", Some(vec![Act::Read, json_answer(500, "", error)]), 502),
        ("503", Some(vec![Act::Read, json_answer(503, "", "")]), 503),
        ("401", Some(vec![Act::Read, json_answer(401, "", error)]), 502),
        ("200 with an error", Some(vec![Act::Read, json_answer(200, "", error)]), 502),
        ("html", Some(html()), 502),
        ("gzip", Some(gzip()), 502),
        ("empty", Some(vec![Act::Read, json_answer(200, "", "")]), 502),
        ("no HTTP", Some(vec![Act::Read, Act::Raw(vec![0xff; 64]), Act::Close]), 502),
    ]
}

fn early_streams() -> Vec<(&'static str, Vec<Act>)> {
    let error = r#"{"error":{"message":"overheated"}}"#;
    vec![
        ("first event an error", stream_of(&[error])),
        ("error after the role", stream_of(&[&role(), error])),
        ("only the end mark", stream_of(&["[DONE]"])),
        ("only the role", stream_of(&[&role()])),
        ("broken JSON", stream_of(&["{\"choices\":[{\"delta\":{\"con"])),
        (
            "cut in the head's chunk",
            vec![Act::Read, stream_head(), Act::Write("40\r\ndata: {".into()), Act::Close],
        ),
        ("comments for ever", [vec![Act::Read, stream_head()], vec![comment(); 40]].concat()),
    ]
}

fn comment() -> Act {
    Act::Write("4\r\n: .\n\r\n".into())
}

/// A stream was asked for, and an error came in one piece under a status that says that all is well.
#[tokio::test(start_paused = true)]
async fn an_error_in_one_piece_keeps_its_meaning_for_streams() {
    let long =
        r#"{"error":{"message":"maximum context length is 10 tokens","code":"context_length_exceeded"}}"#;
    let slow = r#"{"error":{"message":"slow down, try again in 7s","code":429}}"#;
    let odd = r#"{"choices":[{"message":{"content":"whole"}}],"error":null}"#;
    for (body, status, part, hint) in [
        (long, 400, "maximum context length", None),
        (slow, 429, "slow down", Some("7")),
        (odd, 502, "in one piece where a stream was asked for", None),
    ] {
        for rest in ["", r#","stream":true"#] {
            if body == odd && rest.is_empty() {
                continue;
            }
            let house = House::new(&["a"]);
            house.net.script("a", vec![Act::Read, json_answer(200, "", body)]);
            let before = house.funds.available();
            let reply = house.chat(rest).await;
            assert_eq!(reply.status, status, "{rest} {}", reply.text);
            assert!(reply.text.contains(part), "{}", reply.text);
            let told = reply.headers.get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(told, hint, "{}", reply.text);
            house.check_books(before, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn before_content_another_seller_answers_in_silence() {
    let order = r#","provider":{"order":["a","b"]}"#;
    for (what, script, status) in early() {
        let house = House::new(&["a", "b"]);
        if let Some(script) = script.clone() {
            house.net.script("a", script);
        }
        house.net.script("b", good_plain());
        let before = house.funds.available();
        let reply = house.chat(order).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text);
        assert_eq!(reply.json()["usage"]["cost"].to_string(), "0.00015", "{what}: the price of who served");
        house.check_books(before, 1);
        assert_eq!(house.funds.receipts()[0].attempts.len(), 2, "{what}");

        let alone = House::new(&["a"]);
        if let Some(script) = script {
            alone.net.script("a", script);
        }
        for rest in ["", r#","stream":true"#] {
            let before = alone.funds.available();
            let reply = alone.chat(rest).await;
            if !(what == "hangs" || what == "html" || what == "empty") || rest.is_empty() {
                assert_eq!(reply.status, status, "{what} {rest}: {}", reply.text);
            }
            assert!(reply.json()["error"]["message"].as_str().unwrap().contains("`a`"), "{}", reply.text);
            assert_eq!(reply.json()["error"]["metadata"]["previous_errors"][0]["provider"], "a");
            assert_eq!(alone.funds.available(), before, "{what}: nothing is charged");
            assert_eq!(alone.funds.open_holds(), 0);
        }
        let finishes: Vec<_> = alone.funds.receipts().iter().map(|r| r.finish).collect();
        assert_eq!(finishes, [Finish::NoSeller, Finish::NoSeller]);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_fail_over_before_content_too() {
    for (what, script) in early_streams() {
        let house = House::new(&["a", "b"]);
        house.net.script("a", script.clone());
        house.net.script("b", good_stream(&["fine"]));
        let before = house.funds.available();
        let reply = house.chat(r#","stream":true,"provider":{"order":["a","b"]}"#).await;
        assert_eq!(reply.content(), "fine", "{what}");
        assert!(!reply.text.contains("overheated"), "{what}");
        house.check_books(before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hints_are_passed_on() {
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, json_answer(429, "retry-after: 7\r\n", "")]);
    let reply = house.chat("").await;
    assert_eq!((reply.status, reply.headers["retry-after"].to_str().unwrap()), (429, "7"));
    let down = House::new(&["a"]);
    assert_eq!(down.chat("").await.headers["x-should-retry"], "false");
}

#[tokio::test(start_paused = true)]
async fn pauses_are_read_wherever_sellers_write_them() {
    let check = async |kind: &str, headers: &str, body: &str, want: &str| {
        let house = House::build(&["a"], 10_000_000_000, |config| config.providers[0].kind = kind.into());
        house.net.script("a", vec![Act::Read, json_answer(429, headers, body)]);
        let reply = house.chat("").await;
        assert_eq!((reply.status, reply.headers["retry-after"].to_str().unwrap()), (429, want), "{body}");
        assert_eq!(reply.json()["error"]["metadata"]["retry_after"].to_string(), want);
    };
    let words = r#"{"error":{"message":"Rate limit reached. Please try again in 0m50.2s.","code":"rate_limit_exceeded"}}"#;
    check("openai", "", words, "51").await;
    check("openai", "retry-after-ms: 1200\r\n", words, "2").await;
    let google = r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"26s"}]}}"#;
    check("gemini", "", google, "26").await;
    let anthropic = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#;
    check("anthropic", "retry-after: 9\r\n", anthropic, "9").await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_is_the_buyers_and_ends_the_walk() {
    let house = House::new(&["a", "b"]);
    let error = r#"{"error":{"message":"`logit_bias` is out of vocabulary"}}"#;
    house.net.script("a", vec![Act::Read, json_answer(400, "", error)]);
    house.net.script("b", good_plain());
    let reply = house.chat(r#","provider":{"order":["a","b"]}"#).await;
    assert_eq!((reply.status, reply.error_type().as_str()), (400, "invalid_request"));
    assert!(reply.text.contains("out of vocabulary"));
    house.check_books(10_000_000_000, 1);
}

/// Streams that go wrong after content; each is charged for two delivered pieces.
fn late() -> Vec<(&'static str, Vec<Act>)> {
    let (one, two) = (text("one "), text("two"));
    let begun =
        |rest: Vec<Act>| [vec![Act::Read, stream_head(), events(&[&role(), &one, &two])], rest].concat();
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"caf\u{c3}";
    vec![
        ("an error event", begun(vec![events(&[r#"{"error":{"message":"overheated"}}"#]), stream_end()])),
        ("cut without the end mark", begun(vec![stream_end()])),
        ("the end mark without a finish", begun(vec![events(&["[DONE]"]), stream_end()])),
        (
            "cut in a character",
            begun(vec![Act::Raw(format!("{:x}\r\n{cut}\r\n0\r\n\r\n", cut.len()).into_bytes())]),
        ),
        ("closed", begun(vec![Act::Close])),
        ("silent", begun(vec![Act::Hang])),
        ("garbage in the chunks", begun(vec![Act::Write("zz\r\n".into()), Act::Close])),
        (
            "a finish that is an error",
            begun(vec![events(&[&stop().replace("\"stop\"", "\"error\"")]), stream_end()]),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn after_content_a_stream_ends_with_one_explicit_terminal() {
    for (what, script) in late() {
        let house = House::new(&["a", "b"]);
        house.net.script("a", script);
        house.net.script("b", good_stream(&["never"]));
        let before = house.funds.available();
        let reply = house.chat(r#","stream":true,"provider":{"order":["a","b"]}"#).await;
        assert_eq!(reply.status, 200, "{what}");
        let payloads = reply.payloads();
        let last = payloads.last().unwrap();
        assert!(last["error"]["code"].is_u64(), "{what}: {last}");
        assert_eq!(last["choices"][0]["finish_reason"], "error", "{what}");
        assert_eq!(last["usage"]["cost"], 0, "{what}");
        assert!(reply.content().starts_with("one two"), "{what}: {}", reply.text);
        house.check_books(before, 1);
        let receipt = &house.funds.receipts()[0];
        assert_eq!(receipt.finish, Finish::SellerError, "{what}");
        assert_eq!(receipt.charge.total.0, 0, "{what}: a failed answer costs nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn odd_but_whole_streams_are_answers() {
    let (one, two) = (text("one "), text("two"));
    let with_usage =
        stop().replace("\"choices\":", r#""usage":{"prompt_tokens":9,"completion_tokens":2},"choices":"#);
    let crlf = |data: &[&str]| {
        let body: String = data.iter().map(|d| format!("data: {d}\r\n\r\n")).collect::<Vec<_>>().concat();
        vec![Act::Read, stream_head(), Act::Write(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))]
    };
    let close_delimited: String =
        [&role(), &one, &two, &stop(), &usage(9, 2), "[DONE]"].map(|d| format!("data: {d}\n\n")).concat();
    let bytewise = {
        let body = close_delimited.clone();
        let mut acts = vec![Act::Read, stream_head()];
        acts.extend(body.as_bytes().chunks(7).map(|c| {
            Act::Raw([format!("{:x}\r\n", c.len()).into_bytes(), c.to_vec(), b"\r\n".to_vec()].concat())
        }));
        acts.push(stream_end());
        acts
    };
    let cases = [
        (
            "two usage chunks",
            stream_of(&[&role(), &one, &usage(9, 1), &two, &stop(), &usage(9, 2), "[DONE]"]),
        ),
        ("usage with choices", stream_of(&[&role(), &one, &two, &with_usage, "[DONE]"])),
        ("no end mark", stream_of(&[&role(), &one, &two, &stop(), &usage(9, 2)])),
        ("CRLF", crlf(&[&role(), &one, &two, &stop(), &usage(9, 2), "[DONE]"])),
        ("comments", {
            let mut acts = stream_of(&[&role(), &one, &two, &stop(), &usage(9, 2), "[DONE]"]);
            acts.splice(2..2, vec![comment(); 3]);
            acts
        }),
        ("until the connection closes", {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            vec![Act::Read, Act::Write(format!("{head}{close_delimited}")), Act::Close]
        }),
        ("seven bytes at a time", bytewise),
    ];
    for (what, script) in cases {
        let house = House::new(&["a"]);
        house.net.script("a", script);
        let before = house.funds.available();
        let reply = house.chat(r#","stream":true"#).await;
        assert_eq!(reply.content(), "one two", "{what}");
        let payloads = reply.payloads();
        let usages: Vec<_> = payloads.iter().filter(|p| p["usage"].is_object()).collect();
        assert_eq!(usages.len(), 1, "{what}: {}", reply.text);
        assert_eq!(usages[0]["usage"]["cost"].to_string(), "0.000013", "{what}");
        house.check_books(before, 1);
        assert_eq!(house.funds.receipts()[0].finish, Finish::Stop, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn unbelievable_usage_is_bounded_and_missing_usage_is_counted() {
    let (one, two) = (text("one "), text("two"));
    for (what, last, most) in
        [("no usage", None, 5), ("too high", Some(usage(9, 9_000)), 10), ("too low", Some(usage(9, 1)), 1)]
    {
        let mut data = vec![role(), one.clone(), two.clone(), stop()];
        data.extend(last);
        data.push("[DONE]".into());
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let house = House::new(&["a"]);
        house.net.script("a", stream_of(&data));
        let before = house.funds.available();
        house.chat(r#","stream":true"#).await.payloads();
        let receipt = &house.funds.receipts()[0];
        let billed = receipt.usage_billed.completion.0;
        assert!((1..=most).contains(&billed), "{what}: {billed}");
        house.check_books(before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_deadline_spans_all_attempts() {
    let house = House::build(&["a", "b", "c"], 10_000_000_000, |config| {
        config.timeouts = Timeouts {
            first_content: Duration::from_secs(40),
            plain_answer: Duration::from_secs(40),
            total: Duration::from_mins(1),
            ..Timeouts::default()
        };
    });
    for host in ["a", "b", "c"] {
        house.net.script(host, vec![Act::Read, Act::Hang]);
    }
    let started = tokio::time::Instant::now();
    let reply = house.chat("").await;
    assert_eq!(reply.status, 504);
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(house.funds.receipts()[0].attempts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_keeps_failing_is_left_alone() {
    let house = House::new(&["a", "b"]);
    house.net.script("a", vec![Act::Read, json_answer(500, "", "")]);
    house.net.script("b", good_plain());
    for _ in 0..3 {
        house.chat(r#","provider":{"order":["a","b"]}"#).await;
    }
    house.chat(r#","provider":{"order":["a","b"]}"#).await;
    assert_eq!(house.funds.receipts().last().unwrap().attempts[0].seller.as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn bad_input_costs_nothing_and_names_the_field() {
    let house = House::new(&["a"]);
    for (body, status, param) in [
        ("{".to_owned(), 400, None),
        (chat_body(r#","n":0"#), 400, Some("n")),
        (chat_body(r#","temperature":"hot""#), 400, Some("temperature")),
        (r#"{"model":"no/such","messages":[{"role":"user","content":"x"}]}"#.to_owned(), 404, Some("model")),
        (chat_body(r#","provider":{"only":["z"]}"#), 404, Some("provider")),
        (chat_body(r#","max_tokens":1000000"#), 400, None),
    ] {
        let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        if let Some(param) = param {
            assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text);
        }
    }
    house.check_books(10_000_000_000, 0);
}
