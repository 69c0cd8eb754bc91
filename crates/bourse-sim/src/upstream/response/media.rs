//! How images, speech and transcripts are streamed, in OpenAI's events. There is no mark behind the last one.

use super::{Event, Grammar, Part, Told};
use crate::upstream::media::{self, PIXEL_BASE64, images_usage, sound, to_base64};
use crate::upstream::request;
use serde_json::{Value, json};

/// Bytes of sound in one event.
const SOUND_BYTES_PER_EVENT: usize = 1_024;

/// All three.
pub(super) struct Media;

impl Grammar for Media {
    fn document(&self, told: &Told<'_>) -> Value {
        match told.call.media.as_ref().map(|asked| media::answer(told, asked)) {
            Some(media::Content::Json(document)) => document,
            _ => Value::Null,
        }
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        match &told.call.media {
            Some(request::Media::Images { count, previews, .. }) => images(told, *count, *previews),
            Some(request::Media::Speech { text, format }) => speech(told, &sound(text, format)),
            _ => transcript(told, &self.document(told)),
        }
    }

    fn late(&self, _: &Told<'_>, text: &str) -> Event {
        event(Part::Content, "transcript.text.delta", json!({"delta": text}))
    }
}

fn event(part: Part, kind: &'static str, mut data: Value) -> Event {
    data["type"] = json!(kind);
    Event::new(part, kind, data)
}

fn images(told: &Told<'_>, count: usize, previews: usize) -> Vec<Event> {
    let about = || {
        json!({
            "b64_json": PIXEL_BASE64, "background": "auto", "created_at": told.answer.created_s,
            "output_format": "png", "quality": "auto", "size": "1024x1024",
        })
    };
    let preview = |index: usize| {
        let mut data = about();
        data["partial_image_index"] = json!(index);
        event(Part::Content, "image_generation.partial_image", data)
    };
    let whole = |index: usize| {
        let mut data = about();
        // The last one tells for all of them.
        let usage = images_usage(told, count).filter(|_| index + 1 == count);
        data["usage"] = usage.unwrap_or_default();
        event(Part::Finish, "image_generation.completed", data)
    };
    (0..previews).map(preview).chain((0..count).map(whole)).collect()
}

fn speech(told: &Told<'_>, sound: &[u8]) -> Vec<Event> {
    let piece = |bytes: &[u8]| event(Part::Content, "speech.audio.delta", json!({"audio": to_base64(bytes)}));
    let mut done = json!({});
    if let Some(usage) = told.usage() {
        let (input, output) = (usage.prompt, sound.len() as u64 / 100);
        done["usage"] = json!({
            "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        });
    }
    let last = event(Part::Finish, "speech.audio.done", done);
    sound.chunks(SOUND_BYTES_PER_EVENT).map(piece).chain([last]).collect()
}

fn transcript(told: &Told<'_>, document: &Value) -> Vec<Event> {
    let text = document["text"].as_str().unwrap_or_default();
    let word = |word: &str| Event {
        tokens: told.tokens(word),
        ..event(Part::Content, "transcript.text.delta", json!({"delta": word}))
    };
    let last = event(Part::Finish, "transcript.text.done", document.clone());
    text.split_inclusive(' ').map(word).chain([last]).collect()
}
