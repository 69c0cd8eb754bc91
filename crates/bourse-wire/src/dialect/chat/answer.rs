//! Whole answers: a seller's read, a buyer's written.

use super::reader::made_id;
use super::{details, errors};
use crate::dialect::grammar::{Billed, Head, SellerError};
use crate::dialect::neutral::{Answer, Choice, Media, Part};
use crate::dialect::{AnswerHead, Api, fields, finish_of_word, push_end, push_logprobs, read_usage};
use crate::json::{push_string, push_u64};
use crate::receipt::Finish;
use serde_json::{Map, Value};

/// Reads a seller's answer. One without a choice, or with an error in it, is the seller's error.
pub(super) fn read(body: &str) -> Result<Answer, SellerError> {
    let mended = fields::without_lone_surrogates(body);
    let body = mended.as_ref();
    let value: Value =
        serde_json::from_str(body).map_err(|_| SellerError::cut("the answer is not whole JSON"))?;
    if value.get("error").is_some_and(|error| !error.is_null()) {
        return Err(errors::of_raw(body));
    }
    let Value::Object(mut object) = value else {
        return Err(SellerError::cut("the answer is no object"));
    };
    let choices = match object.remove("choices") {
        Some(Value::Array(choices)) if !choices.is_empty() => choices,
        _ if object.get("object").is_some_and(|kind| kind == "error") => return Err(errors::of_raw(body)),
        _ => return Err(SellerError::cut("the answer has no choices")),
    };
    let word = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let answer = Answer {
        id: word("id"),
        model: word("model"),
        choices: Vec::with_capacity(choices.len()),
        usage: object.get("usage").filter(|u| !u.is_null()).and_then(|u| read_usage(&u.to_string())),
        service_tier: word("service_tier"),
    };
    choices.into_iter().enumerate().try_fold(answer, |mut answer, (n, value)| {
        answer.choices.push(choice(n, value, body)?);
        Ok(answer)
    })
}

fn choice(n: usize, value: Value, body: &str) -> Result<Choice, SellerError> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(errors::of_raw(&error.to_string()));
    }
    let Value::Object(mut object) = value else { return Err(SellerError::cut("a choice is no object")) };
    let word = object.get("finish_reason").and_then(Value::as_str).map(str::to_owned);
    let mut finish = word.as_deref().filter(|word| !word.is_empty()).map(finish_of_word);
    if finish == Some(Finish::SellerError) {
        return Err(errors::of_raw("{}"));
    }
    let native = object.get("native_finish_reason").and_then(Value::as_str).map(str::to_owned);
    let items = object.get("logprobs").and_then(|l| l.get("content")).filter(|items| items.is_array());
    let logprobs_json = items.map(|items| items.to_string().trim_matches(['[', ']']).to_owned());
    let message = match object.remove("message") {
        Some(Value::Object(message)) => message,
        _ => Map::new(),
    };
    let parts = parts(n, message, body);
    if finish == Some(Finish::Stop) && parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
        finish = Some(Finish::ToolCalls);
    }
    Ok(Choice { parts, finish, native_finish: native.or(word), logprobs_json })
}

/// What a message says; members of a form that nobody knows say nothing.
fn parts(n: usize, mut message: Map<String, Value>, body: &str) -> Vec<Part> {
    let mut parts = details::take_reasoning(&mut message).unwrap_or_default();
    match message.remove("content") {
        Some(Value::String(text)) if !text.is_empty() => parts.push(Part::text(text)),
        Some(Value::Array(list)) => list.iter().for_each(|part| add_content(&mut parts, part)),
        _ => {}
    }
    let images = message.get("images").and_then(Value::as_array).into_iter().flatten();
    parts.extend(images.filter_map(|image| {
        let url = image.pointer("/image_url/url").and_then(Value::as_str)?;
        let media = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        let source = media.map_or_else(
            || Media::Url(url.to_owned()),
            |(kind, data)| Media::Base64 { media_type: kind.to_owned(), data: data.to_owned() },
        );
        Some(Part::Image { source, detail: None, cache: None })
    }));
    if let Some(text) = message.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        parts.push(Part::Refusal { text: text.to_owned() });
    }
    let old = message.get("function_call").filter(|call| call.is_object());
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let calls = calls.map(|call| (call.get("id").and_then(Value::as_str), call.get("function")));
    let mut seen: Vec<String> = Vec::new();
    for (id, function) in old.map(|call| (None, Some(call))).into_iter().chain(calls) {
        let Some(name) = function.and_then(|f| f.get("name")?.as_str()) else { continue };
        let arguments = match function.and_then(|f| f.get("arguments")) {
            Some(Value::String(text)) => text.clone(),
            Some(other @ Value::Object(_)) => other.to_string(),
            _ => String::new(),
        };
        let id = id.filter(|id| !id.is_empty() && !seen.iter().any(|s| s == id));
        let id = id.map_or_else(|| made_id(body, n as u32, seen.len()), str::to_owned);
        seen.push(id.clone());
        parts.push(Part::ToolCall { id, name: name.to_owned(), arguments, cache: None });
    }
    parts
}

/// A part of content: text, or thoughts as some sellers of thinking models write them.
fn add_content(parts: &mut Vec<Part>, part: &Value) {
    let text = |value: &Value| value.get("text").and_then(Value::as_str).map(str::to_owned);
    if let Some(list) = part.get("thinking").and_then(Value::as_array) {
        let text: String = list.iter().filter_map(text).collect();
        parts.push(Part::Reasoning { text, is_summary: false, signed: None });
    } else if let Some(text) = text(part) {
        parts.push(Part::text(text));
    }
}

/// Appends a whole answer. `more` is raw text with a leading comma.
pub(crate) fn push_answer(
    api: Api,
    head: &Head,
    answer: &Answer,
    billed: &Billed<'_>,
    more: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(AnswerHead::of(api, false, head).text());
    if let Some(tier) = &answer.service_tier {
        out.extend_from_slice(b"\"service_tier\":");
        push_string(out, tier);
        out.push(b',');
    }
    out.extend_from_slice(b"\"choices\":[");
    for (n, choice) in answer.choices.iter().enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"index\":" } else { b"{\"index\":" });
        push_u64(out, n as u64);
        if api == Api::Text {
            out.extend_from_slice(b",\"text\":");
            push_string(out, &text_of(&choice.parts));
        } else {
            push_message(out, &choice.parts);
        }
        push_logprobs(out, api, choice.logprobs_json.as_deref(), 0);
        push_end(out, choice.finish, choice.native_finish.as_deref());
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"usage\":");
    super::push_usage(billed, out);
    out.extend_from_slice(more);
    out.push(b'}');
}

fn text_of(parts: &[Part]) -> String {
    parts
        .iter()
        .filter_map(|part| if let Part::Text { text, .. } = part { Some(text.as_str()) } else { None })
        .collect()
}

fn push_message(out: &mut Vec<u8>, parts: &[Part]) {
    let is_silent = !parts.is_empty() && !parts.iter().any(|part| matches!(part, Part::Text { .. }));
    out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
    if is_silent {
        out.extend_from_slice(b"null");
    } else {
        push_string(out, &text_of(parts));
    }
    out.extend_from_slice(b",\"refusal\":");
    let refusal: String = parts
        .iter()
        .filter_map(|part| if let Part::Refusal { text } = part { Some(text.as_str()) } else { None })
        .collect();
    if refusal.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        push_string(out, &refusal);
    }
    details::push_reasoning(out, parts);
    push_calls(out, parts);
    push_images(out, parts);
    out.push(b'}');
}

fn push_calls(out: &mut Vec<u8>, parts: &[Part]) {
    let mut calls = 0;
    for part in parts {
        let Part::ToolCall { id, name, arguments, .. } = part else { continue };
        out.extend_from_slice(if calls == 0 { b",\"tool_calls\":[{\"id\":" } else { b",{\"id\":" });
        calls += 1;
        push_string(out, id);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        push_string(out, name);
        out.extend_from_slice(b",\"arguments\":");
        push_string(out, arguments);
        out.extend_from_slice(b"}}");
    }
    if calls > 0 {
        out.push(b']');
    }
}

fn push_images(out: &mut Vec<u8>, parts: &[Part]) {
    let mut images = 0;
    for part in parts {
        let url = match part {
            Part::Image { source: Media::Url(url), .. } => url.clone(),
            Part::Image { source: Media::Base64 { media_type, data }, .. } => {
                format!("data:{media_type};base64,{data}")
            }
            _ => continue,
        };
        out.extend_from_slice(if images == 0 { b",\"images\":[" } else { b"," });
        images += 1;
        out.extend_from_slice(b"{\"type\":\"image_url\",\"image_url\":{\"url\":");
        push_string(out, &url);
        out.extend_from_slice(b"}}");
    }
    if images > 0 {
        out.push(b']');
    }
}

#[cfg(test)]
mod tests;
