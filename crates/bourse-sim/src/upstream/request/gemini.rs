//! Reads Gemini's `generateContent`, strictly.
//!
//! Source: Google's reference of the Gemini API (v1beta), its page on thought signatures, and error texts
//! as clients have reported them. Names may be written in camel case or with underscores, as protobuf JSON
//! allows. Schemas under `parameters` take Google's subset only; `parametersJsonSchema` takes all.

use super::field::{Field, Flaw};
use super::{Call, CallError, Format, Thinking, Tool, ToolChoice};
use crate::upstream::config::SellerConfig;
use crate::upstream::http::HttpRequest;
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::{Action, Route, Shape};
use crate::upstream::signature;
use serde_json::Value;

/// Longest name of a function.
const NAME_MAX: usize = 64;
/// What a client sends in place of signatures for calls that this seller did not make; Google documents both.
const UNCHECKED_SIGNATURES: [&str; 2] =
    ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];
/// How deep a schema is read; deeper levels are not looked at.
const SCHEMA_DEPTH_MAX: usize = 32;
const KNOWN: [&str; 14] = [
    "contents",
    "tools",
    "toolConfig",
    "tool_config",
    "safetySettings",
    "safety_settings",
    "systemInstruction",
    "system_instruction",
    "generationConfig",
    "generation_config",
    "cachedContent",
    "cached_content",
    "labels",
    "store",
];
const SCHEMA_KNOWN: [&str; 23] = [
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "any_of",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];

/// Reads a call; the model stands in the path.
pub(super) fn read(
    root: &Field<'_>,
    route: &Route,
    http: &HttpRequest,
    config: &SellerConfig,
) -> Result<Call, CallError> {
    if route.action == Action::Stream && !http.path.contains("alt=sse") {
        return Err(CallError::refused("This seller streams server-sent events only: add alt=sse."));
    }
    let inner = root.get("generateContentRequest");
    let root = if route.action == Action::CountTokens && inner.is_given() { &inner } else { root };
    let known: Vec<&str> = KNOWN.iter().copied().chain(["model"]).collect();
    root.only(&known)?;
    let model = route.model.as_deref().unwrap_or_default();
    let mut prompt = Prompt::framed();
    prompt.preamble(model);
    prompt.preamble(&root.get("tools").value.to_string());
    if let Some(system) = root.either("systemInstruction", "system_instruction").given() {
        prompt.message("system");
        for part in system.get("parts").items()? {
            prompt.text(part.get("text").str()?, None);
        }
    }
    let thinks = config.answers.reasoning_words > 0;
    let has_tool_result = read_contents(&root.get("contents"), &mut prompt, config, thinks)?;
    let mut call = Call::new(Shape::Gemini, model, prompt);
    call.stream = route.action == Action::Stream;
    call.has_tool_result = has_tool_result;
    call.tools = read_tools(&root.get("tools"))?;
    call.tool_choice = read_tool_choice(&root.either("toolConfig", "tool_config"), &call.tools)?;
    read_generation(&root.either("generationConfig", "generation_config"), &mut call)?;
    Ok(call)
}

/// Reads the conversation; true when it ends in a function's response.
fn read_contents(
    field: &Field<'_>,
    prompt: &mut Prompt,
    config: &SellerConfig,
    thinks: bool,
) -> Result<bool, CallError> {
    let contents = field.items()?;
    if contents.is_empty() {
        return Err(CallError::refused("* GenerateContentRequest.contents: contents is not specified"));
    }
    // Signatures are asked for in the turn that is under way: behind the last message of the user.
    let is_question = |content: &Field<'_>| content.get("role").value != "model" && !is_response(content);
    let turn_at = contents.iter().rposition(is_question).unwrap_or(0);
    let mut calls: Vec<String> = Vec::new();
    let mut ends_in_response = false;
    for (at, content) in contents.iter().enumerate() {
        let role = content.get("role").optional_str()?.unwrap_or("user");
        if !["user", "model", "function"].contains(&role) {
            return Err(CallError::refused("Please use a valid role: user, model."));
        }
        let parts = content.get("parts").items()?;
        if parts.is_empty() {
            return Err(CallError::refused(format!(
                "* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty."
            )));
        }
        prompt.message(role);
        let mut turn = Turn { calls: Vec::new(), responses: Vec::new() };
        for part in &parts {
            read_part(part, role, prompt, config, &mut turn)?;
        }
        check_turn(at, &calls, &turn)?;
        if thinks && at >= turn_at {
            check_signature(at, &parts)?;
        }
        ends_in_response = !turn.responses.is_empty();
        calls = turn.calls;
    }
    if calls.is_empty() { Ok(ends_in_response) } else { Err(unequal()) }
}

fn is_response(content: &Field<'_>) -> bool {
    let has = |part: &Value| part["functionResponse"].is_object() || part["function_response"].is_object();
    content.get("parts").value.as_array().is_some_and(|parts| parts.iter().any(has))
}

struct Turn {
    calls: Vec<String>,
    responses: Vec<String>,
}

fn unequal() -> CallError {
    CallError::refused(
        "Please ensure that the number of function response parts is equal to the number of function call parts of \
         the function call turn.",
    )
}

fn check_turn(at: usize, open: &[String], turn: &Turn) -> Result<(), CallError> {
    if turn.responses.is_empty() && open.is_empty() {
        if at == 0 && !turn.calls.is_empty() {
            return Err(CallError::refused(
                "Please ensure that function call turn comes immediately after a user turn or after a function \
                 response turn.",
            ));
        }
        return Ok(());
    }
    if open.is_empty() {
        return Err(CallError::refused(
            "Please ensure that function response turn comes immediately after a function call turn.",
        ));
    }
    if turn.responses.len() != open.len() {
        return Err(unequal());
    }
    match turn.responses.iter().find(|name| !open.contains(name)) {
        Some(name) => Err(CallError::refused(format!(
            "Please ensure that function response name `{name}` matches a function call of the turn before."
        ))),
        None => Ok(()),
    }
}

/// The first function call of a step must carry the signature that came with it.
fn check_signature(at: usize, parts: &[Field<'_>]) -> Result<(), CallError> {
    let call = parts.iter().find(|part| part.either("functionCall", "function_call").is_given());
    match call {
        Some(part) if !part.either("thoughtSignature", "thought_signature").is_given() => {
            let name = part.either("functionCall", "function_call").get("name");
            Err(CallError::refused(format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                 work correctly, and missing thought_signature may lead to degraded model performance. Additional \
                 data, function call `default_api:{}` , position {}.",
                name.str()?,
                at + 1
            )))
        }
        _ => Ok(()),
    }
}

fn read_part(
    part: &Field<'_>,
    role: &str,
    prompt: &mut Prompt,
    config: &SellerConfig,
    turn: &mut Turn,
) -> Result<(), CallError> {
    let either = |name, other| part.either(name, other).given();
    if let Some(signature) = either("thoughtSignature", "thought_signature")
        && !UNCHECKED_SIGNATURES.contains(&signature.str()?)
        && !signature::is_own(&config.name, signature.str()?)
    {
        return Err(CallError::refused("Thought signature is not valid."));
    }
    let call = either("functionCall", "function_call");
    let response = either("functionResponse", "function_response");
    let data = either("inlineData", "inline_data");
    let file = either("fileData", "file_data");
    let text = part.get("text").given();
    let given = [&call, &response, &data, &file, &text].into_iter().filter(|field| field.is_some()).count();
    if given != 1 {
        let message = format!(
            "* GenerateContentRequest.{}.data: required oneof field 'data' must have one initialized field",
            part.path()
        );
        return Err(CallError::refused(message));
    }
    if let Some(call) = call {
        call.only(&["name", "args", "id"])?;
        if role != "model" {
            return Err(call.wrong("a function call in a turn of the model only"));
        }
        call.get("args").given().map_or(Ok(()), |args| args.object().map(|_| ()))?;
        turn.calls.push(call.get("name").name(NAME_MAX)?.to_owned());
        prompt.silent(&call.value.to_string(), None);
    } else if let Some(response) = response {
        response.only(&["name", "response", "id", "scheduling", "willContinue", "parts"])?;
        response.get("response").object()?;
        turn.responses.push(response.get("name").name(NAME_MAX)?.to_owned());
        prompt.text(&response.get("response").value.to_string(), None);
    } else if let Some(data) = data {
        let kind = data.either("mimeType", "mime_type").str()?;
        let bytes = data.get("data").str()?;
        if kind.starts_with("image/") { prompt.image(bytes, None) } else { prompt.silent(bytes, None) }
    } else if let Some(file) = file {
        prompt.image(file.either("fileUri", "file_uri").str()?, None);
    } else if let Some(text) = text {
        let text = text.str()?;
        if part.get("thought").flag()? { prompt.silent(text, None) } else { prompt.text(text, None) }
    }
    Ok(())
}

fn read_tools(field: &Field<'_>) -> Result<Vec<Tool>, CallError> {
    let mut tools = Vec::new();
    for tool in field.optional_items()? {
        tool.only(&[
            "functionDeclarations",
            "function_declarations",
            "googleSearch",
            "google_search",
            "codeExecution",
            "code_execution",
            "urlContext",
            "url_context",
        ])?;
        let declared = tool.either("functionDeclarations", "function_declarations");
        for function in declared.optional_items()? {
            let name = function.get("name").name(NAME_MAX)?.to_owned();
            let own = function.get("parameters");
            if own.is_given() {
                check_schema(&own, 0)?;
            }
            let any = function.either("parametersJsonSchema", "parameters_json_schema");
            if own.is_given() && any.is_given() {
                return Err(any.wrong("absent, because 'parameters' is set"));
            }
            let schema = if own.is_given() { own } else { any };
            tools.push(Tool { name, schema: lower_types(schema.value) });
        }
    }
    Ok(tools)
}

/// Google's subset of JSON schema: an unknown key is refused by name.
fn check_schema(schema: &Field<'_>, depth: usize) -> Result<(), CallError> {
    if depth >= SCHEMA_DEPTH_MAX {
        return Ok(());
    }
    schema.only(&SCHEMA_KNOWN)?;
    let kind = schema.get("type");
    if kind.is_given() {
        // A list of types is JSON schema, not Google's.
        let upper = kind.str()?.to_ascii_uppercase();
        let known = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];
        if !known.contains(&upper.as_str()) {
            return Err(kind.wrong("a type of google.ai.generativelanguage.v1beta.Type"));
        }
    }
    if let Some(properties) = schema.get("properties").given() {
        for name in properties.object()?.keys() {
            check_schema(&properties.get(name), depth + 1)?;
        }
    }
    if let Some(items) = schema.get("items").given() {
        check_schema(&items, depth + 1)?;
    }
    for option in schema.either("anyOf", "any_of").optional_items()? {
        check_schema(&option, depth + 1)?;
    }
    Ok(())
}

/// The same schema with types in lower case, as everybody else writes them.
fn lower_types(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| match value {
                Value::String(kind) if name == "type" => (name.clone(), kind.to_ascii_lowercase().into()),
                _ => (name.clone(), lower_types(value)),
            })
            .collect(),
        Value::Array(list) => list.iter().map(lower_types).collect(),
        other => other.clone(),
    }
}

fn read_tool_choice(field: &Field<'_>, tools: &[Tool]) -> Result<ToolChoice, CallError> {
    let config = field.either("functionCallingConfig", "function_calling_config");
    if !config.is_given() {
        return Ok(ToolChoice::Auto);
    }
    let mode = config.get("mode").optional_str()?.unwrap_or("AUTO").to_ascii_uppercase();
    let allowed = config.either("allowedFunctionNames", "allowed_function_names").optional_items()?;
    if !allowed.is_empty() && mode != "ANY" && mode != "VALIDATED" {
        return Err(CallError::refused(
            "Function calling config is set without function_declarations or allowed_function_names without mode ANY.",
        ));
    }
    for name in &allowed {
        let chosen = name.str()?;
        if !tools.iter().any(|tool| tool.name == chosen) {
            return Err(name.wrong(format!("the name of a declared function, not '{chosen}'")));
        }
    }
    match (mode.as_str(), allowed.as_slice()) {
        ("ANY", [only]) => Ok(ToolChoice::Named(only.str()?.to_owned())),
        ("ANY", _) => Ok(ToolChoice::Any),
        ("NONE", _) => Ok(ToolChoice::Never),
        ("AUTO" | "VALIDATED" | "MODE_UNSPECIFIED", _) => Ok(ToolChoice::Auto),
        _ => Err(config.get("mode").wrong("AUTO, ANY, NONE or VALIDATED")),
    }
}

fn read_generation(field: &Field<'_>, call: &mut Call) -> Result<(), CallError> {
    if !field.is_given() {
        return Ok(());
    }
    call.max_tokens = field.either("maxOutputTokens", "max_output_tokens").optional_count(1)?;
    let choices = field.either("candidateCount", "candidate_count").optional_count(1)?;
    call.choices = choices.unwrap_or(1).min(8) as usize;
    field.get("temperature").optional_number(0.0, 2.0)?;
    field.either("topP", "top_p").optional_number(0.0, 1.0)?;
    for name in field.object()?.keys() {
        if matches!(name.as_str(), "max_tokens" | "stop" | "n" | "response_format") {
            return Err(CallError::Field { path: format!("generation_config.{name}"), flaw: Flaw::Unknown });
        }
    }
    let kind = field.either("responseMimeType", "response_mime_type").optional_str()?.unwrap_or("text/plain");
    let own = field.either("responseSchema", "response_schema");
    let any = field.either("responseJsonSchema", "response_json_schema");
    if own.is_given() {
        check_schema(&own, 0)?;
    }
    let schema = if own.is_given() { own } else { any };
    if schema.is_given() && kind != "application/json" {
        return Err(CallError::refused(
            "Invalid value at 'generation_config.response_schema': only supported with response mime type \
             application/json",
        ));
    }
    call.format = match (kind, schema.given()) {
        ("application/json", Some(schema)) => Format::Schema(lower_types(schema.value)),
        ("application/json", None) => Format::Json,
        _ => Format::Text,
    };
    let thinking = field.either("thinkingConfig", "thinking_config");
    call.thinking = if thinking.either("includeThoughts", "include_thoughts").flag()? {
        Thinking::Shown
    } else if thinking.either("thinkingBudget", "thinking_budget").value == 0 {
        Thinking::Off
    } else {
        Thinking::Hidden
    };
    Ok(())
}
