//! Rankings: results name documents by their place in the request.
//!
//! OpenRouter's clients want each result to carry its document as an object. Some sellers leave it out, some send bare
//! text; what is missing is filled in from the request.

use crate::dialect::Job;
use crate::json::{JsonError, Walk};
use std::ops::Range;

/// One result: where it points, and its own document as written.
struct Ranked<'a> {
    index: Option<usize>,
    document: &'a str,
}

fn read(item: &str) -> Result<Ranked<'_>, JsonError> {
    let mut ranked = Ranked { index: None, document: "" };
    Walk::new(item).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        match walk.text(key) {
            "index" => ranked.index = walk.text(value).parse().ok(),
            "document" => ranked.document = walk.text(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(ranked)
}

/// Where the request's documents lie in its text.
fn documents(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // The parser has seen that it is a list.
    let _ = Walk::new(text).items::<JsonError>(|walk| {
        found.push(walk.value()?);
        Ok(())
    });
    found
}

/// Checks that every result points at a document of the request.
pub(super) fn check(job: &Job, results: &str) -> Result<(), &'static str> {
    let count = documents(job.text(&job.prompt)).len();
    let mut is_good = true;
    let walked = Walk::new(results).items::<JsonError>(|walk| {
        let item = walk.value()?;
        is_good &= read(walk.text(item))?.index.is_some_and(|index| index < count);
        Ok(())
    });
    if walked.is_ok() && is_good { Ok(()) } else { Err("ranked a document that was not sent") }
}

/// The results, each with its document as an object.
pub(super) fn with_documents(job: &Job, results: &str) -> Vec<u8> {
    let text = job.text(&job.prompt);
    let documents = documents(text);
    let mut out = Vec::with_capacity(results.len() * 2);
    out.push(b'[');
    let _ = Walk::new(results).items::<JsonError>(|walk| {
        let span = walk.value()?;
        let item = walk.text(span);
        if out.len() > 1 {
            out.push(b',');
        }
        let ranked = read(item)?;
        let sent = ranked.index.and_then(|index| documents.get(index)).map_or("", |span| &text[span.clone()]);
        push_result(item, ranked.document, sent, &mut out);
        Ok(())
    });
    out.push(b']');
    out
}

/// Appends one result with its own document, or else the one that was sent.
fn push_result(item: &str, own: &str, sent: &str, out: &mut Vec<u8>) {
    if own.starts_with('{') {
        out.extend_from_slice(item.as_bytes());
        return;
    }
    out.push(b'{');
    // The results were checked before.
    let _ = Walk::new(item).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if walk.text(key.clone()) != "document" {
            out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
            out.push(b',');
        }
        Ok(())
    });
    out.extend_from_slice(b"\"document\":");
    let document = if own.starts_with('"') { own } else { sent };
    if document.starts_with('{') {
        out.extend_from_slice(document.as_bytes());
    } else {
        out.extend_from_slice(b"{\"text\":");
        out.extend_from_slice(document.as_bytes());
        out.push(b'}');
    }
    out.push(b'}');
}
