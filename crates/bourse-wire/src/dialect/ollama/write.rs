//! Writing a request for a seller of this grammar.
//!
//! A message is one text with pictures beside it, so texts are joined by line feeds. Whatever an answer would lack
//! (several choices, a tool that must be called) is refused; what only changes its taste is left out with a notice.

mod messages;

use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{Effort, Reasoning, Request, ResponseFormat, ToolChoice};
use crate::dialect::notes::Notes;
use crate::dialect::tree::Tree;
use crate::error::ApiError;

/// The body of a call. An error names the field that this grammar cannot say.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut notes = Notes::default();
    let body = Tree::object([
        ("model", call.upstream_id.into()),
        ("messages", Tree::List(messages::messages(&request.messages, &mut notes)?)),
        ("tools", tools(request)),
        (
            "format",
            match &request.response_format {
                ResponseFormat::Text => Tree::Absent,
                ResponseFormat::JsonObject => "json".into(),
                ResponseFormat::JsonSchema { schema, .. } => schema.into(),
            },
        ),
        ("think", think(request, call.upstream_id, &mut notes)),
        ("options", options(request, call)),
        ("logprobs", request.logprobs.map(|_| true).into()),
        ("top_logprobs", request.logprobs.filter(|n| *n > 0).into()),
        // Absence means true here.
        ("stream", call.stream.into()),
        ("truncate", false.into()),
        ("shift", false.into()),
    ]);
    note_unsaid(request, &mut notes);
    Ok(notes.written(&body))
}

/// Refuses what an answer would lack.
fn refuse(request: &Request) -> Result<(), ApiError> {
    let refused = |field, why: &str| {
        let text = format!("`{field}` is not possible with sellers that speak Ollama's grammar: {why}");
        Err(ApiError::field(field, text))
    };
    if request.choices > 1 {
        return refused("n", "ask for one answer, several times");
    }
    let must_call = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)));
    if must_call && !request.tools.is_empty() {
        return refused(
            "tool_choice",
            "leave the choice to the model, or name another seller in `provider.only`",
        );
    }
    Ok(())
}

/// A model that must not call a tool is told of none.
fn tools(request: &Request) -> Tree<'_> {
    let is_told = request.tool_choice != Some(ToolChoice::None);
    Tree::list(request.tools.iter().filter(|_| is_told).map(Tree::function))
}

fn options<'a>(request: &'a Request, call: &Call<'_>) -> Tree<'a> {
    Tree::object([
        ("temperature", request.temperature.into()),
        ("top_p", request.top_p.into()),
        ("top_k", request.top_k.into()),
        ("min_p", request.min_p.into()),
        ("seed", request.seed.into()),
        ("num_predict", call.max_tokens(request).into()),
        ("stop", Tree::list(&request.stop)),
        ("repeat_penalty", request.repetition_penalty.into()),
        ("presence_penalty", request.presence_penalty.into()),
        ("frequency_penalty", request.frequency_penalty.into()),
    ])
    .unless_empty()
}

/// The one family whose models take a word for how much to think, and cannot be told not to. All others take yes or
/// no and refuse words.
const THINKS_BY_WORDS: &str = "gpt-oss";
/// Tokens of an answer, where a budget of thinking must become a word and no limit is known.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;

fn think(request: &Request, upstream_id: &str, notes: &mut Notes) -> Tree<'static> {
    let Some(wish) = &request.reasoning else { return Tree::Absent };
    let Reasoning { enabled, effort, max_tokens, exclude, .. } = *wish;
    if enabled.is_none() && effort.is_none() && max_tokens.is_none() {
        return Tree::Absent;
    }
    if exclude {
        notes.add("reasoning.exclude", "the seller shows what it thinks");
    }
    let is_off = enabled == Some(false)
        || (enabled.is_none() && (effort == Some(Effort::None) || max_tokens == Some(0)));
    if !upstream_id.contains(THINKS_BY_WORDS) {
        if !is_off && (effort.is_some() || max_tokens.is_some()) {
            notes.add("reasoning", "the seller knows only whether to think, not how much");
        }
        return (!is_off).into();
    }
    if is_off {
        notes.add("reasoning", "cannot be switched off on this model, the least was asked for");
        return "low".into();
    }
    let of_budget = |tokens: u32| {
        Effort::of_budget(tokens, request.max_tokens.unwrap_or(ANSWER_TOKENS_ASSUMED).max(tokens))
    };
    if max_tokens.is_some() {
        notes.add("reasoning.max_tokens", "this seller knows only words for it, the nearest was sent");
    }
    match max_tokens.map(of_budget).or(effort) {
        None => true.into(),
        Some(Effort::None | Effort::Minimal | Effort::Low) => "low".into(),
        Some(Effort::Medium) => "medium".into(),
        Some(Effort::High | Effort::XHigh | Effort::Max) => "high".into(),
    }
}

/// Tells of wishes that this grammar has no word for.
fn note_unsaid(request: &Request, notes: &mut Notes) {
    let is_strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    notes.add_unknown([
        ("logit_bias", !request.logit_bias.is_empty()),
        ("tools.strict", is_strict),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && !request.tools.is_empty()),
        ("verbosity", request.verbosity.is_some()),
        ("user", request.user.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        (
            "service_tier",
            request.service_tier.as_deref().is_some_and(|tier| !matches!(tier, "auto" | "default")),
        ),
    ]);
    if request.cache.is_some() || request.tools.iter().any(|tool| tool.cache.is_some()) {
        notes.add("cache_control", "this seller keeps prefixes by itself, left out");
    }
}
