//! What a market should make of each fault, as data.
//!
//! Three classes, told apart by what the buyer already has: nothing (another seller is tried, and only
//! when none is left does the buyer see a status), some content (an explicit error terminal, nothing
//! charged), or a whole answer (success, with a rule for which usage counts). The table is the
//! simulator's statement of the contract; the gateway's tests hold the gateway to it.

use super::fault::Fault;
use super::shape::Shape;

/// How the buyer asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One JSON document.
    Plain,
    /// Server-sent events.
    Stream,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Stream];
}

/// Which token counts a charge may rest on when the answer was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageRule {
    /// What the seller reported (its last report), which is the truth.
    Claimed,
    /// What the seller reported, though it is less than it delivered: its own loss.
    ClaimedBelowTruth,
    /// The report is missing: the market's own count of what was delivered, never zero.
    Recounted,
    /// The report is beyond belief: the market's own count bounds it, and the hold bounds both.
    Bounded,
    /// The cached share is impossible: the charge must not rest on it.
    CachedBounded,
}

/// What should come of a request that met a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expectation {
    /// Nothing reached the buyer. Another seller answers; with none left, this status, and no charge.
    FailsOver {
        /// What the buyer gets when no seller is left.
        status: u16,
    },
    /// Content reached the buyer, then the seller broke off: exactly one explicit error terminal, and
    /// nothing is charged.
    BreaksOff,
    /// A whole answer.
    Answers {
        /// What is charged.
        usage: UsageRule,
    },
}

const UNAVAILABLE: Expectation = Expectation::FailsOver { status: 502 };
const OVERLOADED: Expectation = Expectation::FailsOver { status: 503 };
const TIMED_OUT: Expectation = Expectation::FailsOver { status: 504 };
const RATE_LIMITED: Expectation = Expectation::FailsOver { status: 429 };
const WHOLE: Expectation = Expectation::Answers { usage: UsageRule::Claimed };

impl Fault {
    /// The class of outcome that this fault should lead to.
    pub const fn expectation(self, mode: Mode) -> Expectation {
        match (self.outcome(), mode) {
            (Outcome::Same(expectation), _)
            | (Outcome::PerMode { plain: expectation, .. }, Mode::Plain)
            | (Outcome::PerMode { stream: expectation, .. }, Mode::Stream) => expectation,
        }
    }

    /// What should come of this fault in a shape; `None` where it has no meaning there: then the seller
    /// answers as an honest one, and logs no fault.
    pub const fn expectation_in(self, shape: Shape, mode: Mode) -> Option<Expectation> {
        if !shape.streams() {
            return match mode {
                Mode::Plain => self.expectation_in_media(shape),
                Mode::Stream if shape.has_events() => self.expectation_in_media_events(shape),
                Mode::Stream => None,
            };
        }
        let is_openai = matches!(shape, Shape::Chat | Shape::Completions);
        let is_stream = matches!(mode, Mode::Stream);
        let has_meaning = match self {
            Self::DuplicateToolCallIds => shape.has_tools(),
            // Gemini and Ollama send arguments whole.
            Self::SplitSurrogates => shape.has_tools() && !matches!(shape, Shape::Gemini | Shape::Ollama),
            // Gemini reports a running count on every chunk, which is its honest way; Cohere with its last event only.
            Self::TwoUsageChunks => is_openai || is_stream && !matches!(shape, Shape::Gemini | Shape::Cohere),
            // Cohere's answers name no model.
            Self::WrongModel => !matches!(shape, Shape::Cohere),
            Self::UsageWithChoices => is_openai,
            // Anthropic tells cached tokens beside the others, Ollama never.
            Self::CachedAbovePrompt => !matches!(shape, Shape::Messages | Shape::Ollama),
            // A line is a document there.
            Self::MultiLineData => !(matches!(shape, Shape::Ollama) && is_stream),
            _ => true,
        };
        match self {
            _ if !has_meaning => None,
            // `done` ends an Ollama stream with or without a reason.
            Self::DoneWithoutFinish if matches!(shape, Shape::Ollama) => Some(WHOLE),
            _ => Some(self.expectation(mode)),
        }
    }

    /// Shapes that generate no text, in one piece: one document, or bytes.
    const fn expectation_in_media(self, shape: Shape) -> Option<Expectation> {
        let is_bytes = matches!(shape, Shape::Speech);
        let has_meaning = match self {
            Self::UsageHigh => matches!(shape, Shape::Embeddings | Shape::Images),
            Self::WrongModel => matches!(shape, Shape::Embeddings),
            // Bytes of sound tell no usage and have no lines, white space would be sound, and half of a
            // sound that ends cleanly is a shorter sound.
            Self::NoUsage
            | Self::CutWithoutDone
            | Self::KeepAliveComments
            | Self::CommentsForever
            | Self::CrLf
            | Self::MultiLineData
            | Self::HugeLine => !is_bytes,
            Self::DoneWithoutFinish
            | Self::TwoUsageChunks
            | Self::UsageWithChoices
            | Self::UsageLow
            | Self::CachedAbovePrompt
            | Self::DuplicateToolCallIds
            | Self::SplitSurrogates
            | Self::ContentAfterFinish => false,
            _ => true,
        };
        if has_meaning { Some(self.expectation(Mode::Plain)) } else { None }
    }

    /// The same shapes in events. Images have a middle to break off in where previews were asked for.
    const fn expectation_in_media_events(self, shape: Shape) -> Option<Expectation> {
        let has_meaning = match self {
            // A transcript is told by its seconds.
            Self::UsageHigh => !matches!(shape, Shape::Transcriptions),
            // Events name no model, and tell usage once.
            Self::WrongModel
            | Self::TwoUsageChunks
            | Self::UsageWithChoices
            | Self::UsageLow
            | Self::CachedAbovePrompt
            | Self::DuplicateToolCallIds
            | Self::SplitSurrogates => false,
            _ => true,
        };
        if has_meaning { Some(self.expectation(Mode::Stream)) } else { None }
    }

    /// True when the buyer has nothing yet and another seller should be tried in silence.
    pub const fn fails_before_content(self, mode: Mode) -> bool {
        matches!(self.expectation(mode), Expectation::FailsOver { .. })
    }

    /// True when the market can only notice by waiting: such tests set short timeouts.
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::AcceptThenHang | Self::HeadersThenHang | Self::IdleGap | Self::CommentsForever)
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Refuse
            | Self::TlsReset
            | Self::ServerError
            | Self::BadGateway
            | Self::Unauthorized
            | Self::ModelGone
            | Self::OkErrorBody
            | Self::OkHtmlBody
            | Self::EmptyAnswer
            | Self::FirstEventError
            | Self::ErrorAfterRole
            | Self::GzipBody => Outcome::Same(UNAVAILABLE),
            Self::Unavailable | Self::Overloaded => Outcome::Same(OVERLOADED),
            Self::RateLimited | Self::RateLimitedSeconds | Self::RateLimitedDate => {
                Outcome::Same(RATE_LIMITED)
            }
            Self::AcceptThenHang | Self::HeadersThenHang | Self::CommentsForever => Outcome::Same(TIMED_OUT),
            Self::ErrorAfterTokens
            | Self::CutWithoutDone
            | Self::CutMidUtf8
            | Self::CutMidJson
            | Self::ResetMidBody => Outcome::PerMode { plain: UNAVAILABLE, stream: Expectation::BreaksOff },
            Self::IdleGap => Outcome::PerMode { plain: TIMED_OUT, stream: Expectation::BreaksOff },
            Self::DoneWithoutFinish => Outcome::PerMode { plain: WHOLE, stream: Expectation::BreaksOff },
            Self::NoUsage => Outcome::Same(Expectation::Answers { usage: UsageRule::Recounted }),
            Self::UsageLow => Outcome::Same(Expectation::Answers { usage: UsageRule::ClaimedBelowTruth }),
            Self::UsageHigh => Outcome::Same(Expectation::Answers { usage: UsageRule::Bounded }),
            Self::CachedAbovePrompt => {
                Outcome::Same(Expectation::Answers { usage: UsageRule::CachedBounded })
            }
            Self::TwoUsageChunks
            | Self::UsageWithChoices
            | Self::SlowDrip
            | Self::KeepAliveComments
            | Self::CrLf
            | Self::MultiLineData
            | Self::HugeLine
            | Self::DuplicateToolCallIds
            | Self::SplitSurrogates
            | Self::WrongModel
            | Self::ContentAfterFinish
            | Self::ChunkedTrailers
            | Self::CloseDelimited
            | Self::CloseSilently
            | Self::LateBytes => Outcome::Same(WHOLE),
        }
    }
}

enum Outcome {
    Same(Expectation),
    PerMode { plain: Expectation, stream: Expectation },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_answer_never_breaks_off() {
        for fault in Fault::ALL {
            assert_ne!(fault.expectation(Mode::Plain), Expectation::BreaksOff, "{fault}");
        }
    }

    #[test]
    fn chat_has_every_fault_and_no_shape_breaks_off_when_plain() {
        for fault in Fault::ALL {
            for mode in Mode::ALL {
                assert_eq!(fault.expectation_in(Shape::Chat, mode), Some(fault.expectation(mode)));
            }
            for shape in Shape::ALL {
                assert_ne!(fault.expectation_in(shape, Mode::Plain), Some(Expectation::BreaksOff), "{fault}");
                let streamed = fault.expectation_in(shape, Mode::Stream);
                assert!(shape.has_events() || streamed.is_none(), "{fault} {shape}");
            }
        }
    }

    #[test]
    fn every_shape_has_most_faults() {
        let count = |shape, mode| {
            Fault::ALL.iter().filter(|fault| fault.expectation_in(shape, mode).is_some()).count()
        };
        for shape in Shape::ALL {
            let least = if shape == Shape::Speech { 25 } else { 32 };
            assert!(count(shape, Mode::Plain) >= least, "{shape}: {}", count(shape, Mode::Plain));
            let least = if shape.streams() { 42 } else { 38 };
            assert!(!shape.has_events() || count(shape, Mode::Stream) >= least, "{shape}");
        }
    }

    #[test]
    fn every_class_has_faults() {
        let in_stream = |class: fn(&Expectation) -> bool| {
            Fault::ALL.iter().filter(|fault| class(&fault.expectation(Mode::Stream))).count()
        };
        assert!(in_stream(|e| matches!(e, Expectation::FailsOver { .. })) >= 10);
        assert!(in_stream(|e| matches!(e, Expectation::BreaksOff)) >= 5);
        assert!(in_stream(|e| matches!(e, Expectation::Answers { .. })) >= 10);
    }
}
