//! Answers: from every seller's grammar into every buyer's.

use super::*;
use crate::dialect::CHOICES_MAX;
use crate::dialect::grammar::{Framing, Passage, Seen, Sink, Translation};
use crate::dialect::neutral::strategies::{answer_of, choice_of, events, merged, normal_answer, of_choice};
use crate::dialect::neutral::{Answer, Origin, Part, StreamEvent};
use crate::receipt::Finish;
use crate::sse::{Event, Scanner};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use std::borrow::Cow;

type Events = Vec<StreamEvent<'static>>;

/// What a grammar cannot say of an answer.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent loss")]
pub(in crate::dialect) struct Lost {
    /// Ids of signed thoughts.
    pub(in crate::dialect) ids: bool,
    /// Whether thoughts are a summary.
    pub(in crate::dialect) summaries: bool,
    /// Whether a signature is the thoughts themselves.
    pub(in crate::dialect) encryption: bool,
    /// Choices but the first.
    pub(in crate::dialect) choices: bool,
    /// That a filter ended it.
    pub(in crate::dialect) filter: bool,
}

impl Lost {
    fn of(shape: Shape) -> Self {
        let nothing = Self::default();
        match shape {
            Shape::Responses => Self { ids: true, choices: true, ..nothing },
            Shape::Messages => Self { filter: false, ..Self::all() },
            Shape::Chat => nothing,
            shape => Mirror::of(shape).lost,
        }
    }

    /// Of a grammar that has neither signed thoughts nor choices.
    pub(in crate::dialect) const fn all() -> Self {
        Self { ids: true, summaries: true, encryption: true, choices: true, filter: true }
    }

    /// What is lost on the way through both.
    fn and(self, other: Self) -> Self {
        Self {
            ids: self.ids || other.ids,
            summaries: self.summaries || other.summaries,
            encryption: self.encryption || other.encryption,
            choices: self.choices || other.choices,
            filter: self.filter || other.filter,
        }
    }

    /// Events less what is lost.
    fn of_events(self, events: &[StreamEvent<'_>]) -> Events {
        let kept = events.iter().filter(|event| !self.choices || choice_of(event) == 0);
        let less = kept.map(|event| {
            let mut event = of_choice(event.clone(), choice_of(event));
            match &mut event {
                StreamEvent::Signed { signed, .. } => {
                    self.of_signed(&mut signed.id, &mut signed.is_encrypted);
                }
                StreamEvent::Reasoning { is_summary, .. } => *is_summary &= !self.summaries,
                StreamEvent::Finish { finish, .. } if self.filter && *finish == Finish::ContentFilter => {
                    *finish = Finish::Stop;
                }
                _ => {}
            }
            event
        });
        merged(&less.collect::<Events>())
    }

    /// A whole answer less what is lost.
    fn of_answer(self, mut answer: Answer) -> Answer {
        for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
            if let Part::Reasoning { is_summary, signed, .. } = part {
                *is_summary &= !self.summaries;
                if let Some(signed) = signed {
                    self.of_signed(&mut signed.id, &mut signed.is_encrypted);
                }
            }
        }
        normal_answer(answer)
    }

    fn of_signed(self, id: &mut Option<String>, is_encrypted: &mut bool) {
        if self.ids {
            *id = None;
        }
        *is_encrypted &= !self.encryption;
    }
}

/// Whose signatures a seller of this grammar makes.
fn signs(shape: Shape, origin: Origin) -> bool {
    front_of(shape).is_some() || (Mirror::of(shape).signs)(origin)
}

/// The payloads by which a seller says these events.
fn spoken(shape: Shape, events: &[StreamEvent<'static>]) -> Vec<String> {
    let Some(api) = front_of(shape) else {
        let say = Mirror::of(shape).say;
        return events.iter().filter_map(|event| say(event, events)).map(|value| value.to_string()).collect();
    };
    let (mut writer, mut out) = (front::writer(api, &head()), Vec::new());
    for event in events {
        writer.event(event, &mut out);
    }
    with_billed(|billed| writer.end(billed, b"", &mut out));
    scanned(Framing::Sse, &out).iter().filter_map(|event| event.text().map(Cow::into_owned)).collect()
}

/// All arguments of a call, for grammars that say them at once.
pub(in crate::dialect) fn arguments(of: u32, call: u32, events: &[StreamEvent<'_>]) -> Value {
    let pieces = events.iter().filter_map(|event| match event {
        StreamEvent::ToolArguments { choice, call: n, json } if (*choice, *n) == (of, call) => {
            Some(json.as_ref())
        }
        _ => None,
    });
    serde_json::from_str(&pieces.collect::<String>()).unwrap()
}

fn scanned(framing: Framing, bytes: &[u8]) -> Vec<Event> {
    let mut scanner = Scanner::new(framing);
    scanner.push(Bytes::copy_from_slice(bytes));
    std::iter::from_fn(move || scanner.next_event().unwrap()).collect()
}

#[derive(Default)]
struct Taken(Vec<u8>);

impl Sink for Taken {
    fn push(&mut self, bytes: Bytes) {
        self.extend(&bytes);
    }
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// A seller's stream on its way to a buyer: what the meter saw, and what the buyer got.
fn translated(seller: &dyn Dialect, api: Api, payloads: &[String]) -> (Vec<Seen>, Vec<u8>) {
    let framing = seller.facts().framing;
    let frame = |payload: &String| match framing {
        Framing::Sse => format!("data: {payload}\n\n"),
        Framing::Lines => format!("{payload}\n"),
    };
    let bytes: String = payloads.iter().map(frame).collect();
    let mut translation = Translation::new(seller.reader(), front::writer(api, &head()), CHOICES_MAX);
    let mut taken = Taken::default();
    let events = scanned(framing, bytes.as_bytes());
    let seen = events.iter().map(|event| translation.event(event, &mut taken).unwrap()).collect();
    with_billed(|billed| translation.end(billed, b"", &mut taken.0));
    (seen, taken.0)
}

/// What a reader makes of a stream, its last usage, and how often it said that nothing more comes.
fn heard(dialect: &dyn Dialect, bytes: &[u8]) -> (Events, Option<SellerUsage>, usize) {
    let mut reader = dialect.reader();
    let (mut events, mut usage, mut ends) = (Vec::new(), None, 0);
    for event in scanned(Framing::Sse, bytes) {
        let news = reader.read(&event.text().unwrap(), &mut |event| {
            let choice = choice_of(&event);
            events.push(of_choice(event, choice));
        });
        let news = news.unwrap();
        usage = news.usage.unwrap_or(usage);
        ends += usize::from(news.is_last);
    }
    (events, usage, ends)
}

proptest! {
    // Each case is every seller by three buyers.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sellers_stream_reaches_every_buyer(generated in events(&Origin::ALL, 2)) {
        for seller in sellers() {
            let shape = seller.facts().shape;
            let has_one = Lost::of(shape).choices;
            let sayable = |event: &&StreamEvent<'static>| match event {
                event if has_one && choice_of(event) > 0 => false,
                StreamEvent::Signed { signed, .. } => signs(shape, signed.origin),
                _ => true,
            };
            let said: Events = generated.iter().filter(sayable).cloned().collect();
            let payloads = spoken(shape, &said);
            for api in FRONTS {
                let (seen, bytes) = translated(seller, api, &payloads);
                let (back, usage, ends) = heard(own(api), &bytes);
                let lost = Lost::of(shape).and(Lost::of(api.shape()));
                prop_assert_eq!(lost.of_events(&back), lost.of_events(&said), "{:?} {:?}", shape, api);
                let claim = usage.map(|usage| (usage.prompt, usage.cached, usage.completion));
                prop_assert_eq!((claim, ends), (Some((3, 1, 2)), 1));

                let of_seller = Lost::of(shape).of_events(&said);
                let count = |is: fn(&StreamEvent<'_>) -> bool| of_seller.iter().filter(|event| is(event)).count();
                let finishes: u32 = seen.iter().map(|seen| seen.finishes).sum();
                let calls: u32 = seen.iter().map(|seen| seen.tool_calls).sum();
                prop_assert_eq!(finishes as usize, count(|event| matches!(event, StreamEvent::Finish { .. })));
                prop_assert_eq!(calls as usize, count(|event| matches!(event, StreamEvent::ToolCall { .. })));
                let claims = seen.iter().filter_map(|seen| seen.news.usage).next_back().flatten();
                prop_assert_eq!(claims.map(|usage| (usage.prompt, usage.completion)), Some((3, 2)));
            }
        }
    }

    #[test]
    fn every_sellers_answer_reaches_every_buyer(generated in events(&Origin::ALL, 2)) {
        for api in FRONTS {
            let answer = answer_of(&generated);
            let mut out = Vec::new();
            with_billed(|billed| front::push_answer(api, &head(), &answer, billed, b"", &mut out));
            let back = own(api).read_answer(std::str::from_utf8(&out).unwrap()).unwrap();
            prop_assert_eq!(back.usage.map(|usage| (usage.prompt, usage.completion)), Some((3, 2)));
            let lost = Lost::of(api.shape());
            let choices = if lost.choices { 1 } else { usize::MAX };
            let want = Answer { choices: answer.choices.into_iter().take(choices).collect(), ..Answer::default() };
            prop_assert_eq!(lost.of_answer(back), lost.of_answer(want), "{:?}", api);
        }
    }
}
