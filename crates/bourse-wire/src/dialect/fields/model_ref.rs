//! What a buyer writes where a model is named: `author/model:nitro@preset/code`, `~author/family-latest`.
//!
//! `:nitro`, `:floor` and `:exacto` are wishes about routing and are not part of the model's name. `:free`
//! and every other suffix are: sellers list them as models of their own. Source: reference, router §1.6.

use bourse_types::{ModelSlug, SlugError};
use std::fmt;

/// A suffix of a model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `:nitro`: fastest first, and offers of the priority tier count.
    Nitro,
    /// `:floor`: cheapest first, and offers of the flex tier count.
    Floor,
    /// `:exacto`: best at calling tools first.
    Exacto,
    /// `:free`: the model's offers without a price. Part of the name.
    Free,
    /// Any other, such as `:thinking`. Part of the name.
    Static,
}

/// A model as a buyer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The name to look up, without a wish about routing.
    pub slug: ModelSlug,
    /// The suffix, if there is one.
    pub variant: Option<Variant>,
    /// The preset behind `@preset/`.
    pub preset: Option<String>,
    /// Whether it began with `~`: the newest model of a family is meant.
    pub is_alias: bool,
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelRefError {
    /// The name itself.
    #[error(transparent)]
    Slug(#[from] SlugError),
    /// Web search by suffix.
    #[error("`:online` is not offered: search yourself and put what you find into the messages")]
    Online,
    /// Two wishes about routing.
    #[error("it has two of `:nitro`, `:floor`, `:exacto`: keep one")]
    TwoVariants,
    /// Nothing, or something odd, behind `@preset/`.
    #[error("a preset has 1 to {PRESET_BYTES_MAX} characters of a-z, A-Z, 0-9 and . _ -")]
    Preset,
}

/// Longest name of a preset, in bytes.
pub const PRESET_BYTES_MAX: usize = 64;

/// What stands before a preset's name in a model's.
pub(crate) const PRESET_MARK: &str = "@preset/";

impl ModelRef {
    /// Reads a name with its suffixes.
    pub fn parse(text: &str) -> Result<Self, ModelRefError> {
        let (name, preset) = match text.split_once(PRESET_MARK) {
            Some((name, preset)) => (name, Some(preset_name(preset)?.to_owned())),
            None => (text, None),
        };
        let (is_alias, name) = name.strip_prefix('~').map_or((false, name), |rest| (true, rest));
        let (base, variant) = split(name);
        let slug = match variant {
            Some(Suffix::Online) => return Err(ModelRefError::Online),
            Some(Suffix::Variant(Variant::Nitro | Variant::Floor | Variant::Exacto)) => base,
            _ => name,
        };
        let variant = variant.and_then(|suffix| match suffix {
            Suffix::Variant(variant) => Some(variant),
            Suffix::Online => None,
        });
        let is_routed =
            |v| matches!(v, Some(Suffix::Variant(Variant::Nitro | Variant::Floor | Variant::Exacto)));
        if slug.len() < name.len() && is_routed(split(slug).1) {
            return Err(ModelRefError::TwoVariants);
        }
        Ok(Self { slug: ModelSlug::parse(slug)?, variant, preset, is_alias })
    }

    /// The name without any suffix.
    pub fn base(&self) -> &str {
        split(self.slug.as_str()).0
    }
}

/// As it was written.
impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_alias { "~" } else { "" };
        let suffix = match self.variant {
            Some(Variant::Nitro) => ":nitro",
            Some(Variant::Floor) => ":floor",
            Some(Variant::Exacto) => ":exacto",
            Some(Variant::Free | Variant::Static) | None => "",
        };
        write!(f, "{mark}{}{suffix}", self.slug)?;
        self.preset.as_ref().map_or(Ok(()), |preset| write!(f, "{PRESET_MARK}{preset}"))
    }
}

/// Checks a preset's name.
pub(crate) fn preset_name(text: &str) -> Result<&str, ModelRefError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = (1..=PRESET_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed);
    if good { Ok(text) } else { Err(ModelRefError::Preset) }
}

#[derive(Clone, Copy)]
enum Suffix {
    Variant(Variant),
    Online,
}

/// The name before its last suffix, and that suffix. A colon before the last slash is none.
fn split(name: &str) -> (&str, Option<Suffix>) {
    let Some((base, suffix)) = name.rsplit_once(':').filter(|(base, s)| !base.is_empty() && !s.contains('/'))
    else {
        return (name, None);
    };
    let suffix = match suffix {
        "nitro" => Suffix::Variant(Variant::Nitro),
        "floor" => Suffix::Variant(Variant::Floor),
        "exacto" => Suffix::Variant(Variant::Exacto),
        "free" => Suffix::Variant(Variant::Free),
        "online" => Suffix::Online,
        _ => Suffix::Variant(Variant::Static),
    };
    (base, Some(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, slug: &str, base: &str, variant: Option<Variant>, preset: Option<&str>) {
        let model = ModelRef::parse(text).unwrap();
        assert_eq!((model.slug.as_str(), model.base(), model.variant), (slug, base, variant), "{text}");
        assert_eq!((model.preset.as_deref(), model.is_alias), (preset, text.starts_with('~')), "{text}");
        assert_eq!(model.to_string(), text);
    }

    #[test]
    fn suffixes_are_told_from_names() {
        check("a/b", "a/b", "a/b", None, None);
        check("a/b:nitro", "a/b", "a/b", Some(Variant::Nitro), None);
        check("a/b:floor@preset/code-1", "a/b", "a/b", Some(Variant::Floor), Some("code-1"));
        check("a/b:thinking:exacto", "a/b:thinking", "a/b", Some(Variant::Exacto), None);
        check("a/b:free", "a/b:free", "a/b", Some(Variant::Free), None);
        check("a/b:extended", "a/b:extended", "a/b", Some(Variant::Static), None);
        check("host:80/b", "host:80/b", "host:80/b", None, None);
        check("~a/family-latest", "a/family-latest", "a/family-latest", None, None);
        check("~a/b:free@preset/p", "a/b:free", "a/b", Some(Variant::Free), Some("p"));
    }

    #[test]
    fn bad_names_say_why() {
        assert_eq!(ModelRef::parse("a/b:online"), Err(ModelRefError::Online));
        assert_eq!(ModelRef::parse("a/b:nitro:floor"), Err(ModelRefError::TwoVariants));
        assert_eq!(ModelRef::parse("a/b@preset/"), Err(ModelRefError::Preset));
        assert_eq!(ModelRef::parse("a/b@preset/x/y"), Err(ModelRefError::Preset));
        assert_eq!(ModelRef::parse("a b"), Err(ModelRefError::Slug(SlugError::Character(' '))));
        assert_eq!(ModelRef::parse(""), Err(ModelRefError::Slug(SlugError::Length(0))));
        let sized = |n: usize| ModelRef::parse(&format!("m@preset/{}", "p".repeat(n)));
        assert!(sized(PRESET_BYTES_MAX).is_ok());
        assert_eq!(sized(PRESET_BYTES_MAX + 1), Err(ModelRefError::Preset));
    }
}
