//! The answers of shapes that do not chat: vectors, ranks, images, sounds, transcripts.
//!
//! All are functions of the request alone, so that honest sellers agree, except that a seller of less
//! quality ranks and hears worse. A vector is of length one; a rank follows from the words that query and
//! document share; a picture is a valid PNG of one pixel; a sound is bytes of the right length and head.

use super::fault::Fault;
use super::request::Media;
use super::response::Told;
use super::text::words;
use crate::seed::{Random, digest};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A PNG of one pixel.
pub(super) const PIXEL_BASE64: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// Bytes of sound for each character that is spoken.
const SOUND_BYTES_PER_CHARACTER: usize = 160;
/// Bytes of a second of sound that is heard.
const HEARD_BYTES_PER_S: f64 = 32_000.0;
/// Output tokens of one image, as the vendor counts a small one.
const TOKENS_PER_IMAGE: u64 = 272;

/// What an answer consists of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Json(Value),
    Bytes { content_type: &'static str, bytes: Vec<u8> },
}

/// The answer to what was asked.
pub(super) fn answer(told: &Told<'_>, asked: &Media) -> Content {
    match asked {
        Media::Embeddings { inputs, dimensions, base64 } => {
            Content::Json(embeddings(told, inputs, *dimensions, *base64))
        }
        Media::Rerank { query, documents, top, returns_documents, cohere } => {
            let ranked = ranks(told, query, documents, *top);
            Content::Json(rerank(told, &ranked, documents, *returns_documents, *cohere))
        }
        Media::Images { count, url, .. } => Content::Json(images(told, *count, *url)),
        Media::Speech { text, format } => Content::Bytes { content_type: format, bytes: sound(text, format) },
        Media::Transcription { audio_bytes, format } => transcript(told, *audio_bytes, format),
    }
}

/// A vector of length one that follows from a text.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut random = Random::new(digest(text.as_bytes()));
    let raw: Vec<f32> = (0..dimensions).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.iter().map(|x| x / length).collect()
}

fn embeddings(told: &Told<'_>, inputs: &[String], dimensions: usize, base64: bool) -> Value {
    let item = |(index, input): (usize, &String)| {
        let vector = vector(input, dimensions);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            json!(to_base64(&bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(item).collect();
    let mut value = json!({"object": "list", "data": data, "model": told.answer.model});
    if let Some(usage) = told.usage() {
        value["usage"] = json!({"prompt_tokens": usage.prompt, "total_tokens": usage.prompt});
    }
    value
}

/// Index and score of the best documents, best first.
fn ranks(told: &Told<'_>, query: &str, documents: &[String], top: usize) -> Vec<(usize, f64)> {
    let of = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<HashSet<_>>();
    let asked = of(query);
    let mut random = Random::new(digest(told.config.name.as_bytes()) ^ told.call.text_seed);
    let mut score = |document: &String| {
        if !random.permille(told.config.quality_permille) {
            return random.below(1_000) as f64 / 1_000.0;
        }
        let found = of(document);
        let shared = asked.intersection(&found).count() as f64;
        shared / (asked.union(&found).count().max(1) as f64)
    };
    let mut out: Vec<(usize, f64)> = documents.iter().map(&mut score).enumerate().collect();
    out.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    out.truncate(top);
    out
}

fn rerank(
    told: &Told<'_>,
    ranked: &[(usize, f64)],
    documents: &[String],
    returns_documents: bool,
    cohere: bool,
) -> Value {
    let result = |(index, score): &(usize, f64)| {
        let mut value = json!({"index": index, "relevance_score": score});
        if returns_documents {
            value["document"] = json!({"text": documents[*index]});
        }
        value
    };
    let results: Vec<Value> = ranked.iter().map(result).collect();
    let usage = told.usage();
    if cohere {
        let mut meta = json!({"api_version": {"version": "2"}});
        if usage.is_some() {
            meta["billed_units"] = json!({"search_units": documents.len().div_ceil(100)});
        }
        return json!({"id": format!("sim-{}", told.answer.id), "results": results, "meta": meta});
    }
    let mut value = json!({"model": told.answer.model, "object": "list", "results": results});
    if let Some(usage) = usage {
        value["usage"] = json!({"total_tokens": usage.prompt});
    }
    value
}

fn images(told: &Told<'_>, count: usize, url: bool) -> Value {
    let item = |index: usize| {
        if url {
            json!({"url": format!("http://images.invalid/{}-{index}.png", told.answer.id)})
        } else {
            json!({"b64_json": PIXEL_BASE64})
        }
    };
    let data: Vec<Value> = (0..count).map(item).collect();
    let mut value = json!({"created": told.answer.created_s, "data": data});
    if let Some(usage) = images_usage(told, count) {
        value["usage"] = usage;
    }
    value
}

/// What images cost, where anything is reported.
pub(super) fn images_usage(told: &Told<'_>, count: usize) -> Option<Value> {
    let usage = told.usage()?;
    let output = TOKENS_PER_IMAGE * count as u64;
    Some(json!({
        "input_tokens": usage.prompt, "output_tokens": output, "total_tokens": usage.prompt + output,
        "input_tokens_details": {"text_tokens": usage.prompt, "image_tokens": 0},
    }))
}

pub(super) fn sound(text: &str, format: &str) -> Vec<u8> {
    let length = text.chars().count() * SOUND_BYTES_PER_CHARACTER;
    let mut random = Random::new(digest(text.as_bytes()));
    let samples: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).collect();
    let samples = &samples[..length];
    let head: Vec<u8> = match format {
        "audio/wav" => wav_head(u32::try_from(length).unwrap_or(u32::MAX)),
        "audio/mpeg" => vec![0xFF, 0xFB, 0x90, 0x00],
        "audio/ogg" => b"OggS".to_vec(),
        "audio/flac" => b"fLaC".to_vec(),
        "audio/aac" => vec![0xFF, 0xF1],
        _ => Vec::new(),
    };
    [&head, samples].concat()
}

/// The head of a WAV of 16 bits, one channel, 24 kHz.
fn wav_head(data_bytes: u32) -> Vec<u8> {
    const RATE_HZ: u32 = 24_000;
    let mut out = b"RIFF".to_vec();
    out.extend(data_bytes.saturating_add(36).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(RATE_HZ.to_le_bytes());
    out.extend((RATE_HZ * 2).to_le_bytes());
    out.extend(2u16.to_le_bytes());
    out.extend(16u16.to_le_bytes());
    out.extend(b"data");
    out.extend(data_bytes.to_le_bytes());
    out
}

fn transcript(told: &Told<'_>, audio_bytes: usize, format: &str) -> Content {
    let config = told.config;
    let seller = digest(config.name.as_bytes());
    let text =
        words(told.call.text_seed, config.completion_words.max(1), config.quality_permille, seller).concat();
    let seconds = (audio_bytes as f64 / HEARD_BYTES_PER_S).ceil();
    if format == "text" {
        return Content::Bytes { content_type: "text/plain", bytes: format!("{text}\n").into_bytes() };
    }
    let mut value = json!({"text": text});
    if format == "verbose_json" {
        let segment = json!({"id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text});
        value["task"] = json!("transcribe");
        value["language"] = json!("english");
        value["duration"] = json!(seconds);
        value["segments"] = json!([segment]);
    }
    if told.fault != Some(Fault::NoUsage) {
        value["usage"] = json!({"type": "duration", "seconds": seconds});
    }
    Content::Json(value)
}

/// Base64 with padding (RFC 4648).
pub(super) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |sum, at| sum << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(to_base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn vectors_are_of_length_one_and_follow_from_the_text() {
        let made = vector("price", 64);
        assert!((made.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(made, vector("price", 64));
        assert_ne!(made, vector("prices", 64));
    }

    #[test]
    fn sounds_have_their_head_and_length() {
        let wav = sound("hi", "audio/wav");
        assert_eq!((&wav[..4], wav.len()), (&b"RIFF"[..], 44 + 2 * SOUND_BYTES_PER_CHARACTER));
        assert_eq!(wav[40..44], (2 * SOUND_BYTES_PER_CHARACTER as u32).to_le_bytes());
        assert_ne!(sound("hi", "audio/pcm"), sound("ho", "audio/pcm"));
    }
}
