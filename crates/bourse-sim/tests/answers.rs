//! What sellers say when all is well: tools, reasoning that is bound to its seller, refusals, forms, caches,
//! rates, lists of models, and the answers that are no chat.

use bourse_sim::client::{Response, call, request};
use bourse_sim::upstream::{
    AnswerScript, Ask, BadCall, CacheLaw, Heard, Mode, ModelList, RateLaw, RateTelling, ReasoningForm, Say,
    Seen, Seller, SellerConfig, Shape,
};
use serde_json::{Value, json};
use std::time::Duration;

const MODEL: &str = "sim/words";
const TALKING: [Shape; 6] =
    [Shape::Chat, Shape::Messages, Shape::Responses, Shape::Gemini, Shape::Ollama, Shape::Cohere];

fn config(name: &str) -> SellerConfig {
    SellerConfig::new(name, MODEL).with_shapes(Shape::ALL)
}

async fn start(config: SellerConfig) -> Seller {
    Seller::start(config).await.expect("the loopback interface has a free port")
}

async fn send(seller: &Seller, ask: &Ask) -> Response {
    call(seller.address(), &ask.bytes()).await.expect("the seller answers")
}

/// The answer, which must be whole and grammatical.
async fn hear(seller: &Seller, shape: Shape, mode: Mode, ask: &Ask) -> Heard {
    let response = send(seller, ask).await;
    let heard = Heard::read(shape, mode, &response);
    let label = format!("{shape} {mode:?}: {} {} {heard:?}", response.status, response.text());
    assert!(response.status == 200 && heard.is_whole(mode), "{label}");
    heard
}

/// Two tools as a shape lists them.
fn tools(shape: Shape) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = |name: &str| match shape {
        Shape::Messages => json!({"name": name, "input_schema": schema}),
        Shape::Responses => json!({"type": "function", "name": name, "parameters": schema}),
        Shape::Gemini => json!({"name": name, "parameters": schema}),
        _ => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
    };
    let list = json!([tool("weather"), tool("clock")]);
    if shape == Shape::Gemini { json!([{"functionDeclarations": list}]) } else { list }
}

/// A call with tools, thinking on where a shape has a switch.
fn ask_with_tools(shape: Shape, mode: Mode) -> Ask {
    let thinking = match shape {
        Shape::Messages => json!({"thinking": {"type": "enabled", "budget_tokens": 1_024}}),
        Shape::Responses => {
            json!({"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]})
        }
        Shape::Gemini => json!({"generationConfig": {"thinkingConfig": {"includeThoughts": true}}}),
        Shape::Ollama => json!({"think": true}),
        _ => json!({}),
    };
    Ask::new(shape, mode, MODEL).with(&json!({"tools": tools(shape)})).with(&thinking)
}

#[tokio::test]
async fn tools_are_called_in_parallel_in_every_shape() {
    let answers = AnswerScript::saying(Say::ToolCalls(2));
    let seller = start(config("alpha").with_answers(answers)).await;
    for (shape, mode) in TALKING.into_iter().flat_map(|shape| Mode::ALL.map(|mode| (shape, mode))) {
        let heard = hear(&seller, shape, mode, &ask_with_tools(shape, mode)).await;
        let names: Vec<&str> = heard.calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["weather", "clock"], "{shape} {mode:?}");
        for call in &heard.calls {
            let arguments: Value = serde_json::from_str(&call.arguments).expect("arguments are JSON");
            assert_eq!(arguments, json!({"city": "Paris"}), "{shape} {mode:?}");
        }
        assert_ne!(heard.calls[0].id, heard.calls[1].id, "{shape} {mode:?}");
        let seen = seller.log().pop().unwrap();
        assert_eq!(seen.tools, ["weather", "clock"]);
        assert_eq!(heard.usages.last().unwrap().completion, seen.truth.completion, "{shape} {mode:?}");
    }
}

#[tokio::test]
async fn bad_tool_calls_are_bad_in_the_way_that_was_set() {
    let seller = start(config("alpha")).await;
    let hear_bad = async |way: BadCall, shape: Shape| {
        let script =
            AnswerScript { bad_call_permille: 1_000, bad_calls: vec![way], ..AnswerScript::default() };
        seller.set_answers(script);
        hear(&seller, shape, Mode::Stream, &ask_with_tools(shape, Mode::Stream)).await
    };
    for shape in TALKING {
        assert_eq!(hear_bad(BadCall::UnknownTool, shape).await.calls[0].name, "no_such_tool", "{shape}");
        let misfit = hear_bad(BadCall::SchemaMismatch, shape).await.calls.remove(0);
        let arguments: Value = serde_json::from_str(&misfit.arguments).unwrap();
        assert!(!arguments["city"].is_string(), "{shape}");
        let broken = hear_bad(BadCall::InvalidJson, shape).await;
        match shape {
            Shape::Gemini => assert_eq!(broken.finishes, ["MALFORMED_FUNCTION_CALL"]),
            Shape::Ollama => assert!(broken.calls.is_empty() && broken.text.contains("weather")),
            _ => assert!(serde_json::from_str::<Value>(&broken.calls[0].arguments).is_err(), "{shape}"),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The conversation with the answer and the results of its calls, as a buyer would send it next.
fn replay(shape: Shape, ask: &Ask, response: &Response) -> Ask {
    let answer = response.json();
    let body = ask.body();
    let appended = |list: &Value, more: Vec<Value>| {
        let first = list.as_array().cloned().unwrap_or_default();
        Value::from([first, more].concat())
    };
    match shape {
        Shape::Messages => {
            let result = |block: &Value| {
                (block["type"] == "tool_use")
                    .then(|| json!({"type": "tool_result", "tool_use_id": block["id"], "content": "21"}))
            };
            let results: Vec<Value> = list(&answer["content"]).iter().filter_map(result).collect();
            let more = vec![
                json!({"role": "assistant", "content": answer["content"]}),
                json!({"role": "user", "content": results}),
            ];
            ask.clone().with(&json!({"messages": appended(&body["messages"], more)}))
        }
        Shape::Responses => {
            let mut items = vec![json!({"role": "user", "content": body["input"]})];
            for item in list(&answer["output"]) {
                items.push(item.clone());
                if item["type"] == "function_call" {
                    let id = &item["call_id"];
                    items.push(json!({"type": "function_call_output", "call_id": id, "output": "21"}));
                }
            }
            ask.clone().with(&json!({"input": items}))
        }
        _ => {
            let content = &answer["candidates"][0]["content"];
            let result = |part: &Value| {
                let call = &part["functionCall"];
                call.is_object().then(
                    || json!({"functionResponse": {"name": call["name"], "id": call["id"], "response": {"v": 21}}}),
                )
            };
            let results: Vec<Value> = list(&content["parts"]).iter().filter_map(result).collect();
            let more = vec![content.clone(), json!({"role": "user", "parts": results})];
            ask.clone().with(&json!({"contents": appended(&body["contents"], more)}))
        }
    }
}

#[tokio::test]
async fn reasoning_may_be_sent_back_to_its_own_seller_only() {
    let thinks = |form| AnswerScript {
        reasoning_words: 8,
        reasoning_form: form,
        say: Say::ToolCalls(2),
        ..AnswerScript::default()
    };
    let cases = [
        (Shape::Messages, ReasoningForm::Open, "Invalid `signature` in `thinking` block"),
        (Shape::Messages, ReasoningForm::Redacted, "Invalid `data` in `redacted_thinking` block"),
        (Shape::Responses, ReasoningForm::Open, "invalid_encrypted_content"),
        (Shape::Gemini, ReasoningForm::Open, "Thought signature is not valid."),
    ];
    for (shape, form, refusal) in cases {
        let own = start(config("alpha").with_answers(thinks(form))).await;
        let other = start(config("beta").with_answers(thinks(form))).await;
        let ask = ask_with_tools(shape, Mode::Plain);
        let heard = hear(&own, shape, Mode::Plain, &ask).await;
        assert_eq!((heard.signatures.len(), heard.calls.len()), (1, 2), "{shape} {form:?}");
        assert_eq!(heard.reasoning.is_empty(), form == ReasoningForm::Redacted, "{shape} {form:?}");
        let streamed = hear(&own, shape, Mode::Stream, &ask_with_tools(shape, Mode::Stream)).await;
        assert_eq!(streamed.reasoning, heard.reasoning, "{shape} {form:?}");
        assert_eq!(streamed.signatures.len(), 1, "{shape} {form:?}");
        let next = replay(shape, &ask, &send(&own, &ask).await);
        let answered = hear(&own, shape, Mode::Plain, &next).await;
        assert!(answered.calls.is_empty() && !answered.text.is_empty(), "{shape}: the results are answered");
        let refused = send(&other, &next).await;
        assert!(refused.status == 400 && refused.text().contains(refusal), "{shape}: {}", refused.text());
        let told = other.log().pop().and_then(|seen| seen.grammar_error).is_some();
        assert!(told, "{shape}: the log says why");
        assert_eq!(own.log()[0].truth.reasoning, 8, "{shape}");
    }
}

#[tokio::test]
async fn gemini_asks_for_the_signature_of_the_turn_under_way() {
    let script = AnswerScript { reasoning_words: 8, say: Say::ToolCalls(1), ..AnswerScript::default() };
    let seller = start(config("alpha").with_answers(script)).await;
    let ask = ask_with_tools(Shape::Gemini, Mode::Plain);
    let next = replay(Shape::Gemini, &ask, &send(&seller, &ask).await);
    let mut contents = next.body()["contents"].clone();
    for part in contents[1]["parts"].as_array_mut().unwrap() {
        part.as_object_mut().unwrap().remove("thoughtSignature");
    }
    let refused = send(&seller, &next.clone().with(&json!({"contents": contents}))).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("missing a thought_signature"), "{}", refused.text());
    // Behind the next question it is history, and no longer asked for.
    let question = json!({"role": "user", "parts": [{"text": "and now"}]});
    contents.as_array_mut().unwrap().push(question);
    assert_eq!(send(&seller, &next.with(&json!({"contents": contents}))).await.status, 200);
}

#[tokio::test]
async fn a_refusal_has_the_vendors_form() {
    let seller = start(config("alpha").with_answers(AnswerScript::saying(Say::Refusal))).await;
    for (shape, mode) in TALKING.into_iter().flat_map(|shape| Mode::ALL.map(|mode| (shape, mode))) {
        let heard = hear(&seller, shape, mode, &Ask::new(shape, mode, MODEL)).await;
        let finish = heard.finishes[0].as_str();
        match shape {
            Shape::Messages => assert_eq!(finish, "refusal"),
            Shape::Gemini => assert_eq!((finish, heard.text.as_str()), ("SAFETY", "")),
            Shape::Ollama | Shape::Cohere => assert!(!heard.text.is_empty(), "{shape} has no form for it"),
            _ => assert!(!heard.refusal.is_empty() && heard.text.is_empty(), "{shape} {mode:?} {heard:?}"),
        }
    }
}

#[tokio::test]
async fn a_wished_form_is_kept_in_every_shape() {
    let seller = start(config("alpha")).await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let wish = |shape| match shape {
        Shape::Messages => json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
        Shape::Responses => {
            json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}})
        }
        Shape::Gemini => json!({"generationConfig": {"responseMimeType": "application/json",
            "responseSchema": schema}}),
        Shape::Ollama => json!({"format": schema}),
        Shape::Cohere => json!({"response_format": {"type": "json_object", "json_schema": schema}}),
        _ => {
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})
        }
    };
    for (shape, mode) in TALKING.into_iter().flat_map(|shape| Mode::ALL.map(|mode| (shape, mode))) {
        let heard = hear(&seller, shape, mode, &Ask::new(shape, mode, MODEL).with(&wish(shape))).await;
        assert_eq!(serde_json::from_str::<Value>(&heard.text).unwrap(), json!({"n": 7}), "{shape} {mode:?}");
    }
}

fn last(seller: &Seller) -> Seen {
    seller.log().pop().expect("there was a call")
}

#[tokio::test]
async fn caches_are_told_as_they_are() {
    let law = CacheLaw { ttl: Duration::from_mins(5), tokens_min: 8 };
    let fresh = async || start(SellerConfig { cache: Some(law), ..config("alpha") }).await;
    for shape in [Shape::Chat, Shape::Responses, Shape::Gemini, Shape::Cohere] {
        let seller = fresh().await;
        let ask = Ask::new(shape, Mode::Plain, MODEL);
        for cached in [0, 13] {
            let heard = hear(&seller, shape, Mode::Plain, &ask).await;
            let (told, truth) = (heard.usages[0], last(&seller).truth);
            assert_eq!((told.prompt, told.cached_prompt), (13, cached), "{shape}");
            assert_eq!((truth.cached_prompt, truth.cache_write_prompt), (cached, 13 - cached), "{shape}");
        }
    }
    let seller = fresh().await;
    let messages = json!([{"role": "user", "content": [
        {"type": "text", "text": "one two three four five six", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "seven eight"}]}]);
    let ask = Ask::new(Shape::Messages, Mode::Stream, MODEL).with(&json!({"messages": messages}));
    for (read, written) in [(0, 9), (9, 0)] {
        let heard = hear(&seller, Shape::Messages, Mode::Stream, &ask).await;
        let told = heard.usages.last().unwrap();
        assert_eq!((told.prompt, told.cached_prompt, told.cache_write_prompt), (11, read, written));
    }
    let unmarked = Ask::new(Shape::Messages, Mode::Plain, MODEL);
    for _ in 0..2 {
        assert_eq!(hear(&seller, Shape::Messages, Mode::Plain, &unmarked).await.usages[0].cached_prompt, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_learnt_from_refusals_only_or_told_by_header() {
    let law = |tells| RateLaw { calls_per_s: 2, tells };
    for (tells, shape, told) in [
        (RateTelling::Hidden, Shape::Chat, None),
        (RateTelling::Headers, Shape::Chat, Some(("x-ratelimit-remaining-requests", "0"))),
        (RateTelling::Headers, Shape::Messages, Some(("anthropic-ratelimit-requests-remaining", "0"))),
    ] {
        let seller = start(SellerConfig { rate: Some(law(tells)), ..config("alpha") }).await;
        let ask = Ask::new(shape, Mode::Plain, MODEL);
        let status = async || {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let client = async {
                let mut caller = bourse_sim::client::Caller::over(ours);
                caller.send(&ask.bytes()).await.unwrap();
                caller.response().await.unwrap()
            };
            tokio::join!(client, seller.serve(theirs)).0
        };
        assert_eq!([status().await.status, status().await.status], [200, 200], "{shape}");
        let refused = status().await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{shape}");
        let (name, value) = told.unwrap_or(("x-ratelimit-remaining-requests", ""));
        assert_eq!(refused.header(name), told.map(|_| value), "{shape}");
        assert_eq!(last(&seller).refused, Some(429));
        tokio::time::advance(Duration::from_millis(500)).await;
        let taken = status().await;
        assert_eq!((taken.status, taken.header(name)), (200, told.map(|_| value)), "{shape}");
    }
}

#[tokio::test]
async fn models_are_listed_as_each_vendor_does() {
    let get = async |list: ModelList, path: &str, fields: &[(&str, &str)]| {
        let seller = start(SellerConfig { model_list: list, ..config("alpha") }).await;
        call(seller.address(), &request("GET", path, fields, b"")).await.unwrap().json()
    };
    let version = [("anthropic-version", "2023-06-01")];
    let (models, none) = ("/v1/models", &[][..]);
    assert_eq!(get(ModelList::OpenAi, models, none).await["data"][0]["context_length"], Value::Null);
    assert_eq!(get(ModelList::Vllm, models, none).await["data"][0]["max_model_len"], 32_768);
    assert_eq!(get(ModelList::LlamaCpp, models, none).await["data"][0]["meta"]["n_ctx_train"], 32_768);
    let router = get(ModelList::OpenRouter, models, none).await;
    assert_eq!(router["data"][0]["pricing"]["prompt"], "0.0000001");
    assert_eq!(router["data"][0]["top_provider"]["context_length"], 32_768);
    let anthropic = get(ModelList::OpenAi, models, &version).await;
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["last_id"]), (&json!("model"), &json!(MODEL)));
    let gemini = get(ModelList::OpenAi, "/v1beta/models", none).await;
    assert_eq!(gemini["models"][0]["name"], format!("models/{MODEL}"));
    assert_eq!(get(ModelList::OpenAi, models, &[("x-goog-api-key", "k")]).await, gemini);
    let ollama = get(ModelList::OpenAi, "/api/tags", none).await;
    assert_eq!(ollama["models"][0]["model"], MODEL);
    let cohere = get(ModelList::OpenAi, "/v1/models?page_size=1000&endpoint=chat", none).await;
    assert_eq!(
        (&cohere["models"][0]["name"], &cohere["models"][0]["endpoints"][0]),
        (&json!(MODEL), &json!("chat"))
    );
    let chat_only = Seller::start(SellerConfig::new("beta", MODEL)).await.unwrap();
    let tags = call(chat_only.address(), &request("GET", "/api/tags", none, b"")).await.unwrap();
    assert_eq!(tags.status, 404);
}

#[tokio::test]
async fn prompts_are_counted_without_an_answer() {
    let seller = start(config("alpha")).await;
    let count = async |shape: Shape, from: &str, to: &str, ask: Ask| {
        let bytes = String::from_utf8(ask.bytes()).unwrap().replacen(from, to, 1);
        let response = call(seller.address(), bytes.as_bytes()).await.unwrap();
        assert_eq!(response.status, 200, "{shape}: {}", response.text());
        response.json()
    };
    let ask = Ask::new(Shape::Messages, Mode::Plain, MODEL).with(&json!({"max_tokens": null}));
    let told = count(Shape::Messages, "/v1/messages ", "/v1/messages/count_tokens ", ask).await;
    assert_eq!(told, json!({"input_tokens": 13}));
    let ask = Ask::new(Shape::Gemini, Mode::Plain, MODEL);
    assert_eq!(count(Shape::Gemini, ":generateContent", ":countTokens", ask).await["totalTokens"], 13);
    assert_eq!(last(&seller).truth.completion, 0);
}

#[tokio::test]
async fn what_is_no_chat_is_answered_in_kind() {
    let seller = start(config("alpha")).await;
    let answer = async |shape: Shape| send(&seller, &Ask::new(shape, Mode::Plain, MODEL)).await;
    let embedded = answer(Shape::Embeddings).await.json();
    assert_eq!(embedded["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(embedded["data"][1]["embedding"].as_array().map(Vec::len), Some(16));
    assert_eq!(embedded["usage"]["total_tokens"], last(&seller).truth.prompt);
    let ranked = answer(Shape::Rerank).await.json();
    let order: Vec<_> = ranked["results"].as_array().unwrap().iter().map(|r| r["index"].clone()).collect();
    assert_eq!(order, [1, 2, 0], "most words of the query first");
    let cohere = Ask::new(Shape::Rerank, Mode::Plain, MODEL).bytes();
    let cohere = String::from_utf8(cohere).unwrap().replacen("/v1/", "/v2/", 1);
    let cohere = call(seller.address(), cohere.as_bytes()).await.unwrap().json();
    assert_eq!(cohere["meta"]["billed_units"]["search_units"], 1);
    assert!(answer(Shape::Images).await.json()["data"][0]["b64_json"].is_string());
    let spoken = answer(Shape::Speech).await;
    assert_eq!((spoken.header("content-type"), &spoken.body[..2]), (Some("audio/mpeg"), &[0xFF, 0xFB][..]));
    let heard = answer(Shape::Transcriptions).await.json();
    assert_eq!((&heard["usage"]["seconds"], heard["text"].is_string()), (&json!(3.0), true));
}
