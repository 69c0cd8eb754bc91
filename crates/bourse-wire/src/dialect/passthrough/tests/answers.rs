use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::grammar::Billed;
use bourse_types::{Charge, NanoUsd, Usage};

const JSON: Option<&str> = Some("application/json");

fn embedding(inputs: &str) -> Job {
    job(Api::Embeddings, &format!(r#"{{"model":"a/b","input":{inputs}}}"#)).unwrap()
}

fn ranking() -> Job {
    job(Api::Rerank, r#"{"model":"a/b","query":"q","documents":["one",{"text":"two"}]}"#).unwrap()
}

fn picture() -> Job {
    job(Api::Images, r#"{"model":"a/b","prompt":"cat","n":2}"#).unwrap()
}

fn speech() -> Job {
    job(Api::Speech, r#"{"model":"a/b","input":"hello","voice":"x"}"#).unwrap()
}

fn transcription(format: &str) -> Job {
    parse_form(FORM, &form(&[("model", "a/b"), ("file", "x"), ("response_format", format)])).unwrap()
}

fn read(job: &Job, kind: Option<&str>, body: &'static str) -> Result<PassedAnswer, String> {
    read_answer(job, kind, Bytes::from_static(body.as_bytes())).map_err(|error| error.message)
}

/// What the buyer reads when 3 prompt tokens, 5 completion tokens and 2 units are billed, 7 nano-dollars in all.
fn written(job: &Job, body: &'static str, tokens: (u64, u64)) -> String {
    let answer = read(job, JSON, body).unwrap();
    let usage = Usage { units: 2, ..Usage::of_tokens(tokens.0, 0, tokens.1) };
    let charge = Charge { units: NanoUsd(7), total: NanoUsd(7), ..Charge::ZERO };
    let claim = answer.tokens_claimed();
    let billed = Billed { usage: &usage, charge: &charge, claim, raw: None, is_byok: false };
    String::from_utf8(answer.write(job, &billed, b"").to_vec()).unwrap()
}

const COST: &str = r#""cost":0.000000007,"cost_details":{"upstream_inference_prompt_cost":0,"upstream_inference_completions_cost":0,"request":0,"units":0.000000007,"rounding":0}"#;

#[test]
fn answers_tell_what_was_sold() {
    let image = read(&picture(), JSON, r#"{"data":[{"b64_json":"x"},{},{"url":""},{"url":"u"}]}"#).unwrap();
    assert_eq!((image.units.counted, image.claim), (Some(2), TokenClaim::None));
    assert_eq!(read(&ranking(), JSON, r#"{"results":[{"index":0}]}"#).unwrap().units.counted, Some(1));
    let sound = read(&speech(), Some("audio/mpeg; x=y"), "abc").unwrap();
    assert_eq!(
        (sound.content_bytes, sound.units.counted, sound.content_type()),
        (3, Some(5), "audio/mpeg; x=y")
    );
    assert_eq!(read(&speech(), None, "abc").unwrap().content_type(), "application/octet-stream");
    let heard = |body| {
        let answer = read(&transcription("json"), JSON, body).unwrap();
        (answer.units.claimed, answer.units.least, answer.claim)
    };
    assert_eq!(heard(r#"{"text":"hello","duration":12.2}"#), (Some(13), 1, TokenClaim::None));
    let told_twice = r#"{"text":"","duration":99,"usage":{"type":"duration","seconds":7}}"#;
    assert_eq!(heard(told_twice), (Some(7), 1, TokenClaim::None), "silence has a transcript, too");
    let tokens = SellerUsage { prompt: 3, cached: 0, cache_write: 0, completion: 5, reasoning: 0 };
    let told = r#"{"text":"hi","usage":{"input_tokens":3,"output_tokens":5}}"#;
    assert_eq!(heard(told), (None, 1, TokenClaim::Tokens(tokens)));
    assert_eq!(heard(r#"{"text":"hi","usage":{"input_tokens":-3}}"#), (None, 1, TokenClaim::Unreadable));
    assert_eq!(heard(r#"{"text":"hi","usage":{"seconds":-3}}"#), (None, 1, TokenClaim::None));
}

#[test]
fn subtitles_tell_how_long_the_sound_is_at_least() {
    let seconds = |kind, body| {
        let answer = read(&transcription("srt"), Some(kind), body).unwrap();
        assert_eq!(answer.content_type(), "text/plain; charset=utf-8");
        (answer.units.claimed, answer.units.least)
    };
    let srt = "1\n00:00:00,000 --> 00:00:01,000\na\n\n2\n00:00:01,000 --> 01:02:03,400\nb\n";
    assert_eq!(seconds("text/plain", srt), (Some(3_724), 2));
    assert_eq!(seconds("text/vtt", "WEBVTT\n\n00:01.000 --> 02:03.000\nb"), (Some(123), 1));
    assert_eq!(seconds("text/plain; charset=utf-8", "nothing but words"), (None, 1));
    assert_eq!(seconds("text/plain", "--> x:y"), (None, 1));
}

#[test]
fn what_cannot_be_sold_is_refused() {
    let check = |job: &Job, kind, body, says: &str| {
        let error = read(job, kind, body).unwrap_err();
        assert!(error.contains(says), "{body}: {error}");
    };
    check(&embedding("\"x\""), JSON, "{", "not JSON");
    check(&embedding("\"x\""), JSON, r#"{"error":{"message":"no"}}"#, "no");
    check(&embedding(r#"["x","y"]"#), JSON, r#"{"data":[{"embedding":[]}]}"#, "one vector for each");
    check(&ranking(), JSON, r#"{"results":[]}"#, "no document");
    check(&ranking(), JSON, r#"{"results":[{"index":2}]}"#, "not sent");
    check(&ranking(), JSON, r#"{"results":[{"relevance_score":1}]}"#, "not sent");
    check(&picture(), JSON, r#"{"data":[{"url":null}]}"#, "no image");
    check(&speech(), JSON, r#"{"data":1}"#, "no sound");
    check(&speech(), Some("text/html"), "<html>", "not JSON");
    check(&speech(), Some("audio/wav"), "", "empty");
    check(&transcription("json"), JSON, r#"{"text":null}"#, "no transcript");
    check(&transcription("json"), Some("text/plain"), "words", "not JSON");
    check(&transcription("text"), Some("text/plain"), "", "empty");
    check(&transcription("text"), Some("text/html"), "<p>", "not JSON");
    assert!(
        read(&transcription("text"), JSON, r#"{"text":"a"}"#).is_ok(),
        "some sellers send JSON all the same"
    );
}

#[test]
fn usage_says_what_was_billed() {
    assert_eq!(
        written(
            &embedding("\"x\""),
            r#"{"data":[{"embedding":"AA=="}], "usage":{"prompt_tokens":9,"cost":1}, "model":"m" } "#,
            (3, 0)
        ),
        format!(
            r#"{{"data":[{{"embedding":"AA=="}}], "usage":{{"prompt_tokens":3,"total_tokens":3,{COST}}}, "model":"m" }}"#
        )
    );
    assert_eq!(
        written(&embedding("[1,2]"), r#"{"data":[{}]}"#, (3, 0)),
        format!(r#"{{"data":[{{}}],"model":"a/b","usage":{{"prompt_tokens":3,"total_tokens":3,{COST}}}}}"#)
    );
    let both =
        r#""prompt_tokens":3,"completion_tokens":5,"input_tokens":3,"output_tokens":5,"total_tokens":8"#;
    assert_eq!(
        written(&picture(), r#"{"created":1,"data":[{"b64_json":"x"}]}"#, (3, 5)),
        format!(
            r#"{{"created":1,"data":[{{"b64_json":"x"}}],"usage":{{{both},"input_tokens_details":{{"image_tokens":0,"text_tokens":3}},{COST}}}}}"#
        )
    );
    let details = r#""input_tokens_details":{"image_tokens":1,"text_tokens":2}"#;
    let told = r#"{"data":[{"url":"u"}],"usage":{"input_tokens":3,"output_tokens":5,"input_tokens_details":{"image_tokens":1,"text_tokens":2}}}"#;
    assert_eq!(
        written(&picture(), told, (3, 5)),
        format!(r#"{{"data":[{{"url":"u"}}],"usage":{{{both},{details},{COST}}}}}"#)
    );
    assert!(
        written(&picture(), told, (2, 5)).contains(r#""text_tokens":2},"cost""#),
        "not the seller's counts"
    );
    assert_eq!(
        written(&transcription("json"), r#"{"text":"a","usage":{"type":"duration","seconds":1.5}}"#, (0, 0)),
        format!(r#"{{"text":"a","usage":{{"type":"duration","seconds":2,{COST}}}}}"#)
    );
    assert_eq!(
        written(&transcription("json"), r#"{"text":"a"}"#, (3, 5)),
        format!(
            r#"{{"text":"a","usage":{{"type":"tokens","input_tokens":3,"output_tokens":5,"total_tokens":8,{COST}}}}}"#
        )
    );
}

#[test]
fn ranked_documents_are_objects() {
    let sent = r#"{"results":[{"index":1,"relevance_score":0.9},{"index":0,"document":"one!"},{"index":0,"document":{"text":"own"},"x":1},{"index":0,"document":null}]}"#;
    assert_eq!(
        written(&ranking(), sent, (3, 0)),
        format!(
            r#"{{"results":[{{"index":1,"relevance_score":0.9,"document":{{"text":"two"}}}},{{"index":0,"document":{{"text":"one!"}}}},{{"index":0,"document":{{"text":"own"}},"x":1}},{{"index":0,"document":{{"text":"one"}}}}],"model":"a/b","usage":{{"search_units":2,"total_tokens":3,{COST}}}}}"#
        )
    );
}

#[test]
fn claims_are_read_under_all_names() {
    let usage =
        |api, raw| read_usage(api, raw).map(|SellerUsage { prompt, completion, .. }| (prompt, completion));
    assert_eq!(usage(Api::Embeddings, r#"{"prompt_tokens":4,"total_tokens":4}"#), Some((4, 0)));
    assert_eq!(usage(Api::Rerank, r#"{"total_tokens":9}"#), Some((9, 0)));
    assert_eq!(usage(Api::Images, r#"{"input_tokens":3,"output_tokens":5,"total_tokens":8}"#), Some((3, 5)));
    assert_eq!(usage(Api::Rerank, r#"{"search_units":1}"#), None);
}

#[test]
fn what_the_seller_says_nothing_in_is_written_once() {
    let embedding = r#"{"data":[{"embedding":[]}],"model":null,"usage":null,"x":1}"#;
    let usage = format!(r#"{{"prompt_tokens":3,"total_tokens":8,{COST}}}"#);
    let want = format!(r#"{{"data":[{{"embedding":[]}}],"model":"a/b","usage":{usage},"x":1}}"#);
    assert_eq!(
        written(&job(Api::Embeddings, r#"{"model":"a/b","input":"x"}"#).unwrap(), embedding, (3, 5)),
        want
    );
}
