//! Requests: from every buyer's grammar into every seller's.

use super::*;
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::strategies::{Can, each_part, request};
use crate::dialect::neutral::{Effort, Media, Part, Reasoning, Request, ResponseFormat, Role, ToolChoice};
use proptest::prelude::*;
use serde_json::Value;

const MODEL: &str = "gemini-3.8-flash";

/// What a conversation says, whatever grammar says it. Line feeds are left out, for grammars join texts by them.
#[derive(Debug, Default, PartialEq)]
struct Gist {
    rules: String,
    texts: String,
    /// Id, name, arguments.
    calls: Vec<(String, String, Value)>,
    /// The call's id, and text.
    results: Vec<(String, String)>,
    /// Type and data, or an address.
    media: Vec<String>,
    format: Option<Value>,
}

fn add(to: &mut String, text: &str) {
    to.extend(text.chars().filter(|c| *c != '\n'));
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Gist {
    fn of_request(request: &Request) -> Self {
        let mut gist = Self::default();
        for message in &request.messages {
            let is_rule = matches!(message.role, Role::System | Role::Developer);
            for part in &message.parts {
                match part {
                    Part::Text { text, .. } if is_rule => add(&mut gist.rules, text),
                    part => gist.part(part),
                }
            }
        }
        gist.format = match &request.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Value::from("json")),
            ResponseFormat::JsonSchema { schema, .. } => serde_json::from_str(schema.as_str()).ok(),
        };
        gist
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Text { text, .. } => add(&mut self.texts, text),
            Part::Image { source, .. } | Part::Audio { source } | Part::File { source, .. } => {
                self.media.push(match source {
                    Media::Base64 { media_type, data } => format!("{media_type} {data}"),
                    Media::Url(text) | Media::Id(text) | Media::Text(text) => text.clone(),
                });
            }
            Part::ToolCall { id, name, arguments, .. } => {
                let arguments = serde_json::from_str(arguments).unwrap();
                self.calls.push((id.clone(), name.clone(), arguments));
            }
            Part::ToolResult { call_id, content, .. } => {
                let mut inner = Self::default();
                for part in content {
                    inner.part(part);
                }
                self.results.push((call_id.clone(), inner.texts));
            }
            Part::Reasoning { .. } | Part::Refusal { .. } => {}
        }
    }

    fn of_google(body: &Value) -> Self {
        let mut gist = Self::default();
        for part in body["systemInstruction"]["parts"].as_array().into_iter().flatten() {
            add(&mut gist.rules, &word(&part["text"]));
        }
        let turns = body["contents"].as_array().unwrap();
        for part in turns.iter().flat_map(|turn| turn["parts"].as_array().unwrap()) {
            add(&mut gist.texts, &word(&part["text"]));
            if let Some(data) = part.get("inlineData") {
                gist.media.push(format!("{} {}", word(&data["mimeType"]), word(&data["data"])));
            }
            gist.media.extend(part.get("fileData").map(|data| word(&data["fileUri"])));
            if let Some(call) = part.get("functionCall") {
                gist.calls.push((word(&call["id"]), word(&call["name"]), call["args"].clone()));
            }
            if let Some(result) = part.get("functionResponse") {
                let response = &result["response"];
                let text = word(response.get("error").unwrap_or(&response["output"]));
                gist.results.push((word(&result["id"]), text.replace('\n', "")));
            }
        }
        let config = &body["generationConfig"];
        gist.format = config
            .get("responseMimeType")
            .map(|_| config.get("responseJsonSchema").cloned().unwrap_or("json".into()));
        gist
    }

    fn of_ollama(body: &Value) -> Self {
        let mut gist = Self::default();
        for message in body["messages"].as_array().unwrap() {
            let content = word(&message["content"]);
            match message["role"].as_str().unwrap() {
                "system" => add(&mut gist.rules, &content),
                "tool" => gist.results.push((word(&message["tool_call_id"]), content.replace('\n', ""))),
                _ => add(&mut gist.texts, &content),
            }
            gist.media.extend(message["images"].as_array().into_iter().flatten().map(word));
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                gist.calls.push((word(&call["id"]), word(&function["name"]), function["arguments"].clone()));
            }
        }
        gist.format = body.get("format").cloned();
        gist
    }
}

/// The fields that a seller's grammar refuses a request for; none where it can say it.
pub(super) fn refuses(shape: Shape, request: &Request) -> Vec<&'static str> {
    let has = |is: fn(&Part) -> bool| request.messages.iter().flat_map(|message| &message.parts).any(is);
    let has_audio = has(|part| matches!(part, Part::Audio { .. }));
    let has_file = has(|part| matches!(part, Part::File { .. }));
    let has_address = has(|part| matches!(part, Part::Image { source: Media::Url(_), .. }));
    let must_call = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)));
    [
        (Shape::Responses, !request.stop.is_empty(), "stop"),
        (Shape::Responses, request.choices > 1, "n"),
        (Shape::Responses, !request.logit_bias.is_empty(), "logit_bias"),
        (Shape::Messages, request.choices > 1, "n"),
        (Shape::Messages, request.logprobs.is_some(), "logprobs"),
        (Shape::Messages, request.response_format == ResponseFormat::JsonObject, "response_format"),
        (Shape::Messages, has_audio, "messages"),
        (Shape::Ollama, request.choices > 1, "n"),
        (Shape::Ollama, must_call && !request.tools.is_empty(), "tool_choice"),
        (Shape::Ollama, has_audio || has_file || has_address, "messages"),
    ]
    .into_iter()
    .filter(|(of, is_refused, _)| *of == shape && *is_refused)
    .map(|(.., field)| field)
    .collect()
}

/// The same request without what a grammar refuses.
fn sayable(shape: Shape, mut request: Request) -> Request {
    let is_ollama = shape == Shape::Ollama;
    each_part(&mut request, |part| {
        let is_refused = match part {
            Part::Audio { .. } => is_ollama || shape == Shape::Messages,
            Part::File { .. } | Part::Image { source: Media::Url(_), .. } => is_ollama,
            _ => false,
        };
        if is_refused {
            *part = Part::text("instead");
        }
    });
    match shape {
        Shape::Responses => Request { stop: Vec::new(), choices: 1, logit_bias: Vec::new(), ..request },
        Shape::Messages if request.response_format == ResponseFormat::JsonObject => {
            Request { response_format: ResponseFormat::Text, choices: 1, logprobs: None, ..request }
        }
        Shape::Messages => Request { choices: 1, logprobs: None, ..request },
        Shape::Ollama => Request { tool_choice: None, choices: 1, ..request },
        _ => request,
    }
}

/// A wish: the fields under which a notice may name it, and its value as text, empty where nothing is wished.
type Wish = (&'static [&'static str], String);

fn wishes(request: &Request) -> Vec<Wish> {
    fn said<T: std::fmt::Debug>(value: Option<&T>) -> String {
        value.map(|value| format!("{value:?}")).unwrap_or_default()
    }
    let can_call = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
    let list = |is_empty: bool, text: String| if is_empty { String::new() } else { text };
    let biases = list(request.logit_bias.is_empty(), format!("{:?}", request.logit_bias));
    vec![
        (&["temperature"], said(request.temperature.as_ref())),
        (&["top_p", "temperature"], said(request.top_p.as_ref())),
        (&["top_k", "temperature"], said(request.top_k.as_ref())),
        (&["presence_penalty"], said(request.presence_penalty.as_ref())),
        (&["frequency_penalty"], said(request.frequency_penalty.as_ref())),
        (&["logit_bias"], biases),
        (&["logprobs"], said(request.logprobs.as_ref())),
        (&["stop"], list(request.stop.is_empty(), format!("{:?}", request.stop))),
        (&["seed"], said(request.seed.as_ref())),
        (&["user"], said(request.user.as_ref())),
        (&["prompt_cache_key"], said(request.prompt_cache_key.as_ref())),
        (&["reasoning"], request.reasoning.as_ref().map(thinks).unwrap_or_default()),
        (&["n"], list(request.choices == 1, request.choices.to_string())),
        (&["tool_choice"], said(request.tool_choice.as_ref())),
        (&["parallel_tool_calls"], said(request.parallel_tool_calls.as_ref().filter(|_| can_call))),
    ]
}

/// Whether to think. How much is told in words or in tokens, by tables that each grammar tests itself.
fn thinks(wish: &Reasoning) -> String {
    let is_off = wish.enabled == Some(false) || wish.effort == Some(Effort::None);
    if is_off { "off".to_owned() } else { "on".to_owned() }
}

/// Where a grammar that only sellers speak says these wishes, in the order of [`wishes`]; empty where it cannot.
fn places(shape: Shape) -> [&'static str; 15] {
    if shape == Shape::Gemini {
        return [
            "/generationConfig/temperature",
            "/generationConfig/topP",
            "/generationConfig/topK",
            "/generationConfig/presencePenalty",
            "/generationConfig/frequencyPenalty",
            "",
            "/generationConfig/responseLogprobs",
            "/generationConfig/stopSequences",
            "/generationConfig/seed",
            "",
            "",
            "/generationConfig/thinkingConfig",
            "/generationConfig/candidateCount",
            "/toolConfig/functionCallingConfig/mode",
            "",
        ];
    }
    [
        "/options/temperature",
        "/options/top_p",
        "/options/top_k",
        "/options/presence_penalty",
        "/options/frequency_penalty",
        "",
        "/logprobs",
        "/options/stop",
        "/options/seed",
        "",
        "",
        "/think",
        "",
        "",
        "",
    ]
}

/// Wishes that may vanish without a word, because leaving them out changes nothing.
pub(super) fn is_silent(field: &str, value: &str) -> bool {
    match field {
        // The default of every grammar.
        "temperature" | "top_p" => value == "1.0",
        "presence_penalty" | "frequency_penalty" => matches!(value, "0.0" | "-0.0"),
        "parallel_tool_calls" => value == "true",
        // A hint for caches that a server keeps by itself.
        "prompt_cache_key" => true,
        // A tool that must not be called is not told of.
        "tool_choice" => matches!(value, "Auto" | "None"),
        _ => false,
    }
}

/// Checks that every wish is heard, told of, or of no consequence.
fn check_wishes(asked: &Request, written: &Written, shape: Shape) -> Result<(), TestCaseError> {
    let json: Value = serde_json::from_slice(&written.body).unwrap();
    let again = front_of(shape).map(|api| {
        let job = front::parse(api, written.body.clone()).unwrap();
        wishes(&front::read(&job).unwrap())
    });
    for (n, (fields, value)) in
        wishes(asked).into_iter().enumerate().filter(|(_, (_, value))| !value.is_empty())
    {
        let is_heard = match &again {
            Some(again) => again[n].1 == value,
            None => !places(shape)[n].is_empty() && json.pointer(places(shape)[n]).is_some(),
        };
        let is_told = written.notices.iter().any(|notice| {
            fields
                .iter()
                .any(|field| notice.param == *field || notice.param.starts_with(&format!("{field}.")))
        });
        prop_assert!(
            is_heard || is_told || is_silent(fields[0], &value),
            "{:?}: {:?} {}: {:?} {}",
            shape,
            fields,
            value,
            written.notices,
            json
        );
    }
    Ok(())
}

/// What a seller of this grammar can hear of a conversation.
fn audible(shape: Shape, mut gist: Gist) -> Gist {
    if shape == Shape::Ollama {
        for media in &mut gist.media {
            *media = media.rsplit(' ').next().unwrap_or_default().to_owned();
        }
    }
    gist
}

/// Checks what a seller hears of a request that its grammar can say.
fn check_heard(seller: &dyn Dialect, asked: &Request) -> Result<(), TestCaseError> {
    let shape = seller.facts().shape;
    let call = Call { upstream_id: MODEL, stream: true, max_tokens: None };
    let written =
        seller.write(asked, &call).map_err(|error| TestCaseError::fail(format!("{shape:?}: {error}")))?;
    let json = || serde_json::from_slice(&written.body).unwrap();
    let gist = match (front_of(shape), shape) {
        (Some(api), _) => {
            let job = front::parse(api, written.body.clone()).unwrap();
            Gist::of_request(&front::read(&job).unwrap())
        }
        (None, Shape::Gemini) => Gist::of_google(&json()),
        (None, _) => Gist::of_ollama(&json()),
    };
    prop_assert_eq!(gist, audible(shape, Gist::of_request(asked)), "{:?}", shape);
    check_wishes(asked, &written, shape)
}

/// Checks that a seller's grammar refuses what it cannot say by the field's name.
fn check_refused(seller: &dyn Dialect, asked: &Request) -> Result<(), TestCaseError> {
    let call = Call { upstream_id: MODEL, stream: true, max_tokens: None };
    let refused = refuses(seller.facts().shape, asked);
    let error = seller.write(asked, &call).err();
    prop_assert_eq!(error.is_some(), !refused.is_empty(), "{:?} {:?}", refused, error);
    if let Some(error) = error {
        let param = error.param.clone().unwrap_or_default();
        prop_assert_eq!(error.status(), 400);
        prop_assert!(refused.iter().any(|field| param.starts_with(field)), "{:?} {}", refused, param);
    }
    Ok(())
}

proptest! {
    // Each case is three buyers by seven sellers.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_buyers_request_reaches_every_seller(generated in request(Can::ALL)) {
        for api in FRONTS {
            let call = Call { upstream_id: "a/b", stream: true, max_tokens: None };
            let wanted = sayable(api.shape(), generated.clone());
            let said = own(api).write(&wanted, &call).unwrap();
            let asked = front::read(&front::parse(api, said.body).unwrap()).unwrap();
            prop_assert_eq!(Gist::of_request(&asked), Gist::of_request(&wanted), "{:?}", api);
            for seller in SELLERS {
                check_refused(seller, &asked)?;
                check_heard(seller, &sayable(seller.facts().shape, asked.clone()))?;
            }
        }
    }
}
