//! What an honest seller would say: reasoning, words, tool calls, finish and the true usage.
//!
//! The same for every shape; how a shape writes it stands in [`super::response`].

use super::answer_script::{AnswerScript, BadCall, ReasoningForm, Say};
use super::cache::CacheUse;
use super::config::SellerConfig;
use super::fault::Fault;
use super::record::UsageSeen;
use super::request::{Call, Format, Parallel, Thinking, Tool, ToolChoice};
use super::schema::{misfit, sample};
use super::shape::Shape;
use super::text::words;
use crate::seed::{Random, digest, mix};
use serde_json::{Value, json};

/// Longest answer in words.
const WORDS_MAX: usize = 65_536;
/// Most tool calls in one answer.
const TOOL_CALLS_MAX: usize = 128;
/// Stand for the two halves of a surrogate pair until the JSON is written: text in Rust cannot hold
/// half a character, the wire can.
const HIGH_HALF: char = '\u{E000}';
const LOW_HALF: char = '\u{E001}';
/// The first byte of both in UTF-8.
const STAND_IN_FIRST_BYTE: u8 = 0xEE;
/// Keeps the words of reasoning apart from the words of the answer.
const REASONING_SALT: u64 = 0x7468_696E_6B00_0000;

/// One token of four bytes, for the fault that cuts inside a character.
const CRAB: &str = " 🦀";
const REFUSAL: &str = "I can't help with that request.";

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    ToolCalls,
    Refusal,
    /// A tool call that could not be read, where arguments are no text.
    Malformed,
}

/// A tool call with its arguments as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl ToolCall {
    /// The arguments as an object, if they are one.
    pub(super) fn object(&self) -> Option<Value> {
        serde_json::from_str(&self.arguments).ok().filter(Value::is_object)
    }
}

/// Reasoning in words, each with the space before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Reasoning {
    pub(super) words: Vec<String>,
    pub(super) form: ReasoningForm,
    /// Whether the request may see it; what is hidden is still counted.
    pub(super) is_shown: bool,
}

impl Reasoning {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        self.words.concat()
    }
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) reasoning: Reasoning,
    pub(super) words: Vec<String>,
    pub(super) calls: Vec<ToolCall>,
    pub(super) finish: Finish,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Seller and number of the call: what ids of every shape are made of.
    pub(super) id: String,
    pub(super) created_s: u64,
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: UsageSeen,
}

/// What an answer depends on beside the call and the seller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) script: &'a AnswerScript,
    pub(super) fault: Option<Fault>,
    /// Number of the call at this seller.
    pub(super) order: u64,
    /// Unix time.
    pub(super) created_s: u64,
    pub(super) cache: CacheUse,
}

impl Answer {
    /// The answer to a call.
    pub(super) fn compose(call: &Call, config: &SellerConfig, at: &Circumstances<'_>) -> Self {
        let composer = Composer { call, config, at };
        let choices: Vec<Choice> = if call.shape.streams() {
            (0..call.choices).map(|index| composer.choice(index)).collect()
        } else {
            Vec::new()
        };
        let count = |words: &[String]| words.iter().map(|word| config.tokens.count(word)).sum::<u64>();
        let reasoning = choices.iter().map(|choice| count(&choice.reasoning.words)).sum();
        let said: u64 = choices.iter().map(|choice| count(&choice.words)).sum();
        let calls = choices.iter().flat_map(|choice| &choice.calls);
        let called: u64 = calls.map(|call| config.tokens.count(&call.arguments)).sum();
        let model = if at.fault == Some(Fault::WrongModel) { "other/model-7b" } else { &call.model };
        Self {
            id: format!("{}-{}", config.name, at.order),
            created_s: at.created_s,
            model: model.to_owned(),
            choices,
            usage: UsageSeen {
                prompt: call.prompt.tokens(config.tokens),
                cached_prompt: at.cache.read,
                cache_write_prompt: at.cache.written,
                completion: reasoning + said + called,
                reasoning,
            },
        }
    }
}

struct Composer<'a> {
    call: &'a Call,
    config: &'a SellerConfig,
    at: &'a Circumstances<'a>,
}

impl Composer<'_> {
    fn choice(&self, index: usize) -> Choice {
        let limit = self.call.max_tokens.map_or(WORDS_MAX, |n| usize::try_from(n).unwrap_or(WORDS_MAX));
        let mut reasoning = self.reasoning(index);
        if reasoning.words.len() > limit {
            reasoning.words.truncate(limit);
            return Choice { reasoning, words: Vec::new(), calls: Vec::new(), finish: Finish::Length };
        }
        let limit = limit - reasoning.words.len();
        if self.at.script.say == Say::Refusal {
            // Gemini blocks the prompt and says nothing.
            let words = if self.call.shape == Shape::Gemini { Vec::new() } else { pieces(REFUSAL) };
            return Choice { reasoning, words, calls: Vec::new(), finish: Finish::Refusal };
        }
        let tools = self.tools();
        if !tools.is_empty() {
            return self.calling(reasoning, &tools, index);
        }
        let mut said = self.said(index);
        let finish = if limit < said.len() { Finish::Length } else { Finish::Stop };
        said.truncate(if reasoning.words.is_empty() { limit.max(1) } else { limit });
        if self.at.fault == Some(Fault::CutMidUtf8) && !said.is_empty() {
            let middle = said.len() / 2;
            CRAB.clone_into(&mut said[middle]);
        }
        Choice { reasoning, words: said, calls: Vec::new(), finish }
    }

    fn reasoning(&self, index: usize) -> Reasoning {
        let AnswerScript { reasoning_words, reasoning_form, .. } = *self.at.script;
        if reasoning_words == 0 || self.call.thinking == Thinking::Off {
            return Reasoning::default();
        }
        let seed = mix(self.call.text_seed ^ REASONING_SALT ^ index as u64);
        Reasoning {
            words: words(seed, reasoning_words.min(WORDS_MAX), 1_000, 0),
            form: reasoning_form,
            is_shown: self.call.thinking == Thinking::Shown,
        }
    }

    /// The words of the answer, before any limit.
    fn said(&self, index: usize) -> Vec<String> {
        if let Say::Text(text) = &self.at.script.say {
            return pieces(text);
        }
        let natural = self.config.completion_words.clamp(1, WORDS_MAX);
        let seed = mix(self.call.text_seed ^ index as u64);
        let seller = digest(self.config.name.as_bytes());
        let value = match &self.call.format {
            Format::Text => return words(seed, natural, self.config.quality_permille, seller),
            Format::Json => json!({"answer": words(seed, natural, 1_000, seller).concat()}),
            Format::Schema(schema) => sample(schema),
        };
        pieces(&serde_json::to_string_pretty(&value).unwrap_or_default())
    }

    /// The tools that this answer calls, in order. Faults of tool calls call tools whether or not the
    /// buyer offered any.
    fn tools(&self) -> Vec<Tool> {
        if !self.call.shape.has_tools() {
            return Vec::new();
        }
        let invented = || Tool {
            name: "lookup".to_owned(),
            schema: json!({"type": "object", "properties": {"query": {"enum": ["x"]}}, "required": ["query"]}),
        };
        let first = || self.call.tools.first().cloned().unwrap_or_else(invented);
        match self.at.fault {
            Some(Fault::DuplicateToolCallIds) => return vec![first(), first()],
            Some(Fault::SplitSurrogates) => return vec![first()],
            _ => {}
        }
        if self.call.has_tool_result || self.call.tool_choice == ToolChoice::Never {
            return Vec::new();
        }
        let fits = |tool: &&Tool| match &self.call.tool_choice {
            ToolChoice::Named(name) => &tool.name == name,
            _ => true,
        };
        let offered: Vec<&Tool> = self.call.tools.iter().filter(fits).collect();
        let is_named = matches!(self.call.tool_choice, ToolChoice::Named(_));
        let count = match (&self.at.script.say, self.call.parallel) {
            (Say::Text(_), _) if self.call.tool_choice == ToolChoice::Auto => 0,
            (Say::ToolCalls(count), Parallel::Unsaid | Parallel::Wanted) => (*count).min(TOOL_CALLS_MAX),
            (Say::ToolCalls(count), Parallel::Forbidden) => (*count).min(1),
            (_, Parallel::Wanted) if !is_named => offered.len().min(2),
            _ => 1,
        };
        offered.iter().copied().cycle().take(if offered.is_empty() { 0 } else { count }).cloned().collect()
    }

    fn calling(&self, reasoning: Reasoning, tools: &[Tool], index: usize) -> Choice {
        let bad = self.bad_call();
        let calls: Vec<ToolCall> =
            tools.iter().enumerate().map(|(n, tool)| self.tool_call(tool, bad, index, n)).collect();
        let is_text = !matches!(self.call.shape, Shape::Gemini | Shape::Ollama);
        if is_text || calls.iter().all(|call| call.object().is_some()) {
            return Choice { reasoning, words: Vec::new(), calls, finish: Finish::ToolCalls };
        }
        if self.call.shape == Shape::Gemini {
            return Choice { reasoning, words: Vec::new(), calls: Vec::new(), finish: Finish::Malformed };
        }
        let text: Vec<String> =
            calls.iter().map(|call| format!("<tool_call> {} {}", call.name, call.arguments)).collect();
        Choice { reasoning, words: pieces(&text.join("\n")), calls: Vec::new(), finish: Finish::Stop }
    }

    /// Whether and how the tool calls of this answer are bad.
    fn bad_call(&self) -> Option<BadCall> {
        let AnswerScript { bad_call_permille, bad_calls, .. } = self.at.script;
        let mut random = Random::new(digest(self.config.name.as_bytes()) ^ mix(self.at.order));
        if !random.permille(*bad_call_permille) {
            return None;
        }
        let ways = if bad_calls.is_empty() { &BadCall::ALL[..] } else { bad_calls };
        random.pick(ways).copied()
    }

    fn tool_call(&self, tool: &Tool, bad: Option<BadCall>, index: usize, n: usize) -> ToolCall {
        let distinct = if self.at.fault == Some(Fault::DuplicateToolCallIds) { 0 } else { n };
        // The number of the call keeps the ids of a longer conversation apart.
        let place = mix((index * 1_000 + distinct) as u64);
        let seed = mix(mix(self.call.text_seed ^ mix(self.at.order)).wrapping_add(place));
        let mut call = ToolCall {
            id: format!("call_{seed:016x}"),
            name: tool.name.clone(),
            arguments: sample(&tool.schema).to_string(),
        };
        if self.at.fault == Some(Fault::SplitSurrogates) {
            call.arguments = json!({"query": format!("crab {HIGH_HALF}{LOW_HALF}")}).to_string();
        }
        match bad {
            Some(BadCall::InvalidJson) => {
                let keep = call.arguments.len().saturating_sub(1);
                call.arguments = format!("{}, \"more\": [", &call.arguments[..keep]);
            }
            Some(BadCall::UnknownTool) => "no_such_tool".clone_into(&mut call.name),
            Some(BadCall::SchemaMismatch) => call.arguments = misfit(&tool.schema).to_string(),
            None => {}
        }
        call
    }
}

/// A text in pieces that begin with white space, as tokens do.
fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut was_space = false;
    for character in text.chars() {
        let is_space = character.is_whitespace();
        match out.last_mut() {
            Some(piece) if !is_space || was_space => piece.push(character),
            _ => out.push(character.to_string()),
        }
        was_space = is_space;
    }
    out
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
mod tests;
