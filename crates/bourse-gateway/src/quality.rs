//! Whether a model's tool calls are any good: the one quality signal that needs no judge.
//!
//! Looked at are only answers to requests with tools that end with tool calls. A call is bad when its arguments are not
//! JSON, when it names a tool that the request did not, or when its arguments do not fit the tool's schema (JSON Schema,
//! draft 7); a schema that does not compile fits everything. What is found goes to the seller's health and nowhere else.
//! Limits: at most [`CALLS_MAX`] calls with [`ARGUMENTS_BYTES_MAX`] of arguments are kept, and requests whose tools are
//! longer than [`TOOLS_BYTES_MAX`] are not looked at.

use bourse_market::ToolCalls;
use bourse_wire::dialect::grammar::{EventReader, Shape};
use bourse_wire::dialect::neutral::{Answer, Part, StreamEvent};
use bourse_wire::dialect::{Job, front};
use bytes::Bytes;
use serde_json::Value;

/// Most calls of one answer that are looked at.
pub(crate) const CALLS_MAX: usize = 64;
/// Most bytes of arguments that are kept, all calls together.
pub(crate) const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Longest `tools` that are compared with, in bytes.
pub(crate) const TOOLS_BYTES_MAX: usize = 256 * 1024;

/// Looks at one answer.
pub(crate) struct Watch {
    /// The request's tools, as written.
    tools: Bytes,
    reader: Box<dyn EventReader>,
    calls: Vec<Call>,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    choice: u32,
    number: u32,
    name: String,
    arguments: String,
}

impl Watch {
    /// For a request with tools that is answered in that grammar.
    pub(crate) fn of(job: &Job, shape: Shape) -> Option<Self> {
        let span = job.tools.clone().filter(|span| span.len() <= TOOLS_BYTES_MAX)?;
        let reader = front::dialect(shape).reader();
        Some(Self { tools: job.body.slice(span), reader, calls: Vec::new(), bytes: 0 })
    }

    /// Takes one event of a stream. What cannot be read is the relay's business.
    pub(crate) fn event(&mut self, data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let Self { reader, calls, bytes, .. } = self;
        let _ = reader.read(text, &mut |event| add(calls, bytes, &event));
    }

    /// Takes a whole answer.
    pub(crate) fn answer(&mut self, answer: &Answer) {
        let parts =
            (0u32..).zip(&answer.choices).flat_map(|(n, choice)| choice.parts.iter().map(move |p| (n, p)));
        for (number, (choice, part)) in (0u32..).zip(parts) {
            let Part::ToolCall { id, name, arguments, .. } = part else { continue };
            let (id, name) = (id.as_str().into(), name.as_str().into());
            add(&mut self.calls, &mut self.bytes, &StreamEvent::ToolCall { choice, call: number, id, name });
            let json = arguments.as_str().into();
            add(&mut self.calls, &mut self.bytes, &StreamEvent::ToolArguments { choice, call: number, json });
        }
    }

    /// What came of the calls.
    pub(crate) fn verdict(&self) -> ToolCalls {
        if self.calls.is_empty() || self.bytes > ARGUMENTS_BYTES_MAX {
            return ToolCalls::None;
        }
        let Ok(Value::Array(tools)) = serde_json::from_slice(&self.tools) else { return ToolCalls::None };
        let verdicts = self.calls.iter().map(|call| judge(call, &tools));
        verdicts.max_by_key(|verdict| *verdict != ToolCalls::Good).unwrap_or_default()
    }
}

fn add(calls: &mut Vec<Call>, bytes: &mut usize, event: &StreamEvent<'_>) {
    match event {
        StreamEvent::ToolCall { choice, call, name, .. } if calls.len() < CALLS_MAX => {
            let (choice, number) = (*choice, *call);
            calls.push(Call { choice, number, name: name.to_string(), arguments: String::new() });
        }
        StreamEvent::ToolArguments { choice, call, json } => {
            *bytes += json.len();
            let found = calls.iter_mut().rfind(|c| (c.choice, c.number) == (*choice, *call));
            if let Some(found) = found.filter(|_| *bytes <= ARGUMENTS_BYTES_MAX) {
                found.arguments.push_str(json);
            }
        }
        _ => {}
    }
}

/// One call against the tools of any grammar: they differ in where name and schema stand.
fn judge(call: &Call, tools: &[Value]) -> ToolCalls {
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else { return ToolCalls::InvalidJson };
    let is_called = |tool: &&Value| function(tool).get("name").and_then(Value::as_str) == Some(&call.name);
    let Some(tool) = tools.iter().find(is_called).map(function) else { return ToolCalls::UnknownTool };
    let schema = tool.get("parameters").or_else(|| tool.get("input_schema"));
    let compiled = schema.and_then(|schema| jsonschema::draft7::new(schema).ok());
    if compiled.is_some_and(|schema| !schema.is_valid(&arguments)) {
        return ToolCalls::SchemaMismatch;
    }
    ToolCalls::Good
}

/// Where a tool's name and schema stand: in chats one level deeper.
fn function(tool: &Value) -> &Value {
    tool.get("function").unwrap_or(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"[{"type":"function","function":{"name":"add","parameters":{"type":"object",
        "properties":{"a":{"type":"integer"}},"required":["a"]}}},{"type":"function","function":{"name":"now"}}]"#;
    const MESSAGES: &str = r#"[{"name":"add","input_schema":{"type":"object","required":["a"]}},
        {"name":"odd","input_schema":{"type":"nonsense"}}]"#;

    fn check(tools: &str, name: &str, arguments: &str, want: ToolCalls) {
        let tools: Vec<Value> = serde_json::from_str(tools).unwrap();
        let call = Call { choice: 0, number: 0, name: name.into(), arguments: arguments.into() };
        assert_eq!(judge(&call, &tools), want, "{name} {arguments}");
    }

    #[test]
    fn calls_are_judged_in_every_grammar() {
        check(CHAT, "add", r#"{"a":1}"#, ToolCalls::Good);
        check(CHAT, "add", r#"{"a":"x"}"#, ToolCalls::SchemaMismatch);
        check(CHAT, "add", r#"{"a":"#, ToolCalls::InvalidJson);
        check(CHAT, "sub", "{}", ToolCalls::UnknownTool);
        check(CHAT, "now", "", ToolCalls::Good);
        check(MESSAGES, "add", "{}", ToolCalls::SchemaMismatch);
        check(MESSAGES, "odd", "{}", ToolCalls::Good);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut calls, mut bytes) = (Vec::new(), 0);
        for call in 0..=CALLS_MAX as u32 {
            add(
                &mut calls,
                &mut bytes,
                &StreamEvent::ToolCall { choice: 0, call, id: "i".into(), name: "n".into() },
            );
        }
        assert_eq!(calls.len(), CALLS_MAX);
        let mut piece = |n: usize| {
            let json = "x".repeat(n).into();
            add(&mut calls, &mut bytes, &StreamEvent::ToolArguments { choice: 0, call: 0, json });
            calls[0].arguments.len()
        };
        assert_eq!(piece(ARGUMENTS_BYTES_MAX), ARGUMENTS_BYTES_MAX);
        assert_eq!(piece(1), ARGUMENTS_BYTES_MAX);
    }
}
