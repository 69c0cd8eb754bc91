//! From `[[byok]]` to keys that serve: whose they are is only known once the books are open.

use super::{WiringError, key, word};
use crate::config::{ByokSection, Config, Environment};
use bourse_gateway::{ByokKey, ByokMode, Pattern};
use bourse_types::{AccountId, KeyHash, SellerName};

/// Own keys in one configuration, at most.
pub const BYOK_MAX: usize = 4_096;
/// Entries of each filter of an own key, at most.
pub const BYOK_FILTER_MAX: usize = 100;

const MODES: [ByokMode; 3] = [ByokMode::Prioritized, ByokMode::Fallback, ByokMode::Always];

fn name_of(mode: ByokMode) -> &'static str {
    match mode {
        ByokMode::Prioritized => "prioritized",
        ByokMode::Fallback => "fallback",
        ByokMode::Always => "always",
    }
}

/// All own keys. `account` finds an account by its name in the books.
pub fn byok(
    config: &Config,
    environment: &Environment,
    account: impl Fn(&str) -> Option<AccountId>,
) -> Result<Vec<ByokKey>, WiringError> {
    if config.byok.len() > BYOK_MAX {
        let (value, max) = (config.byok.len() as u64, BYOK_MAX as u64);
        return Err(WiringError::TooLarge { field: "the number of own keys", value, max });
    }
    config.byok.iter().map(|section| one(section, config, environment, &account)).collect()
}

fn one(
    section: &ByokSection,
    config: &Config,
    environment: &Environment,
    account: &dyn Fn(&str) -> Option<AccountId>,
) -> Result<ByokKey, WiringError> {
    let place = format!("own key of `{}` at `{}`", section.account, section.provider);
    let unusable = |field: &str, why: &str| WiringError::Unusable {
        field: if field.is_empty() { place.clone() } else { format!("{place}.{field}") },
        why: why.to_owned(),
    };
    if !config.provider.iter().any(|provider| provider.name == section.provider) {
        return Err(unusable("", "there is no [[provider]] of that name"));
    }
    let provider = SellerName::parse(&section.provider)
        .map_err(|source| WiringError::Name { field: place.clone(), source })?;
    let known = account(&section.account);
    let account = known.ok_or_else(|| {
        unusable(
            "",
            "the books have no such account: make a key for it with `bourse key create --account` first",
        )
    })?;
    let secret =
        key::read(&place, section.api_key_env.as_deref(), section.api_key_file.as_deref(), environment)?;
    let secret = secret.ok_or_else(|| unusable("", "it needs api_key_env or api_key_file"))?;
    let mode = match section.mode.as_deref() {
        None => ByokMode::Prioritized,
        Some(text) => word(&place, "mode", text, &MODES, name_of)?,
    };
    let filters = [("models", &section.models), ("keys", &section.keys), ("users", &section.users)];
    for (name, list) in filters {
        let len = list.as_ref().map(Vec::len);
        if len == Some(0) {
            return Err(unusable(name, "an empty list serves nobody: leave it out to serve all"));
        }
        if len.is_some_and(|len| len > BYOK_FILTER_MAX) {
            return Err(unusable(name, "it has more than 100 entries"));
        }
    }
    let pattern =
        |text: &String| Pattern::parse(text).ok_or_else(|| unusable("models", "a name has one * at most"));
    let hash = |text: &String| {
        KeyHash::parse_hex(text)
            .map_err(|_| unusable("keys", "a key's id has 64 hex digits; `bourse key list`"))
    };
    Ok(ByokKey {
        account,
        provider,
        key: secret,
        mode,
        models: section.models.iter().flatten().map(pattern).collect::<Result<_, _>>()?,
        keys: section.keys.iter().flatten().map(hash).collect::<Result<_, _>>()?,
        users: section.users.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderSection;

    fn read(sections: Vec<ByokSection>) -> Result<Vec<ByokKey>, WiringError> {
        let provider = vec![ProviderSection { name: "maple".to_owned(), ..ProviderSection::default() }];
        let config = Config { provider, byok: sections, ..Config::default() };
        let environment = Environment::of(&[("OWN", "sk-own-canary")]);
        byok(&config, &environment, |name| (name == "alice").then_some(AccountId(9)))
    }

    fn section() -> ByokSection {
        ByokSection {
            account: "alice".to_owned(),
            provider: "maple".to_owned(),
            api_key_env: Some("OWN".to_owned()),
            ..ByokSection::default()
        }
    }

    #[test]
    fn an_own_key_is_taken_as_written_and_not_shown() {
        let list = |text: &str| Some(vec![text.to_owned()]);
        let full = ByokSection {
            mode: Some("always".to_owned()),
            models: list("acme/*"),
            keys: list(&"ab".repeat(32)),
            users: list("ann"),
            ..section()
        };
        let keys = read(vec![section(), full]).unwrap();
        assert_eq!((keys[0].account, keys[0].mode), (AccountId(9), ByokMode::Prioritized));
        assert!(keys[0].models.is_empty() && keys[0].keys.is_empty() && keys[0].users.is_empty());
        assert_eq!((keys[1].mode, keys[1].keys[0]), (ByokMode::Always, KeyHash([0xab; 32])));
        assert!(!format!("{keys:?}").contains("canary"));
    }

    #[test]
    fn what_cannot_serve_is_named() {
        let check = |change: &dyn Fn(&mut ByokSection), want: &str| {
            let mut section = section();
            change(&mut section);
            let error = read(vec![section]).unwrap_err().to_string();
            assert!(error.contains(want) && !error.contains("canary"), "{error}");
        };
        check(&|s| s.provider = "oak".to_owned(), "no [[provider]] of that name");
        check(&|s| s.account = "bob".to_owned(), "the books have no such account");
        check(&|s| s.api_key_env = None, "it needs api_key_env or api_key_file");
        check(&|s| s.mode = Some("never".to_owned()), "mode knows no `never`");
        check(&|s| s.models = Some(vec!["*a*".to_owned()]), "one * at most");
        check(&|s| s.keys = Some(vec!["k1".to_owned()]), "64 hex digits");
        check(&|s| s.users = Some(Vec::new()), "serves nobody");
        let users = |count: usize| {
            read(vec![ByokSection { users: Some(vec!["u".to_owned(); count]), ..section() }]).is_ok()
        };
        assert!(users(BYOK_FILTER_MAX) && !users(BYOK_FILTER_MAX + 1));
        let many = |count: usize| read(vec![section(); count]).is_ok();
        assert!(many(BYOK_MAX) && !many(BYOK_MAX + 1));
    }
}
