//! A seller's stream of this grammar, event by event.
//!
//! Deltas say everything; the `done` events that repeat them are read only where nothing came before them.
//! Limit: a stream begins at most [`CALLS_MAX`] calls.

use super::answer::{ItemJson, PARAGRAPH, string};
use super::envelope::read_usage;
use super::error::read_failure;
use super::event::{EventView, Kind, ResponseView};
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::grammar::{EventReader, SellerError, StreamNews};
use crate::dialect::neutral::{Part, StreamEvent};
use crate::json::JsonError;
use crate::receipt::Finish;
use std::borrow::Cow;
use std::ops::Range;

/// Most calls of one stream.
pub(super) const CALLS_MAX: usize = 1_024;

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// In the order in which they began.
    calls: Vec<OpenCall>,
}

#[derive(Debug)]
struct OpenCall {
    output_index: Option<u64>,
    has_arguments: bool,
}

fn malformed(error: JsonError) -> SellerError {
    SellerError::cut(&format!("an event cannot be read: {error}"))
}

type Each<'e> = &'e mut dyn FnMut(StreamEvent<'_>);

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: Each<'_>) -> Result<StreamNews, SellerError> {
        if data.trim_ascii() == "[DONE]" {
            return Ok(StreamNews { usage: None, is_last: true });
        }
        let mended = without_lone_surrogates(data);
        let data = mended.as_ref();
        let view = EventView::read(data).map_err(malformed)?;
        let text = |span: &Option<Range<usize>>| span.clone().and_then(|span| string(&data[span]));
        match view.kind {
            Kind::Failed => return Err(read_failure(data)),
            Kind::Completed | Kind::Incomplete => return self.finish(&view, data, each),
            Kind::Text => {
                let logprobs = view.logprobs.clone().map(|span| &data[span]);
                let logprobs_json = logprobs.filter(|raw| raw.len() > 2 && raw.starts_with('['));
                if let Some(text) = text(&view.delta) {
                    each(StreamEvent::Text {
                        choice: 0,
                        text,
                        logprobs_json: logprobs_json.map(Cow::Borrowed),
                    });
                }
            }
            Kind::Refusal => {
                if let Some(text) = text(&view.delta) {
                    each(StreamEvent::Refusal { choice: 0, text });
                }
            }
            Kind::Thoughts | Kind::Summary => {
                if let Some(text) = text(&view.delta) {
                    each(StreamEvent::Reasoning { choice: 0, text, is_summary: view.kind == Kind::Summary });
                }
            }
            Kind::SummaryPart if view.summary_index.is_some_and(|n| n > 0) => {
                each(StreamEvent::Reasoning { choice: 0, text: Cow::Borrowed(PARAGRAPH), is_summary: true });
            }
            Kind::Arguments => self.arguments(&view, text(&view.delta), each),
            Kind::ArgumentsDone if self.lacks_arguments(&view) => {
                self.arguments(&view, text(&view.arguments), each);
            }
            Kind::ItemAdded | Kind::ItemDone => self.item(&view, data, each)?,
            Kind::SummaryPart | Kind::ArgumentsDone | Kind::OtherDelta | Kind::Other => {}
        }
        Ok(StreamNews::default())
    }
}

impl Reader {
    fn call(&mut self, view: &EventView) -> Option<(u32, &mut OpenCall)> {
        let found = self.calls.iter().rposition(|call| call.output_index == view.output_index)?;
        Some((found as u32, &mut self.calls[found]))
    }

    fn lacks_arguments(&mut self, view: &EventView) -> bool {
        self.call(view).is_some_and(|(_, call)| !call.has_arguments)
    }

    /// Arguments of a call that never began say nothing.
    fn arguments(&mut self, view: &EventView, json: Option<Cow<'_, str>>, each: Each<'_>) {
        let (Some((call, open)), Some(json)) = (self.call(view), json) else { return };
        open.has_arguments |= !json.is_empty();
        each(StreamEvent::ToolArguments { choice: 0, call, json });
    }

    fn item(&mut self, view: &EventView, data: &str, each: Each<'_>) -> Result<(), SellerError> {
        let Some(span) = view.item.clone() else { return Ok(()) };
        // Items of types that are not known may hold anything under the same names.
        let Ok(item) = serde_json::from_str::<ItemJson>(&data[span]) else { return Ok(()) };
        match (item.kind.as_str(), view.kind) {
            ("function_call", _) => self.begin_call(view, item, each),
            ("reasoning", Kind::ItemDone) => {
                if let Some(Part::Reasoning { signed: Some(signed), .. }) = item.thoughts() {
                    each(StreamEvent::Signed { choice: 0, signed });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A call begins when its item is added, or at the latest when it is done.
    fn begin_call(&mut self, view: &EventView, item: ItemJson, each: Each<'_>) -> Result<(), SellerError> {
        if self.call(view).is_none() {
            if self.calls.len() == CALLS_MAX {
                return Err(SellerError::cut("the answer calls too many tools"));
            }
            let call = self.calls.len() as u32;
            let name = item.name.ok_or_else(|| SellerError::cut("a function call has no name"))?;
            let id = item.call_id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{call}"));
            self.calls.push(OpenCall { output_index: view.output_index, has_arguments: false });
            each(StreamEvent::ToolCall { choice: 0, call, id: id.into(), name: name.into() });
        }
        if let Some(json) = item.arguments.filter(|json| !json.is_empty() && self.lacks_arguments(view)) {
            self.arguments(view, Some(json.into()), each);
        }
        Ok(())
    }

    fn finish(&self, view: &EventView, data: &str, each: Each<'_>) -> Result<StreamNews, SellerError> {
        let span = view.response.clone().ok_or_else(|| SellerError::cut("the last event has no response"))?;
        let response = ResponseView::read(data, &span).map_err(malformed)?;
        let (finish, native) = match (view.kind, response.is_filtered) {
            (Kind::Completed, _) if self.calls.is_empty() => (Finish::Stop, "completed"),
            (Kind::Completed, _) => (Finish::ToolCalls, "completed"),
            (_, true) => (Finish::ContentFilter, "content_filter"),
            (_, false) => (Finish::Length, "max_output_tokens"),
        };
        each(StreamEvent::Finish { choice: 0, finish, native: Some(native.into()) });
        Ok(StreamNews { usage: response.usage.map(|span| read_usage(&data[span])), is_last: true })
    }
}
