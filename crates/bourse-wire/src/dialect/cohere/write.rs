//! Writing a request for a seller of this grammar.
//!
//! What an answer would lack (several choices, JSON beside tools) is refused; what only changes its taste is bent to what
//! the vendor takes or left out, with a notice.

mod messages;

use super::{STOPS_MAX, TOP_K_MAX};
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{Effort, Reasoning, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::notes::Notes;
use crate::dialect::tree::Tree;
use crate::error::ApiError;
use messages::note_mark;

/// Tokens of an answer, where a word for thinking must become a budget and no limit is known.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;

/// The body of a call. An error names the field that this grammar cannot say.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut notes = Notes::default();
    let (tools, tool_choice) = tools(request);
    let is_held = !request.tools.is_empty() && request.tools.iter().all(is_strict);
    let (frequency, presence) = penalties(request, &mut notes);
    let body = Tree::object([
        ("model", call.upstream_id.into()),
        ("messages", Tree::List(messages::messages(&request.messages, &mut notes)?)),
        ("tools", tools),
        ("strict_tools", is_held.then_some(true).into()),
        ("tool_choice", tool_choice.into()),
        ("response_format", format(&request.response_format)),
        ("thinking", thinking(request, call, &mut notes)),
        ("max_tokens", call.max_tokens(request).into()),
        ("temperature", within("temperature", request.temperature, [0.0, 1.0], &mut notes).into()),
        ("p", within("top_p", request.top_p, [0.01, 0.99], &mut notes).into()),
        ("k", request.top_k.map(|k| k.min(TOP_K_MAX)).into()),
        ("seed", request.seed.map(i64::cast_unsigned).into()),
        ("stop_sequences", Tree::list(&request.stop)),
        ("frequency_penalty", frequency.into()),
        ("presence_penalty", presence.into()),
        ("logprobs", request.logprobs.map(|_| true).into()),
        ("stream", call.stream.into()),
    ]);
    note_unsaid(request, &mut notes);
    Ok(notes.written(&body))
}

/// Refuses what an answer would lack, and what the seller would refuse.
fn refuse(request: &Request) -> Result<(), ApiError> {
    let has_format = request.response_format != ResponseFormat::Text;
    let (field, why) = if request.choices > 1 {
        ("n", "cannot be above 1: ask for one answer, several times")
    } else if request.stop.len() > STOPS_MAX {
        ("stop", "holds at most 5 strings: give fewer")
    } else if has_format && !request.tools.is_empty() {
        ("response_format", "is not possible together with tools: leave out one")
    } else {
        return Ok(());
    };
    let text = format!(
        "with sellers that speak Cohere's grammar `{field}` {why}, or name another seller in `provider.only`"
    );
    Err(ApiError::field(field, text))
}

fn is_strict(tool: &Tool) -> bool {
    tool.strict == Some(true)
}

/// The tools, and the word for how they are chosen. A certain one is the only one that is told.
fn tools(request: &Request) -> (Tree<'_>, Option<&'static str>) {
    let (only, word) = match &request.tool_choice {
        _ if request.tools.is_empty() => (None, None),
        None | Some(ToolChoice::Auto) => (None, None),
        Some(ToolChoice::None) => (None, Some("NONE")),
        Some(ToolChoice::Required) => (None, Some("REQUIRED")),
        Some(ToolChoice::Tool(name)) => (Some(name), Some("REQUIRED")),
    };
    let told = request.tools.iter().filter(|tool| only.is_none_or(|name| *name == tool.name));
    (Tree::list(told.map(Tree::function)), word)
}

fn format(format: &ResponseFormat) -> Tree<'_> {
    let schema = match format {
        ResponseFormat::Text => return Tree::Absent,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema { schema, .. } => Some(schema),
    };
    Tree::object([("type", "json_object".into()), ("json_schema", schema.into())])
}

fn thinking(request: &Request, call: &Call<'_>, notes: &mut Notes) -> Tree<'static> {
    let Some(wish) = &request.reasoning else { return Tree::Absent };
    let Reasoning { enabled, effort, max_tokens: budget, exclude, .. } = *wish;
    if exclude {
        notes.add("reasoning.exclude", "the seller shows what it thinks");
    }
    let is_off =
        enabled == Some(false) || (enabled.is_none() && (effort == Some(Effort::None) || budget == Some(0)));
    if is_off {
        return Tree::object([("type", "disabled".into())]);
    }
    let most = call.max_tokens(request).unwrap_or(ANSWER_TOKENS_ASSUMED);
    let budget = budget.or_else(|| effort.map(|effort| effort.budget_tokens(most)));
    if enabled.is_none() && budget.is_none() {
        return Tree::Absent;
    }
    let budget = budget.map(|tokens| tokens.max(1));
    Tree::object([("type", "enabled".into()), ("token_budget", budget.into())])
}

/// The nearest that the seller takes.
fn within(field: &'static str, value: Option<f64>, [min, max]: [f64; 2], notes: &mut Notes) -> Option<f64> {
    if value.is_some_and(|value| !(min..=max).contains(&value)) {
        notes.add(field, "out of the seller's range, the nearest was sent");
    }
    value.map(|value| value.clamp(min, max))
}

/// The penalties on frequency and on presence. The seller takes one of them, and none that rewards.
fn penalties(request: &Request, notes: &mut Notes) -> (Option<f64>, Option<f64>) {
    let mut take = |field, value: Option<f64>| {
        let value = within(field, value, [0.0, 1.0], notes);
        value.filter(|value| *value > 0.0)
    };
    let frequency = take("frequency_penalty", request.frequency_penalty);
    let presence = take("presence_penalty", request.presence_penalty);
    if frequency.is_some() && presence.is_some() {
        notes.add("presence_penalty", "not taken together with the other penalty, left out");
        return (frequency, None);
    }
    (frequency, presence)
}

/// Tells of wishes that this grammar has no word for.
fn note_unsaid(request: &Request, notes: &mut Notes) {
    let tools = &request.tools;
    let tier = request.service_tier.as_deref();
    let differs = |value: Option<f64>, from: f64| value.is_some_and(|v| (v - from).abs() > 0.0);
    notes.add_unknown([
        ("min_p", differs(request.min_p, 0.0)),
        ("repetition_penalty", differs(request.repetition_penalty, 1.0)),
        ("logit_bias", !request.logit_bias.is_empty()),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && !tools.is_empty()),
        ("verbosity", request.verbosity.is_some()),
        ("user", request.user.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        ("service_tier", tier.is_some_and(|tier| !matches!(tier, "auto" | "default"))),
        ("top_logprobs", request.logprobs.is_some_and(|alternatives| alternatives > 0)),
    ]);
    if tools.iter().any(is_strict) && !tools.iter().all(is_strict) {
        notes.add("tools.strict", "the seller holds all tools to it or none, left out");
    }
    if request.top_k.is_some_and(|k| k > TOP_K_MAX) {
        notes.add("top_k", "out of the seller's range, the nearest was sent");
    }
    note_mark(request.cache.is_some() || tools.iter().any(|tool| tool.cache.is_some()), notes);
}
