//! What a model's name tells of how it must be spoken to.

/// Generations of models, as far as the grammar differs between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generation {
    /// Models of other families, and Gemini before 2.5: they do not think.
    Old,
    /// 2.5: thinks by a budget of tokens.
    Budgets,
    /// 3 and later, and names without a number for the latest: thinks by a word, and signs every call.
    Words,
}

/// The size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Pro,
    Flash,
    FlashLite,
}

/// What is known of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) generation: Generation,
    pub(super) size: Size,
    /// The first of its generation, whose larger model knows two words only.
    pub(super) is_first_of_words: bool,
}

impl Model {
    pub(super) fn of(upstream_id: &str) -> Self {
        let name = upstream_id.rsplit('/').next().unwrap_or(upstream_id);
        let size = if name.contains("flash-lite") {
            Size::FlashLite
        } else if name.contains("flash") {
            Size::Flash
        } else {
            Size::Pro
        };
        let version = name.strip_prefix("gemini-").unwrap_or_default();
        let digits = version.bytes().take_while(u8::is_ascii_digit).count();
        let major: u32 = version[..digits].parse().unwrap_or(0);
        let generation = if major >= 3 || (digits == 0 && version.ends_with("-latest")) {
            Generation::Words
        } else if version.starts_with("2.5") {
            Generation::Budgets
        } else {
            Generation::Old
        };
        Self { generation, size, is_first_of_words: version.starts_with("3-") }
    }

    /// Whether an answer can be held to JSON while tools may be called.
    pub(super) fn has_json_with_tools(self) -> bool {
        self.generation == Generation::Words
    }

    /// Whether calls in the conversation must be signed.
    pub(super) fn wants_signed_calls(self) -> bool {
        self.generation == Generation::Words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_generation() {
        for (name, generation, size) in [
            ("gemini-2.0-flash", Generation::Old, Size::Flash),
            ("gemini-1.5-pro", Generation::Old, Size::Pro),
            ("gemma-3-27b-it", Generation::Old, Size::Pro),
            ("models/gemini-2.5-pro", Generation::Budgets, Size::Pro),
            ("gemini-2.5-flash-lite-preview-09-2025", Generation::Budgets, Size::FlashLite),
            ("gemini-3-pro-preview", Generation::Words, Size::Pro),
            ("gemini-3.8-flash", Generation::Words, Size::Flash),
            ("gemini-10-pro", Generation::Words, Size::Pro),
            ("gemini-flash-latest", Generation::Words, Size::Flash),
            ("gemini-robotics-er-1.5-preview", Generation::Old, Size::Pro),
            ("", Generation::Old, Size::Pro),
            ("gemini-é", Generation::Old, Size::Pro),
        ] {
            let model = Model::of(name);
            assert_eq!((model.generation, model.size), (generation, size), "{name}");
        }
        assert!(Model::of("gemini-3-pro-preview").is_first_of_words);
        assert!(!Model::of("gemini-3.1-pro").is_first_of_words);
    }
}
