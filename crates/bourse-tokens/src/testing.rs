//! For tests: a tiny vocabulary whose ids can be told by hand, and the way to the real model's file.

use crate::tokenizer::{TYPE_CONTROL, byte_alphabet};
use bourse_engine::Vocabulary;
use std::path::{Path, PathBuf};

/// Begins a turn, among the tiny vocabulary's control tokens.
pub const IM_START: u32 = 1;
/// Ends a turn.
pub const IM_END: u32 = 2;
/// Id of the tiny vocabulary's byte 0; byte *b* is this plus *b*.
pub const BYTE_0: u32 = 3;

const TINY_TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>a\n{% endif %}";

/// Three control tokens, all bytes, and `he`, `ll`, `hell`.
pub fn tiny_vocabulary() -> Vocabulary {
    let mut spelling = ['\0'; 256];
    for (character, byte) in byte_alphabet() {
        spelling[usize::from(byte)] = character;
    }
    let mut tokens: Vec<String> =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].into_iter().map(str::to_owned).collect();
    tokens.extend(spelling.iter().map(char::to_string));
    tokens.extend(["he", "ll", "hell"].into_iter().map(str::to_owned));
    let token_types = (0..tokens.len()).map(|id| if id < 3 { TYPE_CONTROL } else { 1 }).collect();
    Vocabulary {
        model: "gpt2".to_owned(),
        pre: Some("smollm".to_owned()),
        tokens,
        token_types,
        scores: Vec::new(),
        merges: vec!["h e".to_owned(), "l l".to_owned(), "he ll".to_owned()],
        bos_id: Some(IM_START),
        eos_id: Some(IM_END),
        eot_id: None,
        unknown_id: None,
        padding_id: None,
        add_bos: None,
        add_eos: None,
        add_space_prefix: None,
        chat_template: Some(TINY_TEMPLATE.to_owned()),
    }
}

/// The real model's file: `BOURSE_TEST_MODEL`, or where the test command puts it. Absence skips a test
/// unless `BOURSE_REQUIRE_MODEL=1`.
pub fn model_path() -> Option<PathBuf> {
    let named = std::env::var_os("BOURSE_TEST_MODEL").map(PathBuf::from);
    let usual =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = named.unwrap_or(usual);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var("BOURSE_REQUIRE_MODEL").is_ok_and(|value| value == "1");
    assert!(!required, "the model is required and not at {}", path.display());
    eprintln!("skipped: no model at {}; set BOURSE_TEST_MODEL", path.display());
    None
}
