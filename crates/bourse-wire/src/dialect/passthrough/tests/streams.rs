use super::*;
use crate::dialect::grammar::{Billed, Head, Passage as _, Sink};
use crate::sse::SseScanner;
use bourse_types::{Charge, Usage};
use proptest::prelude::*;

#[derive(Default)]
struct Sent(Vec<u8>);

impl Sink for Sent {
    fn push(&mut self, bytes: Bytes) {
        self.extend(&bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn streamed(api: Api) -> Job {
    let body = match api {
        Api::Images => r#"{"model":"a/b","prompt":"cat","stream":true,"n":2}"#,
        Api::Speech => r#"{"model":"a/b","input":"hi","voice":"x","stream_format":"sse"}"#,
        _ => r#"{"model":"a/b","input_audio":{"data":"AAAA","format":"wav"},"stream":true}"#,
    };
    let job = job(api, body).unwrap();
    assert!(job.stream);
    job
}

/// What the buyer reads of these events of a seller, with the end as it comes, or as a failure.
fn relayed(api: Api, text: &str, fails: bool) -> Vec<u8> {
    let mut passage = MediaPassage::new(&streamed(api), &Head { created_s: 7, ..Head::default() });
    let (mut scanner, mut sent) = (SseScanner::default(), Sent::default());
    scanner.push(Bytes::copy_from_slice(text.as_bytes()));
    let mut error = None;
    while let (None, Some(event)) = (&error, scanner.next_event().unwrap()) {
        match passage.event(&event, &mut sent) {
            Ok(seen) if seen.news.is_last => break,
            Ok(_) => {}
            Err(told) => error = Some(ApiError::new(ErrorType::ProviderUnavailable, told.message)),
        }
    }
    let (usage, charge) = (Usage::default(), Charge::ZERO);
    let raw = passage.raw_usage().map(str::to_owned);
    let billed = Billed { usage: &usage, charge: &charge, claim: None, raw: raw.as_deref(), is_byok: false };
    if fails && error.is_none() {
        error = Some(ApiError::new(ErrorType::Server, "two\nlines"));
    }
    match error {
        None => passage.end(&billed, b",\"more\":1", &mut sent.0),
        Some(error) => passage.fail(&error, &billed, b"", &mut sent.0),
    }
    sent.0
}

/// The data of the events before `[DONE]`.
fn data(sent: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(sent).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_last_event_keeps_what_it_says_and_gets_the_price() {
    let text = "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"eA==\",\"usage\":{\"x\":1},\"created_at\":5}\n\n";
    let sent = String::from_utf8(relayed(Api::Images, &text.repeat(2), false)).unwrap();
    let mut events = sent.split_terminator("\n\n");
    let whole = concat!(
        "event: image_generation.completed\n",
        r#"data: {"type":"image_generation.completed","b64_json":"eA==","created_at":5,"created":5,"background":"auto","output_format":"png","quality":"auto","size":"auto","usage":{"#
    );
    let first = events.next().unwrap();
    assert!(first.starts_with(whole) && first.ends_with(r#""rounding":0}}}"#), "{first}");
    let last = events.next().unwrap();
    assert!(last.starts_with(whole) && last.ends_with(r#""rounding":0}},"more":1}"#), "{last}");
    assert_eq!((events.next(), events.next()), (Some("data: [DONE]"), None));
}

#[test]
fn a_member_is_written_once_though_the_seller_says_nothing_in_it() {
    let text = "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"eA==\",\"usage\":null,\"created\":null,\"created_at\":\"x\"}\n\n";
    let sent = String::from_utf8(relayed(Api::Images, &text.repeat(2), false)).unwrap();
    for name in ["\"usage\":", "\"created\":7", "\"created_at\":7"] {
        assert_eq!(sent.matches(name).count(), 2, "{name} {sent}");
    }
}

#[test]
fn fewer_pictures_end_with_the_bill_alone() {
    let text = "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"eA==\"}\n\ndata: [DONE]\n\n";
    let sent = data(&relayed(Api::Images, text, false));
    assert_eq!((sent.len(), &sent[1]["type"]), (2, &"image_generation.usage".into()));
    assert_eq!((&sent[1]["usage"]["cost"], &sent[1]["more"]), (&0.into(), &1.into()));
}

#[test]
fn claims_of_several_pictures_are_added_up() {
    let picture = |usage: &str| {
        format!(
            "data: {{\"type\":\"image_generation.completed\",\"b64_json\":\"eA==\",\"usage\":{usage}}}\n\n"
        )
    };
    let claims = |usages: [&str; 2]| {
        let mut passage = MediaPassage::new(&streamed(Api::Images), &Head::default());
        let mut scanner = SseScanner::default();
        scanner.push(Bytes::from(usages.map(picture).concat()));
        let mut last = None;
        while let Some(event) = scanner.next_event().unwrap() {
            last = passage.event(&event, &mut Sent::default()).unwrap().news.usage.or(last);
        }
        last.map(|tokens| tokens.map(|tokens| (tokens.prompt, tokens.completion)))
    };
    let some = r#"{"input_tokens":3,"output_tokens":70}"#;
    assert_eq!(claims([some, some]), Some(Some((6, 140))));
    assert_eq!(claims(["null", some]), Some(Some((3, 70))));
    assert_eq!(claims([some, r#"{"input_tokens":-1}"#]), Some(None), "an unknown count is not zero");
    assert_eq!(claims([some, r#"{"input_tokens":18446744073709551615}"#]), Some(None));
    assert_eq!(claims(["null", "{}"]), None);
}

/// What a seller's answer in one piece becomes.
fn in_events(body: &str) -> Vec<serde_json::Value> {
    let job = streamed(Api::Images);
    let answer =
        read_answer(&job, Some("application/json"), Bytes::copy_from_slice(body.as_bytes())).unwrap();
    data(&MediaPassage::of_answer(&job, &Head { created_s: 7, ..Head::default() }, &answer).1)
}

#[test]
fn an_answer_in_one_piece_says_each_thing_once() {
    let all = r#"{"created_at":1,"background":"opaque","output_format":"webp","quality":"low","size":"1x1","created":9,"data":[{"b64_json":"eA==","size":"2x2"}]}"#;
    let event = &in_events(all)[0];
    let said = ["size", "background", "output_format"].map(|name| event[name].as_str().unwrap());
    assert_eq!(said, ["2x2", "opaque", "webp"]);
    assert_eq!((&event["created"], &event["created_at"]), (&9.into(), &1.into()));
    let twice = r#"{"data":[{"b64_json":"eA==","usage":{"input_tokens":3}}],"usage":{"input_tokens":3}}"#;
    assert_eq!(in_events(twice)[0]["usage"]["input_tokens"], 3);
    let none_of_all = r#"{"data":[{"b64_json":"eA==","usage":{"input_tokens":3}}]}"#;
    assert!(in_events(none_of_all)[0]["usage"].is_null(), "as in an answer that is not streamed");
    let none = r#"{"created":"now","data":[{"b64_json":"/9j/AA=="}],"background":null}"#;
    let event = &in_events(none)[0];
    assert_eq!((&event["created_at"], &event["background"]), (&7.into(), &"auto".into()));
    assert_eq!(event["output_format"], "jpeg");
}

proptest! {
    #[test]
    fn whatever_a_seller_sends_the_buyer_reads_events_with_one_end(
        api in prop::sample::select(vec![Api::Images, Api::Speech, Api::Transcription]),
        events in prop::collection::vec(
            "data: (\\{(\"type\":\"(image_generation\\.(completed|partial_image)|transcript\\.text\\.(delta|done)|speech\\.audio\\.(delta|done)|x\\\\n|error)\",?)?\
             (\"(b64_json|delta|text|audio|url|error|usage|created|duration|type)\":(\"é\\\\\"\"|\"\"|null|-1|\\[\\]|\\{\"seconds\":1e9,\"input_tokens\":-1\\}|\\{\\}|7),?){0,4}\\}|\\[\\]|3|x)?\n\n|: hi\n\n|event: error\ndata: \\{\\}\n\n",
            0..6,
        ),
        fails in any::<bool>(),
    ) {
        let text = events.concat().replace(",}", "}");
        let sent = relayed(api, &text, fails);
        let mut scanner = SseScanner::default();
        scanner.push(Bytes::from(sent));
        let mut ends = 0;
        while let Some(event) = scanner.next_event().unwrap() {
            prop_assert_eq!(ends, 0, "something came after the end");
            let Some(data) = event.data() else { continue };
            ends += u32::from(event.is_done());
            let is_json = serde_json::from_slice::<serde_json::Value>(data).is_ok();
            prop_assert!(event.is_done() || is_json, "{:?}", event.text());
        }
        prop_assert_eq!(ends, 1);
        prop_assert_eq!(scanner.pending_bytes(), 0);
    }
}
