//! Layers, refusals, and the promise that no field is forgotten.

use super::*;
use figment::value::Value;

fn load(file: Option<&str>, environment: &[(&str, &str)], flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bourse.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    let environment = Environment::of(environment);
    Layers { file: file.map(|_| path), environment: &environment, flags }.load()
}

/// The message and the place, without the folder's changing name.
fn refusal(file: Option<&str>, environment: &[(&str, &str)]) -> String {
    let Err(error) = load(file, environment, Vec::new()) else { panic!("accepted") };
    let text = crate::report::render(&error);
    let line = text.lines().next().unwrap_or_default().to_owned();
    match line.find("(from /") {
        Some(at) => format!("{}(from FILE)", &line[..at]),
        None => line,
    }
}

#[test]
fn later_layers_win_and_are_named() {
    let file = "[gateway]\nlisten = \"127.0.0.1:1\"\nidle_timeout_ms = 5\ndurability = \"strict\"\n";
    let environment = [("BOURSE_GATEWAY_IDLE_TIMEOUT_MS", "6"), ("BOURSE_NODE_ENABLED", "false")];
    let flags = vec![Flag::new("--listen", "gateway.listen", "127.0.0.1:0")];
    let loaded = load(Some(file), &environment, flags).unwrap();
    assert_eq!(loaded.config.gateway.listen.port(), 0);
    assert_eq!(loaded.config.gateway.idle_timeout_ms, 6);
    assert_eq!(loaded.config.gateway.durability, Durability::Strict);
    assert!(!loaded.config.node.enabled);
    let explained = loaded.explain();
    let check = |path: &str, value: &str, origin: &str| {
        let line = explained.iter().find(|line| line.path == path).unwrap();
        assert_eq!(line.value, value, "{path}");
        assert!(line.origin.ends_with(origin), "{path}: {}", line.origin);
    };
    check("gateway.listen", "\"127.0.0.1:0\"", "flag --listen");
    check("gateway.idle_timeout_ms", "6", "environment variable BOURSE_GATEWAY_IDLE_TIMEOUT_MS");
    check("gateway.durability", "\"strict\"", "bourse.toml");
    check("node.enabled", "false", "environment variable BOURSE_NODE_ENABLED");
    check("exchange.fee_bps", "400", "default");
    check("node.model_path", "(not set)", "default");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let check = |file: &str, want: &str| assert_eq!(refusal(Some(file), &[]), format!("error: {want}"));
    check(
        "[gateway]\nlissten = \"127.0.0.1:1\"",
        "unknown field: found `lissten`, expected `one of `listen`, `durability`, `request_timeout_ms`, \
         `connect_timeout_ms`, `first_content_timeout_ms`, `idle_timeout_ms`, `drain_timeout_ms`, `quantizations`, `dedupe_window_s`, `otlp_endpoint`, `decisions_bytes_max`, `exchange``: `gateway.lissten` (from FILE)",
    );
    check(
        "[exchange]\nfee_bps = -1",
        "invalid value signed int `-1`, expected u32: `exchange.fee_bps` (from FILE)",
    );
    check(
        "[[provider]]\nname = \"a\"\nkind = \"openai\"\nbase_url = \"http://x\"\n\
         [[provider.model]]\nid = \"m\"\nprice_prompt = 0.1\nprice_completion = \"1\"",
        "invalid type: found float `0.1`, expected a string: `provider.0.model.0.price_prompt` (from FILE)",
    );
}

#[test]
fn variables_of_ours_are_checked_and_others_left_alone() {
    let check = |name: &str, value: &str, want: &str| {
        assert_eq!(refusal(None, &[(name, value)]), format!("error: {want}"));
    };
    check("BOURSE_GATEWAY_LISTN", "x", "the environment variable BOURSE_GATEWAY_LISTN sets nothing");
    check(
        "BOURSE_NODE_THREADS",
        "many",
        "`many` is not a whole number: `node.threads` (from environment variable BOURSE_NODE_THREADS)",
    );
    assert!(load(None, &[("BOURSE_RESALE_KEY", "sk-1"), ("BOURSE_NODE_THREADS", "")], Vec::new()).is_ok());
}

#[test]
fn the_table_has_every_field_and_no_other() {
    let value = Value::serialize(Config::default()).unwrap();
    let mut want: Vec<String> = Vec::new();
    for (section, fields) in
        value.into_dict().unwrap().into_iter().filter(|(_, fields)| fields.as_dict().is_some())
    {
        want.extend(fields.into_dict().unwrap().into_keys().map(|field| format!("{section}.{field}")));
    }
    let mut got: Vec<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
    want.sort();
    got.sort();
    assert_eq!(got, want);
    assert!(FIELDS.iter().all(|field| field.env.starts_with("BOURSE_") && !field.doc.is_empty()));
}

/// A value with every field set, so that its serialised form names them all.
fn full_provider() -> ProviderSection {
    let text = || Some(String::new());
    let model = ProviderModelSection {
        id: String::new(),
        upstream_id: text(),
        variant: text(),
        tier: text(),
        price_prompt: text(),
        price_completion: text(),
        price_cached: text(),
        price_cache_write: text(),
        price_request: text(),
        price_unit: text(),
        unit: text(),
        free: Some(false),
        list_price_prompt: text(),
        list_price_completion: text(),
        list_price_request: text(),
        list_price_unit: text(),
        given_by: text(),
        context_tokens: Some(0),
        completion_tokens: Some(0),
        capacity: Some(0),
        operations: Some(Vec::new()),
        supports: Some(Vec::new()),
        quantization: text(),
        region: text(),
        retains_prompts: Some(false),
        trains_on_prompts: Some(false),
        zdr: Some(false),
        is_distillable: Some(false),
        except: Some(Vec::new()),
        markup_bps: Some(0),
    };
    ProviderSection {
        name: String::new(),
        kind: String::new(),
        base_url: text(),
        api_key_env: text(),
        api_key_file: Some("k".into()),
        region: text(),
        retains_prompts: Some(false),
        trains_on_prompts: Some(false),
        zdr: Some(false),
        supports: Some(Vec::new()),
        gathers: Some(true),
        list_minutes: Some(1),
        model: vec![model],
    }
}

/// Paths of all fields of a table, those of tables inside included.
fn paths(at: &str, table: &Value, out: &mut Vec<String>) {
    for (key, value) in table.as_dict().unwrap() {
        let path = format!("{at}.{key}");
        match value {
            Value::Array(_, items) if items.first().is_some_and(|item| item.as_dict().is_some()) => {
                paths(&path, &items[0], out);
            }
            _ => out.push(path),
        }
    }
}

#[test]
fn the_tables_that_may_stand_many_times_are_documented_whole() {
    let list = || Some(Vec::new());
    let byok = ByokSection {
        api_key_env: Some(String::new()),
        api_key_file: Some("k".into()),
        mode: Some(String::new()),
        models: list(),
        keys: list(),
        users: list(),
        ..ByokSection::default()
    };
    let alias = AliasSection::default();
    let preset = PresetSection::default();
    let tokenizer = TokenizerSection {
        template: Some("t".into()),
        tolerance_bps: Some(0),
        tolerance_tokens: Some(0),
        media_tokens: Some(0),
        hidden_reasoning_tokens: Some(0),
        ..TokenizerSection::default()
    };
    let config = Config {
        provider: vec![full_provider()],
        byok: vec![byok],
        alias: vec![alias],
        preset: vec![preset],
        tokenizer: vec![tokenizer],
        ..Config::default()
    };
    let value = Value::serialize(config).unwrap();
    let mut want = Vec::new();
    for (name, items) in value.as_dict().unwrap() {
        if let Value::Array(_, items) = items {
            paths(name, &items[0], &mut want);
        }
    }
    let mut got: Vec<String> = fields::TABLE_FIELDS.iter().map(|(path, _, _)| (*path).to_owned()).collect();
    want.sort();
    got.sort();
    assert_eq!(got, want);
    assert!(fields::TABLE_FIELDS.iter().all(|(_, _, doc)| !doc.is_empty()));
}

#[test]
fn what_a_kind_usually_does_is_explained() {
    let file = "[[provider]]\nname = \"a\"\nkind = \"anthropic\"\n[[provider.model]]\nid = \"m\"\n\
                [[provider.model]]\nid = \"n\"\nsupports = [\"tools\"]";
    let explained = load(Some(file), &[], Vec::new()).unwrap().explain();
    let of = |path: &str| {
        let line = explained.iter().find(|line| line.path == path).unwrap_or_else(|| panic!("{path}"));
        assert!(!line.doc.is_empty(), "{path}");
        (line.value.clone(), line.origin.clone())
    };
    let kind = || "kind anthropic".to_owned();
    assert_eq!(of("provider[0].base_url"), ("\"https://api.anthropic.com/v1\"".to_owned(), kind()));
    assert_eq!(of("provider[0].gathers"), ("true".to_owned(), kind()));
    assert_eq!(of("provider[0].model[0].operations"), ("[\"chat\"]".to_owned(), kind()));
    assert!(of("provider[0].model[0].supports").0.starts_with("[\"tools\",\"response_format\",\"top_k\""));
    let (value, origin) = of("provider[0].model[1].supports");
    assert_eq!(value, "[\"tools\"]");
    assert!(origin.ends_with("bourse.toml"), "{origin}");
}

#[test]
fn the_file_is_bounded() {
    let text = |bytes: u64| format!("#{}", "a".repeat(usize::try_from(bytes).unwrap() - 1));
    assert!(load(Some(&text(layers::FILE_BYTES_MAX)), &[], Vec::new()).is_ok());
    let error = load(Some(&text(layers::FILE_BYTES_MAX + 1)), &[], Vec::new()).err();
    assert!(matches!(error, Some(ConfigError::TooLong { .. })));
}

#[test]
fn prices_and_amounts_name_their_field() {
    let error = price("node.price_prompt", "1e-7").unwrap_err();
    let want = "error: node.price_prompt is not a price\n  because: price in USD per token: \
                `1e-7` is not a plain decimal amount such as `1.25`\n";
    assert!(crate::report::render(&error).starts_with(want));
    assert!(amount("exchange.starting_credit", "-1").is_err());
}

#[test]
fn the_examples_are_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let environment = Environment::default();
        let loaded = Layers { file: Some(path.clone()), environment: &environment, flags: Vec::new() }.load();
        assert!(loaded.is_ok(), "{}: {:?}", path.display(), loaded.err());
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}
