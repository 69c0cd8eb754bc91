//! The grammar of Cohere's Chat API, version 2 (`/v2/chat`). Sellers speak it, buyers do not.
//!
//! **Thoughts** are blocks of `thinking`, and before calls of tools a `tool_plan`. Both are shown thoughts here. Those of
//! a turn with calls go back as its plan, which every model takes; others go back as blocks.
//!
//! **Tools** may be left to the model, demanded or forbidden. A certain one is demanded by telling of no other. JSON
//! together with tools is refused, as the vendor does not have it.
//!
//! **Usage** is told twice. What is billed leaves out the preamble that the vendor adds to a prompt, and is what a buyer
//! can be asked to pay; what was counted is the claim only where nothing else is told. Counts may be written as decimals.
//!
//! **Citations** point into documents, which no buyer's grammar can send, and into results of tools. No buyer's grammar
//! has a form for the latter: they are left out.
//!
//! **Streams** end with `message-end`, which tells errors too. Newer servers send `[DONE]` after it.
//!
//! Sources: Cohere's references of chat, of models and of errors, its guides to streaming, tool use, structured outputs
//! and reasoning, and the types of its Python SDK (7.3), as of 2026-10.

use super::SellerUsage;
use super::chat::made_id;
use super::fields::{has_lone_surrogate, without_lone_surrogates};
use super::gather::Gathered;
use super::grammar::{
    Call, Dialect, EventReader, Facts, Framing, SellerError, SellerErrorKind, Shape, StreamNews, Written,
};
use super::lists::{self, ListForm, Listed};
use super::neutral::{
    Answer, Effort, Media, Message, Part, Reasoning, Request, ResponseFormat, Role, StreamEvent, Tool,
    ToolChoice,
};
use super::notes::Notes;
use super::tree::Tree;
use crate::error::ApiError;
use crate::receipt::Finish;
use serde_json::{Number, Value, json};
use std::borrow::Cow;

/// Most stop strings that sellers of this grammar take.
pub const STOPS_MAX: usize = 5;
/// Largest `top_k`.
pub const TOP_K_MAX: u32 = 500;
/// Most calls of one answer.
pub const CALLS_MAX: usize = 1_024;
/// Tokens of an answer, where a word for thinking must become a budget and no limit is known.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;
/// The status under which an error inside a stream is read.
const STREAM_STATUS: u16 = 500;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Cohere;

const FACTS: Facts = Facts {
    shape: Shape::Cohere,
    framing: Framing::Sse,
    path: |_, _| "/v2/chat".to_owned(),
    list: ListForm {
        path: "/v1/models?page_size=1000&endpoint=chat",
        models: "models",
        more: "next_page_token",
        entry: listed,
    },
    count: None,
    #[cfg(test)]
    mirror: Some(&tests::MIRROR),
};

impl Dialect for Cohere {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
        write(request, call)
    }

    fn read_answer(&self, body: &str) -> Result<Answer, SellerError> {
        read_answer(body)
    }

    fn reader(&self) -> Box<dyn EventReader> {
        Box::new(Reader::default())
    }

    fn read_error(&self, status: u16, body: &[u8]) -> SellerError {
        let told = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text =
            said(&told["message"]).map_or_else(|| format!("answered with status {status}"), str::to_owned);
        SellerError::new(kind(status, &text), &text)
    }
}

/// A model that can chat.
fn listed(entry: &Value) -> Option<Listed> {
    let words = |member: &str| entry.get(member).and_then(Value::as_array);
    words("endpoints")?.iter().find(|endpoint| *endpoint == "chat")?;
    let sees = || Some(words("features")?.iter().any(|feature| feature == "vision"));
    Some(Listed {
        id: lists::text(entry, "/name")?,
        context_tokens: whole(&entry["context_length"]).filter(|tokens| *tokens > 0),
        takes_media: entry.get("supports_vision").and_then(Value::as_bool).or_else(sees),
        ..Listed::default()
    })
}

/// The body of a call. An error names the field that this grammar cannot say.
fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut notes = Notes::default();
    let (tools, tool_choice) = tools(request);
    let is_held = !request.tools.is_empty() && request.tools.iter().all(is_strict);
    let (frequency, presence) = penalties(request, &mut notes);
    let body = Tree::object([
        ("model", call.upstream_id.into()),
        ("messages", Tree::List(messages(&request.messages, &mut notes)?)),
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
    (Tree::list(told.map(function)), word)
}

fn function(tool: &Tool) -> Tree<'_> {
    let nothing = || Tree::object([("type", "object".into()), ("properties", Tree::object([]))]);
    let function = Tree::object([
        ("name", (&tool.name).into()),
        ("description", tool.description.as_ref().into()),
        ("parameters", tool.parameters.as_ref().map_or_else(nothing, Tree::from)),
    ]);
    Tree::object([("type", "function".into()), ("function", function)])
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

fn note_mark(is_marked: bool, notes: &mut Notes) {
    if is_marked {
        notes.add("cache_control", "this seller keeps prefixes by itself, left out");
    }
}

/// What one message holds.
#[derive(Default)]
struct Turn<'a> {
    content: Vec<Tree<'a>>,
    thoughts: Vec<&'a str>,
    calls: Vec<Tree<'a>>,
}

/// All messages: the rules as the first one, which is their only place, and one for each result.
fn messages<'a>(messages: &'a [Message], notes: &mut Notes) -> Result<Vec<Tree<'a>>, ApiError> {
    let mut rules = Turn::default();
    let mut out = Vec::with_capacity(messages.len() + 1);
    for (n, message) in messages.iter().enumerate() {
        if message.name.is_some() {
            notes.add("messages.name", "unknown to the seller, left out");
        }
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let mut turn = Turn::default();
        for part in &message.parts {
            if let Part::ToolResult { call_id, content, is_error, cache } = part {
                note_mark(cache.is_some(), notes);
                if *is_error {
                    notes.add("messages.is_error", "unknown to the seller, left out");
                }
                let mut result = Turn::default();
                content.iter().try_for_each(|part| result.add(n, "tool", part, notes))?;
                out.extend(result.said("tool", Some(call_id)));
            } else if role == "system" {
                rules.add(n, role, part, notes)?;
            } else {
                turn.add(n, role, part, notes)?;
            }
        }
        if role == "system" && !out.is_empty() {
            notes.add("messages", "rules in the middle of the conversation, moved to its beginning");
        }
        out.extend(turn.said(role, None));
    }
    Ok(rules.said("system", None).into_iter().chain(out).collect())
}

impl<'a> Turn<'a> {
    /// Adds one part that is no result. The vendor refuses empty texts.
    fn add(&mut self, n: usize, role: &str, part: &'a Part, notes: &mut Notes) -> Result<(), ApiError> {
        match part {
            Part::Text { text, cache } => {
                note_mark(cache.is_some(), notes);
                self.text(text);
            }
            Part::Refusal { text } | Part::File { source: Media::Text(text), .. } => self.text(text),
            Part::Image { source, detail, cache } if role == "user" => {
                note_mark(cache.is_some(), notes);
                let url = match source {
                    Media::Base64 { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                    Media::Url(url) => url.into(),
                    Media::Id(_) | Media::Text(_) => {
                        return Err(unsayable(n, "a picture that lies at another seller", "send its bytes"));
                    }
                };
                let image = Tree::object([("url", url), ("detail", detail.as_ref().into())]);
                self.content.push(Tree::object([("type", "image_url".into()), ("image_url", image)]));
            }
            Part::Image { .. } => return Err(unsayable(n, "a picture of no user", "send it as the user")),
            Part::Audio { .. } => return Err(unsayable(n, "sound", "leave it out")),
            Part::File { .. } => {
                return Err(unsayable(n, "a document that is not plain text", "send its text"));
            }
            Part::Reasoning { signed: Some(_), .. } => {
                notes.add("reasoning", "signed by another seller, left out");
            }
            Part::Reasoning { text, signed: None, .. } => {
                self.thoughts.extend(Some(text.as_str()).filter(|text| !text.is_empty()));
            }
            Part::ToolCall { id, name, arguments, cache } => {
                note_mark(cache.is_some(), notes);
                let arguments = if arguments.trim_ascii().is_empty() { "{}" } else { arguments };
                let function = Tree::object([("name", name.into()), ("arguments", arguments.into())]);
                self.calls.push(Tree::object([
                    ("id", id.into()),
                    ("type", "function".into()),
                    ("function", function),
                ]));
            }
            Part::ToolResult { .. } => return Err(unsayable(n, "a result within a result", "leave it out")),
        }
        Ok(())
    }

    fn text(&mut self, text: &'a str) {
        if !text.is_empty() {
            self.content.push(Tree::object([("type", "text".into()), ("text", text.into())]));
        }
    }

    /// The message, where it holds anything. Only a result may be empty.
    fn said(self, role: &'static str, call_id: Option<&'a String>) -> Option<Tree<'a>> {
        let Self { mut content, thoughts, calls } = self;
        let mut plan = None;
        if calls.is_empty() {
            let block = |text| Tree::object([("type", "thinking".into()), ("thinking", Tree::from(text))]);
            content.splice(0..0, thoughts.into_iter().map(block));
        } else {
            plan = Some(thoughts.join("\n")).filter(|plan| !plan.is_empty());
        }
        let content = match call_id {
            Some(_) => Tree::List(content),
            None => Tree::list(content),
        };
        let is_empty = matches!(content, Tree::Absent) && calls.is_empty();
        let members = [
            ("role", role.into()),
            ("tool_call_id", call_id.into()),
            ("tool_plan", plan.into()),
            ("tool_calls", Tree::list(calls)),
            ("content", content),
        ];
        (!is_empty).then(|| Tree::object(members))
    }
}

fn unsayable(n: usize, what: &str, remedy: &str) -> ApiError {
    let field = format!("messages[{n}]");
    let message = format!(
        "`{field}` holds {what}, which sellers that speak Cohere's grammar do not understand: {remedy}, or name another seller in `provider.only`"
    );
    ApiError::field(field, message)
}

/// The reader of one answer, in pieces or whole.
#[derive(Debug, Default)]
struct Reader {
    /// The calls so far, by their places in the answer.
    calls: Vec<CallState>,
}

#[derive(Debug)]
struct CallState {
    index: Option<u64>,
    has_arguments: bool,
}

type Each<'e> = dyn FnMut(StreamEvent<'_>) + 'e;

fn parsed(text: &str) -> Result<Value, SellerError> {
    let mended = has_lone_surrogate(text).then(|| without_lone_surrogates(text));
    serde_json::from_str(mended.as_deref().unwrap_or(text))
        .map_err(|error| SellerError::cut(&format!("it is no JSON: {error}")))
}

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError> {
        if data.trim_ascii() == "[DONE]" {
            return Ok(StreamNews { is_last: true, ..StreamNews::default() });
        }
        let event = parsed(data)?;
        let (delta, index) = (&event["delta"], event["index"].as_u64());
        match event["type"].as_str().unwrap_or_default() {
            "content-start" | "content-delta" | "tool-plan-delta" => {
                thoughts_and_texts(&delta["message"], each);
                logprobs(&event["logprobs"], each);
            }
            "tool-call-start" => self.begin_call(one(&delta["message"]["tool_calls"]), index, data, each)?,
            "tool-call-delta" => self.arguments(one(&delta["message"]["tool_calls"]), index, each),
            "tool-call-end" => self.end_calls(index, each),
            "message-end" => return self.end(delta, each),
            _ => {}
        }
        Ok(StreamNews::default())
    }
}

impl Reader {
    fn begin_call(
        &mut self,
        call: &Value,
        index: Option<u64>,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let n = self.calls.len();
        if n == CALLS_MAX {
            return Err(SellerError::cut("too many calls"));
        }
        let name =
            said(&call["function"]["name"]).ok_or_else(|| SellerError::cut("a tool call has no name"))?;
        let id = said(&call["id"]).map_or_else(|| made_id(data, 0, n).into(), Cow::Borrowed);
        self.calls.push(CallState { index, has_arguments: false });
        each(StreamEvent::ToolCall { choice: 0, call: n as u32, id, name: name.into() });
        self.arguments(call, index, each);
        Ok(())
    }

    fn arguments(&mut self, call: &Value, index: Option<u64>, each: &mut Each<'_>) {
        let n = self.calls.iter().rposition(|call| call.index == index);
        if let (Some(n), Some(json)) = (n, said(&call["function"]["arguments"])) {
            self.calls[n].has_arguments = true;
            each(StreamEvent::ToolArguments { choice: 0, call: n as u32, json: json.into() });
        }
    }

    /// Gives `{}` to calls that end without arguments: those of an index, or all.
    fn end_calls(&mut self, index: Option<u64>, each: &mut Each<'_>) {
        for (n, call) in self.calls.iter_mut().enumerate() {
            let ends = index.is_none() || call.index == index;
            if ends && !std::mem::replace(&mut call.has_arguments, true) {
                each(StreamEvent::ToolArguments { choice: 0, call: n as u32, json: "{}".into() });
            }
        }
    }

    /// The end of an answer, and its usage where it tells any.
    fn end(&mut self, end: &Value, each: &mut Each<'_>) -> Result<StreamNews, SellerError> {
        self.end_calls(None, each);
        let word = said(&end["finish_reason"]).unwrap_or_default();
        let told = said(&end["error"]);
        if told.is_some() || matches!(word, "ERROR" | "TIMEOUT") {
            let text = told.map_or_else(|| format!("the model ended with {word}"), str::to_owned);
            let kind = if word == "TIMEOUT" { SellerErrorKind::Timeout } else { kind(STREAM_STATUS, &text) };
            return Err(SellerError::new(kind, &text));
        }
        let finish = match word {
            "MAX_TOKENS" => Finish::Length,
            _ if !self.calls.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        if !word.is_empty() {
            each(StreamEvent::Finish { choice: 0, finish, native: Some(word.into()) });
        }
        let usage = Some(&end["usage"]).filter(|told| !told.is_null()).map(usage);
        Ok(StreamNews { usage, is_last: true })
    }
}

/// A whole answer of a seller.
fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let answer = parsed(body)?;
    let message = &answer["message"];
    if !message.is_object() {
        return Err(SellerError::cut("the answer has no message"));
    }
    let (mut gathered, mut reader) = (Gathered::default(), Reader::default());
    let mut each = |event: StreamEvent<'_>| gathered.add(event);
    thoughts_and_texts(message, &mut each);
    for item in items(&answer["logprobs"]) {
        logprobs(item, &mut each);
    }
    for (n, call) in items(&message["tool_calls"]).iter().enumerate() {
        reader.begin_call(call, Some(n as u64), body, &mut each)?;
    }
    let usage = reader.end(&answer, &mut each)?.usage.flatten();
    let id = said(&answer["id"]).map(str::to_owned);
    Ok(Answer { id, choices: gathered.into_choices(), usage, ..Answer::default() })
}

/// Text that is there and says something.
fn said(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// All of a list; whole answers have lists where events have one item.
fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// The one of an event, by itself or in a list.
fn one(value: &Value) -> &Value {
    items(value).first().unwrap_or(value)
}

fn thoughts_and_texts(message: &Value, each: &mut Each<'_>) {
    let think = |value: &Value, each: &mut Each<'_>| {
        if let Some(text) = said(value).map(Cow::Borrowed) {
            each(StreamEvent::Reasoning { choice: 0, text, is_summary: false });
        }
    };
    think(&message["tool_plan"], each);
    for block in items(&message["content"]) {
        think(&block["thinking"], each);
        if let Some(text) = said(&block["text"]).map(Cow::Borrowed) {
            each(StreamEvent::Text { choice: 0, text, logprobs_json: None });
        }
    }
}

/// A piece of text with its log-probability, as an item of OpenAI's `logprobs.content`.
fn logprobs(told: &Value, each: &mut Each<'_>) {
    let (Some(token), Some(of_tokens)) = (told["text"].as_str(), told["logprobs"].as_array()) else { return };
    let sum = of_tokens.iter().map(Value::as_f64).sum::<Option<f64>>();
    let Some(logprob) = sum.filter(|_| !of_tokens.is_empty()).and_then(Number::from_f64) else { return };
    let bytes = token.as_bytes();
    let item = json!({ "token": token, "logprob": logprob, "bytes": bytes, "top_logprobs": [] });
    let logprobs_json = Some(item.to_string().into());
    each(StreamEvent::Text { choice: 0, text: "".into(), logprobs_json });
}

/// What a seller says it used. `None` where neither form of it is whole: an unknown count is not zero.
fn usage(told: &Value) -> Option<SellerUsage> {
    let both = |of: &str| Some((whole(&told[of]["input_tokens"])?, whole(&told[of]["output_tokens"])?));
    let (prompt, completion) = both("billed_units").or_else(|| both("tokens"))?;
    // Of the prompt as counted, so they may be more than those of the prompt as billed.
    let cached = whole(&told["cached_tokens"]).unwrap_or(0).min(prompt);
    Some(SellerUsage { prompt, cached, cache_write: 0, completion, reasoning: 0 })
}

/// A count, written as a whole number or as a decimal that is one.
fn whole(value: &Value) -> Option<u64> {
    let text = value.as_number()?.to_string();
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}

/// What an error means, by its status and its words.
fn kind(status: u16, text: &str) -> SellerErrorKind {
    let text = text.to_ascii_lowercase();
    let says = |words: [&str; 2]| words.iter().any(|words| text.contains(words));
    match status {
        _ if text.starts_with("too many tokens") => SellerErrorKind::ContextLength,
        // The market's choice of a model, and the allowance of its key: never the buyer's fault.
        400 if says(["is not supported by the", "not ready for serving"]) => SellerErrorKind::Unavailable,
        429 if says(["/ month", "per month"]) => SellerErrorKind::Unavailable,
        _ => SellerError::kind_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::neutral::RawJson;
    use crate::dialect::neutral::strategies::{answer_of, merged, normal_answer, of_choice};
    use crate::dialect::tests::{Gist, Lost, Mirror, add, replace_parts, word};
    use proptest::prelude::*;

    /// The grammar in the laws over all of them.
    pub(super) const MIRROR: Mirror = Mirror {
        lost: Lost::all(),
        signs: |_| false,
        say,
        hear,
        audible: |gist| gist,
        places: &[
            ("temperature", "/temperature"),
            ("top_p", "/p"),
            ("top_k", "/k"),
            ("presence_penalty", "/presence_penalty"),
            ("frequency_penalty", "/frequency_penalty"),
            ("logprobs", "/logprobs"),
            ("stop", "/stop_sequences"),
            ("seed", "/seed"),
            ("reasoning", "/thinking"),
            ("tool_choice", "/tool_choice"),
        ],
        refuses,
        sayable,
    };

    fn say(event: &StreamEvent<'_>, _: &[StreamEvent<'_>]) -> Option<Value> {
        let said = |kind: &str, index: u32, message: Value| {
            Some(json!({ "type": kind, "index": index, "delta": { "message": message } }))
        };
        match event {
            StreamEvent::Text { text, .. } => {
                said("content-delta", 0, json!({ "content": { "text": text } }))
            }
            StreamEvent::Reasoning { text, .. } => {
                said("content-delta", 0, json!({ "content": { "thinking": text } }))
            }
            StreamEvent::ToolCall { call, id, name, .. } => {
                let function = json!({ "name": name, "arguments": "" });
                let call_json = json!({ "id": id, "type": "function", "function": function });
                said("tool-call-start", *call, json!({ "tool_calls": call_json }))
            }
            StreamEvent::ToolArguments { call, json, .. } => {
                let function = json!({ "arguments": json });
                said("tool-call-delta", *call, json!({ "tool_calls": { "function": function } }))
            }
            StreamEvent::Finish { finish, .. } => {
                let word = match finish {
                    Finish::Length => "MAX_TOKENS",
                    Finish::ToolCalls => "TOOL_CALL",
                    _ => "COMPLETE",
                };
                let usage = json!({ "billed_units": { "input_tokens": 3, "output_tokens": 2 },
                    "tokens": { "input_tokens": 70, "output_tokens": 9 }, "cached_tokens": 1 });
                Some(json!({ "type": "message-end", "delta": { "finish_reason": word, "usage": usage } }))
            }
            _ => None,
        }
    }

    fn hear(body: &Value) -> Gist {
        let mut gist = Gist::default();
        for message in body["messages"].as_array().unwrap() {
            let mut texts = String::new();
            for block in items(&message["content"]) {
                add(&mut texts, &word(&block["text"]));
                let url = word(&block["image_url"]["url"]);
                let media = url.strip_prefix("data:").map(|url| url.replace(";base64,", " "));
                gist.media.extend(Some(media.unwrap_or(url)).filter(|url| !url.is_empty()));
            }
            match message["role"].as_str().unwrap() {
                "system" => gist.rules.push_str(&texts),
                "tool" => gist.results.push((word(&message["tool_call_id"]), texts)),
                _ => gist.texts.push_str(&texts),
            }
            for call in items(&message["tool_calls"]) {
                let arguments = serde_json::from_str(&word(&call["function"]["arguments"])).unwrap();
                gist.calls.push((word(&call["id"]), word(&call["function"]["name"]), arguments));
            }
        }
        let schema = body.get("response_format").map(|format| format.get("json_schema"));
        gist.format = schema.map(|schema| schema.cloned().unwrap_or("json".into()));
        gist
    }

    fn is_refused(part: &Part) -> bool {
        matches!(part, Part::Audio { .. } | Part::File { .. })
    }

    fn refuses(request: &Request) -> Vec<&'static str> {
        let has_format = request.response_format != ResponseFormat::Text;
        let fields = [
            (request.choices > 1, "n"),
            (has_format && !request.tools.is_empty(), "response_format"),
            (request.messages.iter().flat_map(|message| &message.parts).any(is_refused), "messages"),
        ];
        fields.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, field)| field).collect()
    }

    fn sayable(mut request: Request) -> Request {
        replace_parts(&mut request, is_refused);
        if !request.tools.is_empty() {
            request.response_format = ResponseFormat::Text;
        }
        Request { choices: 1, ..request }
    }

    const CALL: Call<'_> = Call { upstream_id: "command-a-03-2025", stream: true, max_tokens: None };

    fn asking(parts: Vec<Part>) -> Request {
        let messages = vec![Message { role: Role::User, parts, name: None }];
        Request { messages, choices: 1, ..Request::default() }
    }

    fn tool(name: &str, parameters: Option<&str>) -> Tool {
        let parameters = parameters.map(|text| RawJson::parse(text).unwrap());
        Tool { name: name.into(), description: Some("looks".into()), parameters, strict: None, cache: None }
    }

    fn body_of(request: &Request) -> String {
        String::from_utf8(Cohere.write(request, &CALL).unwrap().body.to_vec()).unwrap()
    }

    fn notices_of(request: &Request) -> Vec<String> {
        let notices = Cohere.write(request, &CALL).unwrap().notices;
        notices.iter().map(|notice| notice.param.to_string()).collect()
    }

    #[test]
    fn the_whole_of_a_request_is_written() {
        let message = |role, parts| Message { role, parts, name: None };
        let thought = || Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
        let arguments = r#"{"a": 1}"#.into();
        let call = Part::ToolCall { id: "c1".into(), name: "look".into(), arguments, cache: None };
        let image = |source| Part::Image { source, detail: Some("low".into()), cache: None };
        let bytes = Media::Base64 { media_type: "image/png".into(), data: "aGk=".into() };
        let content = vec![Part::text("a cat"), Part::text("a hat")];
        let result = Part::ToolResult { call_id: "c1".into(), content, is_error: false, cache: None };
        let request = Request {
            messages: vec![
                message(Role::System, vec![Part::text("be brief")]),
                message(Role::Developer, vec![Part::text("be kind")]),
                message(
                    Role::User,
                    vec![Part::text("look"), image(bytes), image(Media::Url("https://x/y".into()))],
                ),
                message(Role::Assistant, vec![thought(), Part::text("so"), call]),
                message(Role::Tool, vec![result]),
                message(Role::Assistant, vec![thought(), Part::text("a cat in a hat")]),
                message(Role::User, vec![Part::text("more"), Part::text("")]),
            ],
            tools: vec![tool("look", Some(r#"{"type":"object", "minimum":1.50}"#)), tool("wait", None)],
            reasoning: Some(Reasoning { max_tokens: Some(50), ..Reasoning::default() }),
            max_tokens: Some(100),
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(40),
            frequency_penalty: Some(0.25),
            presence_penalty: Some(0.0),
            logprobs: Some(0),
            stop: vec!["END".into()],
            seed: Some(7),
            ..asking(vec![])
        };
        assert_eq!(
            body_of(&request),
            r#"{"model":"command-a-03-2025","messages":[{"role":"system","content":[{"type":"text","text":"be brief"},{"type":"text","text":"be kind"}]},{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"low"}},{"type":"image_url","image_url":{"url":"https://x/y","detail":"low"}}]},{"role":"assistant","tool_plan":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"a\": 1}"}}],"content":[{"type":"text","text":"so"}]},{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"a cat"},{"type":"text","text":"a hat"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a cat in a hat"}]},{"role":"user","content":[{"type":"text","text":"more"}]}],"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object", "minimum":1.50}}},{"type":"function","function":{"name":"wait","description":"looks","parameters":{"type":"object","properties":{}}}}],"thinking":{"type":"enabled","token_budget":50},"max_tokens":100,"temperature":0.5,"p":0.9,"k":40,"seed":7,"stop_sequences":["END"],"frequency_penalty":0.25,"logprobs":true,"stream":true}"#
        );
        assert_eq!(notices_of(&request), [""; 0]);
        let least = r#"{"model":"command-a-03-2025","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}"#;
        assert_eq!(body_of(&asking(vec![Part::text("hi")])), least);
    }

    type Read = Result<(Vec<StreamEvent<'static>>, StreamNews), SellerError>;

    fn read_stream(lines: &[&str]) -> Read {
        let mut reader = Cohere.reader();
        let (mut events, mut news) = (Vec::new(), StreamNews::default());
        for line in lines {
            let more = reader.read(line, &mut |event| events.push(of_choice(event, 0)))?;
            news = StreamNews { usage: more.usage.or(news.usage), ..more };
        }
        Ok((events, news))
    }

    /// As the vendor's guides to streaming show them.
    #[test]
    fn a_stream_says_its_plan_calls_and_end() {
        let (events, news) = read_stream(&[
            r#"{"type":"message-start","id":"fba98ad3","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
            r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#,
            r#"{"type":"tool-call-start","index":1,"delta":{"message":{"tool_calls":{"id":"get_weather_p1","type":"function","function":{"name":"get_weather","arguments":""}}}}}"#,
            r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\n    \"location"}}}}}"#,
            r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"\": \"Madrid\"}"}}}}}"#,
            r#"{"type":"tool-call-end","index":1}"#,
            r#"{"type":"tool-call-start","index":2,"delta":{"message":{"tool_calls":[{"id":"now_ay","type":"function","function":{"name":"now","arguments":""}}]}}}"#,
            r#"{"type":"tool-call-end","index":2}"#,
            r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":37.0,"output_tokens":28},"tokens":{"input_tokens":913,"output_tokens":83},"cached_tokens":880}}}"#,
            "[DONE]",
        ])
        .unwrap();
        let call = |call, id: &'static str, name: &'static str| StreamEvent::ToolCall {
            choice: 0,
            call,
            id: id.into(),
            name: name.into(),
        };
        let arguments =
            |call, json: &'static str| StreamEvent::ToolArguments { choice: 0, call, json: json.into() };
        let want = [
            StreamEvent::Reasoning { choice: 0, text: "I will".into(), is_summary: false },
            call(0, "get_weather_p1", "get_weather"),
            arguments(0, "{\n    \"location"),
            arguments(0, "\": \"Madrid\"}"),
            call(1, "now_ay", "now"),
            arguments(1, "{}"),
            StreamEvent::Finish { choice: 0, finish: Finish::ToolCalls, native: Some("TOOL_CALL".into()) },
        ];
        assert_eq!(events, want);
        let usage = SellerUsage { prompt: 37, cached: 37, cache_write: 0, completion: 28, reasoning: 0 };
        assert_eq!(news, StreamNews { usage: Some(Some(usage)), is_last: true });
    }

    #[test]
    fn thoughts_texts_and_probabilities_are_told_apart() {
        let (events, _) = read_stream(&[
            r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"hm"}}}}"#,
            r#"{"type":"content-end","index":0}"#,
            r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"a\ud83d"}}},"logprobs":{"text":"a","token_ids":[5,6],"logprobs":[-0.5,-0.25]}}"#,
            r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"a","sources":[]}}}}"#,
            r#"{"type":"debug","prompt":"x"}"#,
        ])
        .unwrap();
        let items = r#"{"bytes":[97],"logprob":-0.75,"token":"a","top_logprobs":[]}"#;
        let want = [
            StreamEvent::Reasoning { choice: 0, text: "hm".into(), is_summary: false },
            StreamEvent::Text { choice: 0, text: "a\u{fffd}".into(), logprobs_json: None },
            StreamEvent::Text { choice: 0, text: "".into(), logprobs_json: Some(items.into()) },
        ];
        assert_eq!(events, want);
    }

    #[test]
    fn a_whole_answer_is_read() {
        let body = r#"{"id":"c14c80c3","finish_reason":"STOP_SEQUENCE","message":{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hi"}]},"usage":{"billed_units":{"search_units":1},"tokens":{"input_tokens":12,"output_tokens":4}},"logprobs":[{"text":"hi","token_ids":[5],"logprobs":[-1.5]}]}"#;
        let answer = Cohere.read_answer(body).unwrap();
        assert_eq!(answer.id.as_deref(), Some("c14c80c3"));
        let choice = &answer.choices[0];
        let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
        assert_eq!(choice.parts, [thought, Part::text("hi")]);
        assert_eq!(
            (choice.finish, choice.native_finish.as_deref()),
            (Some(Finish::Stop), Some("STOP_SEQUENCE"))
        );
        assert!(choice.logprobs_json.as_deref().unwrap().contains("-1.5"));
        assert_eq!(
            answer.usage.map(|usage| (usage.prompt, usage.completion)),
            Some((12, 4)),
            "unbilled is as counted"
        );
        for none in ["{}", r#"{"message":"x"}"#, "[", "7"] {
            assert_eq!(Cohere.read_answer(none).unwrap_err().kind, SellerErrorKind::Unavailable, "{none}");
        }
    }

    #[test]
    fn errors_mean_what_their_words_say() {
        use SellerErrorKind as Kind;
        let check = |status: u16, message: &str, kind: Kind| {
            let body = json!({ "id": "x", "message": message }).to_string();
            let error = Cohere.read_error(status, body.as_bytes());
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
        };
        let long =
            "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292.";
        check(400, long, Kind::ContextLength);
        check(400, "invalid request: temperature must be between 0 and 1.0 inclusive.", Kind::InvalidRequest);
        check(400, "invalid request: model 'x' is not supported by the generate API", Kind::Unavailable);
        check(401, "invalid api token", Kind::Unavailable);
        check(404, "model 'x' not found", Kind::Unavailable);
        check(422, "unknown field", Kind::InvalidRequest);
        check(
            429,
            "You are past the per minute request limit, please wait and try again later.",
            Kind::RateLimited,
        );
        check(
            429,
            "You are using a Trial key, which is limited to 1000 API calls / month.",
            Kind::Unavailable,
        );
        check(498, "invalid token", Kind::Unavailable);
        check(499, "request cancelled", Kind::Unavailable);
        check(503, "overloaded", Kind::Overloaded);
        check(504, "timeout", Kind::Timeout);
        assert_eq!(Cohere.read_error(502, b"<html>").message, "answered with status 502");
        let end = |delta: &str| {
            read_stream(&[&format!(r#"{{"type":"message-end","delta":{delta}}}"#)]).unwrap_err()
        };
        assert_eq!(end(r#"{"finish_reason":"TIMEOUT"}"#).kind, Kind::Timeout);
        let told = end(r#"{"finish_reason":"ERROR","error":"it fell over"}"#);
        assert_eq!((told.kind, told.message.as_str()), (Kind::Unavailable, "it fell over"));
        assert!(read_stream(&[r#"{"type":"tool-call-start","delta":{}}"#]).is_err(), "a call without a name");
    }

    #[test]
    fn a_list_tells_chat_models() {
        let body = r#"{"models":[
            {"name":"command-a-vision","endpoints":["chat"],"finetuned":false,"context_length":128000.0,"features":["tools","vision"],"default_endpoints":[]},
            {"name":"command-r","endpoints":["generate","chat"],"context_length":128000,"supports_vision":false},
            {"name":"embed-v4.0","endpoints":["embed"],"context_length":512}],"next_page_token":"abc"}"#;
        let list = lists::read(Shape::Cohere, body.as_bytes()).unwrap();
        let of = |id: &str, takes_media| Listed {
            id: id.into(),
            context_tokens: Some(128_000),
            takes_media: Some(takes_media),
            ..Listed::default()
        };
        assert_eq!(list.models, [of("command-a-vision", true), of("command-r", false)]);
        assert_eq!((list.skipped, list.is_partial), (1, true));
    }

    proptest! {
        #[test]
        fn a_stream_amounts_to_the_whole_answer(
            thinking in "[a-zé\"]{0,8}", text in "[a-zé\"\n]{0,8}", names in proptest::collection::vec("[a-z]{1,4}", 0..3), cut in 0usize..8,
        ) {
            let call = |(n, name): (usize, &String)| json!({ "id": format!("c{n}"), "type": "function", "function": { "name": name, "arguments": format!("{{\"n\":{n}}}") } });
            let calls: Vec<Value> = names.iter().enumerate().map(call).collect();
            let usage = json!({ "tokens": { "input_tokens": 1, "output_tokens": 2 } });
            let content = json!([{ "type": "thinking", "thinking": thinking }, { "type": "text", "text": text }]);
            let whole = json!({ "id": "x", "finish_reason": "COMPLETE", "usage": usage, "message": { "content": content, "tool_calls": calls } });
            let cut = text.floor_char_boundary(cut);
            let delta = |content: Value| json!({ "type": "content-delta", "delta": { "message": { "content": content } } });
            let mut lines = vec![delta(json!({ "thinking": thinking })), delta(json!({ "text": text[..cut] })), delta(json!({ "text": text[cut..] }))];
            for (n, call) in calls.iter().enumerate() {
                lines.push(json!({ "type": "tool-call-start", "index": n, "delta": { "message": { "tool_calls": call } } }));
            }
            lines.push(json!({ "type": "message-end", "delta": { "finish_reason": "COMPLETE", "usage": usage } }));
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            let (events, news) = read_stream(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let answer = Cohere.read_answer(&whole.to_string()).unwrap();
            prop_assert_eq!(news.usage, Some(answer.usage));
            prop_assert_eq!(normal_answer(answer), normal_answer(answer_of(&merged(&events))));
        }

        #[test]
        fn foreign_bytes_break_nothing(
            kind in "(content-delta|tool-call-start|tool-call-delta|tool-call-end|message-end|x)",
            delta in "(7|null|\\{\\}|\\{\"message\":(7|\\[\\]|\\{\"(content|tool_calls|tool_plan)\":(7|\"x\"|\\[1\\]|\\{\"(text|function)\":(7|\"x\"|\\{\"name\":\"f\"\\})\\})\\})\\}|\\{\"usage\":\\[\\]\\})",
            cut in 0usize..120,
        ) {
            let data = format!("{{\"type\":\"{kind}\",\"delta\":{delta},\"message\":{delta}}}");
            let cut = data.floor_char_boundary(cut);
            for data in [data.as_str(), &data[..cut]] {
                let _ = read_stream(&[data, data]);
                let _ = Cohere.read_answer(data);
                let _ = Cohere.read_error(400, data.as_bytes());
            }
        }
    }
}
