//! Lists as the vendors' references and the servers show them.

use super::*;
use crate::dialect::DIALECTS;
use proptest::prelude::*;

fn price(text: &str) -> PicoUsdPerToken {
    PicoUsdPerToken::parse_usd_per_token(text).unwrap()
}

fn one(shape: Shape, body: &str) -> Listed {
    let list = read(shape, body.as_bytes()).unwrap();
    assert_eq!((list.models.len(), list.skipped, list.is_partial), (1, 0, false), "{list:?}");
    list.models[0].clone()
}

fn named(id: &str) -> Listed {
    Listed { id: id.to_owned(), ..Listed::default() }
}

#[test]
fn openai_tells_names() {
    let body = r#"{"object":"list","data":[
        {"id":"swift-2","object":"model","created":1686935002,"owned_by":"acme"}]}"#;
    assert_eq!(one(Shape::Chat, body), named("swift-2"));
}

#[test]
fn vllm_tells_its_context() {
    let body = r#"{"object":"list","data":[{"id":"acme/swift","object":"model","created":1763000000,"owned_by":"vllm",
        "root":"acme/swift","parent":null,"max_model_len":32768,"permission":[{"id":"modelperm-1"}]}]}"#;
    assert_eq!(one(Shape::Chat, body), Listed { context_tokens: Some(32_768), ..named("acme/swift") });
}

#[test]
fn llama_cpp_tells_its_file() {
    let with = |context: &str| {
        format!(
            r#"{{"models":[{{"name":"swift.gguf","model":"swift.gguf"}}],"object":"list","data":[{{"id":"swift.gguf",
            "object":"model","created":1763000000,"owned_by":"llamacpp","meta":{{"vocab_type":2,"n_vocab":128256,
            {context}"n_ctx_train":131072,"n_embd":4096,"n_params":8030261312,"size":4912898304}}}}]}}"#
        )
    };
    let listed = |tokens| Listed { context_tokens: Some(tokens), ..named("swift.gguf") };
    assert_eq!(one(Shape::Chat, &with("")), listed(131_072));
    assert_eq!(one(Shape::Chat, &with("\"n_ctx\":8192,")), listed(8_192), "what it runs with goes before");
}

const OPENROUTER: &str = r#"{"data":[{"id":"acme/swift","canonical_slug":"acme/swift-2026","name":"Acme: Swift",
    "created":1763000000,"description":"fast","context_length":262144,"hugging_face_id":"",
    "architecture":{"modality":"text+image->text","input_modalities":["text","image"],"output_modalities":["text"],
    "tokenizer":"Other","instruct_type":null},
    "pricing":{"prompt":"0.0000005","completion":"0.0000015","request":"0","image":"0","web_search":"0.01",
    "internal_reasoning":"0","input_cache_read":"0.00000005","input_cache_write":"0.000000625"},
    "top_provider":{"context_length":200000,"max_completion_tokens":8192,"is_moderated":true},
    "per_request_limits":null,"supported_parameters":["tools","max_tokens","seed"]}]}"#;

#[test]
fn openrouter_tells_prices_and_parameters() {
    let prices = PriceSchedule {
        cached_prompt: price("0.00000005"),
        cache_write: price("0.000000625"),
        ..PriceSchedule::per_token(price("0.0000005"), price("0.0000015"))
    };
    let want = Listed {
        context_tokens: Some(200_000),
        completion_tokens: Some(8_192),
        prices: Some(prices),
        parameters: Some(["tools", "max_tokens", "seed"].map(str::to_owned).to_vec()),
        takes_media: Some(true),
        ..named("acme/swift")
    };
    assert_eq!(one(Shape::Chat, OPENROUTER), want);
}

#[test]
fn a_price_that_cannot_be_kept_is_no_price() {
    let with = |from: &str, to: &str| one(Shape::Chat, &OPENROUTER.replace(from, to));
    let known = |from: &str, to: &str| with(from, to).prices.is_some();
    assert!(known("x", "x"));
    assert!(!known(r#""prompt":"0.0000005""#, r#""prompt":"-1""#), "it depends");
    assert!(!known(r#""prompt":"0.0000005""#, r#""prompt":0.0000005"#), "a float is not exact");
    assert!(!known(r#""completion":"0.0000015","#, ""));
    assert!(!known(r#""request":"0""#, r#""request":"?""#));
    assert!(!known(r#""internal_reasoning":"0""#, r#""internal_reasoning":"0.1""#));
    assert!(!known(r#""input_cache_read":"0.00000005""#, r#""input_cache_read":"1e-8""#));
    assert_eq!(with(r#""image":"0""#, r#""image":"0.001""#).takes_media, Some(false), "a price of its own");
    let longer = r#""overrides":[{"min_prompt_tokens":200000,"prompt":"0.000001"}],"web_search""#;
    let dearest = with(r#""web_search""#, longer).prices.unwrap();
    assert_eq!((dearest.prompt, dearest.completion), (price("0.000001"), price("0.0000015")));
}

#[test]
fn anthropic_tells_limits() {
    let body = r#"{"data":[{"type":"model","id":"claude-x-1","display_name":"Claude X","created_at":"2026-02-04T00:00:00Z",
        "max_input_tokens":200000,"max_tokens":64000}],"has_more":false,"first_id":"claude-x-1","last_id":"claude-x-1"}"#;
    let want =
        Listed { context_tokens: Some(200_000), completion_tokens: Some(64_000), ..named("claude-x-1") };
    assert_eq!(one(Shape::Messages, body), want);
    let more = read(Shape::Messages, body.replace("\"has_more\":false", "\"has_more\":true").as_bytes());
    assert!(more.unwrap().is_partial);
}

#[test]
fn gemini_tells_limits_and_what_generates() {
    let body = r#"{"models":[
        {"name":"models/gemini-x","version":"001","displayName":"X","inputTokenLimit":1048576,"outputTokenLimit":65536,
         "supportedGenerationMethods":["generateContent","countTokens"],"temperature":1,"topP":0.95,"topK":64},
        {"name":"models/embed-1","inputTokenLimit":2048,"outputTokenLimit":1,"supportedGenerationMethods":["embedContent"]},
        {"version":"001","displayName":"without a name","supportedGenerationMethods":["generateContent"]}]}"#;
    let list = read(Shape::Gemini, body.as_bytes()).unwrap();
    let want =
        Listed { context_tokens: Some(1_048_576), completion_tokens: Some(65_536), ..named("gemini-x") };
    assert_eq!((list.models, list.skipped, list.is_partial), (vec![want], 2, false));
    let more = body.replacen('{', r#"{"nextPageToken":"abc","#, 1);
    assert!(read(Shape::Gemini, more.as_bytes()).unwrap().is_partial);
}

#[test]
fn ollama_tells_how_weights_are_stored() {
    let check = |level: &str, want: Option<&'static str>| {
        let body = format!(
            r#"{{"models":[{{"name":"swift:8b","model":"swift:8b","modified_at":"2026-01-01T00:00:00Z","size":4920753328,
            "digest":"abc","details":{{"parent_model":"","format":"gguf","family":"swift","families":["swift"],
            "parameter_size":"8.0B","quantization_level":"{level}"}}}}]}}"#
        );
        assert_eq!(one(Shape::Ollama, &body), Listed { quantization: want, ..named("swift:8b") }, "{level}");
    };
    check("Q4_K_M", Some("int4"));
    check("IQ4_XS", Some("int4"));
    check("Q8_0", Some("int8"));
    check("F16", Some("fp16"));
    check("BF16", Some("bf16"));
    check("MXFP4", Some("mxfp4"));
    check("Q5_K_M", None);
}

#[test]
fn what_is_no_list_is_refused() {
    for (shape, body) in [
        (Shape::Chat, "[]"),
        (Shape::Chat, "{}"),
        (Shape::Chat, r#"{"error":{"message":"no"}}"#),
        (Shape::Chat, r#"{"models":[]}"#),
        (Shape::Gemini, r#"{"data":[]}"#),
        (Shape::Chat, "<html>"),
    ] {
        assert!(read(shape, body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_list_is_bounded_and_names_each_model_once() {
    let list = |ids: &[String]| {
        let entries: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
        read(Shape::Chat, format!(r#"{{"data":[{}]}}"#, entries.join(",")).as_bytes()).unwrap()
    };
    let many = |count: usize| list(&(0..count).map(|n| format!("m{n}")).collect::<Vec<_>>());
    let full = many(LISTED_MAX);
    assert_eq!((full.models.len(), full.is_partial), (LISTED_MAX, false));
    let over = many(LISTED_MAX + 1);
    assert_eq!((over.models.len(), over.is_partial), (LISTED_MAX, true));
    let long = "x".repeat(NAME_BYTES_MAX);
    let odd = list(&["a".into(), "a".into(), String::new(), long.clone(), format!("{long}x")]);
    assert_eq!((odd.models.len(), odd.skipped), (2, 3));
}

proptest! {
    #[test]
    fn foreign_bytes_are_no_panic(body in r#"\{"(data|models)":[\[\]{}":,a-z0-9.-]{0,80}\}"#) {
        for dialect in DIALECTS {
            let _ = read(dialect.facts().shape, body.as_bytes());
        }
    }
}
