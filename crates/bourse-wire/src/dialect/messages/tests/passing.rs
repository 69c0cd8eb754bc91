//! Streams that pass from a seller of this grammar to a buyer of it.

use super::streams::VENDOR;
use super::*;
use crate::dialect::grammar::SellerErrorKind;
use crate::error::ErrorType;
use crate::receipt::Finish;

fn ended(passage: &mut dyn Passage) -> String {
    let mut out = Vec::new();
    let raw = passage.raw_usage().map(str::to_owned);
    with_billed(raw.as_deref(), |billed| passage.end(billed, b",\"x\":1", &mut out));
    text(out)
}

#[test]
fn events_pass_as_they_came_and_the_end_is_the_markets() {
    let mut passage = super::super::passage(&head());
    let (passed, seen) = pass_all(&mut *passage, VENDOR).unwrap();
    let held = VENDOR.find("event: message_delta").unwrap();
    assert_eq!(passed, VENDOR[..held]);
    // hm, a, the arguments of the server's tool and of the two calls, and the calls' names.
    let bytes: u64 = seen.iter().map(|seen| seen.content_bytes).sum();
    assert_eq!(bytes, 2 + 1 + 2 + 9 + 2 + 2);
    assert_eq!(seen.iter().map(|seen| seen.tool_calls).sum::<u32>(), 2);
    assert_eq!(seen.iter().map(|seen| seen.finishes).sum::<u32>(), 1);
    assert_eq!(seen.iter().find_map(|seen| seen.finish), Some(Finish::ToolCalls));
    assert_eq!(seen.iter().find_map(|seen| seen.news.usage), Some(Some(CLAIM)));
    assert!(seen.last().unwrap().news.is_last);
    assert_eq!(
        passage.raw_usage(),
        Some(r#"{"output_tokens":5,"output_tokens_details":{"thinking_tokens":4},"cost":7}"#)
    );
    assert_eq!(
        ended(&mut *passage),
        format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"tool_use\",\"stop_sequence\":null}},\"usage\":{{\"input_tokens\":5,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":3,\"output_tokens\":5,\"output_tokens_details\":{{\"thinking_tokens\":4}},{COST}}}\n\nevent: message_stop\ndata: {{\"type\":\"message_stop\",\"x\":1}}\n\n"
        )
    );
}

#[test]
fn sellers_money_does_not_pass() {
    let mut passage = super::super::passage(&head());
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"cost\":1,\"input_tokens\":5,\"cost_details\":{},\"output_tokens\":1},\"id\":\"m\"}}\n\n";
    let early = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":2,\"cost\":1}}\n\n";
    let late = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":null,\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n";
    let (passed, _) = pass_all(&mut *passage, &[start, early, late].concat()).unwrap();
    assert_eq!(
        passed,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1},\"id\":\"m\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":2}}\n\n"
    );
    let end = ended(&mut *passage);
    assert!(
        end.starts_with(
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":5,"
        ),
        "{end}"
    );
    assert!(end.contains("},\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n"), "{end}");
}

#[test]
fn events_without_a_name_get_one() {
    let mut passage = super::super::passage(&head());
    let bare = ": wait\n\ndata: {\"type\":\"ping\"}\n\ndata: {\"type\":\"content_block_delta\",\ndata: \"index\":0,\"delta\":{\"text\":\"a\"}}\n\ndata: {\"type\":\"message_delta\",\ndata: \"delta\":{\"stop_reason\":\"end_turn\"}}\n\ndata: [DONE]\n\n";
    let (passed, seen) = pass_all(&mut *passage, bare).unwrap();
    assert_eq!(
        passed,
        ": wait\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\ndata: \"index\":0,\"delta\":{\"text\":\"a\"}}\n\n"
    );
    assert!(seen.last().unwrap().news.is_last);
    let end = ended(&mut *passage);
    assert!(end.starts_with("event: message_delta\ndata: {\"type\":\"message_delta\", \"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":5,"), "{end}");
}

#[test]
fn a_stream_without_an_end_gets_one() {
    let mut passage = super::super::passage(&head());
    let end = ended(&mut *passage);
    assert!(
        end.contains("\"stop_reason\":\"end_turn\"")
            && end.ends_with("{\"type\":\"message_stop\",\"x\":1}\n\n"),
        "{end}"
    );
}

#[test]
fn a_broken_stream_closes_its_block() {
    let mut passage = super::super::passage(&head());
    let first = VENDOR.find("event: content_block_stop").unwrap();
    pass_all(&mut *passage, &VENDOR[..first]).unwrap();
    let error = ApiError::new(ErrorType::Timeout, "late");
    let mut out = Vec::new();
    with_billed(None, |billed| passage.fail(&error, billed, b"", &mut out));
    let out = text(out);
    assert!(out.starts_with("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\n"), "{out}");
    let told =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"timeout_error\",\"message\":\"late\",";
    assert!(out.contains(told), "{out}");

    let mut passage = super::super::passage(&head());
    let mut out = Vec::new();
    with_billed(None, |billed| passage.fail(&error, billed, b"", &mut out));
    assert!(text(out).starts_with(told));
}

#[test]
fn an_error_of_the_seller_ends_the_passage() {
    let mut passage = super::super::passage(&head());
    let told =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"oh\"}}\n\n";
    let error = pass_all(&mut *passage, told).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (SellerErrorKind::Unavailable, "oh"));
    for broken in ["data: {\n\n", "data: 1\n\n"] {
        assert!(pass_all(&mut *passage, broken).is_err(), "{broken}");
    }
}
