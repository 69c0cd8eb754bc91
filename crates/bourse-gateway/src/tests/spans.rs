//! A subscriber that keeps what it is told: spans with their attributes, and every word of every log line.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// One span.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) target: String,
    pub(super) parent: Option<u64>,
    pub(super) id: u64,
    pub(super) fields: BTreeMap<String, String>,
    /// How often each attribute was told: a trace keeps all of them.
    told: BTreeMap<String, u32>,
    pub(super) ends: u32,
}

impl Kept {
    pub(super) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(super) fn name(&self) -> &str {
        self.get("otel.name")
    }
}

#[derive(Default)]
struct State {
    spans: Vec<Kept>,
    /// Where the spans that are open stand; ids are used again.
    open: HashMap<u64, usize>,
    lines: String,
}

/// What has been told so far.
#[derive(Clone, Default)]
pub(super) struct Spans(Arc<Mutex<State>>);

impl Spans {
    /// Listens to everything on this thread until the guard is dropped.
    pub(super) fn listen() -> (Self, DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    /// The spans that are made for traces, in the order in which they began.
    pub(super) fn all(&self) -> Vec<Kept> {
        let all = self.0.lock().spans.clone();
        all.into_iter().filter(|span| span.target == crate::SPAN_TARGET).collect()
    }

    /// All of them, which must have ended, each once, and have told no attribute twice.
    pub(super) fn ended(&self) -> Vec<Kept> {
        let all = self.all();
        for span in &all {
            assert_eq!(span.ends, 1, "{span:?}");
            let twice = span.told.iter().find(|(name, n)| **n > 1 && !name.starts_with("otel."));
            assert!(twice.is_none(), "{twice:?} in {span:?}");
        }
        all
    }

    /// Every word of every span and every event, of all targets and levels.
    pub(super) fn everything(&self) -> String {
        let state = self.0.lock();
        format!("{:?}\n{}", state.spans, state.lines)
    }
}

struct Fields<'a>(&'a mut Kept);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        *self.0.told.entry(field.name().to_owned()).or_default() += 1;
        self.0.fields.insert(field.name().to_owned(), value.to_owned());
    }
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    /// Each thread is asked each time: what `Interest::always` says is kept for the whole process, also for tests on
    /// other threads that do not listen.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| span.parent().map(|parent| parent.id().into_u64()));
        let mut kept = Kept {
            target: attributes.metadata().target().to_owned(),
            parent,
            id: id.into_u64(),
            ..Kept::default()
        };
        attributes.record(&mut Fields(&mut kept));
        let mut state = self.0.lock();
        let at = state.spans.len();
        state.open.insert(kept.id, at);
        state.spans.push(kept);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let state = &mut *self.0.lock();
        values.record(&mut Fields(&mut state.spans[state.open[&id.into_u64()]]));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let state = &mut *self.0.lock();
        let _ = write!(state.lines, "{} {}", event.metadata().level(), event.metadata().target());
        event.record(&mut Words(&mut state.lines));
        state.lines.push('\n');
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let state = &mut *self.0.lock();
        if let Some(at) = state.open.remove(&id.into_u64()) {
            state.spans[at].ends += 1;
        }
    }
}
