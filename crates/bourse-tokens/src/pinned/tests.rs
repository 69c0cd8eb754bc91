//! Pins, prompts by rule, and the running count against the whole one, on the tiny vocabulary and the real one.

use super::*;
use crate::testing::{model_path, tiny_vocabulary};
use bourse_wire::tokens::RunningCount;
use proptest::prelude::*;

fn tiny() -> PinnedTokenizer {
    PinnedTokenizer::of_vocabulary(&tiny_vocabulary()).unwrap()
}

fn real() -> Option<PinnedTokenizer> {
    Some(PinnedTokenizer::open(&model_path()?, None, None).unwrap())
}

fn chat(messages_json: &str, tools_json: Option<&str>) -> Prompt {
    Prompt::Chat { messages_json: messages_json.to_owned(), tools_json: tools_json.map(str::to_owned) }
}

const HELLO: &str = r#"[{"role":"u","content":"hello"}]"#;

#[test]
fn prompts_are_counted_by_the_rules() {
    let check = |pinned: &PinnedTokenizer, prompt: &Prompt, want| {
        assert_eq!(pinned.prompt(prompt, UnixMs(0)), want, "{prompt:?}");
    };
    let tiny = tiny();
    check(&tiny, &Prompt::Text("hello".to_owned()), Some(PromptTokens::Exact(2)));
    // <|im_start|> u \n hell o <|im_end|> <|im_start|> a \n
    check(&tiny, &chat(HELLO, None), Some(PromptTokens::Exact(9)));
    check(&tiny, &chat(HELLO, Some("[1]")), Some(PromptTokens::AtMost(9 + 3 + TOOLS_FRAME_TOKENS)));
    let mut vocabulary = tiny_vocabulary();
    vocabulary.chat_template = Some("{% if tools %}{{ tools | length }}{% endif %}x".to_owned());
    let told = PinnedTokenizer::of_vocabulary(&vocabulary).unwrap();
    check(&told, &chat(HELLO, Some("[1,2]")), Some(PromptTokens::Exact(2)));
    vocabulary.chat_template = None;
    let blind = PinnedTokenizer::of_vocabulary(&vocabulary).unwrap();
    let written = blind.text(HELLO).unwrap();
    check(&blind, &chat(HELLO, None), Some(PromptTokens::AtMost(written + 3 * MESSAGE_TOKENS)));
    check(&blind, &chat("no list", None), None);
}

#[test]
fn a_pin_covers_what_a_count_depends_on() {
    let pin = |edit: fn(&mut Vocabulary)| {
        let mut vocabulary = tiny_vocabulary();
        edit(&mut vocabulary);
        PinnedTokenizer::of_vocabulary(&vocabulary).unwrap().pin()
    };
    let same = pin(|_| {});
    assert_eq!(same, pin(|v| v.scores = vec![1.0]));
    let others = [
        pin(|v| v.merges.truncate(2)),
        pin(|v| v.pre = None),
        pin(|v| v.add_bos = Some(true)),
        pin(|v| v.chat_template = None),
        pin(|v| v.token_types[200] = 4),
    ];
    assert!(others.iter().all(|other| *other != same));
}

#[test]
fn another_pin_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"}});
    fs::write(&path, json.to_string()).unwrap();
    let opened = PinnedTokenizer::open(&path, None, None).unwrap();
    assert_eq!(opened.text("a b c"), Some(3));
    assert!(PinnedTokenizer::open(&path, None, Some(opened.pin())).is_ok());
    let error = PinnedTokenizer::open(&path, None, Some(Digest32([7; 32]))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the tokenizer has the pin {}, not {}", opened.pin(), Digest32([7; 32]))
    );
    let template = folder.path().join("chat.jinja");
    fs::write(&template, "{{ messages[0].content }}").unwrap();
    let templated = PinnedTokenizer::open(&path, Some(&template), None).unwrap();
    assert_ne!(templated.pin(), opened.pin());
    let prompt = chat(r#"[{"role":"user","content":"a a b"}]"#, None);
    assert_eq!(templated.prompt(&prompt, UnixMs(0)), Some(PromptTokens::Exact(3)));
    fs::write(&path, "{}").unwrap();
    assert!(matches!(PinnedTokenizer::open(&path, None, None), Err(PinError::Tokenizer(_))));
    let absent = folder.path().join("absent.gguf");
    assert!(matches!(PinnedTokenizer::open(&absent, None, None), Err(PinError::Gguf(..))));
}

#[test]
fn a_tokenizer_file_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let check = |bytes, is_too_large| {
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        let error = PinnedTokenizer::open(&path, None, None).unwrap_err();
        assert_eq!(matches!(error, PinError::TooLarge(_)), is_too_large, "{bytes}");
    };
    check(TOKENIZER_BYTES_MAX + 1, true);
    // Zeros are no JSON, but they are read.
    check(TOKENIZER_BYTES_MAX, false);
}

fn running(pinned: &PinnedTokenizer, text: &str, step: usize) -> u64 {
    let mut count = RunningCount::default();
    let mut at = 0;
    while at < text.len() {
        let end = text.ceil_char_boundary((at + step).min(text.len()));
        count.push(&text[at..end], pinned);
        at = end;
    }
    count.total(pinned).unwrap()
}

#[test]
fn the_real_tokenizer_counts_a_stream_as_the_whole() {
    let Some(pinned) = real() else { return };
    let prose =
        "It was the best of times,\nit was the worst of times; in 1859 they'd say so.\n\n  And then?  ";
    let code = "fn main() {\n    println!(\"{}\", 1 + 2);\n}\n";
    for text in [prose.repeat(100), code.repeat(200), format!("{prose}{code}").repeat(60)] {
        for step in [1, 5, 4_000] {
            assert_eq!(running(&pinned, &text, step), pinned.text(&text).unwrap());
        }
    }
    // Where no word ends, each cut may cost a token or two.
    let dense = "日本語のテキスト、".repeat(1_500);
    let (whole, cut) = (pinned.text(&dense).unwrap(), running(&pinned, &dense, 9));
    let cuts = (dense.len() / bourse_wire::tokens::PIECE_BYTES_MAX) as u64 + 1;
    assert!(whole.abs_diff(cut) <= 2 * cuts, "{whole} whole, {cut} in pieces");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn words_in_pieces_count_as_the_whole(
        words in prop::collection::vec("[a-zA-Z]{1,9}[.,\n]?", 1..600),
        pre in prop::sample::select(vec!["smollm", "gpt-2", "llama-bpe", "qwen2"]),
        step in 1..900usize,
    ) {
        let mut vocabulary = tiny_vocabulary();
        vocabulary.pre = Some(pre.to_owned());
        let pinned = PinnedTokenizer::of_vocabulary(&vocabulary).unwrap();
        let text = words.join(" ");
        prop_assert_eq!(running(&pinned, &text, step), pinned.text(&text).unwrap());
    }
}
