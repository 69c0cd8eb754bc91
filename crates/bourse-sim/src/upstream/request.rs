//! One call as a seller reads it: model, prompt size, limits, tools, and which fault it asks for.
//!
//! Lenient like the sellers it imitates: unknown fields are ignored, and only what changes the answer is
//! looked at. Counts are bounded so that a test's absurd numbers cannot fill the memory.

use super::fault::Fault;
use super::http::HttpRequest;
use super::text::TokenLaw;
use crate::seed::digest;
use serde_json::{Value, json};

/// Choices in one answer; more are cut off.
const CHOICES_MAX: u64 = 128;
/// Header that names a fault.
const FAULT_HEADER: &str = "x-sim-fault";

/// Which of the two generation endpoints was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    Chat,
    Completion,
}

/// A tool call that the answer will make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ToolPlan {
    pub(super) name: String,
    pub(super) arguments: Value,
}

/// A call, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) surface: Surface,
    /// The model's name without a fault suffix.
    pub(super) model: String,
    pub(super) prompt_tokens: u64,
    /// Digest of the prompt and the `seed` field: what the text of the answer follows from.
    pub(super) text_seed: u64,
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) tools: Vec<ToolPlan>,
    /// The fault that the call itself names.
    pub(super) fault: Option<Fault>,
}

/// Why a seller refuses a call with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("We could not parse the JSON body of your request.")]
    NotJson,
    #[error("you must provide a `{0}` parameter")]
    Missing(&'static str),
}

impl Call {
    /// Reads a call from an HTTP request.
    pub(super) fn read(surface: Surface, http: &HttpRequest, law: TokenLaw) -> Result<Self, CallError> {
        let body: Value = serde_json::from_slice(&http.body).map_err(|_| CallError::NotJson)?;
        let model = body["model"].as_str().ok_or(CallError::Missing("model"))?;
        let texts = prompt_texts(surface, &body)?;
        let prompt_tokens = match surface {
            Surface::Chat => law.count_chat(texts.iter().map(String::as_str)),
            Surface::Completion => texts.iter().map(|text| law.count(text)).sum(),
        };
        let (model, suffix_fault) = split_model(model);
        let named = http.header(FAULT_HEADER).or_else(|| body["metadata"]["sim_fault"].as_str());
        let seed_text = format!("{}\u{0}{}", texts.join("\u{0}"), body["seed"]);
        let max_tokens =
            body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64()).filter(|n| *n > 0);
        Ok(Self {
            surface,
            model: model.to_owned(),
            prompt_tokens,
            text_seed: digest(seed_text.as_bytes()),
            max_tokens,
            choices: body["n"].as_u64().unwrap_or(1).clamp(1, CHOICES_MAX) as usize,
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            tools: planned_tools(&body),
            fault: named.and_then(|name| name.parse().ok()).or(suffix_fault),
        })
    }
}

/// `model@fault-name` into both; any other name is left alone.
fn split_model(model: &str) -> (&str, Option<Fault>) {
    match model.rsplit_once('@').map(|(base, name)| (base, name.parse())) {
        Some((base, Ok(fault))) => (base, Some(fault)),
        _ => (model, None),
    }
}

fn prompt_texts(surface: Surface, body: &Value) -> Result<Vec<String>, CallError> {
    match surface {
        Surface::Chat => {
            let messages = body["messages"].as_array().ok_or(CallError::Missing("messages"))?;
            Ok(messages.iter().map(|message| content_text(&message["content"])).collect())
        }
        Surface::Completion => match &body["prompt"] {
            Value::String(text) => Ok(vec![text.clone()]),
            Value::Array(list) => Ok(list.iter().map(content_text).collect()),
            _ => Err(CallError::Missing("prompt")),
        },
    }
}

/// Text of a message: a string, or the text parts of a list.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The calls that the answer makes: the chosen function, or the first; two when the buyer allows
/// parallel calls and offers two. None once the conversation ends in a tool's result.
fn planned_tools(body: &Value) -> Vec<ToolPlan> {
    let last_role = body["messages"].as_array().and_then(|list| list.last()).map(|last| &last["role"]);
    if body["tool_choice"] == "none" || last_role.is_some_and(|role| role == "tool") {
        return Vec::new();
    }
    let chosen = body["tool_choice"]["function"]["name"].as_str();
    let offered = body["tools"].as_array().map_or(&[][..], Vec::as_slice);
    let parallel = body["parallel_tool_calls"] == true && chosen.is_none();
    offered
        .iter()
        .map(|tool| &tool["function"])
        .filter_map(|function| Some((function["name"].as_str()?, &function["parameters"])))
        .filter(|(name, _)| chosen.is_none_or(|chosen| chosen == *name))
        .take(if parallel { 2 } else { 1 })
        .map(|(name, schema)| ToolPlan { name: name.to_owned(), arguments: sample(schema) })
        .collect()
}

/// A value that fits a JSON schema well enough for a client that validates: required properties only.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|options| options.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("string") => json!("Paris"),
        Some("integer") => json!(7),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("array") => json!([sample(&schema["items"])]),
        Some("null") => Value::Null,
        _ => {
            let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
            let entries = required.iter().filter_map(Value::as_str);
            entries.map(|name| (name.to_owned(), sample(&schema["properties"][name]))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(surface: Surface, body: &str) -> Result<Call, CallError> {
        let http = HttpRequest { body: body.as_bytes().to_vec(), ..HttpRequest::default() };
        Call::read(surface, &http, TokenLaw::default())
    }

    #[test]
    fn reads_what_changes_the_answer() {
        let call = read(
            Surface::Chat,
            r#"{"model":"a/b@no-usage","messages":[{"role":"user","content":[{"type":"text","text":"one two"}]}],
                "max_completion_tokens":3,"n":2,"stream":true,"stream_options":{"include_usage":true}}"#,
        )
        .unwrap();
        assert_eq!((call.model.as_str(), call.fault), ("a/b", Some(Fault::NoUsage)));
        assert_eq!((call.prompt_tokens, call.max_tokens, call.choices), (5, Some(3), 2));
        assert!(call.stream && call.include_usage && call.tools.is_empty());
    }

    #[test]
    fn refuses_what_cannot_be_answered() {
        assert_eq!(read(Surface::Chat, "{"), Err(CallError::NotJson));
        assert_eq!(read(Surface::Chat, "{}"), Err(CallError::Missing("model")));
        assert_eq!(read(Surface::Chat, r#"{"model":"m"}"#), Err(CallError::Missing("messages")));
        assert_eq!(read(Surface::Completion, r#"{"model":"m"}"#), Err(CallError::Missing("prompt")));
    }

    #[test]
    fn choices_are_bounded() {
        let choices = |n: u64| {
            read(Surface::Completion, &format!(r#"{{"model":"m","prompt":"x","n":{n}}}"#)).unwrap().choices
        };
        assert_eq!((choices(0), choices(CHOICES_MAX), choices(CHOICES_MAX + 1)), (1, 128, 128));
    }

    #[test]
    fn tools_are_called_with_fitting_arguments() {
        let tools = r#""tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object",
            "properties":{"city":{"type":"string"},"days":{"type":"integer"},"unit":{"enum":["c","f"]}},
            "required":["city","days","unit"]}}},{"type":"function","function":{"name":"clock"}}]"#;
        let plan =
            |extra: &str| read(Surface::Chat, &format!(r#"{{"model":"m",{extra},{tools}}}"#)).unwrap().tools;
        let user = r#""messages":[{"role":"user","content":"hi"}]"#;
        let one = plan(user);
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].arguments, json!({"city":"Paris","days":7,"unit":"c"}));
        assert_eq!(plan(&format!(r#"{user},"parallel_tool_calls":true"#)).len(), 2);
        assert_eq!(plan(&format!(r#"{user},"tool_choice":"none""#)).len(), 0);
        let chosen =
            plan(&format!(r#"{user},"tool_choice":{{"type":"function","function":{{"name":"clock"}}}}"#));
        assert_eq!(chosen[0].name, "clock");
        assert_eq!(plan(r#""messages":[{"role":"tool","content":"21"}]"#).len(), 0);
    }
}
