use super::*;
use crate::upstream::shape;
use crate::upstream::text::TokenLaw;
use serde_json::json;

fn http(shape: Shape, body: &Value, headers: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: "POST".to_owned(),
        path: shape.path("m"),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.to_string().into_bytes(),
        keep_alive: true,
    }
}

fn read_body(shape: Shape, body: &Value) -> Result<Call, CallError> {
    let http = http(shape, body, &[("anthropic-version", "2023-06-01")]);
    let route = shape::route(&http, &Shape::ALL).unwrap();
    read(&route, &http, &SellerConfig::new("alpha", "m"))
}

/// The body with more members.
fn with(mut base: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

#[test]
fn reads_what_changes_the_answer() {
    let call = read_body(
        Shape::Chat,
        &json!({"model": "a/b@no-usage", "messages": [{"role": "user",
            "content": [{"type": "text", "text": "one two"}]}],
            "max_completion_tokens": 3, "n": 2, "stream": true, "stream_options": {"include_usage": true}}),
    )
    .unwrap();
    assert_eq!((call.model.as_str(), call.fault), ("a/b", Some(Fault::NoUsage)));
    assert_eq!((call.prompt.tokens(TokenLaw::default()), call.max_tokens, call.choices), (5, Some(3), 2));
    assert!(call.stream && call.include_usage && call.tools.is_empty());
}

#[test]
fn what_is_not_json_is_refused() {
    let mut http = http(Shape::Chat, &json!({}), &[]);
    http.body = b"{".to_vec();
    let route = shape::route(&http, &Shape::ALL).unwrap();
    assert_eq!(read(&route, &http, &SellerConfig::new("a", "m")), Err(CallError::NotJson));
}

#[test]
fn choices_are_bounded() {
    let choices = |n: u64| {
        let body = json!({"model": "m", "prompt": "x", "n": n});
        read_body(Shape::Completions, &body).map(|call| call.choices)
    };
    assert!(choices(0).is_err());
    assert_eq!((choices(CHOICES_MAX), choices(CHOICES_MAX + 1)), (Ok(128), Ok(128)));
}

#[test]
fn the_same_conversation_costs_the_same_in_every_shape_and_gets_the_same_words() {
    let chat = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two"}]);
    let input = json!([{"role": "user", "content": [{"type": "input_text", "text": "one two"}]}]);
    let bodies = [
        (Shape::Chat, json!({"model": "m", "messages": chat})),
        (Shape::Ollama, json!({"model": "m", "messages": chat})),
        (Shape::Cohere, json!({"model": "m", "messages": chat})),
        (
            Shape::Messages,
            json!({"model": "m", "max_tokens": 99, "system": "be brief",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "one two"}]}]}),
        ),
        (Shape::Responses, json!({"model": "m", "instructions": "be brief", "input": input})),
        (
            Shape::Gemini,
            json!({"systemInstruction": {"parts": [{"text": "be brief"}]},
                "contents": [{"role": "user", "parts": [{"text": "one two"}]}]}),
        ),
    ];
    let read: Vec<_> = bodies
        .iter()
        .map(|(shape, body)| {
            let call = read_body(*shape, body).unwrap();
            (call.model, call.prompt.tokens(TokenLaw::default()), call.text_seed)
        })
        .collect();
    assert!(read.windows(2).all(|pair| pair[0] == pair[1]), "{read:?}");
}

/// One member more breaks the grammar, and the refusal says this.
fn check(shape: Shape, base: &Value, more: &Value, says: &str) {
    let base_read = read_body(shape, base);
    assert!(base_read.is_ok(), "{shape} {base}: {base_read:?}");
    let error = read_body(shape, &with(base.clone(), more)).expect_err(&format!("{shape} {more}"));
    let message = error.message(shape);
    assert!(message.contains(says), "{shape} {more}: {message:?} does not say {says:?}");
}

#[test]
fn chat_is_held_to_its_grammar() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools});
    let refuses = |more: Value, says: &str| check(Shape::Chat, &base, &more, says);
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "21"});
    let user = json!({"role": "user", "content": "hi"});
    refuses(json!({"model": null}), "Missing required parameter: 'model'");
    refuses(json!({"messages": []}), "at least one message");
    refuses(json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role");
    refuses(json!({"messages": [{"role": "user"}]}), "'messages[0].content'");
    refuses(json!({"messages": [user, result]}), "must be a response to a preceding message");
    refuses(json!({"messages": [user, call]}), "did not have response messages: c1");
    refuses(json!({"messages": [user, call, user]}), "did not have response messages: c1");
    refuses(json!({"messages": [user, call, result, result]}), "must be a response");
    refuses(
        json!({"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]}),
        "'image_url'",
    );
    refuses(json!({"tool_choice": "sometimes"}), "tool_choice");
    refuses(json!({"tool_choice": {"type": "function", "function": {"name": "g"}}}), "not 'g'");
    refuses(json!({"tools": [], "tool_choice": "required"}), "only allowed when 'tools' are specified");
    refuses(json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "tools[0].function.name");
    refuses(json!({"stream_options": {}}), "only allowed when 'stream' is enabled");
    refuses(json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.name");
    refuses(json!({"temperature": 3}), "temperature");
    let whole = with(base.clone(), &json!({"messages": [user, call, result], "unknown": 1}));
    assert!(read_body(Shape::Chat, &whole).unwrap().has_tool_result);
}

fn messages_base() -> Value {
    json!({"model": "m", "max_tokens": 4_096, "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}]})
}

#[test]
fn messages_are_held_to_their_grammar() {
    let base = messages_base();
    let refuses = |more: Value, says: &str| check(Shape::Messages, &base, &more, says);
    let user = json!({"role": "user", "content": "hi"});
    let use_of = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let call = json!({"role": "assistant", "content": [use_of("t1")]});
    let result = |id: &str| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id}]});
    refuses(json!({"max_tokens": null}), "max_tokens: Field required");
    refuses(json!({"n": 2}), "n: Extra inputs are not permitted");
    refuses(json!({"messages": []}), "at least one message is required");
    refuses(json!({"messages": [{"role": "system", "content": "x"}]}), "top-level `system` parameter");
    refuses(json!({"messages": [{"role": "assistant", "content": "x"}]}), "first message must use");
    refuses(json!({"messages": [{"role": "user", "content": ""}]}), "non-empty content");
    refuses(json!({"messages": [user, {"role": "assistant", "content": "x "}]}), "trailing whitespace");
    refuses(json!({"messages": [user, call]}), "messages.1: `tool_use` ids were found without");
    refuses(json!({"messages": [user, call, user]}), "messages.1: `tool_use` ids were found without");
    refuses(json!({"messages": [user, result("t1")]}), "unexpected `tool_use_id`");
    refuses(json!({"messages": [user, call, result("t2")]}), "unexpected `tool_use_id`");
    let twice = json!({"role": "assistant", "content": [use_of("t1"), use_of("t1")]});
    refuses(json!({"messages": [user, twice]}), "ids must be unique");
    let late = json!({"role": "user", "content": [{"type": "text", "text": "x"},
        {"type": "tool_result", "tool_use_id": "t1"}]});
    refuses(json!({"messages": [user, call, late]}), "without `tool_result` blocks immediately after");
    let text = json!([{"type": "tool_use", "id": "t1", "name": "f", "input": "{}"}]);
    refuses(json!({"messages": [user, {"role": "assistant", "content": text}]}), "valid dictionary");
    refuses(json!({"tools": [{"name": "f"}]}), "tools.0.input_schema.type");
    refuses(json!({"tool_choice": "auto"}), "tool_choice");
    refuses(json!({"tool_choice": {"type": "tool", "name": "g"}}), "'g' not found");
    refuses(json!({"tools": [], "tool_choice": {"type": "auto"}}), "while providing tools");
    refuses(json!({"thinking": {"type": "enabled", "budget_tokens": 1_023}}), "at least 1024");
    refuses(json!({"thinking": {"type": "enabled", "budget_tokens": 4_096}}), "must be greater than");
    let thinking = json!({"type": "enabled", "budget_tokens": 1_024});
    refuses(json!({"thinking": thinking, "tool_choice": {"type": "any"}}), "forces tool use");
    refuses(json!({"thinking": thinking, "temperature": 0.5}), "temperature");
    refuses(json!({"metadata": {"trace": "x"}}), "metadata.trace: Extra inputs");
    let whole = with(base.clone(), &json!({"messages": [user, call, result("t1")]}));
    assert!(read_body(Shape::Messages, &whole).unwrap().has_tool_result);
    let joined = with(base.clone(), &json!({"messages": [user, user]}));
    assert!(read_body(Shape::Messages, &joined).is_ok(), "turns of one role are joined");
    let http = http(Shape::Messages, &base, &[]);
    let route = shape::route(&http, &Shape::ALL).unwrap();
    let error = read(&route, &http, &SellerConfig::new("a", "m")).unwrap_err();
    assert_eq!(error.message(Shape::Messages), "anthropic-version: header is required");
}

#[test]
fn marks_for_the_cache_are_bounded_and_ordered() {
    let block =
        |ttl: &str| json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": ttl}});
    let system = |marks: &[&str]| {
        let blocks: Vec<Value> = marks.iter().map(|ttl| block(ttl)).collect();
        read_body(Shape::Messages, &with(messages_base(), &json!({"system": blocks})))
    };
    assert!(system(&["5m"; 4]).is_ok());
    let says = |got: Result<Call, CallError>| got.unwrap_err().message(Shape::Messages);
    assert!(says(system(&["5m"; 5])).contains("A maximum of 4 blocks with cache_control"));
    assert!(system(&["1h", "5m"]).is_ok());
    assert!(says(system(&["5m", "1h"])).contains("must not come after"));
    assert!(says(system(&["1d"])).contains("cache_control.ttl"));
    let thinking = json!([{"type": "thinking", "thinking": "", "signature": "x",
        "cache_control": {"type": "ephemeral"}}]);
    let replay = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": thinking},
        {"role": "user", "content": "go"}]);
    let got = read_body(Shape::Messages, &with(messages_base(), &json!({"messages": replay})));
    assert!(says(got).contains("cache_control: Extra inputs are not permitted"));
}

#[test]
fn responses_are_held_to_their_grammar() {
    let base = json!({"model": "m", "input": "hi", "tools": [{"type": "function", "name": "f"}]});
    let refuses = |more: Value, says: &str| check(Shape::Responses, &base, &more, says);
    let call = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "21"});
    refuses(json!({"messages": []}), "Unknown parameter: 'messages'");
    refuses(json!({"input": []}), "at least one item");
    refuses(json!({"max_output_tokens": 15}), "Expected a value >= 16, but got 15");
    refuses(json!({"input": [call]}), "No tool output found for function call c1.");
    refuses(json!({"input": [output]}), "No tool call found for function call output with call_id c1.");
    refuses(json!({"input": [{"role": "tool", "content": "x"}]}), "input[0].role");
    let chatty = json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]);
    refuses(json!({"input": chatty}), "input[0].content[0].type");
    let wrong = json!([{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]);
    refuses(json!({"input": wrong}), "'output_text'");
    refuses(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), "tools[0].function");
    refuses(json!({"tool_choice": {"type": "function", "name": "g"}}), "not 'g'");
    refuses(json!({"previous_response_id": "resp_1"}), "not found");
    refuses(json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}), "not persisted");
    let whole = with(base.clone(), &json!({"input": [call, output]}));
    assert!(read_body(Shape::Responses, &whole).unwrap().has_tool_result);
}

#[test]
fn gemini_is_held_to_its_grammar() {
    let user = json!({"role": "user", "parts": [{"text": "hi"}]});
    let base = json!({"contents": [user], "tools": [{"functionDeclarations": [{"name": "f"}]}]});
    let refuses = |more: Value, says: &str| check(Shape::Gemini, &base, &more, says);
    let call = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
    let result =
        json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]});
    refuses(json!({"messages": []}), "Unknown name \"messages\": Cannot find field.");
    refuses(json!({"contents": []}), "contents is not specified");
    refuses(
        json!({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}),
        "valid role: user, model",
    );
    refuses(json!({"contents": [{"role": "user", "parts": []}]}), "must not be empty");
    refuses(json!({"contents": [{"role": "user", "parts": [{}]}]}), "one initialized field");
    refuses(json!({"contents": [call, result]}), "function call turn comes immediately after");
    refuses(json!({"contents": [user, result]}), "function response turn comes immediately after");
    refuses(json!({"contents": [user, call]}), "number of function response parts");
    let strict =
        json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "additionalProperties": false});
    let declared = json!([{"functionDeclarations": [{"name": "f", "parameters": strict}]}]);
    refuses(json!({"tools": declared}), "Unknown name \"additionalProperties\"");
    refuses(json!({"generationConfig": {"max_tokens": 5}}), "Unknown name \"max_tokens\"");
    refuses(json!({"generationConfig": {"responseSchema": {"type": "OBJECT"}}}), "mime type");
    let config = json!({"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}});
    refuses(json!({"toolConfig": config}), "without mode ANY");
    let whole = with(base.clone(), &json!({"contents": [user, call, result]}));
    assert!(read_body(Shape::Gemini, &whole).unwrap().has_tool_result);
    let named = json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}});
    let named = read_body(Shape::Gemini, &with(base.clone(), &json!({"toolConfig": named}))).unwrap();
    assert_eq!(named.tool_choice, ToolChoice::Named("f".to_owned()));
    let schema = json!([{"functionDeclarations": [{"name": "f", "parametersJsonSchema": strict}]}]);
    let any = read_body(Shape::Gemini, &with(base.clone(), &json!({"tools": schema}))).unwrap();
    assert_eq!(any.tools[0].schema["properties"]["a"]["type"], "string");
}

#[test]
fn ollama_is_held_to_its_types_and_streams_unless_told() {
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let refuses = |more: Value, says: &str| check(Shape::Ollama, &base, &more, says);
    refuses(json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "messages[0].content");
    let text = json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]);
    refuses(json!({"messages": text}), "arguments");
    refuses(json!({"format": "yaml"}), "format");
    assert!(read_body(Shape::Ollama, &base).unwrap().stream);
    let told = with(base.clone(), &json!({"stream": false, "think": "low", "options": {"num_predict": -1}}));
    let told = read_body(Shape::Ollama, &told).unwrap();
    assert_eq!((told.stream, told.thinking, told.max_tokens), (false, Thinking::Shown, None));
}

#[test]
fn cohere_is_held_to_its_grammar() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let base = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let refuses = |more: Value, says: &str| check(Shape::Cohere, &base, &more, says);
    let user = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
    let call = json!({"role": "assistant", "tool_plan": "I look", "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "f", "arguments": "{}"}}]});
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "21"}]});
    refuses(json!({"model": null}), "'model' is required");
    refuses(json!({"n": 2}), "parameter 'n' is not a valid field");
    refuses(json!({"messages": []}), "at least one message");
    refuses(json!({"messages": [user, {"role": "system", "content": "x"}]}), "must be the first");
    refuses(json!({"messages": [{"role": "user", "content": ""}]}), "must not be empty");
    refuses(json!({"messages": [{"role": "assistant"}]}), "must not be empty");
    refuses(json!({"messages": [{"role": "user", "content": [{"type": "thinking"}]}]}), "'image_url'");
    refuses(json!({"messages": [user, result]}), "tool call id not found");
    refuses(json!({"messages": [user, call, call]}), "duplicate tool ids");
    refuses(json!({"tool_choice": "REQUIRED"}), "needs tools");
    refuses(json!({"tools": tools, "tool_choice": "auto"}), "REQUIRED or NONE");
    refuses(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), "parameters");
    refuses(json!({"tools": tools, "response_format": {"type": "json_object"}}), "not supported with tools");
    refuses(json!({"temperature": 1.5}), "'temperature' must be a number from 0 to 1");
    refuses(json!({"p": 1.0}), "'p'");
    refuses(json!({"k": 501}), "'k'");
    refuses(json!({"seed": -1}), "'seed'");
    refuses(json!({"frequency_penalty": 0.5, "presence_penalty": 0.5}), "cannot specify both");
    refuses(json!({"stop_sequences": ["a", "b", "c", "d", "e", "f"]}), "at most 5");
    refuses(json!({"thinking": {"type": "enabled", "token_budget": 0}}), "token_budget");
    let read = |more: Value| read_body(Shape::Cohere, &with(base.clone(), &more)).unwrap();
    assert!(read(json!({"messages": [user, call, result]})).has_tool_result);
    assert_eq!(read(json!({})).thinking, Thinking::Shown);
    assert_eq!(read(json!({"thinking": {"type": "disabled"}})).thinking, Thinking::Off);
}

#[test]
fn media_are_held_to_their_grammar() {
    let embeddings = json!({"model": "m", "input": "a b"});
    check(Shape::Embeddings, &embeddings, &json!({"input": []}), "at least one item");
    check(Shape::Embeddings, &embeddings, &json!({"input": ""}), "not empty");
    check(Shape::Embeddings, &embeddings, &json!({"input": vec!["a"; 2_049]}), "at most 2048");
    check(Shape::Embeddings, &embeddings, &json!({"encoding_format": "int8"}), "encoding_format");
    let rerank = json!({"model": "m", "query": "a", "documents": ["a", {"text": "b"}]});
    check(Shape::Rerank, &rerank, &json!({"documents": []}), "at least one document");
    let images = json!({"model": "m", "prompt": "a", "n": 10});
    check(Shape::Images, &images, &json!({"n": 11}), "at most 10");
    check(Shape::Images, &images, &json!({"stream": true, "partial_images": 4}), "0 to 3");
    check(Shape::Images, &images, &json!({"stream": true, "response_format": "url"}), "b64_json");
    assert!(read_body(Shape::Images, &with(images, &json!({"stream": true}))).unwrap().stream);
    let speech = json!({"model": "m", "input": "a", "voice": "alloy"});
    check(Shape::Speech, &speech, &json!({"voice": null}), "'voice'");
    check(Shape::Speech, &speech, &json!({"input": "x".repeat(4_097)}), "1 to 4096 characters");
    check(Shape::Speech, &speech, &json!({"response_format": "midi"}), "response_format");
    check(Shape::Speech, &speech, &json!({"stream_format": "wav"}), "stream_format");
    assert!(read_body(Shape::Speech, &with(speech, &json!({"stream_format": "sse"}))).unwrap().stream);
}

#[test]
fn images_are_refused_by_sellers_that_do_not_see() {
    let body = json!({"model": "m", "messages": [{"role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]});
    let http = http(Shape::Chat, &body, &[]);
    let route = shape::route(&http, &Shape::ALL).unwrap();
    let sees = |takes_images| {
        let config = SellerConfig { takes_images, ..SellerConfig::new("a", "m") };
        read(&route, &http, &config).map(|call| call.prompt.images())
    };
    assert_eq!(sees(true), Ok(1));
    assert!(sees(false).unwrap_err().message(Shape::Chat).contains("image_url"));
}

#[test]
fn reasoning_of_another_seller_is_refused() {
    use crate::upstream::signature::sign;
    let says = |seller: &str, text: &str, replayed: &str| {
        let block = json!({"type": "thinking", "thinking": replayed, "signature": sign(seller, text)});
        let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": [block]},
            {"role": "user", "content": "go"}]);
        let got = read_body(Shape::Messages, &with(messages_base(), &json!({"messages": messages})));
        got.map(|_| ()).map_err(|error| error.message(Shape::Messages))
    };
    assert_eq!(says("alpha", "hm", "hm"), Ok(()));
    let refused = Err("messages.1.content.0: Invalid `signature` in `thinking` block".to_owned());
    assert_eq!(says("beta", "hm", "hm"), refused);
    assert_eq!(says("alpha", "hm", "h"), refused);
    let sealed = |seller: &str| {
        let item = json!({"type": "reasoning", "summary": [], "encrypted_content": sign(seller, "hm")});
        let user = json!({"role": "user", "content": "go"});
        read_body(Shape::Responses, &json!({"model": "m", "input": [item, user]}))
    };
    assert!(sealed("alpha").is_ok());
    assert_eq!(sealed("beta").unwrap_err().code(), Some("invalid_encrypted_content"));
    let thought = |signature: &str| {
        let part = json!({"text": "x", "thoughtSignature": signature});
        let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [part]},
            {"role": "user", "parts": [{"text": "go"}]}]);
        read_body(Shape::Gemini, &json!({"contents": contents}))
    };
    assert!(thought(&sign("alpha", "hm")).is_ok() && thought("skip_thought_signature_validator").is_ok());
    assert_eq!(
        thought(&sign("beta", "hm")).unwrap_err().message(Shape::Gemini),
        "Thought signature is not valid."
    );
}
