//! What a market should make of each fault, as data.
//!
//! Three classes, told apart by what the buyer already has: nothing (another seller is tried, and only
//! when none is left does the buyer see a status), some content (an explicit error terminal, delivered
//! tokens charged), or a whole answer (success, with a rule for which usage counts). The table is the
//! simulator's statement of the contract; the gateway's tests hold the gateway to it.

use super::fault::Fault;

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
    /// only delivered tokens are charged.
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
        match (self.shape(), mode) {
            (Shape::Same(expectation), _)
            | (Shape::PerMode { plain: expectation, .. }, Mode::Plain)
            | (Shape::PerMode { stream: expectation, .. }, Mode::Stream) => expectation,
        }
    }

    /// True when the buyer has nothing yet and another seller should be tried in silence.
    pub const fn fails_before_content(self, mode: Mode) -> bool {
        matches!(self.expectation(mode), Expectation::FailsOver { .. })
    }

    /// True when the market can only notice by waiting: such tests set short timeouts.
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::AcceptThenHang | Self::HeadersThenHang | Self::IdleGap | Self::CommentsForever)
    }

    const fn shape(self) -> Shape {
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
            | Self::GzipBody => Shape::Same(UNAVAILABLE),
            Self::Unavailable | Self::Overloaded => Shape::Same(OVERLOADED),
            Self::RateLimited | Self::RateLimitedSeconds | Self::RateLimitedDate => Shape::Same(RATE_LIMITED),
            Self::AcceptThenHang | Self::HeadersThenHang | Self::CommentsForever => Shape::Same(TIMED_OUT),
            Self::ErrorAfterTokens
            | Self::CutWithoutDone
            | Self::CutMidUtf8
            | Self::CutMidJson
            | Self::ResetMidBody => Shape::PerMode { plain: UNAVAILABLE, stream: Expectation::BreaksOff },
            Self::IdleGap => Shape::PerMode { plain: TIMED_OUT, stream: Expectation::BreaksOff },
            Self::DoneWithoutFinish => Shape::PerMode { plain: WHOLE, stream: Expectation::BreaksOff },
            Self::NoUsage => Shape::Same(Expectation::Answers { usage: UsageRule::Recounted }),
            Self::UsageLow => Shape::Same(Expectation::Answers { usage: UsageRule::ClaimedBelowTruth }),
            Self::UsageHigh => Shape::Same(Expectation::Answers { usage: UsageRule::Bounded }),
            Self::CachedAbovePrompt => Shape::Same(Expectation::Answers { usage: UsageRule::CachedBounded }),
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
            | Self::LateBytes => Shape::Same(WHOLE),
        }
    }
}

enum Shape {
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
    fn every_class_has_faults() {
        let in_stream = |class: fn(&Expectation) -> bool| {
            Fault::ALL.iter().filter(|fault| class(&fault.expectation(Mode::Stream))).count()
        };
        assert!(in_stream(|e| matches!(e, Expectation::FailsOver { .. })) >= 10);
        assert!(in_stream(|e| matches!(e, Expectation::BreaksOff)) >= 5);
        assert!(in_stream(|e| matches!(e, Expectation::Answers { .. })) >= 10);
    }
}
