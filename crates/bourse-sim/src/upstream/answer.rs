//! What an honest seller would say: words, tool calls, finish reasons and the true usage.

use super::config::SellerConfig;
use super::fault::Fault;
use super::record::UsageSeen;
use super::request::{Call, ToolPlan};
use super::text::words;
use crate::seed::{digest, mix};
use serde_json::{Value, json};

/// Longest answer in words.
const WORDS_MAX: usize = 65_536;
/// Stand for the two halves of a surrogate pair until the JSON is written: text in Rust cannot hold
/// half a character, the wire can.
const HIGH_HALF: char = '\u{E000}';
const LOW_HALF: char = '\u{E001}';
/// The first byte of both in UTF-8.
const STAND_IN_FIRST_BYTE: u8 = 0xEE;

/// One token of four bytes, for the fault that cuts inside a character.
const CRAB: &str = " 🦀";

/// A tool call with its arguments as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) words: Vec<String>,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: &'static str,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created_s: u64,
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: UsageSeen,
}

impl Answer {
    /// The answer to a call. `order` numbers the calls of this seller; `created_s` is Unix time.
    pub(super) fn compose(
        call: &Call,
        config: &SellerConfig,
        fault: Option<Fault>,
        order: u64,
        created_s: u64,
    ) -> Self {
        let choices: Vec<Choice> =
            (0..call.choices).map(|index| compose_choice(call, config, fault, index)).collect();
        let completion = choices.iter().map(|choice| choice_tokens(choice, config)).sum();
        let model = if fault == Some(Fault::WrongModel) { "other/model-7b" } else { &call.model };
        Self {
            id: format!("chatcmpl-sim-{}-{order}", config.name),
            created_s,
            model: model.to_owned(),
            choices,
            usage: UsageSeen { prompt: call.prompt_tokens, cached_prompt: 0, completion },
        }
    }
}

fn choice_tokens(choice: &Choice, config: &SellerConfig) -> u64 {
    let said: u64 = choice.words.iter().map(|word| config.tokens.count(word)).sum();
    let called: u64 = choice.calls.iter().map(|call| config.tokens.count(&call.arguments)).sum();
    said + called
}

fn compose_choice(call: &Call, config: &SellerConfig, fault: Option<Fault>, index: usize) -> Choice {
    let plans = tool_plans(call, fault);
    if !plans.is_empty() {
        let calls =
            plans.iter().enumerate().map(|(n, plan)| tool_call(call, fault, plan, index, n)).collect();
        return Choice { words: Vec::new(), calls, finish: "tool_calls" };
    }
    let natural = config.completion_words.clamp(1, WORDS_MAX);
    let limit = call.max_tokens.map_or(WORDS_MAX, |n| usize::try_from(n).unwrap_or(WORDS_MAX));
    let count = natural.min(limit.max(1));
    let seed = mix(call.text_seed ^ index as u64);
    let mut said = words(seed, count, config.quality_permille, digest(config.name.as_bytes()));
    if fault == Some(Fault::CutMidUtf8) {
        CRAB.clone_into(&mut said[count / 2]);
    }
    Choice { words: said, calls: Vec::new(), finish: if limit < natural { "length" } else { "stop" } }
}

/// Tool faults call tools whether or not the buyer offered any.
fn tool_plans(call: &Call, fault: Option<Fault>) -> Vec<ToolPlan> {
    let first = || {
        let invented = || ToolPlan { name: "lookup".to_owned(), arguments: json!({"query": "x"}) };
        call.tools.first().cloned().unwrap_or_else(invented)
    };
    match fault {
        Some(Fault::DuplicateToolCallIds) => vec![first(), first()],
        Some(Fault::SplitSurrogates) => {
            let mut plan = first();
            plan.arguments = json!({"query": format!("crab {HIGH_HALF}{LOW_HALF}")});
            vec![plan]
        }
        _ => call.tools.clone(),
    }
}

fn tool_call(call: &Call, fault: Option<Fault>, plan: &ToolPlan, index: usize, n: usize) -> ToolCall {
    let distinct = if fault == Some(Fault::DuplicateToolCallIds) { 0 } else { n };
    let seed = mix(call.text_seed ^ mix((index * 1_000 + distinct) as u64));
    ToolCall {
        id: format!("call_{seed:016x}"),
        name: plan.name.clone(),
        arguments: plan.arguments.to_string(),
    }
}

/// Splits arguments into the pieces that a stream sends; between the halves of a pair if there is one.
pub(super) fn argument_pieces(arguments: &str) -> Vec<&str> {
    let middle = arguments.find(LOW_HALF).or_else(|| {
        let half = arguments.len() / 2;
        (half..arguments.len()).find(|at| arguments.is_char_boundary(*at))
    });
    let (head, tail) = arguments.split_at(middle.unwrap_or(arguments.len()));
    [head, tail].into_iter().filter(|piece| !piece.is_empty()).collect()
}

/// Writes JSON, with the stand-ins replaced by the escapes of half characters.
pub(super) fn to_json_text(value: &Value) -> String {
    let text = value.to_string();
    // Nearly every text has neither, and the bytes are quicker to search than the characters.
    if memchr::memchr(STAND_IN_FIRST_BYTE, text.as_bytes()).is_some() {
        text.replace(HIGH_HALF, "\\ud83e").replace(LOW_HALF, "\\udd80")
    } else {
        text
    }
}

impl UsageSeen {
    /// As the `usage` object of the wire.
    pub(super) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached_prompt},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    /// What the seller reports under a fault; `None` when it reports nothing.
    pub(super) fn claimed(self, fault: Option<Fault>) -> Option<Self> {
        match fault {
            Some(Fault::NoUsage) => None,
            Some(Fault::UsageLow) => Some(Self { completion: self.completion.div_ceil(2), ..self }),
            Some(Fault::UsageHigh) => {
                Some(Self { prompt: self.prompt * 1_000, completion: self.completion * 1_000, ..self })
            }
            Some(Fault::CachedAbovePrompt) => Some(Self { cached_prompt: self.prompt * 2 + 1, ..self }),
            _ => Some(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Surface;
    use super::*;

    #[test]
    fn absurd_lengths_are_bounded() {
        let config = |completion_words| SellerConfig { completion_words, ..SellerConfig::new("a", "m") };
        let call = |max_tokens| Call {
            surface: Surface::Chat,
            model: "m".to_owned(),
            prompt_tokens: 1,
            text_seed: 1,
            max_tokens,
            choices: 1,
            stream: false,
            include_usage: false,
            tools: Vec::new(),
            fault: None,
        };
        let words = |completion_words, max_tokens| {
            compose_choice(&call(max_tokens), &config(completion_words), None, 0).words.len()
        };
        assert_eq!(words(WORDS_MAX, None), WORDS_MAX);
        assert_eq!(words(WORDS_MAX + 1, Some(u64::MAX)), WORDS_MAX);
        assert_eq!((words(0, None), words(9, Some(4))), (1, 4));
    }

    #[test]
    fn arguments_split_between_the_halves_of_a_pair() {
        let text = format!("{{\"q\":\"{HIGH_HALF}{LOW_HALF}\"}}");
        let pieces = argument_pieces(&text);
        assert!(pieces[0].ends_with(HIGH_HALF) && pieces[1].starts_with(LOW_HALF));
        assert_eq!(to_json_text(&json!(pieces[0])), r#""{\"q\":\"\ud83e""#);
        assert_eq!(to_json_text(&json!(pieces[1])), r#""\udd80\"}""#);
        assert_eq!(argument_pieces("{}"), ["{", "}"]);
        assert_eq!(argument_pieces(""), [""; 0]);
    }
}
