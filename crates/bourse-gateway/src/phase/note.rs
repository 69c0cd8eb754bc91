//! What a generation record shows beside the receipt: how the buyer and the seller called things.
//!
//! Everything here is a claim of a party and binds nobody; texts are clipped. Made once, when the request is known.

use bourse_market::{Partition, Preferences, Sort};
use bourse_wire::dialect::{Api, Job};
use bourse_wire::funds::{GenerationNote, NoteText};
use http::{HeaderMap, header};

/// The app's name, as OpenRouter's clients send it: the newer spelling first.
const TITLE_HEADERS: [&str; 2] = ["x-openrouter-title", "x-title"];
/// Names the session where the body does not.
const SESSION_HEADER: &str = "x-session-id";

/// The note of a request before anybody was asked.
pub(crate) fn note_of(job: &Job, headers: &HeaderMap, preferences: &Preferences) -> GenerationNote {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).and_then(NoteText::clip);
    let session = job.session.as_ref().and_then(|span| NoteText::clip(job.text(span)));
    GenerationNote {
        api_type: NoteText::clip(api_word(job.api)),
        session_id: session.or_else(|| text(SESSION_HEADER)),
        external_user: job.routing.user.as_deref().and_then(NoteText::clip),
        app_referer: text(header::REFERER.as_str()).or_else(|| text("http-referer")),
        app_title: TITLE_HEADERS.into_iter().find_map(text),
        user_agent: text(header::USER_AGENT.as_str()),
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
