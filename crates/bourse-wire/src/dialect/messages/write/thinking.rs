//! How long the model is told to think.
//!
//! Models up to the generation 4.5 take a budget of tokens, later ones only a word and decide by themselves
//! (`adaptive`); what other companies serve in this grammar takes budgets. So the name decides.

use super::Notes;
use super::turns::Conversation;
use crate::dialect::grammar::Call;
use crate::dialect::messages::THINKING_TOKENS_MIN;
use crate::dialect::messages::words::effort_word;
use crate::dialect::neutral::{Effort, Reasoning, Request, ToolChoice};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ThinkingOut {
    Disabled,
    Enabled {
        budget_tokens: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
}

/// What is written of a wish to think.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) thinking: Option<ThinkingOut>,
    pub(super) effort: Option<&'static str>,
}

impl Wish {
    pub(super) fn thinks(&self) -> bool {
        matches!(self.thinking, Some(ThinkingOut::Enabled { .. } | ThinkingOut::Adaptive { .. }))
    }
}

/// Claude models that take a budget and nothing else.
const OF_BUDGETS: [&str; 9] = [
    "claude-3",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2025",
    "claude-opus-4-5",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2025",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
];

fn takes_words(upstream_id: &str) -> bool {
    upstream_id.contains("claude") && !OF_BUDGETS.iter().any(|name| upstream_id.contains(name))
}

pub(super) fn thinking(
    request: &Request,
    call: &Call<'_>,
    max_tokens: u32,
    conversation: &Conversation<'_>,
    notes: &mut Notes,
) -> Wish {
    let Some(wish) = &request.reasoning else { return Wish::default() };
    let Reasoning { enabled, effort, max_tokens: budget, .. } = *wish;
    if enabled == Some(false) || (enabled.is_none() && effort == Some(Effort::None)) {
        return Wish { thinking: Some(ThinkingOut::Disabled), effort: None };
    }
    if enabled.is_none() && effort.is_none() && budget.is_none() {
        return Wish::default();
    }
    if matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)))
        && !request.tools.is_empty()
    {
        notes.add("reasoning", "not taken together with a tool that must be called, and left out");
        return Wish::default();
    }
    let display = display(wish);
    if takes_words(call.upstream_id) {
        let effort = effort.or_else(|| budget.map(|budget| Effort::of_budget(budget, max_tokens)));
        return Wish { thinking: Some(ThinkingOut::Adaptive { display }), effort: effort.map(effort_word) };
    }
    if max_tokens <= THINKING_TOKENS_MIN {
        notes.add("reasoning", "needs a `max_tokens` above 1024 with this seller, and left out");
        return Wish::default();
    }
    if conversation.calls_without_thoughts() {
        notes.add(
            "reasoning",
            "not taken after tool calls whose thoughts are not the seller's own, and left out",
        );
        return Wish::default();
    }
    let share = || effort.unwrap_or(Effort::Medium).budget_tokens(max_tokens);
    let budget_tokens = budget.unwrap_or_else(share).clamp(THINKING_TOKENS_MIN, max_tokens - 1);
    Wish { thinking: Some(ThinkingOut::Enabled { budget_tokens, display }), effort: None }
}

/// How thoughts are shown; none for the model's own way.
fn display(wish: &Reasoning) -> Option<&'static str> {
    if wish.exclude { Some("omitted") } else { wish.summary.as_ref().map(|_| "summarized") }
}
