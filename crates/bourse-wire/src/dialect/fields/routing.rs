//! What a request says to the market rather than to the model, in all fronts alike.
//!
//! A front gives every member that it does not read itself to [`RoutingDraft::member`], and takes what came of
//! them from [`RoutingDraft::finish`]. What happens to each (source: reference, router §1.2, §1.6, §1.7):
//!
//! | member | what |
//! | --- | --- |
//! | `provider`, `models`, `fallbacks`, `route`, `session_id`, `stream_failure` | read, not sent on |
//! | `service_tier` | read, not sent on: the tier belongs to the offer that is chosen, and so does its price |
//! | `metadata`, `trace` | checked, kept for the record, not sent on |
//! | `prompt_cache_key`, `user`, `verbosity`, `reasoning`, `reasoning_effort` | read, and sent on |
//! | `usage` | accepted without effect: usage is always told |
//! | `transforms`, `plugins` | accepted when they ask for nothing; else refused, as a prompt is never changed here |
//! | `preset` | refused: it must have been merged before ([`preset`](super::preset)) |
//! | `debug` | refused: what sellers are sent is not shown |

use super::preferences::{self, Partition, Preferences};
use super::{ModelRef, boolean, nearest, string, whole, wrong};
use crate::dialect::neutral::{Effort, Reasoning};
use crate::dialect::{MAX_TOKENS_MAX, MODELS_MAX, MemberRule, SESSION_BYTES_MAX};
use crate::error::ApiError;
use crate::json::Walk;
use bourse_types::ModelSlug;
use std::borrow::Cow;
use std::ops::Range;

/// Most pairs in `metadata`.
pub const METADATA_PAIRS_MAX: usize = 16;
/// Longest key in `metadata`, in characters.
pub const METADATA_KEY_CHARS_MAX: usize = 64;
/// Longest value in `metadata`, in characters.
pub const METADATA_VALUE_CHARS_MAX: usize = 512;
/// Longest `trace`, in bytes of JSON.
pub const TRACE_BYTES_MAX: usize = 4_096;
/// Longest `user` or `prompt_cache_key`, in bytes.
pub const USER_BYTES_MAX: usize = 512;

/// Which of a seller's tiers the buyer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// As the market likes.
    Auto,
    /// The ordinary one.
    Default,
    /// Dearer and sooner; the same as [`ServiceTier::Priority`].
    Fast,
    /// Cheaper and later.
    Flex,
    /// Dearer and sooner.
    Priority,
    /// Capacity bought ahead.
    Scale,
}

impl ServiceTier {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Auto, Self::Default, Self::Fast, Self::Flex, Self::Priority, Self::Scale];

    /// The field's word.
    pub fn as_str(self) -> &'static str {
        ["auto", "default", "fast", "flex", "priority", "scale"][self as usize]
    }

    /// Reads [`ServiceTier::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == text)
    }
}

/// What happens when a seller breaks off after content was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StreamFailure {
    /// The stream ends with an error.
    #[default]
    Terminate,
    /// Another seller goes on from there.
    Continue,
}

/// What a request says to the market beside its [`Preferences`]. Spans point into the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// The models in order, as they were named: the first, then the fallbacks.
    pub models: Vec<ModelRef>,
    /// Which tier is wanted.
    pub service_tier: Option<ServiceTier>,
    /// How long to think.
    pub reasoning: Option<Reasoning>,
    /// How much to say: `low`, `medium`, `high`, `xhigh`, `max`.
    pub verbosity: Option<String>,
    /// Who asks on the buyer's side.
    pub user: Option<String>,
    /// What the buyer wants cached together.
    pub prompt_cache_key: Option<String>,
    /// Span of `metadata`.
    pub metadata: Option<Range<usize>>,
    /// Span of `trace`.
    pub trace: Option<Range<usize>>,
    /// What happens when a seller breaks off.
    pub stream_failure: StreamFailure,
    /// No reasoning is shown in the answer.
    pub hides_reasoning: bool,
}

/// What came of the members that all fronts share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) model: ModelSlug,
    pub(crate) fallbacks: Vec<ModelSlug>,
    pub(crate) preferences: Box<Preferences>,
    pub(crate) preferences_span: Option<Range<usize>>,
    /// Within its quotes.
    pub(crate) session: Option<Range<usize>>,
    pub(crate) routing: Box<Routing>,
}

/// Collects the members that all fronts share.
#[derive(Debug, Default)]
pub(crate) struct RoutingDraft {
    model: Option<ModelRef>,
    models: Vec<ModelRef>,
    fallbacks: Vec<ModelRef>,
    partition: Option<Partition>,
    preferences: Option<Box<Preferences>>,
    preferences_span: Option<Range<usize>>,
    session: Option<Range<usize>>,
    effort: Option<Effort>,
    routing: Box<Routing>,
}

impl RoutingDraft {
    /// The members that are read here, `model` among them. Fronts refuse them when they stand twice.
    pub(crate) const MEMBERS: [&str; 20] = [
        "model",
        "models",
        "provider",
        "route",
        "fallbacks",
        "preset",
        "session_id",
        "prompt_cache_key",
        "service_tier",
        "reasoning",
        "reasoning_effort",
        "verbosity",
        "metadata",
        "trace",
        "user",
        "usage",
        "transforms",
        "plugins",
        "stream_failure",
        "debug",
    ];

    /// Reads one of [`RoutingDraft::MEMBERS`] whose value is `raw` at `span`, and tells what becomes of it.
    /// None for a member that is not one of them.
    pub(crate) fn member(
        &mut self,
        name: &str,
        raw: &str,
        span: &Range<usize>,
    ) -> Result<Option<MemberRule>, ApiError> {
        let rule = match name {
            "model" => MemberRule::Model,
            "prompt_cache_key" | "user" | "verbosity" | "reasoning" | "reasoning_effort" => MemberRule::Copy,
            "models" | "provider" | "route" | "fallbacks" | "preset" | "session_id" | "service_tier"
            | "metadata" | "trace" | "usage" | "transforms" | "plugins" | "stream_failure" | "debug" => {
                MemberRule::Drop
            }
            _ => return Ok(None),
        };
        if raw != "null" {
            self.read(name, raw, span)?;
        }
        Ok(Some(rule))
    }

    /// Notes whether the buyer wants to see reasoning.
    pub(crate) fn show_reasoning(&mut self, shows: bool) {
        self.routing.hides_reasoning = !shows;
    }

    fn read(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<(), ApiError> {
        let routing = &mut self.routing;
        match name {
            "model" => self.model = Some(model("model", raw)?),
            "models" => self.models = models("models", raw)?,
            "fallbacks" => self.fallbacks = models("fallbacks", raw)?,
            "provider" => {
                self.preferences = Some(Box::new(preferences::preferences(raw)?));
                self.preferences_span = Some(span.clone());
            }
            "route" => {
                self.partition = Some(match raw {
                    "\"fallback\"" => Partition::Model,
                    "\"sort\"" => Partition::None,
                    _ => return Err(wrong("route", "\"fallback\" or \"sort\"")),
                });
            }
            "preset" => return Err(preset_left()),
            "session_id" => {
                bounded("session_id", raw, SESSION_BYTES_MAX)?;
                self.session = Some(span.start + 1..span.end - 1);
            }
            "prompt_cache_key" => {
                routing.prompt_cache_key = Some(bounded("prompt_cache_key", raw, USER_BYTES_MAX)?);
            }
            "user" => routing.user = Some(bounded("user", raw, USER_BYTES_MAX)?),
            "service_tier" => routing.service_tier = Some(service_tier(raw)?),
            "reasoning" => routing.reasoning = Some(reasoning(raw)?),
            "reasoning_effort" => self.effort = Some(effort("reasoning_effort", raw)?),
            "verbosity" => routing.verbosity = Some(verbosity(raw)?),
            "metadata" => {
                metadata(raw)?;
                routing.metadata = Some(span.clone());
            }
            "trace" => {
                if !raw.starts_with('{') || raw.len() > TRACE_BYTES_MAX {
                    return Err(wrong("trace", &format!("an object of at most {TRACE_BYTES_MAX} bytes")));
                }
                routing.trace = Some(span.clone());
            }
            "usage" if !raw.starts_with('{') => return Err(wrong("usage", "an object")),
            "transforms" => transforms(raw)?,
            "plugins" => plugins(raw)?,
            "stream_failure" => {
                routing.stream_failure = match raw {
                    "\"terminate\"" => StreamFailure::Terminate,
                    "\"continue\"" => StreamFailure::Continue,
                    _ => return Err(wrong("stream_failure", "\"terminate\" or \"continue\"")),
                }
            }
            "debug" => {
                return Err(ApiError::field(
                    "debug",
                    "`debug` is not offered: what sellers are sent is shown to nobody; leave it out",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything that was said. The first of `models` stands in for a missing `model`.
    pub(crate) fn finish(self) -> Result<Routed, ApiError> {
        if !self.fallbacks.is_empty() && !self.models.is_empty() {
            return Err(ApiError::field("fallbacks", "`fallbacks` and `models` say the same: keep one"));
        }
        let mut rest = if self.models.is_empty() { self.fallbacks } else { self.models };
        let first = match self.model {
            Some(model) => model,
            None if rest.is_empty() => {
                return Err(ApiError::field(
                    "model",
                    "`model` is missing: name one of the models that GET /v1/models lists",
                ));
            }
            None => rest.remove(0),
        };
        rest.retain(|m| m.slug != first.slug);
        let mut routing = self.routing;
        if first.preset.is_some() || rest.iter().any(|m| m.preset.is_some()) {
            return Err(preset_left());
        }
        if let Some(effort) = self.effort {
            let reasoning = routing.reasoning.get_or_insert_default();
            if reasoning.effort.is_some_and(|e| e != effort) || reasoning.max_tokens.is_some() {
                return Err(ApiError::field(
                    "reasoning_effort",
                    "`reasoning_effort` and `reasoning` say different things: keep one",
                ));
            }
            reasoning.effort = Some(effort);
        }
        let mut preferences = self.preferences.unwrap_or_default();
        if let Some(partition) = self.partition {
            preferences.partition = partition;
        }
        let model = first.slug.clone();
        let fallbacks = rest.iter().map(|m| m.slug.clone()).collect();
        routing.models.push(first);
        routing.models.append(&mut rest);
        Ok(Routed {
            model,
            fallbacks,
            preferences,
            preferences_span: self.preferences_span,
            session: self.session,
            routing,
        })
    }
}

fn preset_left() -> ApiError {
    ApiError::field("preset", "no such preset is kept here: put its fields into the request itself")
}

/// A model's name with its suffixes.
pub(crate) fn model(field: &'static str, raw: &str) -> Result<ModelRef, ApiError> {
    let text = string(field, raw)?;
    ModelRef::parse(&text).map_err(|e| ApiError::field(field, format!("`{field}` is not a model name: {e}")))
}

/// Names, or objects of which each holds one name as `model` and nothing else.
fn models(field: &'static str, raw: &str) -> Result<Vec<ModelRef>, ApiError> {
    let want = || wrong(field, &format!("an array of 1 to {MODELS_MAX} model names"));
    if !raw.starts_with('[') {
        return Err(want());
    }
    let mut list = Vec::new();
    Walk::new(raw).items::<ApiError>(|walk| {
        if list.len() == MODELS_MAX {
            return Err(want());
        }
        let value = walk.value()?;
        let raw = walk.text(value);
        if field == "fallbacks" && raw.starts_with('{') {
            preferences::members(field, raw, |name, raw| {
                if name != "model" {
                    return Err(preferences::unknown(field, name, &["model"]));
                }
                list.push(model(field, raw)?);
                Ok(())
            })?;
        } else {
            if !raw.starts_with('"') {
                return Err(want());
            }
            list.push(model(field, raw)?);
        }
        Ok(())
    })?;
    if list.is_empty() { Err(want()) } else { Ok(list) }
}

fn bounded(field: &str, raw: &str, bytes_max: usize) -> Result<String, ApiError> {
    let want = || wrong(field, &format!("a string of 1 to {bytes_max} bytes"));
    let text = string(field, raw).map_err(|_| want())?;
    if (1..=bytes_max).contains(&text.len()) { Ok(text.into_owned()) } else { Err(want()) }
}

fn service_tier(raw: &str) -> Result<ServiceTier, ApiError> {
    let words = ServiceTier::ALL.map(ServiceTier::as_str);
    let word = string("service_tier", raw)?;
    ServiceTier::parse(&word).ok_or_else(|| wrong("service_tier", &format!("one of {}", words.join(", "))))
}

fn effort(field: &str, raw: &str) -> Result<Effort, ApiError> {
    let words = Effort::ALL.map(Effort::as_str);
    let word = string(field, raw)?;
    Effort::parse(&word).ok_or_else(|| wrong(field, &format!("one of {}", words.join(", "))))
}

fn verbosity(raw: &str) -> Result<String, ApiError> {
    const WORDS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];
    let word = string("verbosity", raw)?;
    if WORDS.contains(&word.as_ref()) {
        return Ok(word.into_owned());
    }
    Err(wrong("verbosity", &format!("one of {}", WORDS.join(", "))))
}

/// The `reasoning` object of chats and of responses.
pub(crate) fn reasoning(raw: &str) -> Result<Reasoning, ApiError> {
    let mut out = Reasoning::default();
    preferences::members("reasoning", raw, |name, raw| {
        match name {
            "effort" => out.effort = Some(effort("reasoning.effort", raw)?),
            "max_tokens" => {
                out.max_tokens = Some(whole("reasoning.max_tokens", raw, 1, MAX_TOKENS_MAX)?);
            }
            "exclude" => out.exclude = boolean("reasoning.exclude", raw)?,
            "enabled" => out.enabled = Some(boolean("reasoning.enabled", raw)?),
            "summary" | "generate_summary" => {
                let word = string("reasoning.summary", raw)?;
                if !matches!(word.as_ref(), "auto" | "concise" | "detailed") {
                    return Err(wrong("reasoning.summary", "\"auto\", \"concise\" or \"detailed\""));
                }
                out.summary = Some(word.into_owned());
            }
            // What else a seller of the same grammar may know goes to it as written.
            _ => {}
        }
        Ok(())
    })?;
    if out.effort.is_some() && out.max_tokens.is_some() {
        return Err(ApiError::field(
            "reasoning",
            "`reasoning.effort` and `reasoning.max_tokens` both say how much: keep one",
        ));
    }
    Ok(out)
}

/// At most sixteen short pairs of strings.
pub(crate) fn metadata(raw: &str) -> Result<(), ApiError> {
    let want = || {
        wrong(
            "metadata",
            &format!(
                "an object of at most {METADATA_PAIRS_MAX} strings of at most {METADATA_VALUE_CHARS_MAX} characters, with keys of at most {METADATA_KEY_CHARS_MAX}"
            ),
        )
    };
    let mut pairs = 0;
    preferences::members("metadata", raw, |name, raw| {
        pairs += 1;
        let value = string("metadata", raw).map_err(|_| want())?;
        let good = pairs <= METADATA_PAIRS_MAX
            && name.chars().count() <= METADATA_KEY_CHARS_MAX
            && value.chars().count() <= METADATA_VALUE_CHARS_MAX;
        if good { Ok(()) } else { Err(want()) }
    })
}

fn transforms(raw: &str) -> Result<(), ApiError> {
    if !raw.starts_with('[') {
        return Err(wrong("transforms", "an array"));
    }
    if raw[1..raw.len() - 1].trim_ascii().is_empty() {
        return Ok(());
    }
    Err(ApiError::field(
        "transforms",
        "`transforms` would change the prompt, which is never done here: leave it out or send []",
    ))
}

/// Plugins that are switched off are fine.
fn plugins(raw: &str) -> Result<(), ApiError> {
    const KNOWN: [&str; 4] = ["web", "file-parser", "response-healing", "context-compression"];
    if !raw.starts_with('[') {
        return Err(wrong("plugins", "an array of objects"));
    }
    Walk::new(raw).items::<ApiError>(|walk| {
        let value = walk.value()?;
        let raw = walk.text(value);
        let (mut id, mut enabled) = (Cow::Borrowed(""), true);
        preferences::members("plugins", raw, |name, raw| {
            match name {
                "id" => id = Cow::Owned(string("plugins.id", raw)?.into_owned()),
                "enabled" => enabled = boolean("plugins.enabled", raw)?,
                _ => {}
            }
            Ok(())
        })?;
        if !enabled {
            return Ok(());
        }
        let shown = nearest(&id, &KNOWN).unwrap_or("a plugin");
        Err(ApiError::field(
            "plugins",
            format!("`plugins`: {shown} is not offered here: leave it out, or set its `enabled` to false"),
        ))
    })
}

#[cfg(test)]
mod tests;
