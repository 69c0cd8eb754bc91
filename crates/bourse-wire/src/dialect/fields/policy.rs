//! Routing policies: the rules of an account or a key, as one JSON object.
//!
//! A policy has the members of a request's `provider` object that can only tighten. Members that order or prefer
//! (`order`, `sort`, `allow_fallbacks`, …) are a request's own affair and refused here, and so is an empty list: to one
//! reader it allows everything and to another nothing. Checked when it is set, so that no policy is kept that nobody
//! can obey; read again by whoever routes.

use super::preferences::{self, Preferences};
use crate::error::ApiError;

/// The members of a policy.
const MEMBERS: [&str; 8] = [
    "only",
    "ignore",
    "max_price",
    "zdr",
    "data_collection",
    "quantizations",
    "regions",
    "enforce_distillable_text",
];

/// The words that `quantizations` knows.
pub const QUANTIZATION_WORDS: [&str; 12] =
    ["unknown", "int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32", "mxfp4", "nvfp4", "mxfp8"];

/// Reads a policy. The error names the rule at fault.
pub fn policy(text: &str) -> Result<Preferences, ApiError> {
    let text = text.trim_ascii();
    let mut out = Preferences::default();
    preferences::members("provider", text, |name, raw| {
        if !MEMBERS.contains(&name) {
            return Err(preferences::unknown("provider", name, &MEMBERS));
        }
        if raw.starts_with('[') && raw[1..raw.len() - 1].trim_ascii().is_empty() {
            let message = format!("`provider.{name}` is empty: name at least one, or leave it out");
            return Err(ApiError::field(format!("provider.{name}"), message));
        }
        out.member(name, raw)
    })
    .map_err(renamed)?;
    if let Some(word) = out.quantizations.iter().find(|word| !QUANTIZATION_WORDS.contains(&word.as_str())) {
        let known = QUANTIZATION_WORDS.join(", ");
        let message = format!("`policy.quantizations` knows no `{word}`: it knows {known}");
        return Err(ApiError::field("policy.quantizations", message));
    }
    Ok(out)
}

/// The same error about a policy instead of a request's `provider`.
fn renamed(error: ApiError) -> ApiError {
    let param = error.param.as_deref().map(|param| param.replacen("provider", "policy", 1));
    let message = error.message.replace("`provider", "`policy");
    ApiError { message: message.into(), param: param.map(Into::into), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_read() {
        let text = r#" {"only":["a"],"ignore":["b"],"max_price":{"prompt":1},"zdr":true,"data_collection":"deny",
            "quantizations":["fp8"],"regions":["eu"],"enforce_distillable_text":true} "#;
        let read = policy(text).unwrap();
        assert_eq!(read, preferences::preferences(text.trim()).unwrap());
        assert!(read.zdr && read.enforce_distillable_text && read.max_price_prompt.is_some());
        assert_eq!(policy("{}"), Ok(Preferences::default()));
        assert_eq!(policy(r#"{"only":null,"zdr":false}"#), Ok(Preferences::default()));
    }

    fn check(text: &str, param: &str, part: &str) {
        let error = policy(text).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
        assert!(error.message.contains(part) && !error.message.contains("provider"), "{error}");
    }

    #[test]
    fn what_cannot_tighten_is_refused() {
        check(r#"{"order":["a"]}"#, "policy.order", "`policy` has no member `order`");
        check(r#"{"sort":"price"}"#, "policy.sort", "it knows only, ignore");
        check(r#"{"allow_fallbacks":false}"#, "policy.allow_fallbacks", "has no member");
        check(r#"{"onl":["a"]}"#, "policy.onl", "did you mean `only`?");
        check(r#"{"max_price":{"promt":1}}"#, "policy.max_price.promt", "`prompt`?");
        check(r#"{"zdr":1}"#, "policy.zdr", "true or false");
        check(r#"{"only":[ ]}"#, "policy.only", "is empty");
        check(r#"{"regions":[]}"#, "policy.regions", "is empty");
        check(r#"{"quantizations":["q4"]}"#, "policy.quantizations", "knows no `q4`");
        check(r#"{"zdr":true,"zdr":false}"#, "policy.zdr", "twice");
        check("[]", "policy", "an object");
    }

    proptest::proptest! {
        #[test]
        fn foreign_texts_are_no_panic(text in r#"[{}\[\]",:a-z0-9\\ ]{0,64}"#) {
            let _ = policy(&text);
            let _ = policy(&format!("{{\"only\":{text}}}"));
        }
    }
}
