//! The messages of a chat, for a seller.
//!
//! A tool's message holds text alone in this grammar; what else a tool gave goes into a message of the user's
//! right behind the results, so that the model sees it where it belongs.

use super::Writer;
use crate::dialect::chat::{Chat, details};
use crate::dialect::neutral::{Media, Message, Part, Role};
use crate::error::ApiError;

/// Appends the array of messages.
pub(crate) fn push_messages(w: &mut Writer, messages: &[Message]) -> Result<(), ApiError> {
    w.raw("[");
    let start = w.out.len();
    let mut shown: Vec<&Part> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        if message.role == Role::Tool {
            for part in &message.parts {
                comma(w, start);
                push_result(w, n, part, &mut shown)?;
            }
            if messages.get(n + 1).is_none_or(|next| next.role != Role::Tool) && !shown.is_empty() {
                comma(w, start);
                w.raw("{\"role\":\"user\",\"content\":[");
                push_parts(w, n, std::mem::take(&mut shown).into_iter())?;
                w.raw("]}");
            }
            continue;
        }
        comma(w, start);
        push_message(w, n, message)?;
    }
    w.raw("]");
    Ok(())
}

fn comma(w: &mut Writer, start: usize) {
    if w.out.len() > start {
        w.raw(",");
    }
}

fn push_message(w: &mut Writer, n: usize, message: &Message) -> Result<(), ApiError> {
    let role = match message.role {
        Role::System => "system",
        Role::Developer if w.chat == Chat::Server => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant | Role::Tool => "assistant",
    };
    w.raw("{\"role\":\"");
    w.raw(role);
    w.raw("\"");
    w.member("name", message.name.as_deref());
    w.raw(",\"content\":");
    if role == "assistant" {
        push_spoken(w, n, &message.parts)?;
    } else {
        push_content(w, n, &message.parts)?;
    }
    w.raw("}");
    Ok(())
}

/// One string where that says it all, else parts.
fn push_content(w: &mut Writer, n: usize, parts: &[Part]) -> Result<(), ApiError> {
    if let [Part::Text { text, cache: None }] = parts {
        w.string(text);
        return Ok(());
    }
    if parts.is_empty() {
        w.raw("\"\"");
        return Ok(());
    }
    w.raw("[");
    push_parts(w, n, parts.iter())?;
    w.raw("]");
    Ok(())
}

fn push_parts<'a>(w: &mut Writer, n: usize, parts: impl Iterator<Item = &'a Part>) -> Result<(), ApiError> {
    let start = w.out.len();
    for part in parts {
        comma(w, start);
        push_part(w, n, part)?;
    }
    Ok(())
}

fn push_part(w: &mut Writer, n: usize, part: &Part) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        let field = format!("messages[{n}].content");
        let message = format!(
            "`{field}` holds {what}, which this model's sellers do not take: send it in another form"
        );
        Err(ApiError::field(field, message))
    };
    match part {
        Part::Text { text, cache } => {
            w.raw("{\"type\":\"text\",\"text\":");
            w.string(text);
            w.mark(*cache);
        }
        Part::Image { source, detail, cache } => {
            w.raw("{\"type\":\"image_url\",\"image_url\":{\"url\":");
            match source {
                Media::Url(url) => w.string(url),
                Media::Base64 { media_type, data } => push_data_url(w, media_type, data),
                Media::Id(_) | Media::Text(_) => return refuse("a picture that lies at another seller"),
            }
            w.member("detail", detail.as_deref());
            w.raw("}");
            w.mark(*cache);
        }
        Part::Audio { source } => {
            let Media::Base64 { media_type, data } = source else {
                return refuse("sound that is not in the request");
            };
            w.raw("{\"type\":\"input_audio\",\"input_audio\":{\"data\":");
            w.string(data);
            w.raw(",\"format\":");
            w.string(sound_word(media_type));
            w.raw("}");
        }
        Part::File { source, filename, cache } => match source {
            Media::Text(text) => {
                w.raw("{\"type\":\"text\",\"text\":");
                w.string(text);
                w.mark(*cache);
            }
            Media::Base64 { media_type, data } => {
                w.raw("{\"type\":\"file\",\"file\":{\"file_data\":");
                push_data_url(w, media_type, data);
                w.member("filename", filename.as_deref());
                w.raw("}");
                w.mark(*cache);
            }
            Media::Url(url) if w.chat == Chat::Router => {
                w.raw("{\"type\":\"file\",\"file\":{\"file_data\":");
                w.string(url);
                w.member("filename", filename.as_deref());
                w.raw("}");
                w.mark(*cache);
            }
            Media::Url(_) | Media::Id(_) => return refuse("a document that is not in the request"),
        },
        Part::Refusal { text } => {
            w.raw("{\"type\":\"refusal\",\"refusal\":");
            w.string(text);
        }
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Reasoning { .. } => {
            return refuse("a part that belongs to another role");
        }
    }
    w.raw("}");
    Ok(())
}

fn push_data_url(w: &mut Writer, media_type: &str, data: &str) {
    w.string(&format!("data:{media_type};base64,{data}"));
}

/// `wav` of `audio/wav`; some types have longer names than this grammar's word.
fn sound_word(media_type: &str) -> &str {
    match media_type.strip_prefix("audio/").unwrap_or(media_type) {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        word => word,
    }
}

/// The model's own turn: its text, thoughts, refusal and calls.
fn push_spoken(w: &mut Writer, n: usize, parts: &[Part]) -> Result<(), ApiError> {
    let said = |part: &&Part| {
        matches!(part, Part::Text { .. } | Part::Image { .. } | Part::Audio { .. } | Part::File { .. })
    };
    let said: Vec<Part> = parts.iter().filter(said).cloned().collect();
    if said.is_empty() {
        w.raw("null");
    } else {
        push_content(w, n, &said)?;
    }
    for part in parts {
        if let Part::Refusal { text } = part {
            w.member("refusal", Some(text));
        }
    }
    push_thoughts(w, parts);
    let mut calls = 0;
    for part in parts {
        let Part::ToolCall { id, name, arguments, cache } = part else { continue };
        w.raw(if calls == 0 { ",\"tool_calls\":[{\"id\":" } else { ",{\"id\":" });
        calls += 1;
        w.string(id);
        w.raw(",\"type\":\"function\",\"function\":{\"name\":");
        w.string(name);
        w.raw(",\"arguments\":");
        w.string(arguments);
        w.raw("}");
        if w.chat == Chat::Router {
            w.mark(*cache);
        }
        w.raw("}");
    }
    if calls > 0 {
        w.raw("]");
    }
    Ok(())
}

/// Routers know whose signature is whose; servers read shown thoughts; OpenAI takes none back.
fn push_thoughts(w: &mut Writer, parts: &[Part]) {
    match w.chat {
        Chat::Router => details::push_reasoning(&mut w.out, parts),
        Chat::Server => {
            let mut shown = String::new();
            for part in parts {
                let Part::Reasoning { text, signed, .. } = part else { continue };
                if signed.is_some() {
                    w.leave_out("reasoning_details", "signed by another seller, left out");
                }
                shown.push_str(text);
            }
            w.member("reasoning_content", (!shown.is_empty()).then_some(&shown));
        }
        Chat::Strict => {
            if parts.iter().any(|part| matches!(part, Part::Reasoning { .. })) {
                w.leave_out("reasoning", "this seller takes no thoughts back, left out");
            }
        }
    }
}

/// What a tool answered. Media go to `shown`.
fn push_result<'a>(
    w: &mut Writer,
    n: usize,
    part: &'a Part,
    shown: &mut Vec<&'a Part>,
) -> Result<(), ApiError> {
    let Part::ToolResult { call_id, content, is_error, cache } = part else {
        let field = format!("messages[{n}]");
        return Err(ApiError::field(field, "a tool's message holds only results of calls"));
    };
    w.raw("{\"role\":\"tool\",\"tool_call_id\":");
    w.string(call_id);
    w.raw(",\"content\":");
    let (texts, media): (Vec<&Part>, Vec<&Part>) =
        content.iter().partition(|p| matches!(p, Part::Text { .. }));
    match texts.as_slice() {
        [Part::Text { text, cache: None }] => w.string(text),
        [] => w.raw("\"\""),
        _ => {
            w.raw("[");
            push_parts(w, n, texts.into_iter())?;
            w.raw("]");
        }
    }
    if !media.is_empty() {
        w.leave_out("messages.content", "what a tool showed was moved into a message behind its result");
        shown.extend(media);
    }
    if *is_error {
        w.leave_out("messages.is_error", "this grammar has no place for it, left out");
    }
    if w.chat == Chat::Router {
        w.mark(*cache);
    }
    w.raw("}");
    Ok(())
}
