//! Answers, whole and in pieces.

use super::{arguments, normal_parts, text, thought};
use crate::dialect::neutral::{Answer, Choice, Origin, Part, StreamEvent};
use crate::receipt::Finish;
use bourse_types::{Charge, NanoUsd, Usage};
use proptest::collection::vec;
use proptest::prelude::*;
use std::borrow::Cow;

/// A stream: for each choice thoughts, text, calls, and its end. With more than one choice they take turns.
pub(crate) fn events(
    origins: &'static [Origin],
    choices_max: u32,
) -> impl Strategy<Value = Vec<StreamEvent<'static>>> {
    vec(choice_events(origins), 1..=choices_max as usize).prop_map(|choices| {
        let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
        let mut out = Vec::new();
        for step in 0..longest {
            for (n, events) in choices.iter().enumerate() {
                out.extend(events.get(step).cloned().map(|event| of_choice(event, n as u32)));
            }
        }
        out
    })
}

fn choice_events(origins: &'static [Origin]) -> impl Strategy<Value = Vec<StreamEvent<'static>>> {
    let calls = vec(("[a-z_]{1,8}", arguments()), 0..3);
    (vec(thought(origins), 0..2), vec(text(), 0..4), calls, 0usize..3).prop_map(
        |(thoughts, texts, calls, end)| {
            let mut out = Vec::new();
            for thought in thoughts {
                push_thought(&mut out, thought);
            }
            for text in texts {
                out.push(StreamEvent::Text { choice: 0, text: Cow::Owned(text), logprobs_json: None });
            }
            let called = !calls.is_empty();
            for (n, (name, arguments)) in calls.into_iter().enumerate() {
                push_call(&mut out, n as u32, name, &arguments);
            }
            let finish = [Finish::Stop, Finish::Length, Finish::ContentFilter][end];
            let finish = if called { Finish::ToolCalls } else { finish };
            out.push(StreamEvent::Finish { choice: 0, finish, native: None });
            out
        },
    )
}

fn push_thought(out: &mut Vec<StreamEvent<'static>>, thought: Part) {
    let Part::Reasoning { text, is_summary, signed } = thought else { return };
    if !text.is_empty() {
        out.push(StreamEvent::Reasoning { choice: 0, text: Cow::Owned(text), is_summary });
    }
    if let Some(signed) = signed {
        out.push(StreamEvent::Signed { choice: 0, signed });
    }
}

/// A call whose arguments come in two pieces.
fn push_call(out: &mut Vec<StreamEvent<'static>>, call: u32, name: String, arguments: &str) {
    let id = Cow::Owned(format!("call_{call}"));
    out.push(StreamEvent::ToolCall { choice: 0, call, id, name: Cow::Owned(name) });
    let (one, two) = arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2));
    for piece in [one, two] {
        out.push(StreamEvent::ToolArguments { choice: 0, call, json: Cow::Owned(piece.to_owned()) });
    }
}

/// An event without borrows, as an event of another choice.
pub(crate) fn of_choice(event: StreamEvent<'_>, choice: u32) -> StreamEvent<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    match event {
        StreamEvent::Text { text, logprobs_json, .. } => {
            StreamEvent::Text { choice, text: own(text), logprobs_json: logprobs_json.map(own) }
        }
        StreamEvent::Reasoning { text, is_summary, .. } => {
            StreamEvent::Reasoning { choice, text: own(text), is_summary }
        }
        StreamEvent::Signed { signed, .. } => StreamEvent::Signed { choice, signed },
        StreamEvent::Refusal { text, .. } => StreamEvent::Refusal { choice, text: own(text) },
        StreamEvent::ToolCall { call, id, name, .. } => {
            StreamEvent::ToolCall { choice, call, id: own(id), name: own(name) }
        }
        StreamEvent::ToolArguments { call, json, .. } => {
            StreamEvent::ToolArguments { choice, call, json: own(json) }
        }
        StreamEvent::Finish { finish, native, .. } => {
            StreamEvent::Finish { choice, finish, native: native.map(own) }
        }
    }
}

/// Which choice an event belongs to.
pub(crate) fn choice_of(event: &StreamEvent<'_>) -> u32 {
    match event {
        StreamEvent::Text { choice, .. }
        | StreamEvent::Reasoning { choice, .. }
        | StreamEvent::Signed { choice, .. }
        | StreamEvent::Refusal { choice, .. }
        | StreamEvent::ToolCall { choice, .. }
        | StreamEvent::ToolArguments { choice, .. }
        | StreamEvent::Finish { choice, .. } => *choice,
    }
}

/// The form in which two streams that say the same are equal: choice by choice, pieces that touch are one,
/// empty ones are gone. The seller's own words for ends are left out.
pub(crate) fn merged(events: &[StreamEvent<'_>]) -> Vec<StreamEvent<'static>> {
    let mut all: Vec<StreamEvent<'static>> =
        events.iter().map(|event| of_choice(event.clone(), choice_of(event))).collect();
    all.sort_by_key(choice_of);
    let mut out: Vec<StreamEvent<'static>> = Vec::new();
    for mut event in all {
        if let StreamEvent::Finish { native, .. } = &mut event {
            *native = None;
        }
        if is_empty(&event) || out.last_mut().is_some_and(|last| joins(last, &event)) {
            continue;
        }
        out.push(event);
    }
    out
}

fn is_empty(event: &StreamEvent<'_>) -> bool {
    match event {
        StreamEvent::Text { text, logprobs_json: None, .. }
        | StreamEvent::Reasoning { text, .. }
        | StreamEvent::Refusal { text, .. }
        | StreamEvent::ToolArguments { json: text, .. } => text.is_empty(),
        _ => false,
    }
}

/// Appends `event` to `last` where both are pieces of the same.
fn joins(last: &mut StreamEvent<'static>, event: &StreamEvent<'_>) -> bool {
    if choice_of(last) != choice_of(event) {
        return false;
    }
    match (last, event) {
        (
            StreamEvent::Text { text: before, logprobs_json: None, .. },
            StreamEvent::Text { text, logprobs_json: None, .. },
        )
        | (StreamEvent::Refusal { text: before, .. }, StreamEvent::Refusal { text, .. }) => {
            before.to_mut().push_str(text);
            true
        }
        (
            StreamEvent::Reasoning { text: before, is_summary: was, .. },
            StreamEvent::Reasoning { text, is_summary, .. },
        ) if was == is_summary => {
            before.to_mut().push_str(text);
            true
        }
        (
            StreamEvent::ToolArguments { call: k, json: before, .. },
            StreamEvent::ToolArguments { call, json, .. },
        ) if k == call => {
            before.to_mut().push_str(json);
            true
        }
        _ => false,
    }
}

/// The whole answer that a stream amounts to. A signature belongs to the thoughts right before it; hidden
/// thoughts stand alone, but OpenAI's stand behind their summary.
pub(crate) fn answer_of(events: &[StreamEvent<'_>]) -> Answer {
    let mut answer = Answer::default();
    for event in merged(events) {
        let n = choice_of(&event) as usize;
        while answer.choices.len() <= n {
            answer.choices.push(Choice::default());
        }
        add_event(&mut answer.choices[n], event);
    }
    answer
}

fn add_event(choice: &mut Choice, event: StreamEvent<'static>) {
    match event {
        StreamEvent::Text { text, .. } => choice.parts.push(Part::text(text.into_owned())),
        StreamEvent::Reasoning { text, is_summary, .. } => {
            choice.parts.push(Part::Reasoning { text: text.into_owned(), is_summary, signed: None });
        }
        StreamEvent::Signed { signed: new, .. } => match choice.parts.last_mut() {
            Some(Part::Reasoning { signed: slot @ None, is_summary, .. })
                if !new.is_encrypted || *is_summary =>
            {
                *slot = Some(new);
            }
            _ => {
                choice.parts.push(Part::Reasoning {
                    text: String::new(),
                    is_summary: false,
                    signed: Some(new),
                });
            }
        },
        StreamEvent::Refusal { text, .. } => choice.parts.push(Part::Refusal { text: text.into_owned() }),
        StreamEvent::ToolCall { id, name, .. } => choice.parts.push(Part::ToolCall {
            id: id.into_owned(),
            name: name.into_owned(),
            arguments: String::new(),
            cache: None,
        }),
        StreamEvent::ToolArguments { call, json, .. } => {
            let mut calls = choice.parts.iter_mut().filter_map(|part| match part {
                Part::ToolCall { arguments, .. } => Some(arguments),
                _ => None,
            });
            if let Some(arguments) = calls.nth(call as usize) {
                arguments.push_str(&json);
            }
        }
        StreamEvent::Finish { finish, .. } => choice.finish = Some(finish),
    }
}

/// A whole answer.
pub(crate) fn answer(origins: &'static [Origin], choices_max: u32) -> impl Strategy<Value = Answer> {
    events(origins, choices_max).prop_map(|events| answer_of(&events))
}

/// The form in which two answers that say the same are equal: texts that touch are one, ids, model, usage,
/// tier and the seller's own words are left out.
pub(crate) fn normal_answer(mut answer: Answer) -> Answer {
    for choice in &mut answer.choices {
        choice.parts = normal_parts(std::mem::take(&mut choice.parts));
        choice.native_finish = None;
    }
    Answer { choices: answer.choices, ..Answer::default() }
}

/// A small bill with every count different.
pub(crate) fn bill() -> (Usage, Charge) {
    let (prompt, completion, total) = (NanoUsd(1), NanoUsd(2), NanoUsd(3));
    (Usage::of_tokens(3, 1, 2), Charge { prompt, completion, total, ..Charge::ZERO })
}
