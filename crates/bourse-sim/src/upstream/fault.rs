//! The list of faults: every way in which a hosted seller has been seen to fail.
//!
//! One enum, one table of names. Each fault can be told apart from every other on the wire; where one
//! shape of trouble has two causes that a client could confuse, there are two faults.

use std::fmt;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// One way of misbehaving, for one request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in headers, scripts and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the seller does, in words.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

faults! {
    /// The connection is refused: nobody listens (for a single call of a live seller: reset at once).
    Refuse = "refuse",
    /// The request is read and never answered.
    AcceptThenHang = "accept-then-hang",
    /// Status and headers are sent, the body never comes.
    HeadersThenHang = "headers-then-hang",
    /// 429 without a hint when to return.
    RateLimited = "rate-limited",
    /// 429 with `Retry-After` in seconds.
    RateLimitedSeconds = "rate-limited-seconds",
    /// 429 with `Retry-After` as an HTTP date.
    RateLimitedDate = "rate-limited-date",
    /// 500 with an OpenAI error body.
    ServerError = "server-error",
    /// 502 with an HTML body, as a proxy in front of the seller sends it.
    BadGateway = "bad-gateway",
    /// 503 with `Retry-After`.
    Unavailable = "unavailable",
    /// 529, the field's own "overloaded".
    Overloaded = "overloaded",
    /// 401: the market's key at this seller is wrong.
    Unauthorized = "unauthorized",
    /// 404: the seller does not know the model that it offered.
    ModelGone = "model-gone",
    /// 200 with an error object as the body.
    OkErrorBody = "ok-error-body",
    /// 200 with an HTML page as the body.
    OkHtmlBody = "ok-html-body",
    /// 200 with an empty body, or a stream of nothing but its end mark.
    EmptyAnswer = "empty-answer",
    /// The first event of the stream is an error.
    FirstEventError = "first-event-error",
    /// An error follows the chunk that only carries the role.
    ErrorAfterRole = "error-after-role",
    /// An error follows half of the tokens.
    ErrorAfterTokens = "error-after-tokens",
    /// The body ends, cleanly as HTTP, after half of the tokens: no finish reason, no end mark.
    CutWithoutDone = "cut-without-done",
    /// The connection closes inside a character of several bytes.
    CutMidUtf8 = "cut-mid-utf8",
    /// The connection closes inside a JSON document.
    CutMidJson = "cut-mid-json",
    /// The connection is reset after half of the tokens.
    ResetMidBody = "reset-mid-body",
    /// The end mark comes, a finish reason never did.
    DoneWithoutFinish = "done-without-finish",
    /// Usage is reported twice: a running count first, the final count last.
    TwoUsageChunks = "two-usage-chunks",
    /// Usage stands on a chunk whose `choices` is not empty.
    UsageWithChoices = "usage-with-choices",
    /// Usage is never reported, though asked for.
    NoUsage = "no-usage",
    /// Usage claims half of the tokens that were delivered.
    UsageLow = "usage-low",
    /// Usage claims a thousand times the tokens that were delivered.
    UsageHigh = "usage-high",
    /// Usage claims more cached prompt tokens than prompt tokens.
    CachedAbovePrompt = "cached-above-prompt",
    /// Bytes come a few at a time, each piece well within any timeout.
    SlowDrip = "slow-drip",
    /// After half of the tokens the seller falls silent for longer than an idle timeout.
    IdleGap = "idle-gap",
    /// Comment lines keep the connection alive, then an ordinary answer follows.
    KeepAliveComments = "keep-alive-comments",
    /// Comment lines keep the connection alive for ever; an answer never comes.
    CommentsForever = "comments-forever",
    /// Lines end in CR LF.
    CrLf = "cr-lf",
    /// One event's data stands on several `data:` lines; a plain body is pretty-printed.
    MultiLineData = "multi-line-data",
    /// One event carries a line of 128 KiB.
    HugeLine = "huge-line",
    /// Two tool calls carry the same id.
    DuplicateToolCallIds = "duplicate-tool-call-ids",
    /// Tool-call arguments are split between the two halves of a surrogate pair.
    SplitSurrogates = "split-surrogates",
    /// The answer names another model.
    WrongModel = "wrong-model",
    /// Content follows the finish reason.
    ContentAfterFinish = "content-after-finish",
    /// The body is gzip, though nobody asked for it.
    GzipBody = "gzip-body",
    /// A chunked body is followed by trailer fields.
    ChunkedTrailers = "chunked-trailers",
    /// The body has neither length nor chunks and ends when the connection closes.
    CloseDelimited = "close-delimited",
    /// A complete answer announces keep-alive, then the connection closes without notice.
    CloseSilently = "close-silently",
    /// The connection is reset where the TLS handshake, or the answer, should begin.
    TlsReset = "tls-reset",
    /// An ordinary answer, but the seller goes on working and writing after the client has gone.
    LateBytes = "late-bytes",
}

/// A name that is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a known fault; `--list-faults` shows them all")]
pub struct UnknownFault(String);

impl std::str::FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.iter().copied().find(|fault| fault.name() == text);
        found.ok_or_else(|| UnknownFault(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_read_back() {
        let names: HashSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(*fault));
            assert!(fault.description().trim().ends_with('.'), "{fault}");
        }
        assert!("no-such-fault".parse::<Fault>().is_err());
    }
}
