//! What a careful client finds in a response of any shape, and where the response breaks its grammar.
//!
//! Written apart from the grammars that sellers write with, so that one checks the other; and fit for
//! judging what a market answers in these shapes. Tolerant in what it collects, strict in what it notes:
//! every departure is a line in [`Heard::violations`]. Unknown fields are no departure.

mod cohere;
mod messages;
mod responses;

use super::expectation::Mode;
use super::record::UsageSeen;
use super::shape::Shape;
use crate::client::Response;
use serde_json::Value;

/// A tool call as it was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeardCall {
    /// The id that a result must name; empty where the shape has none.
    pub id: String,
    /// The name.
    pub name: String,
    /// The arguments as text, put together from their pieces.
    pub arguments: String,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// The text of the answer, of all choices.
    pub text: String,
    /// The reasoning that was shown.
    pub reasoning: String,
    /// Signatures and sealed content of reasoning, in order.
    pub signatures: Vec<String>,
    /// The text of a refusal, or the reason of a block.
    pub refusal: String,
    /// Tool calls.
    pub calls: Vec<HeardCall>,
    /// Finish reasons, in the vendor's words.
    pub finishes: Vec<String>,
    /// Every report of usage, in order; the last one counts.
    pub usages: Vec<UsageSeen>,
    /// Names of models that the answer gave itself, without repetition.
    pub models: Vec<String>,
    /// Errors in the body.
    pub errors: usize,
    /// End marks: `[DONE]`, `message_stop`, a terminal event, `done`, `message-end`; a finish reason for Gemini.
    pub ends: usize,
    /// Pieces of text, reasoning or arguments.
    pub pieces: usize,
    /// Where the response breaks the grammar of its shape.
    pub violations: Vec<String>,
}

/// One event as it came.
#[derive(Debug, Clone, PartialEq)]
struct Arrived {
    name: String,
    data: String,
}

impl Heard {
    /// Reads a response of a shape that generates text. The status is not looked at.
    pub fn read(shape: Shape, mode: Mode, response: &Response) -> Self {
        let mut heard = Self::default();
        let text = response.text();
        match (mode, shape) {
            (Mode::Plain, _) => {
                if let Some(document) = heard.parse(&text) {
                    heard.document(shape, &document);
                }
            }
            (Mode::Stream, Shape::Ollama) => {
                for line in text.lines().filter(|line| !line.is_empty()) {
                    if let Some(value) = heard.parse(line) {
                        heard.after_the_end(shape);
                        heard.ollama(&value);
                    }
                }
            }
            (Mode::Stream, _) => heard.stream(shape, &arrived(&text)),
        }
        heard
    }

    /// True when the answer came to its end in good order: no error, one end, no departure.
    pub fn is_whole(&self, mode: Mode) -> bool {
        let ended = mode == Mode::Plain || self.ends == 1;
        self.errors == 0 && ended && !self.finishes.is_empty() && self.violations.is_empty()
    }

    fn parse(&mut self, text: &str) -> Option<Value> {
        let parsed = serde_json::from_str(text).ok();
        if parsed.is_none() {
            self.violations.push("a document is not JSON".to_owned());
        }
        parsed
    }

    fn violation(&mut self, text: impl Into<String>) {
        self.violations.push(text.into());
    }

    fn after_the_end(&mut self, shape: Shape) {
        if self.ends > 0 {
            self.violation(format!("{shape}: something follows the end"));
        }
    }

    fn model(&mut self, name: &Value) {
        if let Some(name) = name.as_str().filter(|name| !self.models.iter().any(|known| known == name)) {
            self.models.push(name.to_owned());
        }
    }

    fn say(&mut self, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.text.push_str(text);
            self.pieces += 1;
        }
    }

    fn think(&mut self, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.reasoning.push_str(text);
            self.pieces += 1;
        }
    }

    fn finish(&mut self, reason: &Value) {
        self.finishes.extend(reason.as_str().map(str::to_owned));
    }

    fn document(&mut self, shape: Shape, value: &Value) {
        if !value["error"].is_null() || value["type"] == "error" {
            self.errors += 1;
            return;
        }
        match shape {
            Shape::Messages => messages::document(self, value),
            Shape::Responses => responses::document(self, value),
            Shape::Gemini => self.gemini(value),
            Shape::Ollama => self.ollama(value),
            Shape::Cohere if value["message"].is_string() => self.errors += 1,
            Shape::Cohere => cohere::document(self, value),
            _ => self.chat(value, "message"),
        }
    }

    fn stream(&mut self, shape: Shape, events: &[Arrived]) {
        match shape {
            Shape::Messages => messages::stream(self, events),
            Shape::Responses => responses::stream(self, events),
            Shape::Cohere => cohere::stream(self, events),
            _ => {
                for event in events {
                    if shape != Shape::Gemini || self.finishes.is_empty() {
                        self.after_the_end(shape);
                    } else if self.ends > 0 {
                        self.violation("gemini: a chunk follows the finish reason");
                    }
                    if event.data == "[DONE]" && shape != Shape::Gemini {
                        self.ends += 1;
                    } else if let Some(value) = self.parse(&event.data) {
                        if !value["error"].is_null() {
                            self.errors += 1;
                        } else if shape == Shape::Gemini {
                            self.gemini(&value);
                        } else {
                            self.chat(&value, "delta");
                        }
                    }
                }
            }
        }
    }

    fn chat(&mut self, value: &Value, part: &str) {
        self.model(&value["model"]);
        if value["usage"].is_object() {
            let usage = &value["usage"];
            self.usages.push(UsageSeen {
                prompt: count(&usage["prompt_tokens"]),
                cached_prompt: count(&usage["prompt_tokens_details"]["cached_tokens"]),
                cache_write_prompt: count(&usage["prompt_tokens_details"]["cache_write_tokens"]),
                completion: count(&usage["completion_tokens"]),
                reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
            });
        }
        for choice in value["choices"].as_array().into_iter().flatten() {
            let said = &choice[part];
            let is_late =
                !self.finishes.is_empty() && choice["finish_reason"].is_null() && choice["index"] == 0;
            if is_late && value["choices"].as_array().is_some_and(|choices| choices.len() == 1) {
                self.violation("chat: content follows the finish reason");
            }
            self.errors += usize::from(!choice["error"].is_null());
            self.say(&said["content"]);
            self.say(&choice["text"]);
            self.think(if said["reasoning_content"].is_null() {
                &said["reasoning"]
            } else {
                &said["reasoning_content"]
            });
            self.refusal.push_str(said["refusal"].as_str().unwrap_or_default());
            for detail in said["reasoning_details"].as_array().into_iter().flatten() {
                let sealed = detail["signature"].as_str().or_else(|| detail["data"].as_str());
                self.signatures.extend(sealed.map(str::to_owned));
            }
            for call in said["tool_calls"].as_array().into_iter().flatten() {
                self.chat_call(call);
            }
            self.finish(&choice["finish_reason"]);
        }
    }

    fn chat_call(&mut self, call: &Value) {
        let function = &call["function"];
        if let Some(id) = call["id"].as_str() {
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            self.calls.push(HeardCall { id: id.to_owned(), name, arguments: String::new() });
        }
        let at = call["index"].as_u64().map_or(self.calls.len(), |index| index as usize + 1);
        let arguments = function["arguments"].as_str().unwrap_or_default();
        match self.calls.get_mut(at.wrapping_sub(1)) {
            Some(known) => known.arguments.push_str(arguments),
            None => self.violation("chat: arguments of a tool call that was not opened"),
        }
        self.pieces += usize::from(!arguments.is_empty());
    }

    fn gemini(&mut self, value: &Value) {
        self.model(&value["modelVersion"]);
        if let Some(reason) = value["promptFeedback"]["blockReason"].as_str() {
            reason.clone_into(&mut self.refusal);
            self.finish(&value["promptFeedback"]["blockReason"]);
            self.ends += 1;
        }
        for candidate in value["candidates"].as_array().into_iter().flatten() {
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                self.signatures.extend(part["thoughtSignature"].as_str().map(str::to_owned));
                if part["thought"] == true {
                    self.think(&part["text"]);
                } else {
                    self.say(&part["text"]);
                }
                let call = &part["functionCall"];
                if call.is_object() {
                    self.pieces += 1;
                    self.calls.push(whole_call(&call["id"], &call["name"], &call["args"]));
                }
            }
            if candidate["finishReason"].is_string() {
                self.finish(&candidate["finishReason"]);
                self.ends += 1;
            }
        }
        let usage = &value["usageMetadata"];
        if usage.is_object() {
            let reasoning = count(&usage["thoughtsTokenCount"]);
            self.usages.push(UsageSeen {
                prompt: count(&usage["promptTokenCount"]),
                cached_prompt: count(&usage["cachedContentTokenCount"]),
                cache_write_prompt: 0,
                completion: count(&usage["candidatesTokenCount"]) + reasoning,
                reasoning,
            });
        }
    }

    fn ollama(&mut self, value: &Value) {
        if !value["error"].is_null() {
            self.errors += 1;
            return;
        }
        self.model(&value["model"]);
        let message = &value["message"];
        self.say(&message["content"]);
        self.think(&message["thinking"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            self.pieces += 1;
            self.calls.push(whole_call(&call["id"], &function["name"], &function["arguments"]));
        }
        if value["eval_count"].is_u64() {
            self.usages.push(UsageSeen {
                prompt: count(&value["prompt_eval_count"]),
                completion: count(&value["eval_count"]),
                ..UsageSeen::default()
            });
        }
        if value["done"] == true {
            self.ends += 1;
            self.finishes.push(value["done_reason"].as_str().unwrap_or("stop").to_owned());
        }
    }
}

fn whole_call(id: &Value, name: &Value, arguments: &Value) -> HeardCall {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    HeardCall { id: text(id), name: text(name), arguments: arguments.to_string() }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The whole events of a body.
fn arrived(body: &str) -> Vec<Arrived> {
    let text = body.replace("\r\n", "\n");
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let field = |block: &str, name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>().join("\n")
    };
    let event = |block: &str| Arrived { name: field(block, "event:"), data: field(block, "data:") };
    whole.split("\n\n").map(event).filter(|event| !event.data.is_empty()).collect()
}

#[cfg(test)]
mod tests;
