//! Content blocks as parts of the neutral form.
//!
//! One shape reads all kinds, because a block's kind may stand behind its members. [`Block::into_part`] tells kinds that
//! it does not know: a request with them is refused, an answer goes on without them.

use super::words::{hidden, signature};
use crate::dialect::neutral::{CacheMark, Media, Part, Signed};
use crate::json::Walk;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Text that borrows where there are no escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A block of any kind.
#[derive(Debug, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<Text<'a>>,
    is_error: Option<bool>,
    /// Text or blocks.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// An object of a picture or a document; text of a search result.
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    context: Option<Text<'a>>,
    #[serde(borrow)]
    citations: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<CacheControl<'a>>,
}

/// A mark on a block, a tool or the whole prompt.
#[derive(Debug, Deserialize)]
pub(super) struct CacheControl<'a> {
    #[serde(borrow)]
    ttl: Option<Text<'a>>,
}

impl CacheControl<'_> {
    pub(super) fn mark(&self) -> CacheMark {
        let ttl_s = self.ttl.as_ref().and_then(|ttl| match ttl.0.as_ref() {
            "5m" => Some(300),
            "1h" => Some(3_600),
            _ => None,
        });
        CacheMark { ttl_s }
    }
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
    file_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// Why a block has no place in the neutral form: half a sentence that begins with what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// It lacks something or something has the wrong type: what it needs.
    Bad(String),
    /// Only sellers of this grammar can be told it: what.
    OwnGrammar(String),
}

impl Odd {
    fn needs(kind: &str, what: &str) -> Self {
        Self::Bad(format!("a block of type `{kind}` needs {what}"))
    }
}

fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.0.into_owned())
}

impl Block<'_> {
    /// The mark on it.
    pub(super) fn mark(&self) -> Option<CacheMark> {
        self.cache_control.as_ref().map(CacheControl::mark)
    }

    /// What it says. Thoughts that are hidden and unreadable by their seller alone say nothing.
    pub(super) fn into_part(self) -> Result<Part, Odd> {
        let kind = self.kind.clone().into_owned();
        let cache = self.mark();
        let needs = |what| Odd::needs(&kind, what);
        if self.asks_for_citations() {
            return Err(Odd::OwnGrammar("citations are".to_owned()));
        }
        Ok(match kind.as_str() {
            "text" => Part::Text { text: owned(self.text).ok_or_else(|| needs("`text`"))?, cache },
            "thinking" => {
                let text = owned(self.thinking).ok_or_else(|| needs("`thinking`"))?;
                thoughts(text, self.signature.and_then(|text| signature(&text.0)))
            }
            "redacted_thinking" => {
                let data = self.data.ok_or_else(|| needs("`data`"))?;
                thoughts(String::new(), Some(hidden(&data.0)))
            }
            "tool_use" => Part::ToolCall {
                id: owned(self.id).ok_or_else(|| needs("`id`"))?,
                name: owned(self.name).ok_or_else(|| needs("`name`"))?,
                arguments: self.input.ok_or_else(|| needs("`input`"))?.get().to_owned(),
                cache,
            },
            "tool_result" => Part::ToolResult {
                call_id: owned(self.tool_use_id).ok_or_else(|| needs("`tool_use_id`"))?,
                content: self.content.map(parts).transpose()?.unwrap_or_default(),
                is_error: self.is_error.unwrap_or(false),
                cache,
            },
            "image" => {
                let source = source(&kind, self.source)?.ok_or_else(|| needs("a `source` with a picture"))?;
                Part::Image { source, detail: None, cache }
            }
            "document" => {
                let source =
                    source(&kind, self.source)?.ok_or_else(|| needs("a `source` with a document"))?;
                let source = match (source, self.context) {
                    (Media::Text(text), Some(context)) => Media::Text(format!("{}\n\n{text}", context.0)),
                    (source, _) => source,
                };
                Part::File { source, filename: owned(self.title), cache }
            }
            "search_result" => Part::Text { text: self.search_result()?, cache },
            other => return Err(Odd::OwnGrammar(format!("a block of type `{other}` is"))),
        })
    }

    fn asks_for_citations(&self) -> bool {
        #[derive(Deserialize)]
        struct Citations {
            #[serde(default)]
            enabled: bool,
        }
        let wish = self.citations.and_then(|raw| serde_json::from_str::<Citations>(raw.get()).ok());
        self.kind != "text" && wish.is_some_and(|wish| wish.enabled)
    }

    /// A search result as text: its title, where it was found, what it says.
    fn search_result(&self) -> Result<String, Odd> {
        let needs = |what| Odd::needs("search_result", what);
        let content = parts(self.content.ok_or_else(|| needs("`content`"))?)?;
        let found_at = self.source.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let mut text = self.title.as_ref().map(|title| title.0.to_string()).unwrap_or_default();
        for line in
            found_at.into_iter().chain([texts(content).ok_or_else(|| needs("text as its `content`"))?])
        {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
        Ok(text)
    }
}

/// Thoughts; those that OpenAI encrypted are a summary of hidden ones.
fn thoughts(text: String, signed: Option<Signed>) -> Part {
    let is_summary = !text.is_empty() && signed.as_ref().is_some_and(|signed| signed.is_encrypted);
    Part::Reasoning { text, is_summary, signed }
}

/// The parts of `content`: one text, or blocks.
pub(super) fn parts(raw: &RawValue) -> Result<Vec<Part>, Odd> {
    blocks(raw)?.into_iter().map(Block::into_part).collect()
}

/// The blocks of `content`; a text is one.
pub(super) fn blocks(raw: &RawValue) -> Result<Vec<Block<'_>>, Odd> {
    let bad =
        |error: serde_json::Error| Odd::Bad(format!("it must be a string or an array of blocks: {error}"));
    if Walk::new(raw.get()).peek() != b'"' {
        return serde_json::from_str(raw.get()).map_err(bad);
    }
    let text: Text<'_> = serde_json::from_str(raw.get()).map_err(bad)?;
    Ok(vec![Block::text(text)])
}

impl<'a> Block<'a> {
    fn text(text: Text<'a>) -> Self {
        Self {
            kind: Cow::Borrowed("text"),
            text: Some(text),
            thinking: None,
            signature: None,
            data: None,
            id: None,
            name: None,
            input: None,
            tool_use_id: None,
            is_error: None,
            content: None,
            source: None,
            title: None,
            context: None,
            citations: None,
            cache_control: None,
        }
    }
}

/// The text of parts that are all text, by lines.
fn texts(parts: Vec<Part>) -> Option<String> {
    let texts = parts.into_iter().map(|part| match part {
        Part::Text { text, .. } => Some(text),
        _ => None,
    });
    Some(texts.collect::<Option<Vec<_>>>()?.join("\n"))
}

/// Where the bytes are; none when the source lacks them.
fn source(kind: &str, raw: Option<&RawValue>) -> Result<Option<Media>, Odd> {
    let Some(raw) = raw else { return Ok(None) };
    let bad = |_| Odd::needs(kind, "a `source` that is an object with `type`");
    let source: Source<'_> = serde_json::from_str(raw.get()).map_err(bad)?;
    Ok(match source.kind.as_ref() {
        "base64" => {
            source.media_type.zip(source.data).map(|(media_type, data)| Media::Base64 { media_type, data })
        }
        "url" => source.url.map(Media::Url),
        "file" => source.file_id.map(Media::Id),
        "text" => source.data.map(Media::Text),
        "content" => {
            let text = source.content.map(parts).transpose()?.and_then(texts);
            Some(Media::Text(text.ok_or_else(|| Odd::OwnGrammar("a document of pictures is".to_owned()))?))
        }
        _ => None,
    })
}
