//! Requests, full reading: what was asked, for sellers of other grammars.
//!
//! What rules nothing about the answer (`metadata`, `store`, `truncation`, `max_tool_calls`, …) is not read. What
//! only sellers of this grammar can do (tools that run at the seller, items of their making) is refused by name, so
//! that the market looks for one of them.

use super::echo::member;
use crate::dialect::Job;
use crate::dialect::fields::{self, wrong};
use crate::dialect::neutral::{
    CacheMark, Media, Message, Part, RawJson, Request, ResponseFormat, Role, Tool, ToolChoice,
};
use crate::error::ApiError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Reads the whole request.
pub(in crate::dialect) fn read(job: &Job) -> Result<Request, ApiError> {
    let mut messages = Vec::with_capacity(job.messages_count as usize + 1);
    if let Some(text) = read_member::<String>(job, "instructions")? {
        messages.push(message(Role::System, vec![Part::text(text)]));
    }
    read_input(job, &mut messages)?;
    let mut request = Request { messages, choices: 1, ..Request::default() };
    request.tools = tools(job)?;
    tool_choice(job, &mut request)?;
    request.parallel_tool_calls = read_member(job, "parallel_tool_calls")?;
    if let Some(text) = read_member::<TextConfig>(job, "text")? {
        request.verbosity = text.verbosity;
        request.response_format = text.format.map_or(Ok(ResponseFormat::Text), response_format)?;
    }
    request.reasoning.clone_from(&job.routing.reasoning);
    request.verbosity = request.verbosity.or_else(|| job.routing.verbosity.clone());
    request.max_tokens = job.max_tokens;
    request.logprobs = job.sampling.logprobs;
    request.temperature = read_member(job, "temperature")?;
    request.top_p = read_member(job, "top_p")?;
    request.top_k = read_member(job, "top_k")?;
    request.presence_penalty = read_member(job, "presence_penalty")?;
    request.frequency_penalty = read_member(job, "frequency_penalty")?;
    let safety: Option<String> = read_member(job, "safety_identifier")?;
    request.user = safety.or_else(|| job.routing.user.clone());
    request.prompt_cache_key.clone_from(&job.routing.prompt_cache_key);
    Ok(request)
}

/// A member that is there and not null, or what is wrong with it.
fn read_member<T: DeserializeOwned>(job: &Job, name: &'static str) -> Result<Option<T>, ApiError> {
    member(job, name).map(|raw| parse(name, raw)).transpose()
}

fn parse<T: DeserializeOwned>(field: &str, raw: &str) -> Result<T, ApiError> {
    serde_json::from_str(raw).map_err(|error| {
        ApiError::field(field.to_owned(), format!("`{field}` does not have the documented form: {error}"))
    })
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

/// Only sellers of this grammar can do it.
fn foreign(field: &str, what: &str) -> ApiError {
    ApiError::field(
        field.to_owned(),
        format!(
            "`{field}` holds {what}, which only sellers of OpenAI's Responses know: leave it out, or name such a seller in `provider.only`"
        ),
    )
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ItemJson {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    output: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

/// Text, or parts as they are written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<PartJson>),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PartJson {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
    detail: Option<String>,
    file_id: Option<String>,
    file_url: Option<String>,
    file_data: Option<String>,
    filename: Option<String>,
    input_audio: Option<AudioJson>,
    prompt_cache_breakpoint: Option<MarkJson>,
}

#[derive(Deserialize)]
struct AudioJson {
    data: String,
    format: String,
}

#[derive(Deserialize)]
struct MarkJson {
    ttl: Option<String>,
}

fn read_input(job: &Job, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let raw = job.text(&job.prompt);
    if raw.starts_with('"') {
        messages.push(message(Role::User, vec![Part::text(fields::string("input", raw)?)]));
        return Ok(());
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong("input", "an array of items"))?;
    for (n, raw) in items.into_iter().enumerate() {
        let at = format!("input[{n}]");
        let (role, parts) = read_item(&at, raw.get())?;
        match messages.last_mut() {
            // What the model said in one turn comes as several items.
            Some(last) if last.role == role && matches!(role, Role::Assistant | Role::Tool) => {
                last.parts.extend(parts);
            }
            _ => messages.push(message(role, parts)),
        }
    }
    Ok(())
}

fn read_item(at: &str, raw: &str) -> Result<(Role, Vec<Part>), ApiError> {
    let item: ItemJson = match parse(at, raw) {
        Ok(item) => item,
        // An item of another type may hold anything under the same names.
        Err(error) => return Err(other_kind(at, raw).unwrap_or(error)),
    };
    let need = |value: Option<String>, part: &str| {
        value.ok_or_else(|| ApiError::field(format!("{at}.{part}"), format!("{at} has no `{part}`: add it")))
    };
    match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = role(at, &need(item.role, "role")?)?;
            let content = item.content.unwrap_or(Content::Parts(Vec::new()));
            Ok((role, parts(&format!("{at}.content"), content)?))
        }
        "function_call" => {
            let call = Part::ToolCall {
                id: need(item.call_id, "call_id")?,
                name: need(item.name, "name")?,
                arguments: item.arguments.unwrap_or_default(),
                cache: None,
            };
            Ok((Role::Assistant, vec![call]))
        }
        "function_call_output" => {
            let content = match item.output {
                None => Vec::new(),
                Some(Content::Text(text)) if text.is_empty() => Vec::new(),
                Some(content) => parts(&format!("{at}.output"), content)?,
            };
            let call_id = need(item.call_id, "call_id")?;
            let result = Part::ToolResult { call_id, content, is_error: false, cache: None };
            Ok((Role::Tool, vec![result]))
        }
        "reasoning" => {
            let thoughts: super::answer::ItemJson = parse(at, raw)?;
            Ok((Role::Assistant, thoughts.thoughts().into_iter().collect()))
        }
        other => Err(foreign(at, &format!("an item of type `{other}`"))),
    }
}

/// The error for an item whose type is none of ours.
fn other_kind(at: &str, raw: &str) -> Option<ApiError> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    let Kind { kind } = serde_json::from_str(raw).ok()?;
    let known = ["message", "function_call", "function_call_output", "reasoning"];
    (!known.contains(&kind.as_str())).then(|| foreign(at, &format!("an item of type `{kind}`")))
}

fn role(at: &str, word: &str) -> Result<Role, ApiError> {
    match word {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        "developer" => Ok(Role::Developer),
        _ => Err(wrong(&format!("{at}.role"), "\"user\", \"assistant\", \"system\" or \"developer\"")),
    }
}

fn parts(at: &str, content: Content) -> Result<Vec<Part>, ApiError> {
    match content {
        Content::Text(text) => Ok(vec![Part::text(text)]),
        Content::Parts(list) => {
            list.into_iter().enumerate().map(|(n, part)| part.read(&format!("{at}[{n}]"))).collect()
        }
    }
}

impl PartJson {
    fn read(self, at: &str) -> Result<Part, ApiError> {
        let cache = self.prompt_cache_breakpoint.as_ref().map(MarkJson::read);
        let missing = |what: &str| ApiError::field(at.to_owned(), format!("`{at}` has no {what}: add it"));
        match self.kind.as_str() {
            "input_text" | "output_text" | "text" => {
                Ok(Part::Text { text: self.text.ok_or_else(|| missing("`text`"))?, cache })
            }
            "refusal" => Ok(Part::Refusal { text: self.refusal.ok_or_else(|| missing("`refusal`"))? }),
            "input_image" => {
                let source = self.image_url.map(address).or(self.file_id.map(Media::Id));
                let source = source.ok_or_else(|| missing("`image_url`"))?;
                // `auto` is what no word means too.
                Ok(Part::Image { source, detail: self.detail.filter(|word| word != "auto"), cache })
            }
            "input_file" => {
                let inside = self.file_data.map(|data| file(data, self.filename.as_deref()));
                let source = inside.or(self.file_url.map(address)).or(self.file_id.map(Media::Id));
                let source = source.ok_or_else(|| missing("`file_data` or `file_url`"))?;
                Ok(Part::File { source, filename: self.filename, cache })
            }
            "input_audio" => {
                let audio = self.input_audio.ok_or_else(|| missing("`input_audio`"))?;
                let media_type = format!("audio/{}", audio.format);
                Ok(Part::Audio { source: Media::Base64 { media_type, data: audio.data } })
            }
            other => Err(foreign(at, &format!("a part of type `{other}`"))),
        }
    }
}

impl MarkJson {
    fn read(&self) -> CacheMark {
        let ttl_s = match self.ttl.as_deref() {
            Some("30m") => Some(super::write::TTL_SHORT_S),
            Some("12h") => Some(TTL_LONG_S),
            _ => None,
        };
        CacheMark { ttl_s }
    }
}

/// The longer of the two times that a marked prompt is kept, in seconds.
const TTL_LONG_S: u32 = 43_200;

/// A data URL in base64 is bytes; anything else is where bytes are.
fn address(url: String) -> Media {
    match data_url(&url) {
        Some((media_type, data)) => {
            Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() }
        }
        None => Media::Url(url),
    }
}

/// A document in the request: a data URL, or bare base64 whose type its name tells.
fn file(data: String, filename: Option<&str>) -> Media {
    if let Some((media_type, data)) = data_url(&data) {
        return Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    }
    let ending = filename.and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    let media_type = match ending {
        Some("txt" | "md") => "text/plain",
        Some("pdf") | None => "application/pdf",
        Some(_) => "application/octet-stream",
    };
    Media::Base64 { media_type: media_type.to_owned(), data }
}

fn data_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

#[derive(Deserialize)]
struct ToolJson {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    description: Option<String>,
    parameters: Option<RawJson>,
    strict: Option<bool>,
}

fn tools(job: &Job) -> Result<Vec<Tool>, ApiError> {
    let list: Vec<ToolJson> = read_member(job, "tools")?.unwrap_or_default();
    let read = |(n, tool): (usize, ToolJson)| {
        let at = format!("tools[{n}]");
        if tool.kind != "function" {
            return Err(foreign(&at, &format!("a tool of type `{}`", tool.kind)));
        }
        if tool.name.is_empty() {
            return Err(ApiError::field(format!("{at}.name"), format!("{at} has no `name`: add it")));
        }
        let ToolJson { name, description, parameters, strict, .. } = tool;
        Ok(Tool { name, description, parameters, strict, cache: None })
    };
    list.into_iter().enumerate().map(read).collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Word(String),
    Form(ChoiceForm),
}

#[derive(Deserialize)]
struct ChoiceForm {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    tools: Vec<Allowed>,
}

#[derive(Deserialize)]
struct Allowed {
    #[serde(default)]
    name: String,
}

fn tool_choice(job: &Job, request: &mut Request) -> Result<(), ApiError> {
    let Some(choice) = read_member::<Choice>(job, "tool_choice")? else { return Ok(()) };
    let word = |word: &str| match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => {
            Err(wrong("tool_choice", "\"auto\", \"none\", \"required\", or an object that names a function"))
        }
    };
    request.tool_choice = Some(match choice {
        Choice::Word(text) => word(&text)?,
        Choice::Form(ChoiceForm { kind, name: Some(name), .. }) if kind == "function" => {
            ToolChoice::Tool(name)
        }
        // Other grammars have no list of allowed tools: the others are not shown.
        Choice::Form(form) if form.kind == "allowed_tools" => {
            request.tools.retain(|tool| form.tools.iter().any(|allowed| allowed.name == tool.name));
            word(form.mode.as_deref().unwrap_or("auto"))?
        }
        Choice::Form(form) => {
            return Err(foreign("tool_choice", &format!("a choice of type `{}`", form.kind)));
        }
    });
    Ok(())
}

#[derive(Deserialize)]
struct TextConfig {
    format: Option<FormatJson>,
    verbosity: Option<String>,
}

#[derive(Deserialize)]
struct FormatJson {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    schema: Option<RawJson>,
    strict: Option<bool>,
}

fn response_format(format: FormatJson) -> Result<ResponseFormat, ApiError> {
    match (format.kind.as_str(), format.schema) {
        ("text", _) => Ok(ResponseFormat::Text),
        ("json_object", _) => Ok(ResponseFormat::JsonObject),
        ("json_schema", Some(schema)) => Ok(ResponseFormat::JsonSchema {
            name: format.name.unwrap_or_else(|| "answer".to_owned()),
            description: format.description,
            schema,
            strict: format.strict,
        }),
        ("json_schema", None) => Err(ApiError::field(
            "text.format.schema",
            "`text.format` has no `schema`: add the JSON Schema of the answer",
        )),
        _ => Err(wrong("text.format.type", "\"text\", \"json_object\" or \"json_schema\"")),
    }
}
