//! The OpenAI dialect, requests: `chat/completions` and legacy `completions`.
//!
//! One pass over the body finds its members and checks the grammar; known members are then read and
//! checked against OpenAI's ranges, unknown ones are kept for the seller. A known member must not occur
//! twice: two readers could disagree about which one counts, and the dearer model would slip past its
//! price. For the same reason keys are compared after their escapes are resolved.
//!
//! [`Job::rebuild`] writes the body for a seller: the model's upstream id put in, usage asked for on
//! streams, our own members left out, everything else copied byte for byte.

mod rebuild;

use super::fields::{self, Routed, RoutingDraft, known_once, members_bounded, unescaped, wrong};
use super::{
    Api, BODY_BYTES_MAX, CHOICES_MAX, Job, MAX_TOKENS_MAX, MESSAGES_MAX, Member, MemberRule, Needs,
    TOOLS_MAX, TOP_K_MAX, TOP_LOGPROBS_MAX, chat,
};
use crate::error::{ApiError, ErrorType};
use crate::json::{self, JsonError, Walk};
use crate::node::Sampling;
use bytes::Bytes;
use std::ops::Range;

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        Self::new(ErrorType::InvalidRequest, format!("the body is not usable: {error}"))
    }
}

/// Reads a request.
pub fn parse(api: Api, body: Bytes) -> Result<Job, ApiError> {
    let mut walk = walk_body(&body)?;
    let mut draft = Draft { api, members: Vec::with_capacity(MEMBERS_ORDINARY), ..Draft::default() };
    walk.members(|walk, key| draft.member(walk, key))?;
    walk.finish()?;
    draft.finish(body)
}

/// The start of a body of fair size that is text throughout and begins an object.
pub(super) fn walk_body(body: &Bytes) -> Result<Walk<'_>, ApiError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(body_too_large());
    }
    let text = std::str::from_utf8(body).map_err(|e| {
        let at = e.valid_up_to();
        ApiError::new(
            ErrorType::InvalidRequest,
            format!("the body is not valid UTF-8 at byte {at}: send JSON encoded as UTF-8"),
        )
    })?;
    let mut walk = Walk::new(text);
    if walk.peek() != b'{' {
        return Err(ApiError::new(ErrorType::InvalidRequest, "the body must be a JSON object"));
    }
    match fields::next_lone_surrogate(text, 0) {
        Some(at) => Err(no_character(text, at)),
        None => Ok(walk),
    }
}

/// The error for half of a surrogate pair at byte `at`. Readers disagree about such text and most refuse it, so it goes to
/// no seller, whatever member holds it.
fn no_character(text: &str, at: usize) -> ApiError {
    let field = match json::path_at(text, at) {
        Ok(field) => field,
        Err(error) => return error.into(),
    };
    let message = format!(
        "`{field}` holds half of a surrogate pair (\\ud800 to \\udfff), which is no character: send text as UTF-8"
    );
    ApiError::field(field, message)
}

/// The error for a body above [`BODY_BYTES_MAX`], for readers that notice before the parser can.
pub fn body_too_large() -> ApiError {
    ApiError::new(
        ErrorType::PayloadTooLarge,
        format!("the body is larger than {BODY_BYTES_MAX} bytes: send less context, or images as URLs"),
    )
}

/// Members that an ordinary request has at most; more cost a second allocation.
const MEMBERS_ORDINARY: usize = 16;

/// Every member that is read here; others pass through.
const KNOWN: [&str; 28] = [
    "include_reasoning",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "stop",
    "seed",
    "tools",
    "functions",
    "response_format",
    "best_of",
    "suffix",
    "echo",
    "audio",
    "modalities",
];

/// Members that OpenAI's own page does not have, which it refuses.
const BEYOND_OPENAI: [&str; 7] =
    ["reasoning", "include_reasoning", "top_k", "min_p", "top_a", "repetition_penalty", CACHE_MARK];
/// Marks the end of a prefix to be cached, in a request, a message or a part.
const CACHE_MARK: &str = "cache_control";

#[derive(Default)]
struct Draft {
    api: Api,
    members: Vec<Member>,
    /// One bit for each of [`KNOWN`], then one for each of [`RoutingDraft::MEMBERS`].
    seen: u64,
    routing: RoutingDraft,
    stream: bool,
    choices: Option<u32>,
    best_of: Option<u32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    sampling: Option<Sampling>,
    wants_logprobs: bool,
    top_logprobs: Option<u8>,
    seed: Option<i64>,
    messages_count: u32,
    messages: Option<Range<usize>>,
    /// Some message holds reasoning.
    has_reasoning: bool,
    prompt: Option<Range<usize>>,
    tools: Option<Range<usize>>,
    needs: Needs,
}

impl Draft {
    fn member(&mut self, walk: &mut Walk<'_>, key: Range<usize>) -> Result<(), ApiError> {
        members_bounded(self.members.len())?;
        let name = unescaped(walk.text(key.clone()));
        let known = known_once(&name, &KNOWN, &mut self.seen)?;
        let value = match name.as_ref() {
            "messages" if walk.peek() == b'[' => self.walk_messages(walk)?,
            "tools" if walk.peek() == b'[' => self.walk_tools(walk)?,
            _ => walk.value()?,
        };
        let raw = walk.text(value.clone());
        let shared = match known {
            Some(bit) if bit >= KNOWN.len() => self.routing.member(&name, raw, &value)?,
            Some(_) if raw != "null" => {
                self.field(&name, raw, &value)?;
                None
            }
            _ => None,
        };
        self.needs.beyond_openai |= raw != "null" && BEYOND_OPENAI.contains(&&*name);
        let rule = match name.as_ref() {
            "stream_options" => MemberRule::StreamOptions,
            "messages" if self.has_reasoning => MemberRule::Clean,
            "max_tokens" | "max_completion_tokens" => MemberRule::MaxTokens,
            _ => shared.unwrap_or(MemberRule::Copy),
        };
        self.members.push(Member { key, value, rule });
        Ok(())
    }

    fn field(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<(), ApiError> {
        match name {
            "messages" => {
                if !raw.starts_with('[') {
                    return Err(wrong("messages", "an array of messages"));
                }
                self.messages = Some(span.clone());
            }
            "prompt" => self.prompt = Some(fields::prompt_span(raw, span)?),
            "stream" => self.stream = fields::boolean(name, raw)?,
            "stream_options" if !raw.starts_with('{') => return Err(wrong(name, "an object")),
            "include_reasoning" => self.routing.show_reasoning(fields::boolean(name, raw)?),
            "n" => self.choices = Some(fields::whole(name, raw, 1, CHOICES_MAX)?),
            "best_of" => self.best_of = Some(fields::whole(name, raw, 1, CHOICES_MAX)?),
            "max_tokens" => self.max_tokens = Some(fields::whole(name, raw, 1, MAX_TOKENS_MAX)?),
            "max_completion_tokens" => {
                self.max_completion_tokens = Some(fields::whole(name, raw, 1, MAX_TOKENS_MAX)?);
            }
            "seed" => self.seed = Some(fields::seed(raw)?),
            "tools" | "functions" => {
                if !raw.starts_with('[') {
                    return Err(wrong(name, "an array"));
                }
                self.needs.tools |= raw.len() > 2;
                self.tools = self.needs.tools.then(|| span.clone());
            }
            "response_format" => self.needs.response_format = fields::response_format(raw)?,
            "suffix" | "echo" | "audio" | "modalities" => self.needs.passthrough |= raw != "false",
            _ => self.sampling(name, raw)?,
        }
        Ok(())
    }

    fn sampling(&mut self, name: &str, raw: &str) -> Result<(), ApiError> {
        let sampling = self.sampling.get_or_insert_with(fields::default_sampling);
        match name {
            "temperature" => sampling.temperature = fields::number(name, raw, 0.0, 2.0)?,
            "top_p" => sampling.top_p = fields::top_p(name, raw)?,
            "top_k" => sampling.top_k = fields::whole(name, raw, 0, TOP_K_MAX)?,
            "min_p" => sampling.min_p = fields::number(name, raw, 0.0, 1.0)?,
            "presence_penalty" => sampling.presence_penalty = fields::number(name, raw, -2.0, 2.0)?,
            "frequency_penalty" => sampling.frequency_penalty = fields::number(name, raw, -2.0, 2.0)?,
            "repetition_penalty" => {
                sampling.repetition_penalty = fields::number(name, raw, 0.0, 2.0)?;
                if sampling.repetition_penalty == 0.0 {
                    return Err(wrong(name, "above 0 and at most 2; 1 means none"));
                }
            }
            "logit_bias" => sampling.logit_bias = fields::logit_bias(raw)?,
            "stop" => sampling.stop = fields::stops(raw)?,
            "logprobs" if self.api == Api::Chat => self.wants_logprobs = fields::boolean(name, raw)?,
            "logprobs" => {
                self.wants_logprobs = true;
                self.top_logprobs = Some(fields::whole(name, raw, 0, u32::from(TOP_LOGPROBS_MAX))? as u8);
            }
            "top_logprobs" => {
                self.top_logprobs = Some(fields::whole(name, raw, 0, u32::from(TOP_LOGPROBS_MAX))? as u8);
            }
            _ => {}
        }
        Ok(())
    }

    fn walk_messages(&mut self, walk: &mut Walk<'_>) -> Result<Range<usize>, ApiError> {
        let start = walk.at();
        let mut count = 0usize;
        walk.items(|walk| {
            if count == MESSAGES_MAX {
                return Err(ApiError::field(
                    "messages",
                    format!("`messages` has more than {MESSAGES_MAX} entries: send less"),
                ));
            }
            self.walk_message(walk, count)?;
            count += 1;
            Ok(())
        })?;
        if count == 0 {
            return Err(ApiError::field("messages", "`messages` is empty: send at least one message"));
        }
        self.messages_count = count as u32;
        Ok(start..walk.at())
    }

    fn walk_message(&mut self, walk: &mut Walk<'_>, index: usize) -> Result<(), ApiError> {
        let named = |part: &str| format!("messages[{index}]{part}");
        if walk.peek() != b'{' {
            return Err(wrong(&named(""), "an object with `role` and `content`"));
        }
        let (mut role, mut content) = (false, false);
        let mut media = 0;
        walk.members::<ApiError>(|walk, key| {
            let name = unescaped(walk.text(key));
            let kind = walk.peek();
            let value = match (name.as_ref(), kind) {
                ("content", b'[') => {
                    let start = walk.at();
                    let parts = walk_parts(walk, &named(".content"))?;
                    media += parts.media;
                    self.needs.beyond_openai |= parts.has_marks;
                    start..walk.at()
                }
                _ => walk.value()?,
            };
            let raw = walk.text(value);
            match name.as_ref() {
                "role" => role = known_role(raw, || named(".role"))?,
                "content" if !matches!(kind, b'"' | b'n' | b'[') => {
                    return Err(wrong(&named(".content"), "a string, an array of parts, or null"));
                }
                "content" | "tool_calls" | "function_call" | "refusal" | "audio" => content = true,
                CACHE_MARK => self.needs.beyond_openai |= raw != "null",
                name if raw != "null" && chat::is_reasoning(name) => self.has_reasoning = true,
                _ => {}
            }
            Ok(())
        })?;
        self.needs.media_parts = self.needs.media_parts.saturating_add(media);
        if !role {
            return Err(ApiError::field(
                named(".role"),
                format!("messages[{index}] has no `role`: add one such as \"user\""),
            ));
        }
        if !content {
            return Err(ApiError::field(
                named(".content"),
                format!("messages[{index}] has no `content`: add a string"),
            ));
        }
        Ok(())
    }

    fn walk_tools(&mut self, walk: &mut Walk<'_>) -> Result<Range<usize>, ApiError> {
        let start = walk.at();
        let mut count = 0usize;
        walk.items::<ApiError>(|walk| {
            count += 1;
            if count > TOOLS_MAX {
                return Err(ApiError::field(
                    "tools",
                    format!("`tools` has more than {TOOLS_MAX} entries: send fewer"),
                ));
            }
            if walk.peek() != b'{' {
                return Err(wrong(&format!("tools[{}]", count - 1), "an object"));
            }
            walk_tool(walk, count - 1)?;
            Ok(())
        })?;
        self.needs.tools |= count > 0;
        Ok(start..walk.at())
    }

    /// The span of what the endpoint works on, and only that.
    fn take_prompt(&mut self) -> Result<Range<usize>, ApiError> {
        let is_text = self.api == Api::Text;
        match (is_text, self.messages.take(), self.prompt.take()) {
            (false, Some(messages), None) | (true, None, Some(messages)) => Ok(messages),
            (false, None, _) => Err(ApiError::field(
                "messages",
                "`messages` is missing: send an array such as [{\"role\":\"user\",\"content\":\"hello\"}]",
            )),
            (true, _, None) => Err(ApiError::field("prompt", "`prompt` is missing: send a string")),
            (false, _, Some(_)) => Err(ApiError::field(
                "prompt",
                "`prompt` belongs to /v1/completions: put the text into `messages`",
            )),
            (true, Some(_), _) => Err(ApiError::field(
                "messages",
                "`messages` belongs to /v1/chat/completions: put the text into `prompt`",
            )),
        }
    }

    fn finish(mut self, body: Bytes) -> Result<Job, ApiError> {
        let Routed { model, fallbacks, preferences, preferences_span, session, mut routing } =
            std::mem::take(&mut self.routing).finish()?;
        routing.hides_reasoning |= routing.reasoning.as_ref().is_some_and(|reasoning| reasoning.exclude);
        let prompt = self.take_prompt()?;
        let choices = self.choices.unwrap_or(1);
        if self.best_of.is_some_and(|best| best != choices) {
            return Err(ApiError::field(
                "best_of",
                "`best_of` must equal `n`: every choice made is billed, so ask for those you want",
            ));
        }
        if self.max_tokens.is_some() && self.max_completion_tokens.is_some_and(|m| Some(m) != self.max_tokens)
        {
            return Err(ApiError::field(
                "max_tokens",
                "`max_tokens` and `max_completion_tokens` differ: send one of them",
            ));
        }
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let mut sampling = self.sampling.take().unwrap_or_else(fields::default_sampling);
        sampling.max_tokens = max_tokens;
        if self.top_logprobs.is_some() && !self.wants_logprobs {
            return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs`: true"));
        }
        sampling.logprobs = self.wants_logprobs.then(|| self.top_logprobs.unwrap_or(0));
        self.needs.logprobs = self.wants_logprobs;
        Ok(Job {
            api: self.api,
            body,
            members: self.members,
            model,
            fallbacks,
            stream: self.stream,
            choices,
            max_tokens,
            sampling,
            seed: self.seed,
            messages_count: self.messages_count,
            prompt,
            tools: self.tools,
            needs: self.needs,
            preferences,
            preferences_span,
            session,
            routing,
            passed: None,
        })
    }
}

/// The roles of the grammar.
const ROLES: [&str; 6] = ["user", "assistant", "system", "developer", "tool", "function"];

fn known_role(raw: &str, field: impl Fn() -> String) -> Result<bool, ApiError> {
    let role = fields::string("role", raw).ok().filter(|role| ROLES.contains(&role.as_ref()));
    let want =
        || wrong(&field(), "\"system\", \"developer\", \"user\", \"assistant\", \"tool\" or \"function\"");
    role.map(|_| true).ok_or_else(want)
}

/// One tool: a function must be described; what else there is, the seller knows.
fn walk_tool(walk: &mut Walk<'_>, index: usize) -> Result<(), ApiError> {
    let (mut is_function, mut is_described) = (false, false);
    walk.members::<ApiError>(|walk, key| {
        let name = unescaped(walk.text(key));
        let value = walk.value()?;
        match name.as_ref() {
            "type" => is_function = walk.text(value) == "\"function\"",
            "function" => is_described = walk.text(value).starts_with('{'),
            _ => {}
        }
        Ok(())
    })?;
    if is_function && !is_described {
        let field = format!("tools[{index}].function");
        return Err(wrong(
            &field,
            "an object with `name` and `parameters`: they do not stand beside `type` here",
        ));
    }
    Ok(())
}

/// What the parts of a message are.
#[derive(Default)]
struct Parts {
    /// How many are not text.
    media: u32,
    /// Some ends a prefix to be cached.
    has_marks: bool,
}

/// Walks over the parts of a message.
fn walk_parts(walk: &mut Walk<'_>, field: &str) -> Result<Parts, ApiError> {
    let (mut parts, mut index) = (Parts::default(), 0u32);
    walk.items::<ApiError>(|walk| {
        if walk.peek() != b'{' {
            return Err(wrong(field, "a string or an array of objects with `type`"));
        }
        let (mut is_text, mut has_type, mut has_text) = (false, false, false);
        walk.members::<ApiError>(|walk, key| {
            let name = unescaped(walk.text(key));
            let value = walk.value()?;
            let raw = walk.text(value);
            match name.as_ref() {
                "type" => {
                    has_type = raw.starts_with('"');
                    is_text = raw == "\"text\"";
                }
                "text" => has_text = raw.starts_with('"'),
                CACHE_MARK => parts.has_marks |= raw != "null",
                "image_url" | "video_url" | "audio_url" => {
                    fields::no_local_file(|| format!("{field}[{index}].{name}"), raw)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        if !has_type {
            return Err(wrong(&format!("{field}[{index}].type"), "a string such as \"text\""));
        }
        if is_text && !has_text {
            return Err(wrong(&format!("{field}[{index}].text"), "a string"));
        }
        parts.media += u32::from(!is_text);
        index += 1;
        Ok(())
    })?;
    Ok(parts)
}

#[cfg(test)]
mod tests;
