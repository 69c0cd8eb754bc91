//! Reading a request in one pass: what planning needs, and where each member lies.
//!
//! Refused although sellers of this grammar know it: `container`, `mcp_servers` and what else belongs to an
//! account at Anthropic, because the account would be the market's; `speed` and `inference_geo`, because they
//! change the seller's price behind the market's back.

mod members;

pub(in crate::dialect) use members::push_thinking;

use super::FALLBACKS_MAX;
use super::clean::Thought;
use crate::dialect::fields::{self, Routed, RoutingDraft, known_once, members_bounded, unescaped, wrong};
use crate::dialect::neutral::Effort;
use crate::dialect::openai::walk_body;
use crate::dialect::{
    Api, Job, MAX_TOKENS_MAX, MESSAGES_MAX, Member, MemberRule, Needs, STOP_BYTES_MAX, STOPS_MAX, TOOLS_MAX,
    TOP_K_MAX,
};
use crate::error::ApiError;
use crate::json::{JsonError, Walk, push_u64};
use crate::node::Sampling;
use bytes::Bytes;
use members::{Thinking, not_sold, output_config, reasoning, said_otherwise, tool_choice, user_id};
use std::ops::Range;

/// Reads a request for an answer.
pub(in crate::dialect) fn parse(body: Bytes) -> Result<Job, ApiError> {
    let draft = Draft::of(&body)?;
    if draft.max_tokens.is_none() {
        return Err(ApiError::field(
            "max_tokens",
            "`max_tokens` is missing: say how many tokens the answer may have, such as 1024",
        ));
    }
    draft.finish(body)
}

/// Reads a request to count the tokens of a prompt: as one for an answer, but `max_tokens` may be missing.
pub fn parse_count(body: Bytes) -> Result<Job, ApiError> {
    Draft::of(&body)?.finish(body)
}

/// The answer to a request that [`parse_count`] reads.
pub fn count_answer(input_tokens: u64) -> Vec<u8> {
    let mut out = b"{\"input_tokens\":".to_vec();
    push_u64(&mut out, input_tokens);
    out.push(b'}');
    out
}

/// Members that an ordinary request has at most; more cost a second allocation.
const MEMBERS_ORDINARY: usize = 16;

/// Every member that is read here, beside those that all fronts share; others pass through.
const KNOWN: [&str; 23] = [
    "n",
    "messages",
    "system",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "cache_control",
    "container",
    "mcp_servers",
    "speed",
    "inference_geo",
    "billing_policy",
    "fallback_credit_token",
    "workspace_id",
    "user_profile_id",
];

#[derive(Default)]
struct Draft {
    members: Vec<Member>,
    /// One bit for each of [`KNOWN`], then one for each of [`RoutingDraft::MEMBERS`].
    seen: u64,
    routing: RoutingDraft,
    user: Option<String>,
    stream: bool,
    max_tokens: Option<u32>,
    thinking: Option<Thinking>,
    effort: Option<Effort>,
    sampling: Option<Sampling>,
    messages_count: u32,
    has_foreign_thoughts: bool,
    prompt: Option<Range<usize>>,
    tools: Option<Range<usize>>,
    needs: Needs,
}

impl Draft {
    fn of(body: &Bytes) -> Result<Self, ApiError> {
        let mut walk = walk_body(body)?;
        let mut draft = Self { members: Vec::with_capacity(MEMBERS_ORDINARY), ..Self::default() };
        walk.members(|walk, key| draft.member(walk, key))?;
        walk.finish()?;
        Ok(draft)
    }

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
        let rule = match known {
            Some(bit) if bit >= KNOWN.len() => self.shared(&name, raw, &value)?,
            Some(_) if raw != "null" => self.field(&name, raw, &value)?,
            _ => MemberRule::Copy,
        };
        self.members.push(Member { key, value, rule });
        Ok(())
    }

    /// A member that all fronts share; some of them are said otherwise in this grammar.
    fn shared(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<MemberRule, ApiError> {
        let rule = match (name, raw) {
            (_, "null") => self.routing.member(name, raw, span)?,
            ("reasoning" | "reasoning_effort" | "verbosity", _) => return Err(said_otherwise(name)),
            ("metadata", _) => {
                self.user = user_id(raw)?;
                if self.user.is_some() {
                    self.routing.member(name, raw, span)?;
                }
                return Ok(MemberRule::Copy);
            }
            ("service_tier", "\"standard_only\"") => self.routing.member(name, "\"default\"", span)?,
            ("fallbacks", _) => {
                few_fallbacks(raw)?;
                self.routing.member(name, raw, span)?
            }
            _ => self.routing.member(name, raw, span)?,
        };
        // Sellers of this grammar refuse what they do not know.
        Ok(rule.filter(|rule| *rule == MemberRule::Model).unwrap_or(MemberRule::Drop))
    }

    fn field(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<MemberRule, ApiError> {
        match name {
            "messages" => {
                if !raw.starts_with('[') {
                    return Err(wrong("messages", "an array of messages"));
                }
                self.prompt = Some(span.clone());
                if self.has_foreign_thoughts {
                    return Ok(MemberRule::Clean);
                }
            }
            "system" if !raw.starts_with(['"', '[']) => {
                return Err(wrong("system", "a string or an array of text blocks"));
            }
            "max_tokens" => {
                self.max_tokens = Some(fields::whole(name, raw, 1, MAX_TOKENS_MAX)?);
                return Ok(MemberRule::MaxTokens);
            }
            "stream" => self.stream = fields::boolean(name, raw)?,
            // Sellers of this grammar know none.
            "n" => {
                fields::one_choice(raw)?;
                return Ok(MemberRule::Drop);
            }
            "tools" => {
                if !raw.starts_with('[') {
                    return Err(wrong(name, "an array"));
                }
                self.tools = self.needs.tools.then(|| span.clone());
            }
            "tool_choice" => tool_choice(raw)?,
            "thinking" => {
                let thinking = self.thinking.insert(Thinking::read(raw)?);
                if thinking.budget_tokens.is_some() {
                    return Ok(MemberRule::Thinking);
                }
            }
            "output_config" => {
                let (wants_format, effort) = output_config(raw)?;
                self.needs.response_format |= wants_format;
                self.effort = effort;
            }
            "output_format" | "cache_control" if !raw.starts_with('{') => {
                return Err(wrong(name, "an object"));
            }
            "output_format" => self.needs.response_format = true,
            "temperature" | "top_p" | "top_k" | "stop_sequences" => self.sampling(name, raw)?,
            "speed" if raw == "\"standard\"" => {}
            "mcp_servers" if raw == "[]" => {}
            "speed"
            | "inference_geo"
            | "container"
            | "mcp_servers"
            | "billing_policy"
            | "fallback_credit_token"
            | "workspace_id"
            | "user_profile_id" => return Err(not_sold(name)),
            _ => {}
        }
        Ok(MemberRule::Copy)
    }

    fn sampling(&mut self, name: &str, raw: &str) -> Result<(), ApiError> {
        let sampling = self.sampling.get_or_insert_with(fields::default_sampling);
        match name {
            "temperature" => sampling.temperature = fields::number(name, raw, 0.0, 1.0)?,
            "top_p" => sampling.top_p = fields::top_p(name, raw)?,
            "top_k" => sampling.top_k = fields::whole(name, raw, 0, TOP_K_MAX)?,
            _ => {
                let want = format!("an array of at most {STOPS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes");
                let list = if raw.starts_with('[') { fields::stops(raw).ok() } else { None };
                sampling.stop = list.ok_or_else(|| wrong(name, &want))?;
            }
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
        walk.members::<ApiError>(|walk, key| {
            match unescaped(walk.text(key)).as_ref() {
                "role" => {
                    let value = walk.value()?;
                    role = true;
                    if !matches!(walk.text(value), "\"user\"" | "\"assistant\"" | "\"system\"") {
                        return Err(wrong(
                            &named(".role"),
                            "\"user\" or \"assistant\"; rules go into `system`",
                        ));
                    }
                }
                "content" => {
                    content = true;
                    match walk.peek() {
                        b'"' => walk.value().map(|_| ())?,
                        b'[' => self.walk_blocks(walk, &|| named(".content"))?,
                        _ => return Err(wrong(&named(".content"), "a string or an array of blocks")),
                    }
                }
                _ => walk.value().map(|_| ())?,
            }
            Ok(())
        })?;
        for (is_there, part) in [(role, ".role"), (content, ".content")] {
            if !is_there {
                let name = named(part);
                return Err(ApiError::field(name.clone(), format!("`{name}` is missing: add it")));
            }
        }
        Ok(())
    }

    /// Walks over blocks, those within tool results too, and notes what is not text and whose thoughts there are.
    fn walk_blocks(&mut self, walk: &mut Walk<'_>, field: &dyn Fn() -> String) -> Result<(), ApiError> {
        walk.items::<ApiError>(|walk| {
            if walk.peek() != b'{' {
                return Err(wrong(&field(), "a string or an array of objects with `type`"));
            }
            let mut thought = Thought::default();
            walk.members::<ApiError>(|walk, key| {
                let name = unescaped(walk.text(key));
                if name == "content" && walk.peek() == b'[' {
                    return self.walk_blocks(walk, field);
                }
                let value = walk.value()?;
                let raw = walk.text(value);
                if name == "source" {
                    fields::no_local_file(|| format!("{}.source.url", field()), raw)?;
                }
                thought.member(&name, raw);
                Ok(())
            })?;
            self.has_foreign_thoughts |= thought.is_foreign();
            if matches!(thought.kind(), "image" | "document" | "container_upload") {
                self.needs.media_parts = self.needs.media_parts.saturating_add(1);
            }
            Ok(())
        })
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
            walk_tool(walk, count - 1)
        })?;
        self.needs.tools |= count > 0;
        Ok(start..walk.at())
    }

    fn finish(mut self, body: Bytes) -> Result<Job, ApiError> {
        let Routed { model, fallbacks, preferences, preferences_span, session, mut routing } =
            std::mem::take(&mut self.routing).finish()?;
        let prompt = self.prompt.ok_or_else(|| {
            ApiError::field(
                "messages",
                "`messages` is missing: send an array such as [{\"role\":\"user\",\"content\":\"hello\"}]",
            )
        })?;
        // With tools, thoughts between calls may take more than one answer may.
        let budget = self.thinking.as_ref().and_then(|thinking| thinking.budget_tokens);
        let is_beyond = budget.zip(self.max_tokens).is_some_and(|(budget, most)| budget >= most);
        if is_beyond && !self.needs.tools {
            return Err(ApiError::field(
                "thinking.budget_tokens",
                "`thinking.budget_tokens` must be below `max_tokens`: thoughts are part of the answer",
            ));
        }
        routing.reasoning = reasoning(self.thinking, self.effort);
        routing.user = self.user.or(routing.user);
        let mut sampling = self.sampling.take().unwrap_or_else(fields::default_sampling);
        sampling.max_tokens = self.max_tokens;
        Ok(Job {
            api: Api::Messages,
            body,
            members: self.members,
            model,
            fallbacks,
            stream: self.stream,
            choices: 1,
            max_tokens: self.max_tokens,
            sampling,
            seed: None,
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

/// Refuses more fallbacks than this grammar allows; what they hold is read with the members that all fronts share.
fn few_fallbacks(raw: &str) -> Result<(), ApiError> {
    let want = || wrong("fallbacks", &format!("an array of at most {FALLBACKS_MAX} objects with `model`"));
    let mut walk = Walk::new(raw);
    let mut count = 0;
    if walk.peek() != b'[' {
        return Err(want());
    }
    walk.items::<JsonError>(|walk| {
        count += 1;
        walk.value().map(|_| ())
    })?;
    if count > FALLBACKS_MAX { Err(want()) } else { Ok(()) }
}

/// One tool: those that the buyer runs need a schema; those that a seller runs have a `type` of their own.
fn walk_tool(walk: &mut Walk<'_>, n: usize) -> Result<(), ApiError> {
    let mut is_described = false;
    walk.members::<ApiError>(|walk, key| {
        let name = unescaped(walk.text(key));
        let value = walk.value()?;
        let raw = walk.text(value);
        is_described |= name == "input_schema" && raw.starts_with('{')
            || name == "type" && !matches!(raw, "\"custom\"" | "null");
        Ok(())
    })?;
    if is_described {
        return Ok(());
    }
    let field = format!("tools[{n}].input_schema");
    let message = format!(
        "`{field}` is missing: give the JSON Schema of what the tool takes, such as {{\"type\":\"object\"}}"
    );
    Err(ApiError::field(field, message))
}
