//! Reading single members of this grammar.

use crate::dialect::MAX_TOKENS_MAX;
use crate::dialect::fields::{unescaped, wrong};
use crate::dialect::messages::THINKING_TOKENS_MIN;
use crate::dialect::neutral::{Effort, Reasoning};
use crate::error::ApiError;
use crate::json::{JsonError, Walk, push_u64};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The error for a member that sellers of this grammar know and that is not sold here.
pub(super) fn not_sold(name: &str) -> ApiError {
    let why = match name {
        "speed" => "only \"standard\" is sold under the prices of this market: leave it out",
        "inference_geo" => "regions are chosen through `provider`: leave it out",
        "mcp_servers" => "the market calls no servers on your behalf: call them yourself and send tools",
        "container" => "containers live in an account at one seller: leave it out",
        _ => "it belongs to an account at one seller, and here the account is the market's: leave it out",
    };
    ApiError::field(name.to_owned(), format!("`{name}` is not supported: {why}"))
}

/// The error for a member of other grammars that would be ignored here.
pub(super) fn said_otherwise(name: &str) -> ApiError {
    let how = if name == "verbosity" {
        "ask for it in `system`"
    } else {
        "use `thinking` or `output_config.effort`"
    };
    ApiError::field(name.to_owned(), format!("`{name}` is not of this grammar: {how}"))
}

pub(super) fn tool_choice(raw: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        name: Option<String>,
    }
    let want =
        || wrong("tool_choice", "an object with `type` \"auto\", \"any\", \"none\", or \"tool\" with `name`");
    let choice: Choice<'_> = serde_json::from_str(raw).map_err(|_| want())?;
    match choice.kind.as_ref() {
        "auto" | "any" | "none" => Ok(()),
        "tool" if choice.name.is_some() => Ok(()),
        _ => Err(want()),
    }
}

/// Who asks on the buyer's side.
pub(super) fn user_id(raw: &str) -> Result<Option<String>, ApiError> {
    #[derive(Deserialize)]
    struct Metadata {
        user_id: Option<String>,
    }
    let metadata: Metadata =
        serde_json::from_str(raw).map_err(|_| wrong("metadata", "an object whose `user_id` is a string"))?;
    Ok(metadata.user_id)
}

/// The member `thinking`.
#[derive(Debug, Deserialize)]
pub(super) struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    pub(super) budget_tokens: Option<u32>,
    display: Option<String>,
}

impl Thinking {
    pub(super) fn read(raw: &str) -> Result<Self, ApiError> {
        let want = || {
            wrong(
                "thinking",
                "an object with `type` \"enabled\" and `budget_tokens`, or `type` \"adaptive\", \"between_tools\" or \"disabled\"",
            )
        };
        let thinking: Self = serde_json::from_str(raw).map_err(|_| want())?;
        match (thinking.kind.as_str(), thinking.budget_tokens) {
            ("enabled", Some(THINKING_TOKENS_MIN..=MAX_TOKENS_MAX))
            | ("adaptive" | "between_tools" | "disabled", None) => Ok(thinking),
            ("enabled", _) => Err(wrong(
                "thinking.budget_tokens",
                &format!("a whole number from {THINKING_TOKENS_MIN} to {MAX_TOKENS_MAX}"),
            )),
            _ => Err(want()),
        }
    }
}

/// Appends `thinking` for an answer of at most `cap` tokens: as it is where its budget fits, with the largest budget
/// that does, or switched off where none does.
pub(in crate::dialect) fn push_thinking(raw: &str, cap: u32, out: &mut Vec<u8>) {
    let mut span = None;
    let mut walk = Walk::new(raw);
    let walked = walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if unescaped(walk.text(key)) == "budget_tokens" {
            span = Some(value);
        }
        Ok(())
    });
    let beyond = span.filter(|span| walked.is_ok() && raw[span.clone()].parse().is_ok_and(|n: u32| n >= cap));
    match beyond {
        None => out.extend_from_slice(raw.as_bytes()),
        Some(span) if cap > THINKING_TOKENS_MIN => {
            out.extend_from_slice(&raw.as_bytes()[..span.start]);
            push_u64(out, u64::from(cap - 1));
            out.extend_from_slice(&raw.as_bytes()[span.end..]);
        }
        Some(_) => out.extend_from_slice(b"{\"type\":\"disabled\"}"),
    }
}

/// Whether `output_config` asks for a form of the answer, and how much effort it asks for.
pub(super) fn output_config(raw: &str) -> Result<(bool, Option<Effort>), ApiError> {
    #[derive(Deserialize)]
    struct Config<'a> {
        effort: Option<String>,
        #[serde(borrow)]
        format: Option<&'a RawValue>,
    }
    let config: Config<'_> = serde_json::from_str(raw)
        .map_err(|_| wrong("output_config", "an object with `effort` or `format`"))?;
    let want = || wrong("output_config.effort", "low, medium, high, xhigh or max");
    let effort = config.effort.map(|word| Effort::parse(&word).ok_or_else(want)).transpose()?;
    if matches!(effort, Some(Effort::None | Effort::Minimal)) {
        return Err(want());
    }
    Ok((config.format.is_some(), effort))
}

/// How long to think, in the neutral form.
pub(super) fn reasoning(thinking: Option<Thinking>, effort: Option<Effort>) -> Option<Reasoning> {
    let Some(thinking) = thinking else {
        return effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() });
    };
    Some(Reasoning {
        enabled: Some(thinking.kind != "disabled"),
        effort,
        max_tokens: thinking.budget_tokens,
        exclude: thinking.display.as_deref() == Some("omitted"),
        summary: (thinking.display.as_deref() == Some("summarized")).then(|| "auto".to_owned()),
    })
}
