//! The members that all fronts share: read, refused, bounded.

use super::*;
use crate::dialect::fields::Variant;

fn routed(members: &[(&str, &str)]) -> Result<Routed, ApiError> {
    let mut draft = RoutingDraft::default();
    for (name, raw) in members {
        assert!(RoutingDraft::MEMBERS.contains(name), "{name}");
        draft.member(name, raw, &(10..10 + raw.len()))?;
    }
    if draft.model.is_none() && draft.models.is_empty() {
        draft.member("model", "\"a/b\"", &(0..5))?;
    }
    draft.finish()
}

fn one(name: &str, raw: &str) -> Result<Routed, ApiError> {
    routed(&[(name, raw)])
}

fn refused(members: &[(&str, &str)], param: &str, part: &str) {
    let error = routed(members).unwrap_err();
    assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    assert!(error.message.contains(part), "{error}");
}

#[test]
fn models_keep_their_order_and_wishes() {
    let all = routed(&[("model", "\"a/b:nitro\""), ("models", r#"["c/d","a/b","~e/f-latest"]"#)]).unwrap();
    assert_eq!(all.model.as_str(), "a/b");
    assert_eq!(all.fallbacks.iter().map(ModelSlug::as_str).collect::<Vec<_>>(), ["c/d", "e/f-latest"]);
    assert_eq!(all.routing.models[0].variant, Some(Variant::Nitro));
    assert!(all.routing.models[2].is_alias);
    let first = routed(&[("models", r#"["x/1","x/2"]"#)]).unwrap();
    assert_eq!((first.model.as_str(), first.fallbacks.len()), ("x/1", 1));
    let objects = routed(&[("model", "\"a\""), ("fallbacks", r#"[{"model":"b"},"c"]"#)]).unwrap();
    assert_eq!(objects.fallbacks.len(), 2);
    refused(&[("fallbacks", r#"[{"model":"b","max_tokens":1}]"#)], "fallbacks.max_tokens", "no member");
    refused(&[("models", r#"["b"]"#), ("fallbacks", r#"["c"]"#)], "fallbacks", "keep one");
    refused(&[("models", "[]")], "models", "1 to 8");
    refused(&[("models", "[{}]")], "models", "1 to 8");
    refused(&[("model", "\"a/b:online\"")], "model", "`:online`");
    let list = |n: usize| one("models", &format!("[{}]", vec!["\"m\""; n].join(",")));
    assert!(list(MODELS_MAX).is_ok() && list(MODELS_MAX + 1).is_err());
}

#[test]
fn presets_must_have_been_merged() {
    refused(&[("preset", "\"p\"")], "preset", "no such preset");
    refused(&[("model", "\"a/b@preset/p\"")], "preset", "no such preset");
    assert!(one("preset", "null").is_ok());
}

#[test]
fn thinking_is_said_in_one_way() {
    let effort = one("reasoning_effort", "\"high\"").unwrap().routing.reasoning.unwrap();
    assert_eq!(effort.effort, Some(Effort::High));
    let object = r#"{"max_tokens":2000,"exclude":true,"summary":"auto","mode":"x"}"#;
    let object = one("reasoning", object).unwrap().routing.reasoning.unwrap();
    assert_eq!(
        (object.max_tokens, object.exclude, object.summary.as_deref()),
        (Some(2_000), true, Some("auto"))
    );
    let both = routed(&[("reasoning", r#"{"effort":"low"}"#), ("reasoning_effort", "\"low\"")]).unwrap();
    assert_eq!(both.routing.reasoning.unwrap().effort, Some(Effort::Low));
    refused(
        &[("reasoning", r#"{"effort":"low"}"#), ("reasoning_effort", "\"high\"")],
        "reasoning_effort",
        "keep one",
    );
    refused(&[("reasoning", r#"{"effort":"low","max_tokens":5}"#)], "reasoning", "keep one");
    refused(&[("reasoning", r#"{"effort":"huge"}"#)], "reasoning.effort", "minimal");
    refused(&[("reasoning", r#"{"summary":"long"}"#)], "reasoning.summary", "concise");
    refused(&[("reasoning", "5")], "reasoning", "an object");
}

#[test]
fn what_has_no_effect_and_what_is_refused() {
    for (name, raw) in [
        ("usage", r#"{"include":true}"#),
        ("transforms", "[ ]"),
        ("plugins", "[]"),
        ("plugins", r#"[{"id":"web","enabled":false}]"#),
        ("debug", "null"),
        ("stream_failure", "\"terminate\""),
    ] {
        assert!(one(name, raw).is_ok(), "{name}");
    }
    refused(&[("usage", "true")], "usage", "an object");
    refused(&[("transforms", r#"["middle-out"]"#)], "transforms", "never done here");
    refused(&[("plugins", r#"[{"id":"web"}]"#)], "plugins", "web is not offered");
    refused(&[("debug", "{}")], "debug", "not offered");
    refused(&[("stream_failure", "\"x\"")], "stream_failure", "\"continue\"");
    refused(&[("service_tier", "\"gold\"")], "service_tier", "flex");
    refused(&[("verbosity", "\"loud\"")], "verbosity", "medium");
    refused(&[("route", "\"x\"")], "route", "\"fallback\"");
}

#[test]
fn words_for_the_market_are_read() {
    let said = routed(&[
        ("route", "\"sort\""),
        ("service_tier", "\"flex\""),
        ("stream_failure", "\"continue\""),
        ("session_id", "\"s-1\""),
        ("prompt_cache_key", "\"k\""),
        ("user", "\"u\""),
        ("verbosity", "\"low\""),
        ("metadata", r#"{"a":"b"}"#),
        ("trace", r#"{"trace_id":"t"}"#),
        ("provider", r#"{"zdr":true}"#),
    ])
    .unwrap();
    assert_eq!(said.preferences.partition, Partition::None);
    assert!(said.preferences.zdr);
    assert_eq!(said.session, Some(11..14));
    assert_eq!(said.routing.metadata, Some(10..19));
    assert_eq!(said.routing.service_tier, Some(ServiceTier::Flex));
    assert_eq!(said.routing.stream_failure, StreamFailure::Continue);
    assert_eq!(said.routing.prompt_cache_key.as_deref(), Some("k"));
}

#[test]
fn sizes_hold_at_their_edges() {
    let text = |n: usize| format!("\"{}\"", "é".repeat(n));
    for (name, max) in
        [("user", USER_BYTES_MAX), ("prompt_cache_key", USER_BYTES_MAX), ("session_id", SESSION_BYTES_MAX)]
    {
        assert!(one(name, &text(max / 2)).is_ok(), "{name}");
        assert!(one(name, &text(max / 2 + 1)).is_err(), "{name}");
        assert!(one(name, "\"\"").is_err(), "{name}");
        assert!(one(name, "5").is_err(), "{name}");
    }
    let value = |n: usize| one("metadata", &format!(r#"{{"k":{}}}"#, text(n)));
    assert!(value(METADATA_VALUE_CHARS_MAX).is_ok() && value(METADATA_VALUE_CHARS_MAX + 1).is_err());
    let key = |n: usize| one("metadata", &format!(r#"{{{}:"v"}}"#, text(n)));
    assert!(key(METADATA_KEY_CHARS_MAX).is_ok() && key(METADATA_KEY_CHARS_MAX + 1).is_err());
    let pairs = |n: usize| {
        let list: Vec<String> = (0..n).map(|k| format!("\"{k}\":\"v\"")).collect();
        one("metadata", &format!("{{{}}}", list.join(",")))
    };
    assert!(pairs(METADATA_PAIRS_MAX).is_ok() && pairs(METADATA_PAIRS_MAX + 1).is_err());
    for raw in ["5", "[]", r#"{"a":1}"#] {
        refused(&[("metadata", raw)], "metadata", "an object");
    }
    let trace = |n: usize| one("trace", &format!(r#"{{"a":"{}"}}"#, "x".repeat(n - 8)));
    assert!(trace(TRACE_BYTES_MAX).is_ok() && trace(TRACE_BYTES_MAX + 1).is_err());
}
