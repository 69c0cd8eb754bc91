//! Paths: where an operation's pattern and a call's path meet.
//!
//! A pattern has at most one part that varies, from its first `{` to its last `}`. It takes everything in between,
//! slashes included, because clients write a model's slug as two parts or as one with `%2F`.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A path without the base of the API; none when it stands at the root.
pub(super) fn below_api(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/api/v1"))?;
    rest.starts_with('/').then_some(rest)
}

/// Whether anything varies in a pattern.
pub(super) fn varies(pattern: &str) -> bool {
    pattern.contains('{')
}

/// What stands where a pattern varies, with its escapes resolved; none when the path does not fit. Bytes that are no
/// UTF-8 become U+FFFD, which no name holds.
pub(super) fn varying<'p>(pattern: &str, path: &'p str) -> Option<Cow<'p, str>> {
    let (before, after) = (pattern.split_once('{')?.0, pattern.rsplit_once('}')?.1);
    let inner = path.strip_prefix(before)?.strip_suffix(after)?;
    (!inner.is_empty()).then(|| percent_decode_str(inner).decode_utf8_lossy())
}

/// The names in a pattern, in order.
pub(super) fn names(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, want: Option<&str>) {
        assert_eq!(varying(pattern, path).as_deref(), want, "{pattern} {path}");
    }

    #[test]
    fn slugs_are_found_however_they_are_written() {
        check("/models/{author}/{slug}/endpoints", "/models/a/b/endpoints", Some("a/b"));
        check("/models/{author}/{slug}/endpoints", "/models/a%2Fb%3Afree/endpoints", Some("a/b:free"));
        check("/models/{author}/{slug}/endpoints", "/models/endpoints", None);
        check("/models/{author}/{slug}/endpoints", "/models//endpoints", None);
        check("/models/{model}", "/models/a%2fb", Some("a/b"));
        check("/models/{model}", "/models/", None);
        check("/models/{model}", "/model/a", None);
        check("/keys/{hash}", "/keys/%FF%zz", Some("\u{fffd}%zz"));
        assert_eq!(names("/models/{author}/{slug}/endpoints").collect::<Vec<_>>(), ["author", "slug"]);
        assert!(varies("/keys/{hash}") && !varies("/keys"));
    }

    #[test]
    fn both_bases_are_one() {
        assert_eq!(below_api("/v1/models"), Some("/models"));
        assert_eq!(below_api("/api/v1/models"), Some("/models"));
        for path in ["/v1", "/v1x/models", "/v2/models", "/api/models", "/health", "/"] {
            assert_eq!(below_api(path), None, "{path}");
        }
    }
}
