//! How long the model is told to think: by a budget of tokens, or by a word. The name decides; both at once are
//! refused by the seller.

use super::model::{Generation, Model, Size};
use crate::dialect::grammar::Call;
use crate::dialect::neutral::{Effort, Reasoning, Request};
use crate::dialect::notes::Notes;
use serde::Serialize;

/// Tokens of an answer that shares of thinking are taken from when nobody sets a limit.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;
/// The budget by which the model decides by itself.
const BUDGET_DYNAMIC: i32 = -1;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThinkingOut {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_thoughts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

/// How much, in the buyer's terms.
enum Amount {
    Off,
    /// As the model likes.
    Dynamic,
    Tokens(u32),
    Share(Effort),
}

fn amount(wish: &Reasoning) -> Amount {
    match *wish {
        Reasoning { enabled: Some(false), .. }
        | Reasoning { enabled: None, effort: Some(Effort::None), .. }
        | Reasoning { enabled: None, effort: None, max_tokens: Some(0), .. } => Amount::Off,
        Reasoning { max_tokens: Some(tokens), .. } => Amount::Tokens(tokens),
        Reasoning { effort: Some(effort), .. } => Amount::Share(effort),
        _ => Amount::Dynamic,
    }
}

pub(super) fn thinking(
    request: &Request,
    call: &Call<'_>,
    model: Model,
    notes: &mut Notes,
) -> Option<ThinkingOut> {
    let wish = request.reasoning.as_ref()?;
    let amount = amount(wish);
    let is_off = matches!(amount, Amount::Off);
    if model.generation == Generation::Old {
        if !is_off {
            notes.add("reasoning", "this model does not think, left out");
        }
        return None;
    }
    let answer_tokens = call.max_tokens(request).unwrap_or(ANSWER_TOKENS_ASSUMED);
    let mut out = ThinkingOut { include_thoughts: !is_off && !wish.exclude, ..ThinkingOut::default() };
    if model.generation == Generation::Budgets {
        // Only where the buyer asked for thoughts, for the smallest model has none unasked.
        let is_wanted = wish.enabled == Some(true) || !matches!(amount, Amount::Dynamic);
        out.thinking_budget = is_wanted.then(|| budget(&amount, answer_tokens, model.size, notes));
    } else {
        out.thinking_level = level(&amount, answer_tokens, model, notes);
    }
    (out != ThinkingOut::default()).then_some(out)
}

/// The budgets that a model takes, in tokens, and whether it can be told not to think.
fn budgets(size: Size) -> (u32, u32, bool) {
    match size {
        Size::Pro => (128, 32_768, false),
        Size::Flash => (1, 24_576, true),
        Size::FlashLite => (512, 24_576, true),
    }
}

fn budget(amount: &Amount, answer_tokens: u32, size: Size, notes: &mut Notes) -> i32 {
    let (least, most, can_be_off) = budgets(size);
    let tokens = match *amount {
        Amount::Dynamic => return BUDGET_DYNAMIC,
        Amount::Off if can_be_off => return 0,
        Amount::Off => {
            note_least(notes);
            least
        }
        Amount::Tokens(tokens) => tokens,
        Amount::Share(effort) => effort.budget_tokens(answer_tokens),
    };
    tokens.clamp(least, most) as i32
}

fn level(amount: &Amount, answer_tokens: u32, model: Model, notes: &mut Notes) -> Option<&'static str> {
    let effort = match *amount {
        Amount::Dynamic => return None,
        Amount::Off => {
            note_least(notes);
            Effort::None
        }
        Amount::Tokens(tokens) => {
            notes.add("reasoning.max_tokens", "this seller knows only words for it, the nearest was sent");
            Effort::of_budget(tokens, answer_tokens.max(tokens))
        }
        Amount::Share(effort) => effort,
    };
    let is_pro = model.size == Size::Pro;
    Some(match effort {
        Effort::None | Effort::Minimal if !is_pro => "minimal",
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium if !(is_pro && model.is_first_of_words) => "medium",
        _ => "high",
    })
}

fn note_least(notes: &mut Notes) {
    notes.add("reasoning", "cannot be switched off on this model, the least was asked for");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(model: &str, wish: Reasoning, max_tokens: Option<u32>) -> (String, usize) {
        let request = Request { reasoning: Some(wish), max_tokens, ..Request::default() };
        let call = Call { upstream_id: model, stream: false, max_tokens: None };
        let mut notes = Notes::default();
        let out = thinking(&request, &call, Model::of(model), &mut notes);
        (serde_json::to_string(&out).unwrap(), notes.written(&()).notices.len())
    }

    fn check(model: &str, wish: Reasoning, want: &str, notices: usize) {
        let case = format!("{model} {wish:?}");
        assert_eq!(written(model, wish, None), (want.to_owned(), notices), "{case}");
    }

    fn effort(effort: Effort) -> Reasoning {
        Reasoning { effort: Some(effort), ..Reasoning::default() }
    }

    fn enabled(enabled: bool) -> Reasoning {
        Reasoning { enabled: Some(enabled), ..Reasoning::default() }
    }

    fn tokens(max_tokens: u32) -> Reasoning {
        Reasoning { max_tokens: Some(max_tokens), ..Reasoning::default() }
    }

    #[test]
    fn budgets_are_kept_within_the_models_bounds() {
        let budget = |n: i32| format!(r#"{{"includeThoughts":true,"thinkingBudget":{n}}}"#);
        check("gemini-2.5-pro", tokens(127), &budget(128), 0);
        check("gemini-2.5-pro", tokens(32_769), &budget(32_768), 0);
        check("gemini-2.5-flash", tokens(24_577), &budget(24_576), 0);
        check("gemini-2.5-flash-lite", tokens(511), &budget(512), 0);
        check("gemini-2.5-flash", effort(Effort::Low), &budget(6_400), 0);
        check("gemini-2.5-flash", enabled(true), &budget(-1), 0);
        assert_eq!(written("gemini-2.5-flash", effort(Effort::Medium), Some(4_000)).0, budget(2_000));
    }

    #[test]
    fn thinking_is_switched_off_where_it_can_be() {
        for off in [enabled(false), effort(Effort::None), tokens(0)] {
            check("gemini-2.5-flash", off.clone(), r#"{"thinkingBudget":0}"#, 0);
            check("gemini-2.5-pro", off.clone(), r#"{"thinkingBudget":128}"#, 1);
            check("gemini-3-flash-preview", off.clone(), r#"{"thinkingLevel":"minimal"}"#, 1);
            check("gemini-3.1-pro", off.clone(), r#"{"thinkingLevel":"low"}"#, 1);
            check("gemini-2.0-flash", off, "null", 0);
        }
    }

    #[test]
    fn words_are_those_of_the_model() {
        let level = |word: &str| format!(r#"{{"includeThoughts":true,"thinkingLevel":"{word}"}}"#);
        check("gemini-3-pro-preview", effort(Effort::Medium), &level("high"), 0);
        check("gemini-3.1-pro", effort(Effort::Medium), &level("medium"), 0);
        check("gemini-3.8-flash", effort(Effort::Minimal), &level("minimal"), 0);
        check("gemini-3.1-pro", effort(Effort::Minimal), &level("low"), 0);
        check("gemini-flash-latest", effort(Effort::Max), &level("high"), 0);
        check("gemini-3.8-flash", tokens(16_000), &level("medium"), 1);
        check("gemini-3.8-flash", enabled(true), r#"{"includeThoughts":true}"#, 0);
    }

    #[test]
    fn thoughts_are_shown_unless_they_are_not_wanted() {
        let hidden = Reasoning { exclude: true, ..effort(Effort::High) };
        check("gemini-3.8-flash", hidden, r#"{"thinkingLevel":"high"}"#, 0);
        check("gemini-2.5-flash", Reasoning::default(), r#"{"includeThoughts":true}"#, 0);
        check("gemma-3-27b-it", effort(Effort::Low), "null", 1);
        let hidden = Reasoning { exclude: true, ..Reasoning::default() };
        check("gemini-3.8-flash", hidden, "null", 0);
    }
}
