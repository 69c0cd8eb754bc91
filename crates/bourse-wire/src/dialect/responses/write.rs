//! Requests for sellers.
//!
//! - One leading system text becomes `instructions`; other rules stay messages where they stood.
//! - `store` is always false, so thoughts are asked for encrypted wherever the model thinks.
//! - `strict` is always said, because its absence means true here and false elsewhere.
//! - Thoughts go back only to who made them; see [`neutral`](crate::dialect::neutral).
//! - `stop`, several choices and `logit_bias` change what the buyer gets and have no place here: refused by name.
//!   Other sampling rules, marks and flags without a place are left out with a notice.
//! - Ids of calls are at most [`CALL_ID_BYTES_MAX`] bytes; a longer one is replaced by its hash, the same in call
//!   and result.

mod items;

use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{
    Effort, Message, Notice, Part, Reasoning, Request, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::error::ApiError;
use crate::json::{push_string, push_u64};
use bytes::Bytes;
use std::borrow::Cow;

/// Longest id of a call that OpenAI takes.
pub(super) const CALL_ID_BYTES_MAX: usize = 64;
/// Schema of a function without arguments.
const NO_ARGUMENTS: &str = "{\"type\":\"object\",\"properties\":{}}";
/// Tokens of an answer, where a thinking budget must become a word and no limit is known.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;

/// Writes the body of a call.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut writer = Writer { out: Vec::with_capacity(1_024), notices: Vec::new() };
    writer.out.extend_from_slice(b"{\"model\":");
    push_string(&mut writer.out, call.upstream_id);
    writer.messages(&request.messages)?;
    if !request.tools.is_empty() {
        writer.tools(&request.tools);
    }
    writer.rules(request, call);
    writer.text(request);
    writer.reasoning(request, call);
    if call.stream {
        writer.raw("stream", "true");
    }
    writer.out.extend_from_slice(b",\"store\":false}");
    writer.notice_sampling(request);
    Ok(Written { body: Bytes::from(writer.out), notices: writer.notices })
}

/// What cannot be said and must not be dropped.
fn refuse(request: &Request) -> Result<(), ApiError> {
    let refused = |param: &'static str, what: &str| {
        Err(ApiError::field(
            param,
            format!("`{param}` {what} with this seller: leave it out, or name others in `provider.only`"),
        ))
    };
    if !request.stop.is_empty() {
        return refused("stop", "is not possible");
    }
    if request.choices > 1 {
        return refused("n", "above 1 is not possible");
    }
    if !request.logit_bias.is_empty() {
        return refused("logit_bias", "is not possible");
    }
    Ok(())
}

struct Writer {
    out: Vec<u8>,
    notices: Vec<Notice>,
}

impl Writer {
    fn key(&mut self, key: &str) {
        if !matches!(self.out.last(), Some(b'{')) {
            self.out.push(b',');
        }
        push_string(&mut self.out, key);
        self.out.push(b':');
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    fn string(&mut self, key: &str, text: &str) {
        self.key(key);
        push_string(&mut self.out, text);
    }

    fn number(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            self.raw(key, &value.to_string());
        }
    }

    fn whole(&mut self, key: &str, value: u32) {
        self.key(key);
        push_u64(&mut self.out, u64::from(value));
    }

    fn notice(&mut self, param: impl Into<Cow<'static, str>>, what: &'static str) {
        self.notices.push(Notice::new(param, what));
    }

    fn messages(&mut self, messages: &[Message]) -> Result<(), ApiError> {
        let mut rest = messages;
        if let [Message { role: Role::System, parts, name: None }, more @ ..] = messages
            && let [Part::Text { text, cache: None }] = parts.as_slice()
        {
            self.string("instructions", text);
            rest = more;
        }
        let first = messages.len() - rest.len();
        self.key("input");
        self.out.push(b'[');
        for (n, message) in rest.iter().enumerate() {
            let at = format!("messages[{}]", first + n);
            if message.name.is_some() {
                self.notice(format!("{at}.name"), "this seller knows no names, left out");
            }
            match message.role {
                Role::Assistant => self.assistant(&at, &message.parts)?,
                Role::Tool => self.results(&at, &message.parts)?,
                Role::System => self.message("system", &at, &message.parts)?,
                Role::Developer => self.message("developer", &at, &message.parts)?,
                Role::User => self.message("user", &at, &message.parts)?,
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// Begins one item, or one part, of a list.
    fn open(&mut self, kind: &str) {
        if !matches!(self.out.last(), Some(b'[')) {
            self.out.push(b',');
        }
        self.out.push(b'{');
        self.string("type", kind);
    }

    fn tools(&mut self, tools: &[Tool]) {
        self.key("tools");
        self.out.push(b'[');
        for (n, tool) in tools.iter().enumerate() {
            self.open("function");
            self.string("name", &tool.name);
            if let Some(description) = &tool.description {
                self.string("description", description);
            }
            self.raw("parameters", tool.parameters.as_ref().map_or(NO_ARGUMENTS, |p| p.as_str()));
            self.raw("strict", if tool.strict == Some(true) { "true" } else { "false" });
            self.out.push(b'}');
            self.unmarked(&format!("tools[{n}]"), tool.cache);
        }
        self.out.push(b']');
    }

    fn rules(&mut self, request: &Request, call: &Call<'_>) {
        match &request.tool_choice {
            None => {}
            Some(ToolChoice::Auto) => self.string("tool_choice", "auto"),
            Some(ToolChoice::None) => self.string("tool_choice", "none"),
            Some(ToolChoice::Required) => self.string("tool_choice", "required"),
            Some(ToolChoice::Tool(name)) => {
                self.key("tool_choice");
                self.out.push(b'{');
                self.string("type", "function");
                self.string("name", name);
                self.out.push(b'}');
            }
        }
        if let Some(parallel) = request.parallel_tool_calls {
            self.raw("parallel_tool_calls", if parallel { "true" } else { "false" });
        }
        if let Some(max_tokens) = call.max_tokens(request) {
            self.whole("max_output_tokens", max_tokens);
        }
        self.number("temperature", request.temperature);
        self.number("top_p", request.top_p);
        if let Some(logprobs) = request.logprobs {
            self.whole("top_logprobs", u32::from(logprobs));
        }
        for (key, text) in [
            ("user", &request.user),
            ("prompt_cache_key", &request.prompt_cache_key),
            ("service_tier", &request.service_tier),
        ] {
            if let Some(text) = text {
                self.string(key, text);
            }
        }
    }

    fn text(&mut self, request: &Request) {
        if request.response_format == ResponseFormat::Text && request.verbosity.is_none() {
            return;
        }
        self.key("text");
        self.out.push(b'{');
        match &request.response_format {
            ResponseFormat::Text => {}
            ResponseFormat::JsonObject => self.raw("format", "{\"type\":\"json_object\"}"),
            ResponseFormat::JsonSchema { name, description, schema, strict } => {
                self.key("format");
                self.out.push(b'{');
                self.string("type", "json_schema");
                self.string("name", name);
                if let Some(description) = description {
                    self.string("description", description);
                }
                self.raw("schema", schema.as_str());
                self.raw("strict", if *strict == Some(true) { "true" } else { "false" });
                self.out.push(b'}');
            }
        }
        if let Some(verbosity) = &request.verbosity {
            self.string("verbosity", verbosity);
        }
        self.out.push(b'}');
    }

    fn reasoning(&mut self, request: &Request, call: &Call<'_>) {
        let thinking = request.reasoning.as_ref();
        let effort = thinking.and_then(|r| effort(r, call.max_tokens(request)));
        let is_on = thinking.is_some_and(|r| r.enabled != Some(false)) && effort != Some(Effort::None);
        if let Some(thinking) = thinking {
            self.key("reasoning");
            self.out.push(b'{');
            if let Some(effort) = effort {
                self.string("effort", effort.as_str());
            }
            if let Some(summary) = thinking.summary.as_deref().filter(|_| is_on && !thinking.exclude) {
                self.string("summary", summary);
            }
            self.out.push(b'}');
            if thinking.max_tokens.is_some() {
                self.notice(
                    "reasoning.max_tokens",
                    "this seller knows only words, sent as `reasoning.effort`",
                );
            }
        }
        let wanted = [
            (is_on, "reasoning.encrypted_content"),
            (request.logprobs.is_some(), "message.output_text.logprobs"),
        ];
        if wanted.iter().any(|(is_wanted, _)| *is_wanted) {
            let words: Vec<&str> = wanted.iter().filter(|w| w.0).map(|w| w.1).collect();
            self.raw("include", &format!("[\"{}\"]", words.join("\",\"")));
        }
    }

    fn notice_sampling(&mut self, request: &Request) {
        for (param, is_given) in [
            ("top_k", request.top_k.is_some_and(|k| k > 0)),
            ("min_p", request.min_p.is_some_and(|p| p > 0.0)),
            ("presence_penalty", request.presence_penalty.is_some_and(|p| p != 0.0)),
            ("frequency_penalty", request.frequency_penalty.is_some_and(|p| p != 0.0)),
            (
                "repetition_penalty",
                request.repetition_penalty.is_some_and(|p| (p - 1.0).abs() > f64::EPSILON),
            ),
            ("seed", request.seed.is_some()),
            ("cache_control", request.cache.is_some()),
        ] {
            if is_given {
                self.notice(param, "this seller does not know it, left out");
            }
        }
    }
}

/// The longer of the two times that a marked prompt is kept begins above this, in seconds.
pub(super) const TTL_SHORT_S: u32 = 1_800;

fn effort(thinking: &Reasoning, max_tokens: Option<u32>) -> Option<Effort> {
    if thinking.enabled == Some(false) {
        return Some(Effort::None);
    }
    let of_budget = |budget: u32| {
        let tokens = max_tokens.unwrap_or(ANSWER_TOKENS_ASSUMED.max(budget));
        Effort::of_budget(budget, tokens)
    };
    thinking.effort.or_else(|| thinking.max_tokens.map(of_budget))
}
