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

    fn late(&self, told: &Told<'_>, text: &str) -> Event {
        match &told.call.media {
            Some(request::Media::Images { previews, .. }) => preview(told, *previews),
            Some(request::Media::Speech { .. }) => piece(text.as_bytes()),
            _ => event(Part::Content, "transcript.text.delta", json!({"delta": text})),
        }
    }
}

fn event(part: Part, kind: &'static str, mut data: Value) -> Event {
    data["type"] = json!(kind);
    Event::new(part, kind, data)
}

/// A picture, whole or not.
fn picture(told: &Told<'_>) -> Value {
    json!({
        "b64_json": PIXEL_BASE64, "background": "auto", "created_at": told.answer.created_s,
        "output_format": "png", "quality": "auto", "size": "1024x1024",
    })
}

fn preview(told: &Told<'_>, index: usize) -> Event {
    let mut data = picture(told);
    data["partial_image_index"] = json!(index);
    event(Part::Content, "image_generation.partial_image", data)
}

fn images(told: &Told<'_>, count: usize, previews: usize) -> Vec<Event> {
    let whole = |index: usize| {
        let mut data = picture(told);
        // The last one ends the answer and tells for all of them.
        let is_last = index + 1 == count;
        data["usage"] = images_usage(told, count).filter(|_| is_last).unwrap_or_default();
        let part = if is_last { Part::Finish } else { Part::Content };
        event(part, "image_generation.completed", data)
    };
    (0..previews).map(|index| preview(told, index)).chain((0..count).map(whole)).collect()
}

fn piece(sound: &[u8]) -> Event {
    event(Part::Content, "speech.audio.delta", json!({"audio": to_base64(sound)}))
}

fn speech(told: &Told<'_>, sound: &[u8]) -> Vec<Event> {
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
