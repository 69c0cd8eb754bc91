//! What a generation record shows beside the receipt: how the buyer and the seller called things.
//!
//! Everything here is a claim of a party and binds nobody; texts are clipped. Made once, when the request is known.

use crate::conversation::SESSION_HEADER;
use bourse_market::{Partition, Preferences, Sort};
use bourse_wire::dialect::{Api, Job};
use bourse_wire::funds::{GenerationNote, NoteText};
use http::{HeaderMap, HeaderValue};

/// What the headers say of app and session, found in one pass: most requests have few headers and none of these.
#[derive(Default)]
struct Said<'a> {
    /// The app's name, as OpenRouter's clients send it: the newer spelling first.
    titles: [Option<&'a HeaderValue>; 2],
    referers: [Option<&'a HeaderValue>; 2],
    session: Option<&'a HeaderValue>,
    user_agent: Option<&'a HeaderValue>,
}

impl<'a> Said<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "x-openrouter-title" => &mut said.titles[0],
                "x-title" => &mut said.titles[1],
                "referer" => &mut said.referers[0],
                "http-referer" => &mut said.referers[1],
                SESSION_HEADER => &mut said.session,
                "user-agent" => &mut said.user_agent,
                _ => continue,
            };
            // The first of several.
            place.get_or_insert(value);
        }
        said
    }
}

/// The note of a request before anybody was asked.
pub(crate) fn note_of(job: &Job, headers: &HeaderMap, preferences: &Preferences) -> GenerationNote {
    let said = Said::of(headers);
    let text = |value: &HeaderValue| value.to_str().ok().and_then(NoteText::clip);
    let session = job.session.as_ref().and_then(|span| NoteText::clip(job.text(span)));
    GenerationNote {
        api_type: NoteText::clip(api_word(job.api)),
        session_id: session.or_else(|| said.session.and_then(text)),
        external_user: job.routing.user.as_deref().and_then(NoteText::clip),
        app_referer: said.referers.into_iter().flatten().find_map(text),
        app_title: said.titles.into_iter().flatten().find_map(text),
        user_agent: said.user_agent.and_then(text),
        service_tier: job.routing.service_tier.and_then(|tier| NoteText::clip(tier.as_str())),
        strategy: NoteText::clip(strategy(job, preferences)),
        ..GenerationNote::default()
    }
}

fn api_word(api: Api) -> &'static str {
    match api {
        Api::Chat => "chat",
        Api::Text => "completions",
        Api::Responses => "responses",
        Api::Messages => "messages",
        Api::Embeddings => "embeddings",
        Api::Rerank => "rerank",
        Api::Images => "image",
        Api::Speech => "tts",
        Api::Transcription => "stt",
    }
}

fn strategy(job: &Job, preferences: &Preferences) -> &'static str {
    match preferences.sort {
        _ if !preferences.order.is_empty() => "order",
        Some(Sort::Price) => "price",
        Some(Sort::Latency) => "latency",
        Some(Sort::Throughput) => "throughput",
        Some(Sort::Exacto) => "exacto",
        None if preferences.partition == Partition::None && !job.fallbacks.is_empty() => "pooled",
        None => "draw",
    }
}
