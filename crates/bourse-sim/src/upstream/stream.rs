//! The body of a streamed answer, with its faults.
//!
//! First the honest list of events, which a shape's grammar writes, then the fault's change to that list,
//! then bytes.

use super::fault::Fault;
use super::plain::{HUGE_LINE_BYTES, KEEP_ALIVES, inside_a_character};
use super::response::{Event, Framing, Grammar, Part, Told, grammar, render};
use super::script::{Body, Close, Step};
use serde_json::Value;
use std::time::Duration;

/// The unframed body.
pub(super) fn body(told: &Told<'_>) -> Body {
    let grammar = grammar(told.call.shape);
    let mut events = grammar.events(told);
    let (cut, hang) = apply(grammar, told, &mut events);
    grammar.number(&mut events);
    let mut steps = steps(grammar, told, &events);
    steps.extend(hang);
    if matches!(told.fault, Some(Fault::CutMidUtf8 | Fault::CutMidJson)) {
        cut_last(told.fault, &mut steps);
    }
    let content_type = match grammar.framing() {
        Framing::Events => "text/event-stream",
        Framing::Lines => "application/x-ndjson",
    };
    Body { content_type, steps, chunked: true, cut }
}

/// Changes the honest list; returns how the connection is cut, and what follows the last event.
fn apply(grammar: &dyn Grammar, told: &Told<'_>, events: &mut Vec<Event>) -> (Option<Close>, Option<Step>) {
    let Some(fault) = told.fault else { return (None, None) };
    match fault {
        Fault::HeadersThenHang => {
            events.clear();
            return (Some(Close::Fin), Some(Step::Hang));
        }
        Fault::CommentsForever => {
            events.clear();
            let bytes = grammar.keep_alive().to_vec();
            let step = Step::Repeat { bytes, every: told.config.timing.drip };
            return (Some(Close::Fin), Some(step));
        }
        Fault::EmptyAnswer => events.retain(|event| event.part == Part::Done),
        Fault::FirstEventError => *events = vec![grammar.error(told)],
        Fault::ErrorAfterRole => {
            events.retain(|event| event.part == Part::Role);
            events.push(grammar.error(told));
        }
        Fault::ErrorAfterTokens => {
            keep_half(events);
            events.extend(grammar.broken_off(told));
        }
        Fault::CutWithoutDone => keep_half(events),
        Fault::ResetMidBody => {
            keep_half(events);
            return (Some(Close::Reset), None);
        }
        Fault::CutMidUtf8 | Fault::CutMidJson => {
            keep_half(events);
            events.push(grammar.late(told, " 🦀 cut"));
            return (Some(Close::Fin), None);
        }
        Fault::DoneWithoutFinish => grammar.unfinish(events),
        Fault::HugeLine => {
            if let Some(event) = events.iter_mut().find(|event| event.part == Part::Content) {
                event.data["obfuscation"] = Value::from("x".repeat(HUGE_LINE_BYTES));
            }
        }
        Fault::ContentAfterFinish => {
            let finish_at = events.iter().rposition(|event| event.part == Part::Finish).unwrap_or(0);
            events.insert(finish_at + 1, grammar.late(told, " late"));
        }
        _ => grammar.reshape(told, events),
    }
    (None, None)
}

fn steps(grammar: &dyn Grammar, told: &Told<'_>, events: &[Event]) -> Vec<Step> {
    let (speed, timing, fault) = (told.config.speed, told.config.timing, told.fault);
    let per_token =
        if fault == Some(Fault::LateBytes) { timing.drip.max(speed.per_token) } else { speed.per_token };
    let total: u64 = told.answer.usage.completion;
    let pieces = events.iter().filter(|event| event.part == Part::Content).count();
    let (mut steps, mut sent, mut said, mut gap_due) =
        (Vec::new(), 0u64, 0usize, fault == Some(Fault::IdleGap));
    for event in events {
        // A picture without previews is its end at once, and takes its time all the same.
        let opens = said == 0 && matches!(event.part, Part::Content | Part::Finish);
        if opens || event.part == Part::Content {
            let wait = if opens { speed.first_token } else { per_token };
            if wait > Duration::ZERO {
                steps.push(Step::Wait(wait));
            }
        }
        if fault == Some(Fault::KeepAliveComments) && opens {
            for _ in 0..KEEP_ALIVES {
                steps.extend([Step::send(grammar.keep_alive()), Step::Wait(timing.drip)]);
            }
        }
        let bytes = render(grammar.framing(), fault, event);
        steps.push(Step::Send { bytes, tokens: event.tokens, missing: 0 });
        sent += event.tokens;
        said += usize::from(event.part == Part::Content);
        // Pictures and sound count no tokens: their half is of the pieces.
        let half = if total > 0 { sent > 0 && sent * 2 >= total } else { said > 0 && said * 2 >= pieces };
        if gap_due && half {
            steps.push(Step::Wait(timing.gap));
            gap_due = false;
        }
    }
    steps
}

/// Keeps what stands before the middle of the content, at least one piece of it.
fn keep_half(events: &mut Vec<Event>) {
    let content: Vec<usize> = (0..events.len()).filter(|at| events[*at].part == Part::Content).collect();
    let last = content.get(content.len().div_ceil(2).saturating_sub(1));
    let opening = || events.iter().take_while(|event| event.part == Part::Role).count();
    events.truncate(last.map_or_else(opening, |at| at + 1));
}

/// Cuts the last event: inside its character of four bytes, or inside its JSON.
fn cut_last(fault: Option<Fault>, steps: &mut [Step]) {
    if let Some(Step::Send { bytes, missing, .. }) = steps.last_mut() {
        let at = match fault {
            Some(Fault::CutMidUtf8) => inside_a_character(bytes),
            _ => None,
        };
        let at = at.unwrap_or(bytes.len() / 2);
        *missing = bytes.len() - at;
        bytes.truncate(at);
    }
}
