//! Whose signature it is.

/// The family of sellers that made a signed or encrypted block, and that alone can read it back. The words are
/// the field's (`format` in `reasoning_details`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Responses.
    OpenAi,
    /// Google's Gemini.
    Google,
    /// Somebody else: replayed to nobody but through an unchanged grammar.
    Unknown,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::OpenAi, Self::Google, Self::Unknown];

    /// The field's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic-claude-v1",
            Self::OpenAi => "openai-responses-v1",
            Self::Google => "google-gemini-v1",
            Self::Unknown => "unknown",
        }
    }

    /// Reads [`Origin::as_str`]; what is not known is [`Origin::Unknown`].
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|o| o.as_str() == text).unwrap_or(Self::Unknown)
    }
}

/// A signature over shown thoughts, or hidden thoughts as the seller encrypted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who made it.
    pub origin: Origin,
    /// The seller's id of the block, where it gave one.
    pub id: Option<String>,
    /// The signature or the ciphertext, as the seller wrote it.
    pub data: String,
    /// Whether `data` is the thoughts themselves rather than a signature over them.
    pub is_encrypted: bool,
}

/// What stands before the origin in a grammar that has no place for it.
const TAG: &str = "bourse:";

impl Signed {
    /// The data for a grammar of origin `native` that has no place for an origin: tagged unless it is its own.
    pub fn tagged(&self, native: Origin) -> String {
        if self.origin == native {
            return self.data.clone();
        }
        format!("{TAG}{}:{}", self.origin.as_str(), self.data)
    }

    /// Reads [`Signed::tagged`]: the origin and the data.
    pub fn split(native: Origin, text: &str) -> (Origin, &str) {
        let tagged = text.strip_prefix(TAG).and_then(|rest| rest.split_once(':'));
        tagged.map_or((native, text), |(origin, data)| (Origin::parse(origin), data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_the_origin_where_it_is_not_the_grammars_own() {
        for origin in Origin::ALL {
            for native in Origin::ALL {
                let signed = Signed { origin, id: None, data: "a:b==".into(), is_encrypted: false };
                let text = signed.tagged(native);
                assert_eq!(text == "a:b==", origin == native);
                assert_eq!(Signed::split(native, &text), (origin, "a:b=="));
            }
        }
        assert_eq!(Signed::split(Origin::Google, "bourse:no-colon"), (Origin::Google, "bourse:no-colon"));
    }
}
