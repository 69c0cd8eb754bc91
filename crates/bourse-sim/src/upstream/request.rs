//! One call as a seller reads it: prompt, limits, tools, wishes, and which fault it asks for.
//!
//! Each shape has a reader that holds the call to the vendor's documented grammar and refuses the rest
//! with 400, because the simulator judges what a market sends. Chat, completions and Ollama ignore unknown
//! fields as the engines behind them do; Anthropic, Responses, Gemini and Cohere refuse them as those do. Counts
//! are bounded so that a test's absurd numbers cannot fill the memory.

mod anthropic;
mod chat;
mod cohere;
pub(super) mod field;
mod gemini;
mod media;
mod multipart;
mod ollama;
mod responses;
mod turns;

use super::config::SellerConfig;
use super::fault::Fault;
use super::http::HttpRequest;
use super::prompt::Prompt;
use super::shape::{Action, Route, Shape};
use crate::seed::digest;
use field::{Field, Flaw};
pub(super) use media::Media;
use serde_json::Value;

/// Choices in one answer; more are cut off.
const CHOICES_MAX: u64 = 128;
/// Header that names a fault.
const FAULT_HEADER: &str = "x-sim-fault";

/// A tool that the buyer offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON schema of its arguments; null when none was given.
    pub(super) schema: Value,
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum ToolChoice {
    #[default]
    Auto,
    Never,
    Any,
    Named(String),
}

/// Whether several tools may be called at once, as far as the buyer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Parallel {
    #[default]
    Unsaid,
    Wanted,
    Forbidden,
}

/// What the text of the answer must be.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Format {
    #[default]
    Text,
    /// Any JSON object.
    Json,
    /// JSON of this schema.
    Schema(Value),
}

/// Whether the answer is thought about, and whether that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Thinking {
    #[default]
    Off,
    Hidden,
    Shown,
}

/// Whether reasoning is wanted sealed, so that it can be sent back to a seller that stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Seal {
    #[default]
    Unasked,
    Wanted,
}

/// A call, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) shape: Shape,
    pub(super) action: Action,
    /// The model's name without a fault suffix.
    pub(super) model: String,
    pub(super) prompt: Prompt,
    /// Digest of the prompt and the `seed` field: what the text of the answer follows from.
    pub(super) text_seed: u64,
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) tools: Vec<Tool>,
    pub(super) tool_choice: ToolChoice,
    pub(super) parallel: Parallel,
    /// The conversation ends in a tool's result, so that an answer is due and not another call.
    pub(super) has_tool_result: bool,
    pub(super) format: Format,
    pub(super) thinking: Thinking,
    /// Whether reasoning is wanted in a form that can be sent back.
    pub(super) seal: Seal,
    /// What shapes that do not chat ask for.
    pub(super) media: Option<Media>,
    /// The fault that the call itself names.
    pub(super) fault: Option<Fault>,
}

impl Call {
    /// A call that asks for nothing yet.
    pub(super) fn new(shape: Shape, model: &str, prompt: Prompt) -> Self {
        let (model, fault) = split_model(model);
        Self {
            shape,
            action: Action::Answer,
            model: model.to_owned(),
            prompt,
            text_seed: 0,
            max_tokens: None,
            choices: 1,
            stream: false,
            include_usage: false,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel: Parallel::Unsaid,
            has_tool_result: false,
            format: Format::Text,
            thinking: Thinking::Off,
            seal: Seal::Unasked,
            media: None,
            fault,
        }
    }
}

/// Why a seller refuses a call with 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// The body is not JSON.
    NotJson,
    /// A field is wrong.
    Field { path: String, flaw: Flaw },
    /// The call as a whole is wrong, in the vendor's words.
    Refused { message: String, param: Option<String>, code: Option<&'static str> },
}

impl CallError {
    /// A refusal without a field.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), param: None, code: None }
    }

    /// The refused field, as OpenAI names it.
    pub(super) fn param(&self) -> Option<String> {
        match self {
            Self::NotJson => None,
            Self::Field { path, .. } => Some(bracketed(path)),
            Self::Refused { param, .. } => param.clone(),
        }
    }

    /// OpenAI's code.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            Self::NotJson => None,
            Self::Field { flaw: Flaw::Missing, .. } => Some("missing_required_parameter"),
            Self::Field { flaw: Flaw::Unknown, .. } => Some("unknown_parameter"),
            Self::Field { flaw: Flaw::Wrong(_), .. } => Some("invalid_value"),
            Self::Refused { code, .. } => *code,
        }
    }

    /// What the vendor of this shape says.
    pub(super) fn message(&self, shape: Shape) -> String {
        match self {
            Self::NotJson => "We could not parse the JSON body of your request.".to_owned(),
            Self::Refused { message, .. } => message.clone(),
            Self::Field { path, flaw } => match shape {
                Shape::Messages => match flaw {
                    Flaw::Missing => format!("{path}: Field required"),
                    Flaw::Unknown => format!("{path}: Extra inputs are not permitted"),
                    Flaw::Wrong(should) => format!("{path}: Input should be {should}"),
                },
                Shape::Gemini => match flaw {
                    Flaw::Missing => format!("* GenerateContentRequest.{path}: {path} is not specified"),
                    Flaw::Unknown => {
                        let (at, name) = path.rsplit_once('.').unwrap_or(("", path));
                        let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
                        format!(
                            "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
                        )
                    }
                    Flaw::Wrong(should) => format!("Invalid value at '{path}': expected {should}"),
                },
                Shape::Cohere => match flaw {
                    Flaw::Missing => format!("invalid request: '{path}' is required"),
                    Flaw::Unknown => format!("unknown field: parameter '{path}' is not a valid field"),
                    Flaw::Wrong(should) => format!("invalid request: '{path}' must be {should}."),
                },
                _ => match flaw {
                    Flaw::Missing => format!("Missing required parameter: '{}'.", bracketed(path)),
                    Flaw::Unknown => format!("Unknown parameter: '{}'.", bracketed(path)),
                    Flaw::Wrong(should) => {
                        format!("Invalid value for '{}': expected {should}.", bracketed(path))
                    }
                },
            },
        }
    }
}

/// `a.0.b` as `a[0].b`.
fn bracketed(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('.') {
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push('[');
            out.push_str(segment);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(segment);
        }
    }
    out
}

/// Reads a call from an HTTP request.
pub(super) fn read(route: &Route, http: &HttpRequest, config: &SellerConfig) -> Result<Call, CallError> {
    let mut call = if route.shape == Shape::Transcriptions {
        media::read_transcription(http)?
    } else {
        let body: Value = serde_json::from_slice(&http.body).map_err(|_| CallError::NotJson)?;
        let root = Field::root(&body);
        root.object()?;
        let mut call = match route.shape {
            Shape::Chat => chat::read(&root)?,
            Shape::Completions => chat::read_completion(&root)?,
            Shape::Messages => anthropic::read(&root, route.action, http, config)?,
            Shape::Responses => responses::read(&root, config)?,
            Shape::Gemini => gemini::read(&root, route, http, config)?,
            Shape::Ollama => ollama::read(&root)?,
            Shape::Cohere => cohere::read(&root)?,
            _ => media::read(route.shape, http, &root)?,
        };
        call.text_seed = digest(format!("{}\u{0}{}", call.prompt.seed_text(), body["seed"]).as_bytes());
        let named = body["metadata"]["sim_fault"].as_str().and_then(|name| name.parse().ok());
        call.fault = named.or(call.fault);
        call
    };
    let headed = http.header(FAULT_HEADER).and_then(|name| name.parse().ok());
    call.fault = headed.or(call.fault);
    call.action = route.action;
    if call.prompt.images() > 0 && !config.takes_images {
        return Err(no_images(&call));
    }
    Ok(call)
}

fn no_images(call: &Call) -> CallError {
    CallError::refused(match call.shape {
        Shape::Messages => "messages: image content is not supported by this model.".to_owned(),
        Shape::Gemini => format!("Image input modality is not enabled for models/{}", call.model),
        Shape::Ollama => "this model is missing data required for image input".to_owned(),
        Shape::Cohere => "invalid request: this model does not support image inputs".to_owned(),
        _ => "Invalid content type. image_url is only supported by certain models.".to_owned(),
    })
}

/// `model@fault-name` into both; any other name is left alone.
fn split_model(model: &str) -> (&str, Option<Fault>) {
    match model.rsplit_once('@').map(|(base, name)| (base, name.parse())) {
        Some((base, Ok(fault))) => (base, Some(fault)),
        _ => (model, None),
    }
}

#[cfg(test)]
mod tests;
