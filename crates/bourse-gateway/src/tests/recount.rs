//! The market's own count, through whole requests: honest sellers, and ones that claim twice, less, nothing, or what
//! nobody sees.

use super::fakes::*;
use crate::config::ModelTokenizer;
use crate::metrics::tests::{read, value};
use crate::recount::{INLINE_BYTES, PROMPT_BYTES_MAX, RECOUNTS_MAX, Recounts};
use bourse_market::{RecountRules, Supports};
use bourse_types::{Digest32, ModelSlug, PromptTokens, TokenCount, UnixMs, Usage};
use bourse_wire::dialect::{Api, front};
use bourse_wire::node::Prompt;
use bourse_wire::receipt::{Finish, Receipt, Recount};
use bourse_wire::tokens::TokenCounter;
use std::sync::{Arc, Condvar, Mutex};

/// Counts words; a prompt has [`PROMPT`] tokens beside those of its JSON.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Holds prompts back until it is opened, where there is one.
    gate: Option<Arc<(Mutex<bool>, Condvar)>>,
}

const PROMPT: u64 = 11;
const PIN: Digest32 = Digest32([5; 32]);

impl TokenCounter for Words {
    fn pin(&self) -> Digest32 {
        PIN
    }

    fn text(&self, text: &str) -> Option<u64> {
        Some(text.split_whitespace().count() as u64)
    }

    fn prompt(&self, prompt: &Prompt, _: UnixMs) -> Option<PromptTokens> {
        if let Some(gate) = &self.gate {
            drop(gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap());
        }
        let Prompt::Chat { messages_json, .. } = prompt else { return None };
        Some(PromptTokens::Exact(PROMPT + self.text(messages_json)?))
    }
}

/// Nothing is tolerated but the frames of a choice (2 tokens) and of a tool call (16).
pub(super) fn strict(hidden: u64) -> ModelTokenizer {
    let rules = RecountRules {
        tolerance_bps: 0,
        tolerance_tokens: 0,
        media_tokens_max: 100,
        hidden_reasoning_tokens_max: hidden,
    };
    ModelTokenizer { model: ModelSlug::parse(MODEL).unwrap(), counter: Arc::new(Words::default()), rules }
}

fn house(kind: &str, hides: bool) -> House {
    House::build(&["a"], 10_000_000_000, |config| {
        config.tokenizers = vec![strict(30)];
        config.providers[0].kind = kind.into();
        let supports = &mut config.providers[0].models[0].supports;
        *supports = if hides { supports.with(Supports::HIDDEN_REASONING) } else { *supports };
    })
}

/// The prompt of [`chat_body`] is one word of JSON.
const COUNTED_PROMPT: u64 = PROMPT + 1;

/// A recount of so many completion tokens, of which so many are allowed.
fn recount(completion: u64, allowed: u64) -> Recount {
    Recount {
        tokenizer: PIN,
        prompt: Some(TokenCount(COUNTED_PROMPT)),
        prompt_allowed: TokenCount(COUNTED_PROMPT),
        completion: Some(TokenCount(completion)),
        completion_allowed: TokenCount(allowed),
    }
}

/// The receipt of one request with `rest`, answered by `script`.
async fn receipt_of(house: &House, script: Vec<Act>, rest: &str) -> Receipt {
    house.net.script("a", script);
    let before = house.funds.available();
    let reply = house.chat(rest).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    house.check_books(before, 1);
    house.funds.receipts().remove(0)
}

/// A stream of three words in pieces that cut them, with that usage if any.
fn three_words(claimed: Option<(u64, u64)>) -> Vec<Act> {
    let mut data = vec![role(), text("one t"), text("wo "), text("three"), stop()];
    data.extend(claimed.map(|(prompt, completion)| usage(prompt, completion)));
    data.push("[DONE]".to_owned());
    vec![Act::Read, stream_head(), events(&data.iter().map(String::as_str).collect::<Vec<_>>()), stream_end()]
}

#[tokio::test(start_paused = true)]
async fn claims_are_held_against_the_count() {
    let check = async |claimed: Option<(u64, u64)>, billed: (u64, u64), is_suspended| {
        let house = house("openai", false);
        let receipt = receipt_of(&house, three_words(claimed), r#","stream":true"#).await;
        assert_eq!(receipt.recount, Some(recount(3, 5)), "{claimed:?}");
        assert_eq!(receipt.usage_claimed, claimed.map(|(p, c)| Usage::of_tokens(p, 0, c)));
        assert_eq!(receipt.usage_billed, Usage::of_tokens(billed.0, 0, billed.1), "{claimed:?}");
        assert_eq!(receipt.is_suspended(), is_suspended, "{claimed:?}");
    };
    let honest = COUNTED_PROMPT;
    check(Some((honest, 3)), (honest, 3), false).await;
    check(Some((honest, 5)), (honest, 5), false).await;
    // Twice the truth, in either part.
    check(Some((honest, 6)), (honest, 5), true).await;
    check(Some((2 * honest, 3)), (honest, 3), true).await;
    // Less than the truth, and nothing.
    check(Some((2, 1)), (2, 1), false).await;
    check(None, (honest, 3), false).await;
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_cannot_be_read_is_no_way_around_the_count() {
    let house = house("openai", false);
    let odd = chunk(r#"{"content":"four five"}"#, "null").replace(r#""index":0"#, r#""index":300"#);
    let data = [role(), text("one two three"), odd, stop(), usage(COUNTED_PROMPT, 6), "[DONE]".to_owned()];
    assert!(data[2].contains("300"));
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let script = vec![Act::Read, stream_head(), events(&data), stream_end()];
    let receipt = receipt_of(&house, script, r#","stream":true"#).await;
    assert_eq!((receipt.recount, receipt.is_suspended()), (Some(recount(3, 5)), true));
    assert_eq!(receipt.usage_billed.completion.0, 5);
}

/// The buyer gets nothing of what a choice says after its end, and nothing of a choice that it did not ask for.
#[tokio::test(start_paused = true)]
async fn what_is_not_handed_on_is_not_counted() {
    let long = "more ".repeat(50);
    let unasked =
        chunk(&format!(r#"{{"content":"{long}"}}"#), "null").replace(r#""index":0"#, r#""index":1"#);
    for odd in [text(&long), unasked] {
        let house = house("vllm", false);
        let data =
            [role(), text("one two three"), stop(), odd, usage(COUNTED_PROMPT, 53), "[DONE]".to_owned()];
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        house.net.script("a", vec![Act::Read, stream_head(), events(&data), stream_end()]);
        let reply = house.chat(r#","max_tokens":4000"#).await;
        let json = reply.json();
        let choices = json["choices"].as_array().unwrap();
        assert_eq!((choices.len(), &choices[0]["message"]["content"]), (1, &"one two three".into()));
        let receipt = house.funds.receipts().remove(0);
        assert_eq!((receipt.recount, receipt.is_suspended()), (Some(recount(3, 5)), true));
        assert_eq!(receipt.usage_billed.completion.0, 5, "what was not handed on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_shows_what_was_allowed() {
    let house = house("openai", false);
    let inflated = PLAIN.replace(r#""completion_tokens":3"#, r#""completion_tokens":40"#);
    house.net.script("a", vec![Act::Read, json_answer(200, "", &inflated)]);
    let reply = house.chat("").await;
    let receipt = house.funds.receipts().remove(0);
    // Two words and the choice's frame.
    assert_eq!((receipt.usage_billed.completion.0, receipt.is_suspended()), (4, true));
    assert_eq!(receipt.recount, Some(recount(2, 4)));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 4);
    let metrics = read(&house.call("GET", "/metrics", &[], "").await.text);
    let of_a = [("seller", "a"), ("model", MODEL)];
    let count =
        |count| value(&metrics, "bourse_recounted_tokens_total", &[of_a[0], of_a[1], ("count", count)]);
    assert_eq!((count("claimed"), count("recounted")), (9 + 40, COUNTED_PROMPT + 2));
    assert_eq!(value(&metrics, "bourse_recounts_exceeded_total", &of_a), 1);
    assert_eq!(value(&metrics, "bourse_usage_doubts_total", &[("doubt", "recount_exceeded")]), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_counted_whole_on_another_thread() {
    let house = house("openai", false);
    let long = "word ".repeat(2_000);
    let body = PLAIN
        .replace("Hello there", &long)
        .replace(r#""completion_tokens":3"#, r#""completion_tokens":2002"#);
    let receipt = receipt_of(&house, vec![Act::Read, json_answer(200, "", &body)], "").await;
    assert_eq!((receipt.recount, receipt.is_suspended()), (Some(recount(2_000, 2_002)), false));
}

/// Counts words, and waits for leave to count long ones.
#[derive(Debug, Default)]
struct Stuck {
    begun: tokio::sync::Notify,
    may: (Mutex<bool>, Condvar),
}

impl TokenCounter for Stuck {
    fn pin(&self) -> Digest32 {
        PIN
    }

    fn text(&self, text: &str) -> Option<u64> {
        if text.len() > INLINE_BYTES {
            self.begun.notify_one();
            drop(self.may.1.wait_while(self.may.0.lock().unwrap(), |may| !*may).unwrap());
        }
        Words::default().text(text)
    }

    fn prompt(&self, prompt: &Prompt, now: UnixMs) -> Option<PromptTokens> {
        Words::default().prompt(prompt, now)
    }
}

#[tokio::test]
async fn a_buyer_that_leaves_while_its_answer_is_counted_pays_nothing() {
    let stuck = Arc::new(Stuck::default());
    let counter = Arc::clone(&stuck);
    let house = House::build(&["a"], 10_000_000_000, |config| {
        config.tokenizers = vec![ModelTokenizer { counter, ..strict(0) }];
    });
    let body = PLAIN.replace("Hello there", &"word ".repeat(2_000));
    house.net.script("a", vec![Act::Read, json_answer(200, "", &body)]);
    let before = house.funds.available();
    tokio::select! {
        reply = house.chat("") => panic!("{reply:?}"),
        () = stuck.begun.notified() => {}
    }
    *stuck.may.0.lock().unwrap() = true;
    stuck.may.1.notify_all();
    house.check_books(before, 1);
    let receipt = house.funds.receipts().remove(0);
    assert_eq!((receipt.charge.total.0, receipt.finish), (0, Finish::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn tool_calls_and_shown_reasoning_are_text() {
    let house = house("openai-compatible", false);
    let delta = |json: &str| chunk(json, "null");
    let call = r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"add ","arguments":"{\"a\": "}}]}"#;
    let rest = r#"{"tool_calls":[{"index":0,"function":{"arguments":"1, \"b\": 2}"}}]}"#;
    let data = [
        role(),
        delta(r#"{"reasoning_content":"let me think "}"#),
        delta(call),
        delta(rest),
        chunk("{}", "\"tool_calls\""),
        usage(COUNTED_PROMPT, 8),
        "[DONE]".to_owned(),
    ];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let script = vec![Act::Read, stream_head(), events(&data), stream_end()];
    let receipt = receipt_of(&house, script, r#","stream":true"#).await;
    assert_eq!((receipt.finish, receipt.recount), (Finish::ToolCalls, Some(recount(8, 8 + 2 + 16))));
}

#[tokio::test(start_paused = true)]
async fn hidden_reasoning_is_believed_by_its_rule() {
    let claimed = |reasoning: u64| {
        let completion = 3 + reasoning;
        format!(
            r#"{{"id":"u","object":"chat.completion.chunk","created":5,"model":"m","choices":[],"usage":{{"prompt_tokens":{COUNTED_PROMPT},"completion_tokens":{completion},"total_tokens":9,"completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}}}"#
        )
    };
    for (hides, reasoning, billed, is_suspended) in
        [(false, 30, 5, true), (true, 30, 33, false), (true, 31, 34, false), (true, 90, 35, true)]
    {
        let house = house("openai", hides);
        let data = [role(), text("one two three"), stop(), claimed(reasoning), "[DONE]".to_owned()];
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let script = vec![Act::Read, stream_head(), events(&data), stream_end()];
        let receipt = receipt_of(&house, script, r#","stream":true"#).await;
        let got = (receipt.usage_billed.completion.0, receipt.is_suspended());
        assert_eq!(got, (billed, is_suspended), "{hides} {reasoning}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_grammar_is_counted_too() {
    let house = house("anthropic", false);
    let event = |kind: &str, rest: &str| format!(r#"{{"type":"{kind}"{rest}}}"#);
    let start = r#","message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{"input_tokens":12,"output_tokens":1}}"#;
    let delta = r#","index":0,"delta":{"type":"text_delta","text":"one two three"}"#;
    let data = [
        event("message_start", start),
        event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        event("content_block_delta", delta),
        event("content_block_stop", r#","index":0"#),
        event("message_delta", r#","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}"#),
        event("message_stop", ""),
    ];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let script = vec![Act::Read, stream_head(), events(&data), stream_end()];
    let receipt = receipt_of(&house, script, r#","stream":true,"max_tokens":50"#).await;
    assert_eq!((receipt.recount, receipt.usage_billed.completion.0), (Some(recount(3, 5)), 5));
    assert!(receipt.is_suspended());
}

#[tokio::test(start_paused = true)]
async fn a_stop_string_may_be_paid_though_nobody_sees_it() {
    let house = house("openai", false);
    let script = three_words(Some((COUNTED_PROMPT, 7)));
    let receipt = receipt_of(&house, script, r#","stream":true,"stop":"end here""#).await;
    assert_eq!((receipt.recount, receipt.is_suspended()), (Some(recount(3, 7)), false));
}

#[tokio::test(start_paused = true)]
async fn a_counted_prompt_needs_less_money() {
    // 12 prompt tokens and one of the answer at a micro-dollar and two; by bytes it were 83 prompt tokens.
    let enough = (COUNTED_PROMPT + 2) * 1_000;
    let status = async |available, tokenizers| {
        let house = House::build(&["a"], available, |config| config.tokenizers = tokenizers);
        house.net.script("a", good_stream(&["x"]));
        house.chat(r#","stream":true,"max_tokens":1"#).await.status
    };
    assert_eq!(status(enough, vec![strict(0)]).await, 200);
    assert_eq!(status(enough - 1, vec![strict(0)]).await, 402);
    assert_eq!(status(enough, Vec::new()).await, 402);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_beyond_its_bound_is_bounded_by_bytes() {
    let check = async |bytes: u64, is_counted| {
        let house = house("openai", false);
        house.net.script("a", good_stream(&["x"]));
        let frame = r#"[{"role":"user","content":""}]"#.len() as u64;
        let content = "x".repeat((bytes - frame) as usize);
        let body = chat_body(r#","stream":true"#).replace(r#""hi""#, &format!("\"{content}\""));
        assert_eq!(house.call("POST", "/v1/chat/completions", &[], &body).await.status, 200);
        let recount = house.funds.receipts()[0].recount.unwrap();
        assert_eq!((recount.prompt.is_some(), recount.completion.is_some()), (is_counted, true), "{bytes}");
    };
    check(PROMPT_BYTES_MAX, true).await;
    check(PROMPT_BYTES_MAX + 1, false).await;
}

#[tokio::test]
async fn prompts_that_are_counted_at_a_time_are_bounded() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let counter = Arc::new(Words { gate: Some(gate.clone()) });
    let tokenizer = ModelTokenizer { counter, ..strict(0) };
    let recounts = Arc::new(Recounts::new(&[tokenizer]));
    let body = chat_body("").replace(r#""hi""#, &format!("\"{}\"", "x ".repeat(1_000)));
    let job = Arc::new(front::parse(Api::Chat, body.into()).unwrap());
    let model = ModelSlug::parse(MODEL).unwrap();
    let begin = |_| {
        let (recounts, job, model) = (recounts.clone(), job.clone(), model.clone());
        tokio::spawn(async move { recounts.of_model(&job, &model, UnixMs(0)).await })
    };
    let waiting: Vec<_> = (0..RECOUNTS_MAX).map(begin).collect();
    while recounts.places_left() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(begin(0).await.unwrap(), None, "one too many");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for counted in waiting {
        assert!(counted.await.unwrap().is_some());
    }
    assert!(begin(0).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn pictures_count_by_their_rule() {
    let house = house("openai", false);
    house.net.script("a", three_words(Some((COUNTED_PROMPT + 100, 3))));
    let picture =
        r#"[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"http://x/y.png"}}]"#;
    let body = chat_body(r#","stream":true"#).replace(r#""hi""#, picture);
    let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let receipt = house.funds.receipts().remove(0);
    let recount = receipt.recount.unwrap();
    assert_eq!(recount.prompt, Some(TokenCount(COUNTED_PROMPT + 100)), "one picture at 100 at most");
    assert!(!receipt.is_suspended());
}

#[tokio::test(start_paused = true)]
async fn a_model_without_a_pinned_tokenizer_has_no_recount() {
    let house = House::new(&["a"]);
    let receipt = receipt_of(&house, three_words(Some((12, 3))), r#","stream":true"#).await;
    assert_eq!(receipt.recount, None);
}
