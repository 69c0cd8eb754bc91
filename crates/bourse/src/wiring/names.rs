//! From `[[alias]]` and `[[preset]]` to names that are looked up.

use super::WiringError;
use crate::config::{AliasSection, PresetSection};
use bourse_gateway::{Alias, Preset};
use bourse_types::ModelSlug;
use bourse_wire::dialect::fields::{ModelRef, Variant, preset};
use bourse_wire::dialect::{Api, front};
use bourse_wire::error::ApiError;
use std::collections::BTreeSet;

/// Aliases in one configuration, at most.
pub const ALIASES_MAX: usize = 4_096;
/// Models of one alias, at most.
pub const ALIAS_MODELS_MAX: usize = 16;
/// Presets in one configuration, at most.
pub const PRESETS_MAX: usize = 1_024;
/// Longest preset, in bytes of JSON.
pub const PRESET_BYTES_MAX: usize = 64 * 1024;

/// Other names of models.
pub(super) fn aliases(sections: &[AliasSection]) -> Result<Vec<Alias>, WiringError> {
    bounded("the number of aliases", sections.len(), ALIASES_MAX)?;
    let mut names = BTreeSet::new();
    let mut aliases = Vec::with_capacity(sections.len());
    for section in sections {
        let place = || format!("alias `{}`", section.name);
        let unusable = |why: &str| WiringError::Unusable { field: place(), why: why.to_owned() };
        let name = ModelRef::parse(&section.name).map_err(|error| unusable(&error.to_string()))?;
        let is_routed = matches!(name.variant, Some(Variant::Nitro | Variant::Floor | Variant::Exacto));
        if name.preset.is_some() || is_routed {
            return Err(unusable("suffixes stay with what buyers write; leave them out"));
        }
        if !names.insert(section.name.clone()) {
            return Err(WiringError::NameTwice { what: "aliases", name: section.name.clone() });
        }
        bounded("the number of models of one alias", section.models.len(), ALIAS_MODELS_MAX)?;
        if section.models.is_empty() {
            return Err(WiringError::Missing { field: format!("{}: models", place()), when: "" });
        }
        let slug = |text: &String| {
            ModelSlug::parse(text)
                .map_err(|source| WiringError::Name { field: format!("{}: model `{text}`", place()), source })
        };
        let models = section.models.iter().map(slug).collect::<Result<_, _>>()?;
        aliases.push(Alias { name: name.slug, is_tilde: name.is_alias, models });
    }
    Ok(aliases)
}

/// Presets with their members as JSON.
pub(super) fn presets(sections: &[PresetSection]) -> Result<Vec<Preset>, WiringError> {
    bounded("the number of presets", sections.len(), PRESETS_MAX)?;
    let mut names = BTreeSet::new();
    let mut presets = Vec::with_capacity(sections.len());
    for section in sections {
        let field = format!("preset `{}`", section.name);
        if let Err(error) = ModelRef::parse(&format!("any@preset/{}", section.name)) {
            return Err(WiringError::Unusable { field, why: error.to_string() });
        }
        if !names.insert(&section.name) {
            return Err(WiringError::NameTwice { what: "presets", name: section.name.clone() });
        }
        if let Some(inner) = section.request.keys().find(|key| matches!(key.as_str(), "preset" | "stream")) {
            let why = format!("`{inner}` is for the request itself to say");
            return Err(WiringError::Unusable { field, why });
        }
        let members_json = serde_json::Value::Object(section.request.clone()).to_string();
        bounded("the bytes of one preset", members_json.len(), PRESET_BYTES_MAX)?;
        usable(&members_json)
            .map_err(|error| WiringError::Unusable { field, why: error.message.into_owned() })?;
        presets.push(Preset { name: section.name.clone(), members_json });
    }
    Ok(presets)
}

/// Whether some front takes the members: a request that names the preset would be refused otherwise.
fn usable(members_json: &str) -> Result<(), ApiError> {
    let bare = [
        (Api::Chat, r#""messages":[{"role":"user","content":"x"}]"#),
        (Api::Responses, r#""input":"x""#),
        (Api::Messages, r#""max_tokens":1,"messages":[{"role":"user","content":"x"}]"#),
    ];
    let read = |(api, said): (Api, &str)| {
        // The preset's own model and messages count where it has some.
        let with_model = preset::merge(&format!("{{{said}}}"), members_json)?;
        let names_one = front::parse(api, with_model.clone());
        match names_one {
            Err(error) if error.param.as_deref() == Some("model") && !members_json.contains("\"model\"") => {
                front::parse(api, preset::merge(&format!(r#"{{"model":"a/b",{said}}}"#), members_json)?)
            }
            other => other,
        }
    };
    let [chat, responses, messages] = bare.map(read);
    chat.map(|_| ()).or_else(|error| responses.or(messages).map(|_| ()).map_err(|_| error))
}

fn bounded(field: &'static str, value: usize, max: usize) -> Result<(), WiringError> {
    let (value, max) = (value as u64, max as u64);
    if value > max { Err(WiringError::TooLarge { field, value, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(name: &str, models: &[&str]) -> AliasSection {
        let models = models.iter().map(|model| (*model).to_owned()).collect();
        AliasSection { name: name.to_owned(), models }
    }

    #[test]
    fn aliases_are_names_for_slugs() {
        let read = aliases(&[alias("~a/family-latest", &["a/two", "a/one"]), alias("fast", &["a/one:free"])]);
        let read = read.unwrap();
        assert_eq!((read[0].name.as_str(), read[0].is_tilde), ("a/family-latest", true));
        assert_eq!(read[0].models.iter().map(ModelSlug::as_str).collect::<Vec<_>>(), ["a/two", "a/one"]);
        assert!(!read[1].is_tilde);
        let check = |sections: &[AliasSection], want: &str| {
            assert_eq!(aliases(sections).unwrap_err().to_string(), want);
        };
        let slip = "suffixes stay with what buyers write; leave them out";
        check(&[alias("a:nitro", &["b"])], &format!("alias `a:nitro` cannot be used: {slip}"));
        check(&[alias("a@preset/p", &["b"])], &format!("alias `a@preset/p` cannot be used: {slip}"));
        check(&[alias("a", &["b c"])], "alias `a`: model `b c` is not a name");
        check(&[alias("a", &[])], "alias `a`: models is missing");
        check(&[alias("a", &["b"]), alias("a", &["c"])], "two aliases are called `a`");
        assert!(aliases(&[alias("a", &["b"]), alias("~a", &["c"])]).is_ok());
    }

    #[test]
    fn what_is_listed_is_bounded() {
        let of = |count: usize| (0..count).map(|n| alias(&format!("a{n}"), &["b"])).collect::<Vec<_>>();
        assert!(aliases(&of(ALIASES_MAX)).is_ok());
        assert!(aliases(&of(ALIASES_MAX + 1)).is_err());
        assert!(aliases(&[alias("a", &["b"; ALIAS_MODELS_MAX])]).is_ok());
        assert!(aliases(&[alias("a", &["b"; ALIAS_MODELS_MAX + 1])]).is_err());
        let of = |count: usize| (0..count).map(|n| preset(&format!("p{n}"), "{}")).collect::<Vec<_>>();
        assert!(presets(&of(PRESETS_MAX)).is_ok());
        assert!(presets(&of(PRESETS_MAX + 1)).is_err());
        let long = |bytes: usize| presets(&[preset("p", &format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8)))]);
        assert!(long(PRESET_BYTES_MAX).is_ok());
        assert!(long(PRESET_BYTES_MAX + 1).is_err());
    }

    fn preset(name: &str, request: &str) -> PresetSection {
        PresetSection { name: name.to_owned(), request: serde_json::from_str(request).unwrap() }
    }

    #[test]
    fn presets_become_members_of_requests() {
        let read = presets(&[preset("calm-1", r#"{"temperature":0.2,"provider":{"zdr":true}}"#)]).unwrap();
        assert_eq!(read[0].members_json, r#"{"provider":{"zdr":true},"temperature":0.2}"#);
        let check = |sections: &[PresetSection], want: &str| {
            assert_eq!(presets(sections).unwrap_err().to_string(), want);
        };
        check(
            &[preset("a b", "{}")],
            "preset `a b` cannot be used: a preset has 1 to 64 characters of a-z, A-Z, 0-9 and . _ -",
        );
        check(&[preset("a", "{}"), preset("a", "{}")], "two presets are called `a`");
        check(
            &[preset("a", r#"{"temperature":9}"#)],
            "preset `a` cannot be used: `temperature` must be a number from 0 to 2",
        );
        assert!(presets(&[preset("a", r#"{"provider":{"zdrr":true}}"#)]).is_err());
        for good in [
            r#"{"model":"a/b"}"#,
            r#"{"instructions":"x","input":"y"}"#,
            r#"{"system":"x","thinking":{"type":"disabled"}}"#,
        ] {
            assert!(presets(&[preset("a", good)]).is_ok(), "{good}");
        }
        let inner = "preset `a` cannot be used: `stream` is for the request itself to say";
        check(&[preset("a", r#"{"stream":true}"#)], inner);
    }
}
