//! Reads what is not a chat: embeddings, rerank, images, speech, transcriptions.
//!
//! Source: OpenAI's API reference; Cohere's and Jina's for rerank, which share the request.

use super::field::Field;
use super::multipart;
use super::{Call, CallError};
use crate::upstream::http::HttpRequest;
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::Shape;
use serde_json::Value;

/// Inputs of one call of embeddings, as OpenAI bounds them.
const INPUTS_MAX: usize = 2_048;
/// Images of one call.
const IMAGES_MAX: u64 = 10;
/// Longest text that is spoken, in characters.
const SPEECH_CHARS_MAX: usize = 4_096;
/// Previews of a streamed image.
const PREVIEWS_MAX: u64 = 3;
/// Widest embedding.
const DIMENSIONS_MAX: u64 = 3_072;

/// What a call of these shapes asks for.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Media {
    /// One vector for each input.
    Embeddings { inputs: Vec<String>, dimensions: usize, base64: bool },
    /// The best documents, in order.
    Rerank { query: String, documents: Vec<String>, top: usize, returns_documents: bool, cohere: bool },
    /// Images, with so many previews of them where they are streamed.
    Images { count: usize, url: bool, previews: usize },
    /// Bytes of this kind of sound.
    Speech { text: String, format: &'static str },
    /// The text of a sound.
    Transcription { audio_bytes: usize, format: &'static str },
}

/// Reads a call with a JSON body.
pub(super) fn read(shape: Shape, http: &HttpRequest, root: &Field<'_>) -> Result<Call, CallError> {
    let model = root.get("model").str()?;
    let mut stream = false;
    let (texts, media) = match shape {
        Shape::Embeddings => read_embeddings(root)?,
        Shape::Rerank => read_rerank(root, http.path.starts_with("/v2/"))?,
        Shape::Images => {
            stream = root.get("stream").flag()?;
            read_images(root, stream)?
        }
        _ => {
            let format = root.get("stream_format");
            stream = format.is_given() && format.one_of(&["sse", "audio"])? == "sse";
            read_speech(root)?
        }
    };
    Ok(Call { stream, ..call(shape, model, &texts, media) })
}

fn call(shape: Shape, model: &str, texts: &[String], media: Media) -> Call {
    let mut prompt = Prompt::bare();
    prompt.preamble(model);
    for text in texts {
        prompt.message("");
        prompt.text(text, None);
    }
    Call { media: Some(media), ..Call::new(shape, model, prompt) }
}

/// Reads a form with a sound.
pub(super) fn read_transcription(http: &HttpRequest) -> Result<Call, CallError> {
    let parts = multipart::parse(http.header("content-type").unwrap_or_default(), &http.body)
        .map_err(|error| CallError::refused(error.to_string()))?;
    let named = |name: &str| parts.iter().find(|part| part.name == name);
    let text = |name: &str| named(name).map(|part| String::from_utf8_lossy(part.bytes).into_owned());
    let missing = |name: &str| CallError::Refused {
        message: format!("you must provide a {name} parameter"),
        param: Some(name.to_owned()),
        code: None,
    };
    let model = text("model").ok_or_else(|| missing("model"))?;
    let file = named("file").ok_or_else(|| missing("file"))?;
    if file.file_name.is_none() || file.bytes.is_empty() {
        return Err(CallError::refused("Audio file might be corrupted or unsupported"));
    }
    let format = match text("response_format").as_deref() {
        None | Some("json") => "json",
        Some("text") => "text",
        Some("verbose_json") => "verbose_json",
        Some(other) => {
            let message = format!("response_format '{other}' is not compatible with model '{model}'.");
            return Err(CallError::refused(message));
        }
    };
    let stream = text("stream").as_deref() == Some("true");
    if stream && format != "json" {
        return Err(CallError::refused(format!("response_format '{format}' cannot be streamed.")));
    }
    let media = Media::Transcription { audio_bytes: file.bytes.len(), format };
    let mut call = call(Shape::Transcriptions, &model, &[text("prompt").unwrap_or_default()], media);
    call.text_seed = crate::seed::digest(file.bytes);
    // As OpenAI's model of that name does, it answers in one piece whatever it is asked.
    call.stream = stream && !call.model.contains("whisper");
    Ok(call)
}

/// A string, or a list of strings.
fn texts(field: &Field<'_>) -> Result<Vec<String>, CallError> {
    if let Value::String(text) = field.value {
        return Ok(vec![text.clone()]);
    }
    let items = field.items()?;
    if items.is_empty() {
        return Err(field.wrong("a string or a list with at least one item"));
    }
    if items.iter().all(|item| item.value.is_u64()) {
        // One list of token numbers is one input.
        return Ok(vec!["token ".repeat(items.len())]);
    }
    items.iter().map(|item| item.str().map(str::to_owned)).collect()
}

fn read_embeddings(root: &Field<'_>) -> Result<(Vec<String>, Media), CallError> {
    let inputs = texts(&root.get("input"))?;
    if inputs.iter().any(String::is_empty) {
        return Err(root.get("input").wrong("texts that are not empty"));
    }
    if inputs.len() > INPUTS_MAX {
        return Err(root.get("input").wrong(format!("at most {INPUTS_MAX} items")));
    }
    let dimensions = root.get("dimensions").optional_count(1)?.unwrap_or(16);
    if dimensions > DIMENSIONS_MAX {
        return Err(root.get("dimensions").wrong(format!("at most {DIMENSIONS_MAX}")));
    }
    let format = root.get("encoding_format");
    let base64 = format.is_given() && format.one_of(&["float", "base64"])? == "base64";
    let dimensions = dimensions as usize;
    Ok((inputs.clone(), Media::Embeddings { inputs, dimensions, base64 }))
}

fn read_rerank(root: &Field<'_>, cohere: bool) -> Result<(Vec<String>, Media), CallError> {
    let query = root.get("query").str()?.to_owned();
    let items = root.get("documents").items()?;
    if items.is_empty() {
        return Err(root.get("documents").wrong("a list with at least one document"));
    }
    let text = |item: &Field<'_>| match item.value {
        Value::Object(_) => item.get("text").str().map(str::to_owned),
        _ => item.str().map(str::to_owned),
    };
    let documents = items.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let top = root.get("top_n").optional_count(1)?.unwrap_or(u64::MAX);
    let top = usize::try_from(top).unwrap_or(usize::MAX).min(documents.len());
    let wish = root.get("return_documents");
    let returns_documents = if wish.is_given() { wish.flag()? } else { !cohere };
    // Each document is read together with the query.
    let texts = documents.iter().map(|document| format!("{query} {document}")).collect();
    Ok((texts, Media::Rerank { query, documents, top, returns_documents, cohere }))
}

fn read_images(root: &Field<'_>, stream: bool) -> Result<(Vec<String>, Media), CallError> {
    let prompt = root.get("prompt").str()?.to_owned();
    let count = root.get("n").optional_count(1)?.unwrap_or(1);
    if count > IMAGES_MAX {
        return Err(root.get("n").wrong(format!("at most {IMAGES_MAX}")));
    }
    let format = root.get("response_format");
    let url = format.is_given() && format.one_of(&["url", "b64_json"])? == "url";
    let previews = root.get("partial_images").optional_count(0)?.unwrap_or(0);
    if previews > PREVIEWS_MAX {
        return Err(root.get("partial_images").wrong(format!("0 to {PREVIEWS_MAX}")));
    }
    if url && stream {
        return Err(format.wrong("b64_json where images are streamed"));
    }
    Ok((vec![prompt], Media::Images { count: count as usize, url, previews: previews as usize }))
}

fn read_speech(root: &Field<'_>) -> Result<(Vec<String>, Media), CallError> {
    let text = root.get("input").str()?.to_owned();
    if text.is_empty() || text.chars().count() > SPEECH_CHARS_MAX {
        return Err(root.get("input").wrong(format!("1 to {SPEECH_CHARS_MAX} characters")));
    }
    root.get("voice").str()?;
    root.get("speed").optional_number(0.25, 4.0)?;
    let wish = root.get("response_format");
    let format = if wish.is_given() {
        match wish.one_of(&["mp3", "opus", "aac", "flac", "wav", "pcm"])? {
            "opus" => "audio/ogg",
            "aac" => "audio/aac",
            "flac" => "audio/flac",
            "wav" => "audio/wav",
            "pcm" => "audio/pcm",
            _ => "audio/mpeg",
        }
    } else {
        "audio/mpeg"
    };
    Ok((vec![text.clone()], Media::Speech { text, format }))
}
