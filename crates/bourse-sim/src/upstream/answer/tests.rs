use super::*;
use crate::upstream::prompt::Prompt;
use std::collections::HashSet;

fn call(shape: Shape) -> Call {
    let mut prompt = Prompt::framed();
    prompt.message("user");
    prompt.text("what is the price", None);
    Call { text_seed: 1, ..Call::new(shape, "m", prompt) }
}

fn city() -> Tool {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    Tool { name: "weather".to_owned(), schema }
}

fn compose(call: &Call, script: &AnswerScript, order: u64) -> Answer {
    let config = SellerConfig::new("alpha", "m");
    let at = Circumstances { script, fault: None, order, created_s: 0, cache: CacheUse::default() };
    Answer::compose(call, &config, &at)
}

#[test]
fn absurd_lengths_are_bounded() {
    let words = |completion_words, max_tokens| {
        let config = SellerConfig { completion_words, ..SellerConfig::new("a", "m") };
        let call = Call { max_tokens, ..call(Shape::Chat) };
        let script = AnswerScript::default();
        let at = Circumstances {
            script: &script,
            fault: None,
            order: 0,
            created_s: 0,
            cache: CacheUse::default(),
        };
        Answer::compose(&call, &config, &at).choices[0].words.len()
    };
    assert_eq!((words(WORDS_MAX, None), words(WORDS_MAX + 1, None)), (WORDS_MAX, WORDS_MAX));
    assert_eq!((words(9, Some(u64::MAX)), words(0, None)), (9, 1));
    assert_eq!((words(0, None), words(9, Some(4))), (1, 4));
}

#[test]
fn arguments_split_between_the_halves_of_a_pair() {
    let text = format!("{{\"q\":\"{HIGH_HALF}{LOW_HALF}\"}}");
    let pieces = argument_pieces(&text);
    assert!(pieces[0].ends_with(HIGH_HALF) && pieces[1].starts_with(LOW_HALF));
    assert_eq!(to_json_text(&json!(pieces[0])), r#""{\"q\":\"\ud83e""#);
    assert_eq!(to_json_text(&json!(pieces[1])), r#""\udd80\"}""#);
    assert_eq!(argument_pieces("{}"), ["{", "}"]);
    assert_eq!(argument_pieces(""), [""; 0]);
}

#[test]
fn pieces_are_the_text_and_begin_with_its_white_space() {
    for text in ["", "a", "a b", "  a\n b c ", "{\n  \"a\": 1\n}"] {
        assert_eq!(pieces(text).concat(), text);
    }
    assert_eq!(pieces("a  b\nc"), ["a", "  b", "\nc"]);
}

#[test]
fn tools_are_called_as_the_buyer_allows() {
    let count = |say: Say, change: fn(&mut Call)| {
        let mut call =
            Call { tools: vec![city(), Tool { name: "clock".to_owned(), ..city() }], ..call(Shape::Chat) };
        change(&mut call);
        let answer = compose(&call, &AnswerScript::saying(say), 0);
        answer.choices[0].calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(count(Say::Natural, |_| {}), ["weather"]);
    assert_eq!(count(Say::Natural, |call| call.parallel = Parallel::Wanted), ["weather", "clock"]);
    assert_eq!(count(Say::ToolCalls(3), |_| {}), ["weather", "clock", "weather"]);
    assert_eq!(count(Say::ToolCalls(3), |call| call.parallel = Parallel::Forbidden), ["weather"]);
    let named = |call: &mut Call| call.tool_choice = ToolChoice::Named("clock".to_owned());
    assert_eq!(count(Say::Natural, named), ["clock"]);
    assert_eq!(count(Say::Natural, |call| call.tool_choice = ToolChoice::Never), [""; 0]);
    assert_eq!(count(Say::ToolCalls(2), |call| call.has_tool_result = true), [""; 0]);
    assert_eq!(count(Say::ToolCalls(2), |call| call.tools.clear()), [""; 0]);
    assert_eq!(count(Say::Text("no".to_owned()), |_| {}), [""; 0]);
    let asked = compose(&Call { tools: vec![city()], ..call(Shape::Chat) }, &AnswerScript::default(), 0);
    assert_eq!(asked.choices[0].calls[0].object().unwrap(), json!({"city": "Paris"}));
    assert_eq!(asked.choices[0].finish, Finish::ToolCalls);
}

#[test]
fn ids_of_tool_calls_are_distinct_within_and_between_answers() {
    let call = Call { tools: vec![city()], ..call(Shape::Chat) };
    let script = AnswerScript::saying(Say::ToolCalls(4));
    let ids: HashSet<String> = (0..4)
        .flat_map(|order| compose(&call, &script, order).choices[0].calls.clone())
        .map(|call| call.id)
        .collect();
    assert_eq!(ids.len(), 16);
}

#[test]
fn a_set_share_of_tool_calls_is_bad() {
    let call = Call { tools: vec![city()], ..call(Shape::Chat) };
    let bad = |permille, bad_calls: &[BadCall]| {
        let script = AnswerScript {
            bad_call_permille: permille,
            bad_calls: bad_calls.to_vec(),
            ..AnswerScript::default()
        };
        let is_bad = |order: &u64| {
            let made = &compose(&call, &script, *order).choices[0].calls[0];
            made.name != "weather" || made.object().is_none_or(|arguments| !arguments["city"].is_string())
        };
        (0..2_000).filter(is_bad).count()
    };
    assert_eq!((bad(0, &[]), bad(1_000, &[])), (0, 2_000));
    assert!((420..580).contains(&bad(250, &[])));
    for way in BadCall::ALL {
        assert_eq!(bad(1_000, &[way]), 2_000, "{way:?}");
    }
}

#[test]
fn reasoning_is_counted_and_comes_out_of_the_limit() {
    let script = AnswerScript { reasoning_words: 10, ..AnswerScript::default() };
    let of = |max_tokens, thinking| {
        let answer = compose(&Call { max_tokens, thinking, ..call(Shape::Messages) }, &script, 0);
        let choice = &answer.choices[0];
        (answer.usage.reasoning, answer.usage.completion, choice.words.len(), choice.finish)
    };
    assert_eq!(of(None, Thinking::Off), (0, 16, 16, Finish::Stop));
    assert_eq!(of(None, Thinking::Shown), (10, 26, 16, Finish::Stop));
    assert_eq!(of(Some(12), Thinking::Hidden), (10, 12, 2, Finish::Length));
    assert_eq!(of(Some(10), Thinking::Shown), (10, 10, 0, Finish::Length));
    assert_eq!(of(Some(4), Thinking::Shown), (4, 4, 0, Finish::Length));
}

#[test]
fn a_wished_form_is_kept() {
    let schema = city().schema;
    let text = |format| {
        let answer = compose(&Call { format, ..call(Shape::Chat) }, &AnswerScript::default(), 0);
        answer.choices[0].words.concat()
    };
    let fits: Value = serde_json::from_str(&text(Format::Schema(schema))).unwrap();
    assert_eq!(fits, json!({"city": "Paris"}));
    assert!(serde_json::from_str::<Value>(&text(Format::Json)).unwrap()["answer"].is_string());
}
