//! Templates of real models (shortened where only the shape matters), content parts, hostile templates.

use super::*;

const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn template(source: &str) -> ChatTemplate {
    let special = SpecialTokens { bos: "<s>".to_owned(), eos: "</s>".to_owned(), ..SpecialTokens::default() };
    ChatTemplate::new(source, special).unwrap()
}

fn check(source: &str, messages: &str, tools: Option<&str>, want: &str) {
    let rendered = template(source).render(messages, tools, UnixMs(1_709_210_096_000)).unwrap();
    assert_eq!(rendered.text, want);
}

fn refused(source: &str, messages: &str) -> String {
    template(source).render(messages, None, UnixMs(0)).unwrap_err().to_string()
}

const ONE: &str = r#"[{"role":"user","content":"hi"}]"#;

#[test]
fn a_chat_is_rendered_as_the_model_was_trained() {
    check(
        SMOLLM2,
        r#"[{"role":"system","content":"Be brief."},{"role":"user","content":"a<b> & \"c\""}]"#,
        None,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<b> & \"c\"<|im_end|>\n<|im_start|>assistant\n",
    );
    check(
        SMOLLM2,
        ONE,
        None,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    );
}

#[test]
fn parts_are_flattened_and_null_is_empty() {
    let body = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    check(
        body,
        r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#,
        None,
        "[a\nb]",
    );
    check(body, r#"[{"role":"assistant","content":null},{"role":"assistant"}]"#, None, "[][]");
}

#[test]
fn tool_calls_and_other_fields_are_passed_through() {
    let body = "{% for m in messages %}{{ m.role }}:{{ m.name }}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %};{% endfor %}{{ tools | tojson }}";
    check(
        body,
        r#"[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"z\": 1, \"a\": \"<ü>\"}"}}]},{"role":"tool","name":"f","content":"2"}]"#,
        Some(r#"[{"type":"function"}]"#),
        "assistant:f{\"z\": 1, \"a\": \"<ü>\"};tool:f;[{\"type\": \"function\"}]",
    );
    check("{% if tools %}yes{% else %}no{% endif %}", ONE, Some("[]"), "no");
    check("{{ tools is none }}", ONE, None, "True");
}

#[test]
fn the_functions_that_templates_expect_are_there() {
    check("{{ bos_token }}{{ strftime_now('%d %b %Y') }}{{ eos_token }}", ONE, None, "<s>29 Feb 2024</s>");
    check(
        "{% set ns = namespace(n=0) %}\n{% for m in messages %}\n  {% set ns.n = ns.n + 1 %}\n{% endfor %}\n{{ ns.n }}",
        ONE,
        None,
        "1",
    );
    check("{{ messages[0].content.strip().startswith('h') and messages[-1].get('x', 1) }}", ONE, None, "1");
    check("{{ {'a': [1]} | tojson(indent=2) }}", ONE, None, "{\n  \"a\": [\n    1\n  ]\n}");
    check("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}", ONE, None, "");
}

#[test]
fn wrong_messages_are_named_by_place() {
    let cases = [
        ("{", "messages is not JSON at line 1 column 1"),
        ("{}", "messages must be an array"),
        ("[]", "messages is empty; send at least one message"),
        ("[1]", "messages[0] must be an object"),
        (r#"[{"content":"x"}]"#, "messages[0].role must be a string"),
        (
            r#"[{"role":"user","content":7}]"#,
            "messages[0].content must be a string, an array of parts or null",
        ),
        (
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#,
            "messages[0].content[0] has type `image_url`; this model reads parts of type `text` only",
        ),
        (r#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text must be a string"),
        (r#"[{"role":"user","content":["x"]}]"#, "messages[0].content[0] must be an object"),
    ];
    for (messages, want) in cases {
        assert_eq!(refused(SMOLLM2, messages), want, "{messages}");
    }
}

#[test]
fn the_number_of_messages_is_bounded() {
    let chat = |n: usize| format!("[{}]", vec![r#"{"role":"user"}"#; n].join(","));
    let rendered = template("{{ messages | length }}").render(&chat(MESSAGES_MAX), None, UnixMs(0)).unwrap();
    assert_eq!((rendered.text.as_str(), rendered.messages), ("16384", MESSAGES_MAX));
    assert_eq!(refused("x", &chat(MESSAGES_MAX + 1)), "messages has 16385 entries; at most 16384 are taken");
}

#[test]
fn a_template_refuses_in_its_own_words_and_fails_without_the_buyers() {
    let alternate = "{% if messages[0].role == 'tool' or messages[0].content == 'bad' %}{{ raise_exception('roles must alternate') }}{% endif %}ok";
    assert_eq!(
        refused(alternate, r#"[{"role":"user","content":"bad"}]"#),
        "the model's chat template refuses this conversation: roles must alternate"
    );
    let failing = "{% if messages[0].content == 'secret' %}{{ messages[0].content + 1 }}{% endif %}";
    let error = refused(failing, r#"[{"role":"user","content":"secret"}]"#);
    assert!(error.starts_with("the model's chat template failed on this conversation: "), "{error}");
    assert!(!error.contains("secret"));
}

#[test]
fn a_template_that_cannot_be_used_is_refused_at_load() {
    let refused = |source: &str| ChatTemplate::new(source, SpecialTokens::default()).is_err();
    assert!(refused("{% for %}"));
    assert!(refused("{{ raise_exception('never') }}"));
    assert!(refused("{% for i in range(100000000) %}x{% endfor %}"));
    assert!(refused(
        "{% set ns = namespace(s='0123456789') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
    ));
    assert!(refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"));
    assert!(!refused(&" ".repeat(TEMPLATE_BYTES_MAX)));
    assert!(refused(&" ".repeat(TEMPLATE_BYTES_MAX + 1)));
}

#[test]
fn the_overhead_bounds_what_the_template_adds() {
    let chat = template(SMOLLM2);
    for messages in [
        ONE.to_owned(),
        r#"[{"role":"system","content":""},{"role":"user","content":"12345"}]"#.to_owned(),
        format!("[{}]", vec![r#"{"role":"assistant","content":"x"}"#; 50].join(",")),
    ] {
        let rendered = chat.render(&messages, None, UnixMs(0)).unwrap();
        assert!(
            rendered.text.len() <= messages.len() + rendered.messages * chat.overhead_bytes_max() as usize
        );
    }
}
