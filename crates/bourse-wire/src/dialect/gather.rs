//! A whole answer, gathered from the events that say it.
//!
//! For grammars whose whole answer has the form of one event of their streams: one reader serves both. And for whoever asks
//! for a stream where an answer in one piece is wanted.

use super::answer::bare_items;
use super::neutral::{Choice, Part, StreamEvent};

/// What a part takes beside its text, in bytes, at least.
const PART_BYTES: usize = 128;

/// The choices that events have said so far. Their number is bounded by the reader, which refuses higher ones.
#[derive(Debug, Default)]
pub struct Gathered {
    choices: Vec<Choice>,
    bytes: usize,
}

impl Gathered {
    /// Takes one event. Texts that touch become one, and refusals; a signature belongs to the thoughts right before it, hidden
    /// thoughts stand alone.
    pub fn add(&mut self, event: StreamEvent<'_>) {
        let choice = event.choice();
        let parts = self.choice(choice).parts.len();
        self.bytes = self.bytes.saturating_add(kept_bytes(&event));
        self.take(event);
        let new = self.choice(choice).parts.len() - parts;
        self.bytes = self.bytes.saturating_add(new * PART_BYTES);
    }

    fn take(&mut self, event: StreamEvent<'_>) {
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
            StreamEvent::Refusal { choice, text } => match self.choice(choice).parts.last_mut() {
                Some(Part::Refusal { text: before }) => before.push_str(&text),
                _ => self.part(choice, Part::Refusal { text: text.into_owned() }),
            },
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

    /// Bytes that are kept of what events have brought so far: text, signatures, log-probabilities, and what each part
    /// takes beside them. Pictures are not in it.
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
        assert_eq!(gathered.bytes(), 3 + 15 + 2 + 13 + PART_BYTES, "three letters and what was said of them");
        let choices = gathered.into_choices();
        assert_eq!(choices[0].logprobs_json.as_deref(), Some("{\"token\":\"a\"},{\"token\":\"b\"}"));
        assert_eq!(choices[0].parts, [Part::text("xxx")]);
    }

    /// A grammar may have a place for each part of a refusal; the model said one.
    #[test]
    fn a_refusal_is_one_part() {
        let mut gathered = Gathered::default();
        for text in ["I ", "will ", "not."] {
            gathered.add(StreamEvent::Refusal { choice: 0, text: text.into() });
        }
        assert_eq!(gathered.into_choices()[0].parts, [Part::Refusal { text: "I will not.".to_owned() }]);
    }

    /// A part takes more than its text.
    #[test]
    fn parts_are_counted_with_what_they_take() {
        let mut gathered = Gathered::default();
        for n in 0..1_000 {
            let is_summary = n % 2 == 0;
            gathered.add(StreamEvent::Reasoning { choice: 0, text: "a".into(), is_summary });
        }
        assert_eq!(gathered.bytes(), 1_000 * (1 + PART_BYTES));
        let choices = gathered.into_choices();
        let taken = choices[0].parts.capacity() * size_of::<Part>();
        assert!(taken <= 2 * 1_000 * PART_BYTES, "{taken}");
        let mut gathered = Gathered::default();
        gathered.add(StreamEvent::Text { choice: 7, text: "a".into(), logprobs_json: None });
        gathered.add(StreamEvent::Text { choice: 7, text: "b".into(), logprobs_json: None });
        assert_eq!(gathered.bytes(), 2 + PART_BYTES, "texts that touch are one");
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
