//! A prompt as a seller counts and caches it: messages, parts, images, and the marks for the cache.
//!
//! Every shape is read into the same form, so that the same conversation costs the same and gets the
//! same answer whichever shape it came in. Definitions and arguments of tools cost nothing here, but they
//! do keep prefixes apart.

use super::text::TokenLaw;
use crate::seed::{digest, mix};
use std::time::Duration;

/// Tokens of one image.
pub(super) const IMAGE_TOKENS: u64 = 85;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    text: String,
    images: u64,
    /// Digest of what is not text.
    other: u64,
    mark: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Message {
    role: String,
    parts: Vec<Part>,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Prompt {
    messages: Vec<Message>,
    /// Digest of model and tools, which come before every message.
    preamble: u64,
    /// Whether messages are framed, which costs tokens.
    framed: bool,
}

/// A place where a prompt can be cut: what comes before it, and whether it is marked for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) digest: u64,
    pub(super) tokens: u64,
    /// How long the part asks to be kept.
    pub(super) mark: Option<Duration>,
}

impl Prompt {
    /// An empty prompt of a chat.
    pub(super) fn framed() -> Self {
        Self { framed: true, ..Self::default() }
    }

    /// An empty prompt of bare texts.
    pub(super) fn bare() -> Self {
        Self::default()
    }

    /// Tells model and tools.
    pub(super) fn preamble(&mut self, text: &str) {
        self.preamble = mix(self.preamble ^ digest(text.as_bytes()));
    }

    /// Opens a message; the next parts are its own.
    pub(super) fn message(&mut self, role: &str) {
        self.messages.push(Message { role: role.to_owned(), parts: Vec::new() });
    }

    fn part(&mut self, part: Part) {
        if self.messages.is_empty() {
            self.message("");
        }
        if let Some(message) = self.messages.last_mut() {
            message.parts.push(part);
        }
    }

    /// Adds text.
    pub(super) fn text(&mut self, text: &str, mark: Option<Duration>) {
        self.part(Part { text: text.to_owned(), mark, ..Part::default() });
    }

    /// Adds an image, known by its address or data.
    pub(super) fn image(&mut self, source: &str, mark: Option<Duration>) {
        let other = digest(source.as_bytes());
        self.part(Part { images: 1, other, mark, ..Part::default() });
    }

    /// Adds what costs nothing but tells prompts apart, such as the arguments of a tool call.
    pub(super) fn silent(&mut self, content: &str, mark: Option<Duration>) {
        self.part(Part { other: digest(content.as_bytes()), mark, ..Part::default() });
    }

    /// Marks the last part, if it is not marked already.
    pub(super) fn mark_last(&mut self, ttl: Duration) {
        let last = self.messages.iter_mut().rev().find_map(|message| message.parts.last_mut());
        if let Some(part) = last {
            part.mark.get_or_insert(ttl);
        }
    }

    /// Images in it.
    pub(super) fn images(&self) -> u64 {
        self.messages.iter().flat_map(|message| &message.parts).map(|part| part.images).sum()
    }

    /// Tokens of the whole.
    pub(super) fn tokens(&self, law: TokenLaw) -> u64 {
        let framing = if self.framed { law.count_chat([""]) } else { 0 };
        let of = |part: &Part| law.count(&part.text) + part.images * IMAGE_TOKENS;
        self.messages.iter().map(|message| framing + message.parts.iter().map(of).sum::<u64>()).sum()
    }

    /// What the answer's words follow from: the texts, and nothing that differs between shapes.
    pub(super) fn seed_text(&self) -> String {
        let text = |message: &Message| {
            let texts = message.parts.iter().map(|part| part.text.as_str());
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        self.messages.iter().map(text).collect::<Vec<_>>().join("\u{0}")
    }

    /// Every place where it can be cut, shortest first.
    pub(super) fn prefixes(&self, law: TokenLaw) -> Vec<Prefix> {
        let (mut running, mut tokens, mut out) = (self.preamble, 0, Vec::new());
        for message in &self.messages {
            running = mix(running ^ digest(message.role.as_bytes()));
            tokens += if self.framed { law.count_chat([""]) } else { 0 };
            for part in &message.parts {
                running = mix(running ^ digest(part.text.as_bytes()) ^ part.other.rotate_left(17));
                tokens += law.count(&part.text) + part.images * IMAGE_TOKENS;
                out.push(Prefix { digest: running, tokens, mark: part.mark });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_prefixes_agree() {
        let law = TokenLaw::default();
        let mut prompt = Prompt::framed();
        prompt.message("system");
        prompt.text("be brief", None);
        prompt.message("user");
        prompt.text("look", None);
        prompt.image("data:,x", None);
        assert_eq!(prompt.tokens(law), 3 + 2 + 3 + 1 + IMAGE_TOKENS);
        let prefixes = prompt.prefixes(law);
        assert_eq!(prefixes.iter().map(|prefix| prefix.tokens).collect::<Vec<_>>(), [5, 9, 94]);
        assert_eq!((prompt.images(), prompt.seed_text().as_str()), (1, "be brief\u{0}look"));
    }

    #[test]
    fn what_differs_anywhere_before_differs_in_every_later_prefix() {
        let law = TokenLaw::default();
        let of = |model: &str, image: &str| {
            let mut prompt = Prompt::framed();
            prompt.preamble(model);
            prompt.message("user");
            prompt.image(image, None);
            prompt.text("same", None);
            prompt.prefixes(law)[1].digest
        };
        assert_eq!(of("a", "x"), of("a", "x"));
        assert_ne!(of("a", "x"), of("b", "x"));
        assert_ne!(of("a", "x"), of("a", "y"));
    }
}
