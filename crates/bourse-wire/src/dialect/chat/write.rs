//! A neutral request as a chat for a seller.
//!
//! Sellers of this grammar differ in what they take beyond OpenAI's page, and most refuse what they do not
//! know; [`Chat`] tells the three families apart. What a family has no place for is left out with a notice when
//! that cannot mislead, and refused with the field's name when it would.

mod messages;

use super::Chat;
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{
    CacheMark, Effort, Notice, Reasoning, Request, ResponseFormat, Tool, ToolChoice,
};
use crate::error::ApiError;
use crate::json::{push_string, push_u64};
use bytes::Bytes;

pub(super) use messages::push_messages;

/// The answer's length that shares of thinking are taken from when nobody sets one, in tokens.
const ANSWER_TOKENS_USUAL: u32 = 8_192;

/// Collects a body and what is left out of it.
pub(super) struct Writer {
    pub(super) chat: Chat,
    /// Whether the model takes OpenAI's marks on the prompt's cache.
    pub(super) has_breakpoints: bool,
    pub(super) out: Vec<u8>,
    pub(super) notices: Vec<Notice>,
}

impl Writer {
    pub(super) fn new(chat: Chat) -> Self {
        Self { chat, has_breakpoints: false, out: Vec::with_capacity(1_024), notices: Vec::new() }
    }

    /// Says once that a field was left out.
    pub(super) fn leave_out(&mut self, param: &'static str, what: &'static str) {
        let notice = Notice::new(param, what);
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        push_string(&mut self.out, text);
    }

    /// `,"name":"text"`, if there is a text.
    pub(super) fn member(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.key(name);
            self.string(text);
        }
    }

    fn key(&mut self, name: &str) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
    }

    fn whole(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(name);
            push_u64(&mut self.out, value);
        }
    }

    fn boolean(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(name);
            self.raw(if value { "true" } else { "false" });
        }
    }

    /// A number as JSON has it; ranges were checked, so it is finite.
    fn number(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.key(name);
            self.raw(&serde_json::Value::from(value).to_string());
        }
    }

    /// A mark after a part, as the family writes it.
    pub(super) fn mark(&mut self, mark: Option<CacheMark>) {
        let Some(CacheMark { ttl_s }) = mark else { return };
        match self.chat {
            Chat::Router => {
                self.raw(",\"cache_control\":{\"type\":\"ephemeral\"");
                match ttl_s {
                    Some(3_600) => self.raw(",\"ttl\":\"1h\""),
                    Some(300) => self.raw(",\"ttl\":\"5m\""),
                    Some(seconds) => {
                        self.raw(",\"ttl\":\"");
                        push_u64(&mut self.out, u64::from(seconds));
                        self.raw("s\"");
                    }
                    None => {}
                }
                self.raw("}");
            }
            Chat::Strict if self.has_breakpoints => {
                self.raw(",\"prompt_cache_breakpoint\":{\"mode\":\"explicit\"}");
            }
            Chat::Strict | Chat::Server => {
                self.leave_out("cache_control", "this seller keeps prefixes by itself, left out");
            }
        }
    }
}

/// The body of a call.
pub(super) fn write(chat: Chat, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    let mut w = Writer::new(chat);
    w.has_breakpoints = takes_breakpoints(call.upstream_id);
    w.raw("{\"model\":");
    w.string(call.upstream_id);
    w.raw(",\"messages\":");
    push_messages(&mut w, &request.messages)?;
    push_tools(&mut w, request);
    push_format(&mut w, &request.response_format);
    push_thinking(&mut w, request, call);
    let limit = if chat == Chat::Strict { "max_completion_tokens" } else { "max_tokens" };
    w.whole(limit, call.max_tokens(request).map(u64::from));
    push_sampling(&mut w, request);
    push_wishes(&mut w, request);
    if call.stream {
        w.raw(",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    }
    w.raw("}");
    Ok(Written { body: Bytes::from(w.out), notices: w.notices })
}

/// Whether a model of OpenAI's takes explicit marks: GPT-5.6 and later.
/// Source: OpenAI's guide to prompt caching, 2026-10.
fn takes_breakpoints(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let Some(version) = name.strip_prefix("gpt-") else { return false };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = version.split_at(digits(version));
    let minor = rest.strip_prefix('.').map_or("", |rest| &rest[..digits(rest)]);
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    (number(major), number(minor)) >= (5, 6)
}

pub(super) fn push_tool_list(w: &mut Writer, tools: &[Tool]) {
    w.raw("[");
    for (n, tool) in tools.iter().enumerate() {
        w.raw(if n > 0 {
            ",{\"type\":\"function\",\"function\":{\"name\":"
        } else {
            "{\"type\":\"function\",\"function\":{\"name\":"
        });
        w.string(&tool.name);
        w.member("description", tool.description.as_deref());
        if let Some(parameters) = &tool.parameters {
            w.raw(",\"parameters\":");
            w.raw(parameters.as_str());
        }
        w.boolean("strict", tool.strict);
        w.raw("}");
        if w.chat == Chat::Router {
            w.mark(tool.cache);
        } else if tool.cache.is_some() {
            w.leave_out("tools.cache_control", "this seller keeps prefixes by itself, left out");
        }
        w.raw("}");
    }
    w.raw("]");
}

fn push_tools(w: &mut Writer, request: &Request) {
    if !request.tools.is_empty() {
        w.raw(",\"tools\":");
        push_tool_list(w, &request.tools);
    }
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => w.raw(",\"tool_choice\":\"auto\""),
        Some(ToolChoice::None) => w.raw(",\"tool_choice\":\"none\""),
        Some(ToolChoice::Required) => w.raw(",\"tool_choice\":\"required\""),
        Some(ToolChoice::Tool(name)) => {
            w.raw(",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":");
            w.string(name);
            w.raw("}}");
        }
    }
    w.boolean("parallel_tool_calls", request.parallel_tool_calls);
}

fn push_format(w: &mut Writer, format: &ResponseFormat) {
    match format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => w.raw(",\"response_format\":{\"type\":\"json_object\"}"),
        ResponseFormat::JsonSchema { name, description, schema, strict } => {
            w.raw(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":");
            w.string(name);
            w.member("description", description.as_deref());
            w.raw(",\"schema\":");
            w.raw(schema.as_str());
            w.boolean("strict", *strict);
            w.raw("}}");
        }
    }
}

/// A router takes the whole object, others a word.
fn push_thinking(w: &mut Writer, request: &Request, call: &Call<'_>) {
    let Some(reasoning) = &request.reasoning else { return };
    let Reasoning { enabled, effort, max_tokens, exclude, summary } = reasoning;
    if w.chat == Chat::Router {
        w.raw(",\"reasoning\":{");
        let start = w.out.len();
        w.boolean("enabled", *enabled);
        w.member("effort", effort.map(Effort::as_str));
        w.whole("max_tokens", max_tokens.map(u64::from));
        w.boolean("exclude", exclude.then_some(true));
        w.member("summary", summary.as_deref());
        if w.out.len() > start {
            w.out.remove(start);
        }
        w.raw("}");
        return;
    }
    let budget = max_tokens.map(|tokens| {
        Effort::of_budget(tokens, call.max_tokens(request).unwrap_or(ANSWER_TOKENS_USUAL).max(tokens))
    });
    let effort = match (enabled, effort.or(budget)) {
        (Some(false), _) => Some(Effort::None),
        (_, Some(Effort::Max)) => Some(Effort::XHigh),
        (_, effort) => effort,
    };
    w.member("reasoning_effort", effort.map(Effort::as_str));
    if max_tokens.is_some() {
        w.leave_out("reasoning.max_tokens", "this seller knows only words for it, the nearest was sent");
    }
}

fn push_sampling(w: &mut Writer, request: &Request) {
    w.number("temperature", request.temperature);
    w.number("top_p", request.top_p);
    w.number("presence_penalty", request.presence_penalty);
    w.number("frequency_penalty", request.frequency_penalty);
    if w.chat == Chat::Strict {
        let absent = "not a parameter of this seller, left out";
        for (name, given) in [
            ("top_k", request.top_k.is_some()),
            ("min_p", request.min_p.is_some()),
            ("repetition_penalty", request.repetition_penalty.is_some()),
        ] {
            if given {
                w.leave_out(name, absent);
            }
        }
    } else {
        w.whole("top_k", request.top_k.map(u64::from));
        w.number("min_p", request.min_p);
        w.number("repetition_penalty", request.repetition_penalty);
    }
    if !request.logit_bias.is_empty() {
        w.raw(",\"logit_bias\":{");
        for (n, (token, bias)) in request.logit_bias.iter().enumerate() {
            w.raw(if n > 0 { ",\"" } else { "\"" });
            push_u64(&mut w.out, u64::from(*token));
            w.raw("\":");
            w.raw(&serde_json::Value::from(*bias).to_string());
        }
        w.raw("}");
    }
    if let Some(alternatives) = request.logprobs {
        w.boolean("logprobs", Some(true));
        w.whole("top_logprobs", Some(u64::from(alternatives)));
    }
    if !request.stop.is_empty() {
        w.raw(",\"stop\":[");
        for (n, stop) in request.stop.iter().enumerate() {
            w.raw(if n > 0 { "," } else { "" });
            w.string(stop);
        }
        w.raw("]");
    }
    if let Some(seed) = request.seed {
        w.key("seed");
        w.raw(&seed.to_string());
    }
    w.whole("n", (request.choices > 1).then_some(u64::from(request.choices)));
}

fn push_wishes(w: &mut Writer, request: &Request) {
    if w.chat == Chat::Server {
        if request.verbosity.is_some() {
            w.leave_out("verbosity", "not a parameter of this seller, left out");
        }
    } else {
        w.member("verbosity", request.verbosity.as_deref());
        w.member("prompt_cache_key", request.prompt_cache_key.as_deref());
        w.member("service_tier", request.service_tier.as_deref());
    }
    w.member("user", request.user.as_deref());
    if w.chat == Chat::Router {
        w.mark(request.cache);
    }
}

#[cfg(test)]
mod tests;
