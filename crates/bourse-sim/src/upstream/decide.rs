//! What a seller does with one call: refuses it, counts it, or answers it with or without a fault.
//!
//! In the order of a real front door: key, grammar, model, rate, capacity, and only then the script of
//! faults and the answer. Whatever comes of it is written into the log.

use super::answer::{Answer, Circumstances};
use super::cache::{CacheMode, CacheUse};
use super::expectation::Mode;
use super::fault::Fault;
use super::http::HttpRequest;
use super::rate;
use super::record::{Ending, Seen, UsageSeen};
use super::request::{self, Call};
use super::response::Told;
use super::script::{Script, respond};
use super::seller::Shared;
use super::shape::{Action, Route, Shape};
use super::trouble::{Kind, Trouble};
use serde_json::json;
use std::time::SystemTime;

/// Bytes of a request body that the log keeps.
const LOG_BODY_BYTES_MAX: usize = 64 * 1024;

/// A call as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Number of the call at this seller.
    pub(super) order: u64,
    /// Number of its connection.
    pub(super) connection: u64,
    /// Answers under way when it came.
    pub(super) already_open: usize,
}

/// What was decided.
struct Decision {
    fault: Option<Fault>,
    truth: UsageSeen,
    refused: Option<u16>,
    grammar_error: Option<String>,
    script: Script,
}

impl Decision {
    fn refused(shape: Shape, trouble: &Trouble, fields: &[(&str, String)]) -> Self {
        Self {
            fault: None,
            truth: UsageSeen::default(),
            refused: Some(trouble.status(shape)),
            grammar_error: (trouble.kind == Kind::Invalid).then(|| trouble.message.clone()),
            script: Script::error(shape, trouble, fields),
        }
    }
}

/// Chooses the response to a call and writes the call into the log.
pub(super) fn decide(shared: &Shared, route: &Route, http: HttpRequest, arrival: Arrival) -> Script {
    let config = &shared.config;
    let call = request::read(route, &http, config);
    let decision = if config.bearer.is_some() && key(route.shape, &http) != config.bearer.as_deref() {
        let trouble = Trouble::new(Kind::Unauthorized, "Incorrect API key provided");
        Decision::refused(route.shape, &trouble, &[])
    } else {
        match &call {
            Err(error) => Decision::refused(route.shape, &Trouble::refused(error, route.shape), &[]),
            Ok(call) => admit(shared, call, arrival),
        }
    };
    let call = call.ok();
    let HttpRequest { path, headers, mut body, .. } = http;
    body.truncate(LOG_BODY_BYTES_MAX);
    shared.push(Seen {
        order: arrival.order,
        connection: arrival.connection,
        at: shared.started.elapsed(),
        path,
        headers,
        body,
        shape: route.shape,
        model: call.as_ref().map_or_else(String::new, |call| call.model.clone()),
        tools: call.iter().flat_map(|call| &call.tools).map(|tool| tool.name.clone()).collect(),
        images: call.as_ref().map_or(0, |call| call.prompt.images()),
        grammar_error: decision.grammar_error,
        refused: decision.refused,
        fault: decision.fault,
        stream: call.is_some_and(|call| call.stream),
        truth: decision.truth,
        tokens_sent: 0,
        ending: Ending::Open,
        client_gone_at: None,
        bytes_after_client_gone: 0,
    });
    decision.script
}

/// The key that a call carries, where its shape has it.
fn key(shape: Shape, http: &HttpRequest) -> Option<&str> {
    match shape {
        Shape::Messages => http.header("x-api-key"),
        Shape::Gemini => http.header("x-goog-api-key").or_else(|| {
            let query = http.path.split_once('?')?.1;
            query.split('&').find_map(|pair| pair.strip_prefix("key="))
        }),
        _ => http.bearer(),
    }
}

/// Decides about a call that keeps to its grammar.
fn admit(shared: &Shared, call: &Call, arrival: Arrival) -> Decision {
    let config = &shared.config;
    let now = config.time_of_day.unwrap_or_else(SystemTime::now);
    if !config.listings.iter().any(|listing| listing.id == call.model) {
        let message = format!("The model `{}` does not exist", call.model);
        return Decision::refused(call.shape, &Trouble::new(Kind::ModelGone, message), &[]);
    }
    let mut fields = Vec::new();
    if let (Some(law), Some(bucket)) = (config.rate, &shared.bucket) {
        let admission = bucket.lock().take(law, shared.started.elapsed());
        fields = rate::fields(law, admission, call.shape, now);
        if !admission.admitted {
            let trouble = Trouble::new(Kind::RateLimited, "Rate limit reached for requests");
            return Decision::refused(call.shape, &trouble, &fields);
        }
    }
    if arrival.already_open >= config.capacity {
        fields.push(("retry-after", "1".to_owned()));
        let trouble = Trouble::new(Kind::RateLimited, "Too many requests");
        return Decision::refused(call.shape, &trouble, &fields);
    }
    let fault = call.fault.or_else(|| shared.script.borrow().choose(arrival.order));
    let fault = fault.filter(|fault| fault.expectation_in(call.shape, mode(call)).is_some());
    let mut decision = answer(shared, call, fault, arrival.order, now);
    decision.script = decision.script.with_fields(&fields);
    decision
}

fn answer(shared: &Shared, call: &Call, fault: Option<Fault>, order: u64, now: SystemTime) -> Decision {
    let config = &shared.config;
    if call.action == Action::CountTokens {
        let tokens = call.prompt.tokens(config.tokens);
        let body = if call.shape == Shape::Gemini {
            json!({"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]})
        } else {
            json!({"input_tokens": tokens})
        };
        let script = Script::json(200, &[], &body.to_string());
        let truth = UsageSeen { prompt: tokens, ..UsageSeen::default() };
        return Decision { fault: None, truth, refused: None, grammar_error: None, script };
    }
    let created_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let script = shared.answers.borrow().clone();
    let cache = read_cache(shared, call, fault);
    let circumstances = Circumstances { script: &script, fault, order, created_s, cache };
    let answer = Answer::compose(call, config, &circumstances);
    let script = respond(&Told { call, answer: &answer, config, fault }, now);
    Decision { fault, truth: answer.usage, refused: None, grammar_error: None, script }
}

fn mode(call: &Call) -> Mode {
    if call.stream { Mode::Stream } else { Mode::Plain }
}

/// What the prompt reads from the cache and writes into it; nothing when the fault keeps it from being read.
fn read_cache(shared: &Shared, call: &Call, fault: Option<Fault>) -> CacheUse {
    let Some(law) = shared.config.cache else { return CacheUse::default() };
    if !call.shape.streams() || fault.is_some_and(|fault| fault.fails_before_content(mode(call))) {
        return CacheUse::default();
    }
    let way = if call.shape == Shape::Messages { CacheMode::Marked } else { CacheMode::Automatic };
    let prefixes = call.prompt.prefixes(shared.config.tokens);
    shared.cache.lock().read(&prefixes, way, law, shared.started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::super::ask::Ask;
    use super::super::config::SellerConfig;
    use super::super::shape::route;
    use super::*;
    use crate::seed::Random;
    use serde_json::Value;

    /// Something that nobody expects, in the place of something that was there.
    fn spoil(value: &mut Value, random: &mut Random) {
        let odd = [
            json!(null),
            json!(-1),
            json!(u64::MAX),
            json!(""),
            json!("x"),
            json!([]),
            json!({}),
            json!([[]]),
        ];
        let below = match value {
            Value::Object(map) if !map.is_empty() && !random.permille(200) => {
                let at = random.below(map.len() as u64) as usize;
                map.values_mut().nth(at)
            }
            Value::Array(list) if !list.is_empty() && !random.permille(200) => {
                let at = random.below(list.len() as u64) as usize;
                list.get_mut(at)
            }
            _ => None,
        };
        match below {
            Some(inner) => spoil(inner, random),
            None => *value = random.pick(&odd).cloned().unwrap_or_default(),
        }
    }

    /// Bodies with more in them than the least.
    fn rich(shape: Shape) -> Value {
        let ask = Ask::new(shape, Mode::Plain, "m");
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        ask.with(&match shape {
            Shape::Chat | Shape::Ollama => json!({"tools": [{"type": "function",
                "function": {"name": "f", "parameters": schema}}], "n": 2, "format": schema, "think": true}),
            Shape::Cohere => json!({"tools": [{"type": "function",
                "function": {"name": "f", "parameters": schema}}], "k": 5, "thinking": {"type": "disabled"}}),
            Shape::Messages => {
                json!({"tools": [{"name": "f", "input_schema": schema}], "system": [{"type": "text",
                "text": "x", "cache_control": {"type": "ephemeral"}}]})
            }
            Shape::Responses => json!({"tools": [{"type": "function", "name": "f", "parameters": schema}],
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
            Shape::Gemini => {
                json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}],
                "generationConfig": {"candidateCount": 2, "maxOutputTokens": 5}})
            }
            _ => json!({"n": 2, "dimensions": 4, "top_n": 1}),
        })
        .body()
    }

    #[tokio::test]
    async fn spoilt_calls_of_every_shape_are_answered_or_refused_and_never_break_the_seller() {
        let shared = Shared::new(SellerConfig::new("alpha", "m").with_shapes(Shape::ALL));
        let (mut answered, mut refused) = (0, 0);
        for seed in 0..4_000_u64 {
            let mut random = Random::new(seed);
            let shape = Shape::ALL[seed as usize % Shape::ALL.len()];
            let mut body = rich(shape);
            spoil(&mut body, &mut random);
            let http = HttpRequest {
                method: "POST".to_owned(),
                path: shape.path("m"),
                headers: vec![("anthropic-version".to_owned(), "x".to_owned())],
                body: body.to_string().into_bytes(),
                keep_alive: true,
            };
            let found = route(&http, &Shape::ALL).unwrap();
            decide(&shared, &found, http, Arrival { order: seed, connection: 0, already_open: 0 });
            let status = shared.last().and_then(|seen| seen.refused);
            assert!(matches!(status, None | Some(400 | 404)), "{shape} {body}");
            if status.is_some() { refused += 1 } else { answered += 1 }
        }
        assert!(answered > 500 && refused > 500, "{answered} answered, {refused} refused");
    }
}
