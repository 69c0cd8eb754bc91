use super::*;
use serde_json::json;

fn response(body: String) -> Response {
    Response { status: 200, body: body.into_bytes(), whole: true, ..Response::default() }
}

/// Server-sent events, each named by its type.
fn events(list: &[Value]) -> Response {
    let event =
        |value: &Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default());
    response(list.iter().map(event).collect())
}

fn message() -> Vec<Value> {
    let delta = json!({"type": "text_delta", "text": "fair"});
    vec![
        json!({"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 3}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ]
}

fn responses() -> Vec<Value> {
    let part = json!({"type": "output_text", "text": "fair"});
    let item = json!({"type": "message", "id": "i", "content": [part]});
    let whole = json!({"object": "response", "model": "m", "status": "completed", "output": [item]});
    let list = [
        json!({"type": "response.created", "response": {"model": "m"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "i"}}),
        json!({"type": "response.output_text.delta", "item_id": "i", "delta": "fair"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": whole}),
    ];
    list.into_iter().collect()
}

fn cohere() -> Vec<Value> {
    let content = |text: &str| json!({"message": {"content": {"text": text}}});
    let calls = |more: Value| json!({"message": {"tool_calls": more}});
    let opening = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}});
    vec![
        json!({"type": "message-start", "delta": {"message": {"role": "assistant"}}}),
        json!({"type": "content-start", "index": 0, "delta": content("")}),
        json!({"type": "content-delta", "index": 0, "delta": content("fair")}),
        json!({"type": "content-end", "index": 0}),
        json!({"type": "tool-call-start", "index": 0, "delta": calls(opening)}),
        json!({"type": "tool-call-end", "index": 0}),
        json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}),
    ]
}

fn numbered(mut list: Vec<Value>) -> Vec<Value> {
    for (number, value) in list.iter_mut().enumerate() {
        value["sequence_number"] = json!(number);
    }
    list
}

fn check(shape: Shape, change: impl FnOnce(&mut Vec<Value>), notes: &str) {
    let mut list = match shape {
        Shape::Messages => message(),
        Shape::Cohere => cohere(),
        _ => responses(),
    };
    change(&mut list);
    let list = if shape == Shape::Responses { numbered(list) } else { list };
    let heard = Heard::read(shape, Mode::Stream, &events(&list));
    assert!(!heard.is_whole(Mode::Stream), "{shape}: {notes}");
    let found = heard.violations.iter().any(|violation| violation.contains(notes));
    assert!(found, "{shape}: {notes:?} is not among {:?}", heard.violations);
}

#[test]
fn streams_in_good_order_are_whole() {
    let all =
        [(Shape::Messages, message()), (Shape::Cohere, cohere()), (Shape::Responses, numbered(responses()))];
    for (shape, list) in all {
        let heard = Heard::read(shape, Mode::Stream, &events(&list));
        assert!(heard.is_whole(Mode::Stream), "{shape}: {heard:?}");
        assert_eq!((heard.text.as_str(), heard.pieces), ("fair", 1));
    }
}

#[test]
fn departures_of_messages_are_noted() {
    let departs = |change: fn(&mut Vec<Value>), notes| check(Shape::Messages, change, notes);
    departs(|list| drop(list.remove(0)), "comes before message_start");
    departs(|list| list.insert(1, list[0].clone()), "a second message_start");
    departs(|list| drop(list.remove(1)), "outside of a block of its kind");
    departs(|list| list[1]["content_block"]["type"] = json!("tool_use"), "outside of a block of its kind");
    departs(|list| list[1]["index"] = json!(1), "content_block_start out of order");
    departs(|list| list[3]["index"] = json!(1), "that is not open");
    departs(|list| drop(list.remove(3)), "message_delta while a block is open");
    departs(|list| list.push(json!({"type": "ping"})), "something follows the end");
    departs(|list| list[4]["type"] = json!("message_change"), "unknown event message_change");
}

#[test]
fn departures_of_cohere_are_noted() {
    let departs = |change: fn(&mut Vec<Value>), notes| check(Shape::Cohere, change, notes);
    departs(|list| drop(list.remove(0)), "comes before message-start");
    departs(|list| drop(list.remove(1)), "content-delta of something that is not open");
    departs(|list| list[2]["index"] = json!(1), "content-delta of something that is not open");
    departs(|list| drop(list.remove(3)), "tool-call-start while something is open");
    departs(|list| list[5]["index"] = json!(1), "tool-call-end of something that is not open");
    departs(|list| drop(list.remove(5)), "message-end while something is open");
    departs(|list| list[4]["delta"]["message"]["tool_calls"]["type"] = json!("x"), "no function");
    departs(|list| list.push(list[1].clone()), "something follows the end");
    departs(|list| list[6]["type"] = json!("stream-end"), "unknown event stream-end");
    let early = "event: message-start\ndata: {\"type\": \"message-start\"}\n\ndata: [DONE]\n\n";
    let heard = Heard::read(Shape::Cohere, Mode::Stream, &response(early.to_owned()));
    assert_eq!(heard.violations, ["cohere: [DONE] comes before message-end"]);
}

#[test]
fn departures_of_responses_are_noted() {
    let departs = |change: fn(&mut Vec<Value>), notes| check(Shape::Responses, change, notes);
    departs(|list| drop(list.remove(0)), "the first event is response.output_item.added");
    departs(|list| drop(list.remove(1)), "outside of its item");
    departs(|list| list[2]["item_id"] = json!("j"), "outside of its item");
    departs(|list| list[1]["output_index"] = json!(1), "added out of order");
    departs(|list| list[3]["item"]["id"] = json!("j"), "done that is not open");
    departs(|list| list[2]["delta"] = json!("foul"), "is not what was streamed");
    departs(|list| list.push(json!({"type": "response.created"})), "something follows the end");
    let mut gap = numbered(responses());
    gap[2]["sequence_number"] = json!(7);
    let heard = Heard::read(Shape::Responses, Mode::Stream, &events(&gap));
    assert_eq!(heard.violations.len(), 1, "{:?}", heard.violations);
}

#[test]
fn a_wrong_name_and_what_is_not_json_are_noted() {
    let text = "event: ping\ndata: {\"type\": \"message_stop\"}\n\nevent: error\ndata: {\n\n";
    let heard = Heard::read(Shape::Messages, Mode::Stream, &response(text.to_owned()));
    assert!(heard.violations.iter().any(|violation| violation.contains("carries type 'message_stop'")));
    assert!(heard.violations.iter().any(|violation| violation.contains("not JSON")));
}

#[test]
fn lines_and_chunks_behind_the_end_are_noted() {
    let done = json!({"message": {"content": "x"}, "done": true});
    let twice = Heard::read(Shape::Ollama, Mode::Stream, &response(format!("{done}\n{done}\n")));
    assert_eq!((twice.ends, twice.violations.len()), (2, 1));
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]});
    let chat = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let read = |text: String| Heard::read(Shape::Chat, Mode::Stream, &response(text));
    assert!(read(chat.clone()).is_whole(Mode::Stream));
    assert!(!read(format!("{chat}data: {chunk}\n\n")).is_whole(Mode::Stream));
    assert!(!read(format!("data: {chunk}\n\n")).is_whole(Mode::Stream), "no end mark");
}
