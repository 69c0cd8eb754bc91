//! What passes, what is held back, and how streams end.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::neutral::strategies::bill;
use crate::error::ErrorType;
use crate::receipt::Finish;
use crate::sse::SseScanner;
use bytes::Bytes;

#[derive(Default)]
struct Bytewise(Vec<u8>, usize);

impl Sink for Bytewise {
    fn push(&mut self, bytes: Bytes) {
        self.0.extend_from_slice(&bytes);
        self.1 += 1;
    }
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn passage() -> ChatPassage {
    let head = Head {
        id: "gen-1".into(),
        created_s: 7,
        model: "a/b".into(),
        provider: "p".into(),
        ..Head::default()
    };
    ChatPassage::new(Api::Chat, &head)
}

type Passed = (String, Vec<Seen>, Option<SellerError>);

fn pass(passage: &mut ChatPassage, stream: &str) -> Passed {
    let mut scanner = SseScanner::default();
    scanner.push(Bytes::copy_from_slice(stream.as_bytes()));
    let (mut sink, mut seen, mut error) = (Bytewise::default(), Vec::new(), None);
    while let Some(event) = scanner.next_event().unwrap() {
        match passage.event(&event, &mut sink) {
            Ok(one) => seen.push(one),
            Err(e) => {
                error = Some(e);
                break;
            }
        }
    }
    (String::from_utf8(sink.0).unwrap(), seen, error)
}

fn terminal(passage: &mut ChatPassage, error: Option<&ApiError>) -> String {
    let (usage, charge) = bill();
    let raw = passage.raw_usage().map(str::to_owned);
    let claim = raw.as_deref().and_then(read_usage);
    let billed = Billed { usage: &usage, charge: &charge, claim, raw: raw.as_deref(), is_byok: false };
    let mut out = Vec::new();
    match error {
        None => passage.end(&billed, b"", &mut out),
        Some(error) => passage.fail(error, &billed, b"", &mut out),
    }
    String::from_utf8(out).unwrap()
}

const CONTENT: &str = "data: {\"id\":\"up-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hey\"},\"finish_reason\":null}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"cost\":9,\"prompt_tokens_details\":{\"cached_tokens\":1},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n";

#[test]
fn the_sellers_bytes_pass_and_its_usage_and_end_do_not() {
    let mut one = passage();
    let stream = format!(": wait\n\n{CONTENT}{FINISH}{USAGE}data: [DONE]\n\n");
    let (text, seen, error) = pass(&mut one, &stream);
    assert_eq!((text, error), (format!(": wait\n\n{CONTENT}{FINISH}"), None));
    let claim = SellerUsage { prompt: 3, cached: 1, cache_write: 0, completion: 2, reasoning: 1 };
    assert_eq!((seen[1].content_bytes, seen[1].finishes), (3, 0));
    assert_eq!((seen[2].finishes, seen[2].finish), (1, Some(Finish::Length)));
    assert_eq!(seen[3].news, StreamNews { usage: Some(Some(claim)), is_last: false });
    assert!(seen[4].news.is_last);
    let end = terminal(&mut one, None);
    assert!(
        end.starts_with(
            "data: {\"id\":\"up-1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,"
        ),
        "{end}"
    );
    assert!(end.contains("\"reasoning_tokens\":1") && !end.contains("\"cost\":9"), "{end}");
    assert!(end.ends_with("\n\ndata: [DONE]\n\n"));
}

#[test]
fn usage_beside_content_is_taken_out() {
    let with = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    assert_eq!(pass(&mut passage(), with).0, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    let lines = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\ndata: \"usage\":{\"prompt_tokens\":1,\ndata: \"completion_tokens\":1}}\n\n";
    assert_eq!(pass(&mut passage(), lines).0, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
}

#[test]
fn a_later_usage_replaces_an_earlier_one() {
    let mut one = passage();
    let bad = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":-1}}\n\n";
    let (_, seen, _) = pass(&mut one, &format!("{USAGE}{bad}"));
    assert_eq!(seen[1].news.usage, Some(None));
    assert_eq!(one.raw_usage(), None);
    pass(
        &mut one,
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\ndata: \"completion_tokens\":2}}\n\n",
    );
    assert_eq!(one.raw_usage(), Some("{\"prompt_tokens\":1, \"completion_tokens\":2}"));
}

#[test]
fn errors_within_end_it() {
    let check = |stream: &str, message: &str| {
        let (text, _, error) = pass(&mut passage(), &format!("{CONTENT}{stream}"));
        assert_eq!((text.as_str(), error.unwrap().message.as_str()), (CONTENT, message), "{stream}");
    };
    check("data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n", "boom");
    check("data: {\"error\":\"boom\"}\n\n", "boom");
    check("event: error\ndata: {\"message\":\"boom\"}\n\n", "boom");
    check(
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
        "the stream ended with an error",
    );
    check("data: {\"choices\":[{\"del\n\n", "the stream was cut inside an event");
}

#[test]
fn the_end_of_a_stream_without_events_is_the_markets() {
    let error = ApiError::new(ErrorType::Server, "x");
    let end = terminal(&mut passage(), Some(&error));
    assert!(end.starts_with("data: {\"id\":\"gen-1\",\"object\":\"chat.completion.chunk\""), "{end}");
    assert!(end.contains("\"error\":{\"code\":500"));
}

struct Pointer(Option<*const u8>);

impl Sink for Pointer {
    fn push(&mut self, bytes: Bytes) {
        self.0 = Some(bytes.as_ptr());
    }
    fn extend(&mut self, _: &[u8]) {}
}

#[test]
fn events_are_not_copied() {
    let mut scanner = SseScanner::default();
    scanner.push(Bytes::from_static(CONTENT.as_bytes()));
    let event = scanner.next_event().unwrap().unwrap();
    let mut sink = Pointer(None);
    passage().event(&event, &mut sink).unwrap();
    assert_eq!(sink.0, Some(event.raw.as_ptr()));
}
