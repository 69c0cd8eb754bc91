//! What an answer repeats of its request, and what a seller is told beyond it.
//!
//! The clients' schemas demand the request's parameters in every response object. They are copied as the buyer
//! wrote them; those that he left out get OpenAI's defaults. `store` is always `false`.

use super::item::is_unreadable;
use crate::dialect::fields::unescaped;
use crate::dialect::{Api, Job, Member};
use crate::json::{JsonError, Walk};

/// Members that are repeated, and what stands for those that are missing.
const ECHOED: [(&str, &str); 20] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", "{\"effort\":null,\"summary\":null}"),
    ("safety_identifier", "null"),
    ("service_tier", "null"),
    ("temperature", "1"),
    ("text", "{\"format\":{\"type\":\"text\"}}"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
];

/// The members of a response object that repeat the request: `"background":false,"instructions":…`, without a
/// comma at either end. Empty for jobs of other grammars.
pub fn echo(job: &Job) -> String {
    let mut out = String::new();
    if job.api != Api::Responses {
        return out;
    }
    out.push_str("\"background\":false,\"store\":false");
    for (name, default) in ECHOED {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        match member(job, name) {
            Some(raw) if name == "tools" => push_tools(&mut out, raw),
            Some(raw) => out.push_str(raw),
            None => out.push_str(default),
        }
    }
    out
}

/// What is said to every seller of this grammar: nothing is stored; and where the model thinks, its thoughts come
/// back encrypted, because they cannot be looked up later.
pub(in crate::dialect) fn push_rebuilt(job: &Job, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"store\":false");
    if member(job, "reasoning").is_some() && member(job, "include").is_none() {
        out.extend_from_slice(b",\"include\":[\"reasoning.encrypted_content\"]");
    }
}

/// The input without thoughts that no seller could read; see [`is_unreadable`].
pub(in crate::dialect) fn push_clean(input: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    let start = out.len();
    // The text was walked when the job was parsed; a second failure would leave items out.
    let walked = Walk::new(input).items::<JsonError>(|walk| {
        let item = walk.value()?;
        let item = walk.text(item);
        if !is_unreadable(item) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(item.as_bytes());
        }
        Ok(())
    });
    debug_assert!(walked.is_ok(), "{walked:?}");
    out.push(b']');
}

/// The text of a member that is there and not null.
pub(super) fn member<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    let is_it = |m: &&Member| unescaped(job.text(&m.key)) == name;
    let member = job.members.iter().find(is_it)?;
    Some(job.text(&member.value)).filter(|raw| *raw != "null")
}

/// Functions may come without `parameters` and `strict`, and clients want to see both.
fn push_tools(out: &mut String, raw: &str) {
    let start = out.len();
    if push_each_tool(out, raw).is_err() {
        out.truncate(start);
        out.push_str(raw);
    }
}

fn push_each_tool(out: &mut String, raw: &str) -> Result<(), JsonError> {
    let mut walk = Walk::new(raw);
    out.push('[');
    let mut is_first = true;
    walk.items::<JsonError>(|walk| {
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        walk.peek();
        let start = walk.at();
        let (mut is_function, mut has_parameters, mut has_strict) = (false, false, false);
        walk.members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            match walk.text(key) {
                "type" => is_function = walk.text(value) == "\"function\"",
                "parameters" => has_parameters = true,
                "strict" => has_strict = true,
                _ => {}
            }
            Ok(())
        })?;
        let tool = walk.text(start..walk.at());
        let tool = if is_function { tool.strip_suffix('}').unwrap_or(tool) } else { tool };
        out.push_str(tool);
        if is_function {
            out.push_str(if has_parameters { "" } else { ",\"parameters\":null" });
            out.push_str(if has_strict { "" } else { ",\"strict\":null" });
            out.push('}');
        }
        Ok(())
    })?;
    out.push(']');
    Ok(())
}
