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

#[test]
fn the_last_event_keeps_what_it_says_and_gets_the_price() {
    let text = "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"eA==\",\"usage\":{\"x\":1},\"created_at\":5}\n\n";
    let sent = String::from_utf8(relayed(Api::Images, &text.repeat(2), false)).unwrap();
    let mut events = sent.split_terminator("\n\n");
    let first = r#"{"type":"image_generation.completed","b64_json":"eA==","usage":{"x":1},"created_at":5,"created":5}"#;
    assert_eq!(events.next().unwrap(), format!("event: image_generation.completed\ndata: {first}"));
    let last = events.next().unwrap();
    assert!(
        last.contains(r#""cost":0"#) && last.ends_with(r#","created_at":5,"created":5,"more":1}"#),
        "{last}"
    );
    assert_eq!((events.next(), events.next()), (Some("data: [DONE]"), None));
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
