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

use super::item::{Said, Thoughts};
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{
    CacheMark, Effort, Media, Message, Notice, Origin, Part, Reasoning, Request, ResponseFormat, Role, Tool,
    ToolChoice,
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

    fn message(&mut self, role: &str, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        self.open("message");
        self.string("role", role);
        self.key("content");
        self.contents(at, parts)?;
        self.out.push(b'}');
        Ok(())
    }

    fn contents(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        self.out.push(b'[');
        for part in parts {
            self.content(at, part)?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// A part of what the buyer's side says.
    fn content(&mut self, at: &str, part: &Part) -> Result<(), ApiError> {
        match part {
            // A document that is text is said as text.
            Part::Text { text, cache } | Part::File { source: Media::Text(text), cache, .. } => {
                self.open("input_text");
                self.string("text", text);
                self.mark(*cache);
            }
            Part::Image { source, detail, cache } => {
                self.open("input_image");
                self.string("detail", detail.as_deref().unwrap_or("auto"));
                match source {
                    Media::Url(url) => self.string("image_url", url),
                    Media::Base64 { media_type, data } => {
                        self.string("image_url", &format!("data:{media_type};base64,{data}"));
                    }
                    Media::Id(id) => self.string("file_id", id),
                    Media::Text(_) => return Err(unsayable(at, "a picture as text")),
                }
                self.mark(*cache);
            }
            Part::File { source, filename, cache } => {
                self.open("input_file");
                match source {
                    Media::Url(url) => self.string("file_url", url),
                    Media::Base64 { media_type, data } => {
                        self.string("file_data", &format!("data:{media_type};base64,{data}"));
                    }
                    Media::Id(id) => self.string("file_id", id),
                    Media::Text(_) => {}
                }
                if let Some(filename) = filename {
                    self.string("filename", filename);
                }
                self.mark(*cache);
            }
            Part::Audio { source: Media::Base64 { media_type, data } } => {
                self.open("input_audio");
                self.key("input_audio");
                self.out.push(b'{');
                self.string("data", data);
                self.string("format", media_type.strip_prefix("audio/").unwrap_or(media_type));
                self.out.push(b'}');
            }
            Part::Audio { .. } => return Err(unsayable(at, "sound that is not in the request")),
            Part::Refusal { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. } => {
                return Err(unsayable(at, "what only a model or a tool says"));
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn mark(&mut self, mark: Option<CacheMark>) {
        let Some(mark) = mark else { return };
        let ttl = match mark.ttl_s {
            None => "{\"mode\":\"explicit\"}",
            Some(ttl_s) if ttl_s <= TTL_SHORT_S => "{\"mode\":\"explicit\",\"ttl\":\"30m\"}",
            Some(_) => "{\"mode\":\"explicit\",\"ttl\":\"12h\"}",
        };
        self.raw("prompt_cache_breakpoint", ttl);
    }

    /// What the model said: texts that touch are one message, calls and thoughts are items of their own.
    fn assistant(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        let mut is_open = false;
        for part in parts {
            if let Part::Text { .. } | Part::Refusal { .. } = part {
                if !std::mem::replace(&mut is_open, true) {
                    self.open("message");
                    self.string("role", "assistant");
                    self.key("content");
                    self.out.push(b'[');
                }
                self.said(at, part);
                continue;
            }
            if std::mem::take(&mut is_open) {
                self.out.extend_from_slice(b"]}");
            }
            match part {
                Part::ToolCall { id, name, arguments, cache } => {
                    self.open("function_call");
                    self.string("call_id", &call_id(id));
                    self.string("name", name);
                    self.string("arguments", arguments);
                    self.out.push(b'}');
                    self.unmarked(at, *cache);
                }
                Part::Reasoning { .. } => self.thoughts(at, part),
                _ => return Err(unsayable(at, "media in an answer of the model")),
            }
        }
        if is_open {
            self.out.extend_from_slice(b"]}");
        }
        Ok(())
    }

    fn said(&mut self, at: &str, part: &Part) {
        match part {
            Part::Text { text, cache } => {
                self.open("output_text");
                self.string("text", text);
                self.unmarked(at, *cache);
            }
            Part::Refusal { text } => {
                self.open("refusal");
                self.string("refusal", text);
            }
            _ => return,
        }
        self.out.push(b'}');
    }

    fn unmarked(&mut self, at: &str, mark: Option<CacheMark>) {
        if mark.is_some() {
            self.notice(format!("{at}.cache_control"), "no mark is possible there, left out");
        }
    }

    fn thoughts(&mut self, at: &str, part: &Part) {
        let Part::Reasoning { text, is_summary, signed } = part else { return };
        let param = format!("{at}.reasoning");
        let Some(signed) = signed else { return self.notice(param, "not signed, left out") };
        if signed.origin != Origin::OpenAi || !signed.is_encrypted {
            return self.notice(param, "signed by another seller, left out");
        }
        self.open("reasoning");
        if let Some(id) = &signed.id {
            self.string("id", id);
        }
        let text = Said::Plain(text);
        Thoughts { text, is_summary: *is_summary, signed: Some(signed) }.push_members(&mut self.out);
        self.out.push(b'}');
    }

    fn results(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        for part in parts {
            let Part::ToolResult { call_id: id, content, is_error, cache } = part else {
                return Err(unsayable(at, "anything but a result in a message of a tool"));
            };
            self.open("function_call_output");
            self.string("call_id", &call_id(id));
            match content.as_slice() {
                [] => self.string("output", ""),
                [Part::Text { text, cache: None }] => self.string("output", text),
                parts => {
                    self.key("output");
                    self.contents(at, parts)?;
                }
            }
            self.out.push(b'}');
            self.unmarked(at, *cache);
            if *is_error {
                self.notice(format!("{at}.is_error"), "this seller knows no such flag, left out");
            }
        }
        Ok(())
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

/// The id itself, or what stands for one that is too long.
fn call_id(id: &str) -> Cow<'_, str> {
    if id.len() <= CALL_ID_BYTES_MAX {
        return Cow::Borrowed(id);
    }
    let hash = blake3::hash(id.as_bytes()).to_hex();
    Cow::Owned(format!("call_{}", &hash.as_str()[..32]))
}

fn unsayable(at: &str, what: &str) -> ApiError {
    ApiError::field(at.to_owned(), format!("`{at}` holds {what}, which this seller's grammar cannot say"))
}
