//! A tiny vocabulary for laws, the real one for ids that the reference library gives.

use super::*;
use crate::testing::{BYTE_0, IM_END, IM_START, model_path, tiny_vocabulary};
use bourse_engine::GgufFile;
use proptest::prelude::*;

fn real() -> Option<(Vocabulary, Tokenizer)> {
    let file = GgufFile::open(&model_path()?).unwrap();
    let vocabulary = Vocabulary::from_gguf(&file).unwrap();
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    Some((vocabulary, tokenizer))
}

fn text_of(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.spelling(*id).to_vec()).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn merges_and_control_tokens_are_applied() {
    let tokenizer = Tokenizer::new(&tiny_vocabulary()).unwrap();
    let byte = |b: u8| BYTE_0 + u32::from(b);
    assert_eq!(tokenizer.encode("hello").unwrap(), [BYTE_0 + 258, byte(b'o')]);
    assert_eq!(tokenizer.encode("<|im_start|>he<|im_end|>").unwrap(), [IM_START, BYTE_0 + 256, IM_END]);
    assert_eq!(tokenizer.encode("é").unwrap(), [byte(0xC3), byte(0xA9)]);
    assert_eq!(tokenizer.text_bytes(IM_END), b"");
    assert_eq!(tokenizer.spelling(IM_END), b"<|im_end|>");
    assert_eq!(tokenizer.text_bytes(byte(b' ')), b" ");
    assert_eq!(tokenizer.text_bytes(9_999), b"");
    assert_eq!(tokenizer.end_tokens(), [0, IM_END]);
    assert_eq!(tokenizer.token_bytes_max(), 13);
}

#[test]
fn a_text_begins_with_the_token_that_the_file_asks_for() {
    let mut vocabulary = tiny_vocabulary();
    assert_eq!(Tokenizer::new(&vocabulary).unwrap().encode_prompt("he").unwrap(), [BYTE_0 + 256]);
    vocabulary.add_bos = Some(true);
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode_prompt("he").unwrap(), [IM_START, BYTE_0 + 256]);
    assert_eq!(tokenizer.encode_prompt("<|im_start|>he").unwrap(), [IM_START, BYTE_0 + 256]);
    assert_eq!(tokenizer.encode_prompt("").unwrap(), [IM_START]);
}

#[test]
fn what_is_not_known_is_refused_and_not_guessed() {
    let check = |edit: fn(&mut Vocabulary), want: &str| {
        let mut vocabulary = tiny_vocabulary();
        edit(&mut vocabulary);
        let error = Tokenizer::new(&vocabulary).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(|v| v.model = "llama".to_owned(), "family \"llama\"");
    check(|v| v.pre = Some("tekken".to_owned()), "pre-tokenizer \"tekken\"");
    check(|v| v.merges.push("alone".to_owned()), "merge 3 is not two pieces");
    check(|v| v.merges.push("q qq".to_owned()), "cannot be built");
    check(|v| v.tokens[5] = "\u{4E00}".to_owned(), "token 5 is not spelt in the byte alphabet");
    check(|v| v.tokens.push("x".repeat(TOKEN_BYTES_MAX + 1)), "token 262 is not");
    let mut vocabulary = tiny_vocabulary();
    vocabulary.tokens.push("x".repeat(TOKEN_BYTES_MAX));
    assert_eq!(Tokenizer::new(&vocabulary).unwrap().token_bytes_max(), TOKEN_BYTES_MAX);
}

#[test]
fn every_pre_tokenizer_keeps_the_text() {
    for pre in ["smollm", "gpt-2", "default", "llama-bpe", "qwen2"] {
        let mut vocabulary = tiny_vocabulary();
        vocabulary.pre = Some(pre.to_owned());
        let tokenizer = Tokenizer::new(&vocabulary).unwrap();
        for text in ["hello  world\n\n 123 it's", "\t\r\n x", "naïve 日本 ٣٤"] {
            assert_eq!(text_of(&tokenizer, &tokenizer.encode(text).unwrap()), text, "{pre}");
        }
    }
}

proptest! {
    #[test]
    fn encoding_round_trips_and_no_token_is_shorter_than_a_byte(text in ".{0,64}") {
        let tokenizer = Tokenizer::new(&tiny_vocabulary()).unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(text_of(&tokenizer, &ids), text.as_str());
        prop_assert!(ids.len() * BYTES_PER_TOKEN_MIN as usize <= text.len());
    }
}

/// Ids of the `tokenizers` Python package (0.23.3) with digits split and GPT-2's byte-level pattern, which
/// is what the model's own `tokenizer.json` says.
const GOLDEN: [(&str, &[u32]); 18] = [
    ("Hello world", &[19556, 905]),
    ("Hello, world!", &[19556, 28, 905, 17]),
    (" leading and  double  spaces ", &[2899, 284, 216, 5561, 216, 5600, 216]),
    (
        "In 2024 there were 365 days, 1,234.56 in all.",
        &[
            788, 216, 34, 32, 34, 36, 665, 592, 216, 35, 38, 37, 2009, 28, 216, 33, 28, 34, 35, 36, 30, 37,
            38, 281, 511, 30,
        ],
    ),
    ("don't can't we'll I'm THEY'RE", &[12420, 982, 416, 982, 392, 3060, 339, 5248, 6462, 73, 23, 3256]),
    ("naïve café — “quotes” … €5", &[3546, 46494, 37366, 1841, 619, 385, 2346, 573, 5548, 24927, 37]),
    (
        "日本語のテキスト",
        &[23274, 115, 40993, 179, 120, 248, 26453, 11100, 224, 10391, 251, 10391, 134, 11100, 226],
    ),
    ("Привет, мир", &[155, 249, 46879, 16464, 32547, 28, 41337, 7872, 9175]),
    (
        "👩‍👩‍👧 emoji 😀!",
        &[10813, 235, 119, 321, 231, 10813, 235, 119, 321, 231, 10813, 235, 117, 649, 33777, 40303, 218, 17],
    ),
    ("\n\n\tindented\r\n  lines   \n", &[1116, 197, 526, 6574, 23799, 3204, 333, 198]),
    (
        "fn main() {\n    println!(\"{}\", 1 + 2);\n}\n",
        &[
            7853, 1085, 1000, 1662, 472, 1628, 34115, 17, 43331, 1002, 216, 33, 1232, 216, 34, 4258, 198,
            109, 198,
        ],
    ),
    ("<|im_start|>user\nhi<|im_end|>\n", &[1, 4093, 198, 6004, 2, 198]),
    ("a<|endoftext|>b", &[81, 0, 82]),
    ("٣٤ ½ ²", &[164, 113, 164, 114, 216, 16738, 216, 19133]),
    ("e\u{301} é", &[85, 151, 219, 26411]),
    (
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        &[31069, 31069, 31069, 31069, 31069, 31069, 31069, 31069, 31069, 31069],
    ),
    ("     ", &[4444]),
    ("\u{a0}\u{3000} wide\u{2028}spaces", &[15442, 12109, 218, 3599, 321, 118, 41123]),
];

#[test]
fn the_real_vocabulary_gives_the_reference_ids() {
    let Some((_, tokenizer)) = real() else { return };
    for (text, ids) in GOLDEN {
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(text_of(&tokenizer, ids), text);
    }
    assert_eq!(tokenizer.end_tokens(), [0, 2]);
    assert_eq!(tokenizer.vocab_size(), 49_152);
}

#[test]
fn the_real_template_renders_to_the_known_ids() {
    let Some((vocabulary, tokenizer)) = real() else { return };
    let special = crate::template::SpecialTokens::default();
    let template =
        crate::template::ChatTemplate::new(vocabulary.chat_template.as_deref().unwrap(), special).unwrap();
    let chat = r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}]"#;
    let text = template.render(chat, None, bourse_types::UnixMs(0)).unwrap().text;
    assert_eq!(
        text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(ids, [1, 9690, 198, 6077, 5453, 30, 2, 198, 1, 4093, 198, 6004, 2, 198, 1, 520, 9531, 198]);
}

#[test]
fn long_runs_are_encoded_whole() {
    let Some((_, tokenizer)) = real() else { return };
    let n = 20_000;
    for text in [
        " ".repeat(n) + "x",
        "\n".repeat(n),
        " \n".repeat(n / 2) + "x",
        "a".repeat(n),
        "ab ".repeat(n / 3),
        "1".repeat(n),
        "!".repeat(n),
        "é\u{301}".repeat(n / 4),
        "<|im_end|>".repeat(n / 10),
    ] {
        let ids = tokenizer.encode(&text).unwrap();
        assert!(text_of(&tokenizer, &ids) == text);
    }
}
