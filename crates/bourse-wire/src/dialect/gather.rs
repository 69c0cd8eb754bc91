//! A whole answer, gathered from the events that say it.
//!
//! For grammars whose whole answer has the form of one event of their streams: one reader serves both. And for whoever asks
//! for a stream where an answer in one piece is wanted.

use super::answer::bare_items;
use super::neutral::{Choice, Part, StreamEvent};

/// The choices that events have said so far. Their number is bounded by the reader, which refuses higher ones.
#[derive(Debug, Default)]
pub struct Gathered {
    choices: Vec<Choice>,
    bytes: usize,
}

impl Gathered {
    /// Takes one event. Texts that touch become one; a signature belongs to the thoughts right before it, hidden
    /// thoughts stand alone.
    pub fn add(&mut self, event: StreamEvent<'_>) {
        self.bytes = self.bytes.saturating_add(kept_bytes(&event));
        match event {
            StreamEvent::Text { choice, text, logprobs_json } => {
                let choice = self.choice(choice);
                if let Some(items) = logprobs_json {
                    add_logprobs(choice, bare_items(&items));
                }
                match choice.parts.last_mut() {
                    _ if text.is_empty() => {}
                    Some(Part::Text { text: before, .. }) => before.push_str(&text),
                    _ => choice.parts.push(Part::text(text)),
                }
            }
            StreamEvent::Reasoning { choice, text, is_summary } => {
                let parts = &mut self.choice(choice).parts;
                match parts.last_mut() {
                    Some(Part::Reasoning { text: before, is_summary: was, signed: None })
                        if *was == is_summary =>
                    {
                        before.push_str(&text);
                    }
                    _ => parts.push(Part::Reasoning { text: text.into_owned(), is_summary, signed: None }),
                }
            }
            StreamEvent::Signed { choice, signed: new } => {
                let parts = &mut self.choice(choice).parts;
                match parts.last_mut() {
                    Some(Part::Reasoning { signed: slot @ None, is_summary, .. })
                        if !new.is_encrypted || *is_summary =>
                    {
                        *slot = Some(new);
                    }
                    _ => parts.push(Part::Reasoning {
                        text: String::new(),
                        is_summary: false,
                        signed: Some(new),
                    }),
                }
            }
            StreamEvent::Refusal { choice, text } => {
                self.part(choice, Part::Refusal { text: text.into_owned() });
            }
            StreamEvent::ToolCall { choice, id, name, .. } => {
                let (id, name) = (id.into_owned(), name.into_owned());
                self.part(choice, Part::ToolCall { id, name, arguments: String::new(), cache: None });
            }
            StreamEvent::ToolArguments { choice, call, json } => {
                let mut calls = self.choice(choice).parts.iter_mut().filter_map(|part| match part {
                    Part::ToolCall { arguments, .. } => Some(arguments),
                    _ => None,
                });
                if let Some(arguments) = calls.nth(call as usize) {
                    arguments.push_str(&json);
                }
            }
            StreamEvent::Finish { choice, finish, native } => {
                let choice = self.choice(choice);
                choice.finish = Some(finish);
                choice.native_finish = native.map(std::borrow::Cow::into_owned);
            }
        }
    }

    /// Adds what streams have no event for: a picture.
    pub(super) fn part(&mut self, choice: u32, part: Part) {
        self.choice(choice).parts.push(part);
    }

    /// All choices, in order of their indices.
    pub fn into_choices(self) -> Vec<Choice> {
        self.choices
    }

    /// Bytes of text that events have brought so far, signatures and log-probabilities with it. Pictures are not in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn choice(&mut self, n: u32) -> &mut Choice {
        let n = n as usize;
        if self.choices.len() <= n {
            self.choices.resize_with(n + 1, Choice::default);
        }
        &mut self.choices[n]
    }
}

fn kept_bytes(event: &StreamEvent<'_>) -> usize {
    match event {
        StreamEvent::Text { text, logprobs_json, .. } => {
            text.len() + logprobs_json.as_ref().map_or(0, |items| items.len())
        }
        StreamEvent::Reasoning { text, .. } | StreamEvent::Refusal { text, .. } => text.len(),
        StreamEvent::Signed { signed, .. } => signed.data.len(),
        StreamEvent::ToolCall { id, name, .. } => id.len() + name.len(),
        StreamEvent::ToolArguments { json, .. } => json.len(),
        StreamEvent::Finish { native, .. } => native.as_ref().map_or(0, |word| word.len()),
    }
}

fn add_logprobs(choice: &mut Choice, items: &str) {
    if items.is_empty() {
        return;
    }
    match &mut choice.logprobs_json {
        Some(before) => {
            before.push(',');
            before.push_str(items);
        }
        slot => *slot = Some(items.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::neutral::Answer;
    use crate::dialect::neutral::Origin;
    use crate::dialect::neutral::strategies::{answer_of, events, normal_answer};
    use proptest::prelude::*;
    use std::borrow::Cow;

    #[test]
    fn logprobs_are_joined_without_brackets() {
        let mut gathered = Gathered::default();
        for items in ["[{\"token\":\"a\"}]", "[]", "{\"token\":\"b\"}"] {
            let logprobs_json = Some(Cow::Borrowed(items));
            gathered.add(StreamEvent::Text { choice: 0, text: "x".into(), logprobs_json });
        }
        assert_eq!(gathered.bytes(), 3 + 15 + 2 + 13, "three letters and what was said of them");
        let choices = gathered.into_choices();
        assert_eq!(choices[0].logprobs_json.as_deref(), Some("{\"token\":\"a\"},{\"token\":\"b\"}"));
        assert_eq!(choices[0].parts, [Part::text("xxx")]);
    }

    proptest! {
        #[test]
        fn what_is_gathered_is_what_the_stream_amounts_to(events in events(&Origin::ALL, 3)) {
            let mut gathered = Gathered::default();
            for event in events.clone() {
                gathered.add(event);
            }
            let answer = Answer { choices: gathered.into_choices(), ..Answer::default() };
            prop_assert_eq!(normal_answer(answer), normal_answer(answer_of(&events)));
        }
    }
}
