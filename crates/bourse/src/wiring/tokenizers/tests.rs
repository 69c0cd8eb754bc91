//! What is written becomes what counts, and nothing else does.

use super::*;
use bourse_wire::tokens::TokenCounter as _;

/// A tokenizer of words in a file, its place and its pin.
fn words(folder: &Path) -> (std::path::PathBuf, Digest32) {
    let path = folder.join("tokenizer.json");
    let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "?": 1}, "unk_token": "?"}});
    std::fs::write(&path, json.to_string()).unwrap();
    let pin = PinnedTokenizer::open(&path, None, None).unwrap().pin();
    (path, pin)
}

fn section(folder: &Path) -> TokenizerSection {
    let (path, pin) = words(folder);
    TokenizerSection { model: "a/b".to_owned(), path, pin: pin.to_string(), ..TokenizerSection::default() }
}

fn refusal(change: impl FnOnce(&mut Vec<TokenizerSection>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { tokenizer: vec![section(folder.path())], ..Config::default() };
    change(&mut config.tokenizer);
    tokenizers(&config, None).unwrap_err().to_string()
}

#[test]
fn a_tokenizer_is_taken_with_its_rules() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { tokenizer: vec![section(folder.path())], ..Config::default() };
    let usual = tokenizers(&config, None).unwrap();
    assert_eq!((usual[0].model.as_str(), usual[0].rules), ("a/b", RecountRules::default()));
    assert_eq!(usual[0].counter.text("a a b"), Some(3));
    (config.tokenizer[0].tolerance_bps, config.tokenizer[0].tolerance_tokens) = (Some(0), Some(7));
    let rules = tokenizers(&config, None).unwrap()[0].rules;
    assert_eq!((rules.tolerance_bps, rules.tolerance_tokens), (0, 7));
}

#[test]
fn what_cannot_be_used_is_named() {
    let other = Digest32([1; 32]).to_string();
    assert_eq!(refusal(|all| all[0].pin = other), "tokenizer of `a/b` cannot be used");
    assert!(refusal(|all| all[0].pin = "soon".to_owned()).contains("tokenizer of `a/b`: pin cannot be used"));
    assert_eq!(refusal(|all| all[0].path = "absent.gguf".into()), "tokenizer of `a/b` cannot be used");
    assert_eq!(refusal(|all| all[0].model = "a b".to_owned()), "tokenizer of `a b` is not a name");
    assert_eq!(refusal(|all| all.push(all[0].clone())), "two tokenizers are called `a/b`");
    assert!(refusal(|all| all[0].tolerance_bps = Some(10_001)).contains("at most 10000 is possible"));
    let many = |all: &mut Vec<TokenizerSection>| *all = vec![all[0].clone(); TOKENIZERS_MAX + 1];
    assert!(refusal(many).contains("the number of tokenizers is 65"));
}

#[test]
fn the_local_model_is_counted_unless_it_is_pinned_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let (path, pin) = words(folder.path());
    let mut config = Config::default();
    let local = tokenizers(&config, Some(&path)).unwrap();
    assert_eq!((local[0].model.as_str(), local[0].counter.pin()), (config.node.model.as_str(), pin));
    config.tokenizer = vec![TokenizerSection { model: config.node.model.clone(), ..section(folder.path()) }];
    assert_eq!(tokenizers(&config, Some(&path)).unwrap().len(), 1);
    // A node that is asked for a model without a usable tokenizer says so itself.
    assert_eq!(tokenizers(&Config::default(), Some(&folder.path().join("absent.gguf"))).unwrap().len(), 0);
}
