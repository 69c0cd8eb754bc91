//! Golden texts and laws of the grammar. What several tests need stands here.

mod answers;
mod mirror;
mod requests;

pub(super) use mirror::MIRROR;

use super::*;
use crate::dialect::grammar::{SellerErrorKind, StreamNews};
use crate::dialect::neutral::strategies::of_choice;
use crate::dialect::neutral::{Message, Origin, Part, Role, Signed, StreamEvent};

const CALL: Call<'_> = Call { upstream_id: "gemini-3.8-flash", stream: false, max_tokens: None };

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn tool_call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), cache: None }
}

fn result(call_id: &str, text: &str) -> Part {
    let content = vec![Part::text(text)];
    Part::ToolResult { call_id: call_id.into(), content, is_error: false, cache: None }
}

/// Hidden thoughts of this grammar's sellers.
fn hidden(data: &str, call: Option<&str>) -> Part {
    let id = call.map(str::to_owned);
    let signed = Signed { origin: Origin::Google, id, data: data.into(), is_encrypted: true };
    Part::Reasoning { text: String::new(), is_summary: false, signed: Some(signed) }
}

/// What a reader makes of the events of a stream, with the last news of usage.
fn read_stream(chunks: &[&str]) -> Result<(Vec<StreamEvent<'static>>, StreamNews), SellerError> {
    let mut reader = Gemini.reader();
    let (mut events, mut news) = (Vec::new(), StreamNews::default());
    for chunk in chunks {
        let read = reader.read(chunk, &mut |event| {
            let choice = crate::dialect::neutral::strategies::choice_of(&event);
            events.push(of_choice(event, choice));
        })?;
        news = StreamNews { usage: read.usage.or(news.usage), is_last: read.is_last };
    }
    Ok((events, news))
}
