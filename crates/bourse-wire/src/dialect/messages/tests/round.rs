//! Laws: what is written is read as the same; foreign bytes break nothing.

use super::super::{parse, read};
use super::*;
use crate::dialect::neutral::strategies::{
    Can, answer, answer_of, each_part, events, merged, normal, normal_answer, request,
};
use crate::dialect::neutral::{CacheMark, Origin, Part, ResponseFormat, Role, ToolChoice};
use proptest::prelude::*;

/// Whose thoughts a request to a seller of this grammar can hold.
const OWN: Can =
    Can { origins: &[Origin::Anthropic], images: true, audio: false, files: true, developer: false };

fn as_read(mark: &mut Option<CacheMark>) {
    *mark = mark.map(|mark| CacheMark { ttl_s: mark.ttl_s.filter(|ttl| *ttl == 3_600) });
}

/// A generated request less what this grammar cannot say, and with few enough marks.
fn sayable(mut request: Request) -> Request {
    let mut left = CACHE_MARKS_MAX;
    let mut only_long = true;
    let mut keep = |mark: &mut Option<CacheMark>| {
        as_read(mark);
        if let Some(given) = mark {
            only_long &= given.ttl_s.is_some();
            if left == 0 || (given.ttl_s.is_some() && !only_long) {
                *mark = None;
            } else {
                left -= 1;
            }
        }
    };
    request.tools.iter_mut().for_each(|tool| {
        keep(&mut tool.cache);
        tool.strict = tool.strict.filter(|strict| *strict);
    });
    each_part(&mut request, |part| match part {
        Part::Text { cache, .. } | Part::ToolCall { cache, .. } | Part::ToolResult { cache, .. } => {
            keep(cache);
        }
        Part::Image { detail, cache, .. } => {
            *detail = None;
            keep(cache);
        }
        Part::File { cache, .. } => keep(cache),
        _ => {}
    });
    if let ResponseFormat::JsonSchema { name, description, strict, .. } = &mut request.response_format {
        (*name, *description, *strict) = ("answer".into(), None, Some(true));
    }
    if request.response_format == ResponseFormat::JsonObject {
        request.response_format = ResponseFormat::Text;
    }
    request.parallel_tool_calls = request.parallel_tool_calls.filter(|many| match request.tool_choice {
        Some(ToolChoice::None) => false,
        Some(_) => true,
        None => !many,
    });
    if request.parallel_tool_calls == Some(false) && request.tool_choice.is_none() {
        request.tool_choice = Some(ToolChoice::Auto);
    }
    request.temperature = request.temperature.filter(|t| *t < 1.0);
    request.top_p = request.top_p.filter(|p| *p < 1.0 && request.temperature.is_none());
    Request {
        // How thoughts are asked for depends on the model's name: see the tables of cases.
        reasoning: None,
        choices: 1,
        max_tokens: request.max_tokens.or(Some(MAX_TOKENS_DEFAULT)),
        min_p: None,
        presence_penalty: None,
        frequency_penalty: None,
        logit_bias: Vec::new(),
        logprobs: None,
        seed: None,
        prompt_cache_key: None,
        ..request
    }
}

/// In this grammar results stand before what the user says.
fn results_first(mut request: Request) -> Request {
    for pair in 1..request.messages.len() {
        if request.messages[pair].role == Role::Tool && request.messages[pair - 1].role == Role::User {
            request.messages.swap(pair - 1, pair);
        }
    }
    normal(request)
}

fn body_of(request: &Request) -> Bytes {
    let call = Call { upstream_id: "acme/model", stream: true, max_tokens: None };
    let written = Messages.write(request, &call).unwrap();
    assert_eq!(written.notices, [], "{request:?}");
    written.body
}

proptest! {
    #[test]
    fn requests_come_back(generated in request(OWN)) {
        let request = sayable(generated);
        let job = parse(body_of(&request)).unwrap();
        prop_assert!(job.stream);
        prop_assert_eq!(job.max_tokens, request.max_tokens);
        prop_assert_eq!(normal(read(&job).unwrap()), results_first(normal(request)));
    }

    #[test]
    fn any_request_becomes_one_that_is_read(generated in request(Can { audio: false, ..Can::ALL })) {
        let format = ResponseFormat::Text;
        let request = Request { choices: 1, logprobs: None, response_format: format, ..generated };
        for upstream_id in ["claude-opus-4-5", "claude-opus-5-5"] {
            let call = Call { upstream_id, stream: false, max_tokens: None };
            let written = Messages.write(&request, &call).unwrap();
            let job = parse(written.body.clone()).unwrap();
            let again = read(&job).unwrap();
            // What was written once is written the same again.
            let twice = Messages.write(&again, &call).unwrap();
            prop_assert_eq!(text(twice.body.to_vec()), text(written.body.to_vec()));
        }
    }

    #[test]
    fn answers_come_back(generated in answer(&Origin::ALL, 1)) {
        let mut out = Vec::new();
        with_billed(None, |billed| push_answer(&head(), &generated, billed, b"", &mut out));
        let body = text(out);
        let back = Messages.read_answer(&body).unwrap();
        prop_assert_eq!(back.usage, Some(CLAIM));
        prop_assert_eq!(normal_answer(back), normal_answer(as_written(generated)));
        let view = view(&body).unwrap();
        prop_assert!(view.chunk.error.is_none() && view.chunk.finishes == 1);
        prop_assert_eq!(read_usage(&body[view.chunk.usage.unwrap()]), Some(CLAIM));
    }

    #[test]
    fn streams_come_back(generated in events(&Origin::ALL, 1)) {
        let mut writer = super::super::writer(&head());
        let mut out = Vec::new();
        for event in &generated {
 writer.event(event, &mut out);
 }
        with_billed(None, |billed| writer.end(billed, b"", &mut out));
        let stream = text(out);
        let (back, usage, is_last) = read_stream(&stream).unwrap();
        prop_assert_eq!((usage, is_last), (Some(CLAIM), true));
        let want: Vec<StreamEvent<'static>> = generated.into_iter().map(event_as_written).collect();
        prop_assert_eq!(merged(&back), merged(&want));

        // The same stream passes, and says the same whole.
        let mut passage = super::super::passage(&head());
        let (passed, seen) = pass_all(&mut *passage, &stream).unwrap();
        prop_assert!(stream.starts_with(&passed));
        prop_assert_eq!(seen.iter().find_map(|seen| seen.news.usage), Some(Some(CLAIM)));
        let mut end = Vec::new();
        let raw = passage.raw_usage().map(str::to_owned);
        with_billed(raw.as_deref(), |billed| passage.end(billed, b"", &mut end));
        let whole = passed + &text(end);
        prop_assert_eq!(answer_of(&read_stream(&whole).unwrap().0), answer_of(&back));
    }

    #[test]
    fn foreign_bytes_break_nothing(
        kind in "(message_start|content_block_start|content_block_delta|content_block_stop|message_delta|message_stop|error|ping)",
        member in "(index|delta|content_block|message|usage|error)",
        value in "([0-9]{1,12}|null|\"[a-z]{0,3}\"|\\[\\]|\\{\\}|\\{\"type\":\"(tool_use|text_delta|thinking|redacted_thinking|input_json_delta)\",\"(text|name|input|usage|partial_json|stop_reason|data)\":(7|null|\"x\"|\\{\\})\\})",
        cut in 0usize..200,
    ) {
        let data = format!("{{\"type\":\"{kind}\",\"{member}\":{value}}}");
        let cut = data.floor_char_boundary(cut);
        for data in [data.as_str(), &data[..cut]] {
            let _ = Messages.reader().read(data, &mut |_| {});
            let _ = pass_all(&mut *super::super::passage(&head()), &format!("data: {data}\n\n"));
            let _ = Messages.read_answer(data);
            let _ = view(data);
            let _ = parse(Bytes::copy_from_slice(data.as_bytes()));
            let _ = Messages.read_error(400, data.as_bytes());
        }
    }
}

/// What the grammar has no place for: the ids of thoughts, and that they are a summary unless they are encrypted.
fn as_written(mut answer: Answer) -> Answer {
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        if let Part::Reasoning { signed: Some(signed), .. } = part {
            signed.id = None;
        }
    }
    answer
}

fn event_as_written(event: StreamEvent<'static>) -> StreamEvent<'static> {
    match event {
        StreamEvent::Signed { choice, mut signed } => {
            signed.id = None;
            StreamEvent::Signed { choice, signed }
        }
        StreamEvent::Reasoning { choice, text, .. } => {
            StreamEvent::Reasoning { choice, text, is_summary: false }
        }
        event => event,
    }
}
