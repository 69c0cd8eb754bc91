//! How attempts fail, and what the buyer is told when all have failed.

use bourse_market::Outcome;
use bourse_types::DurationMs;
use bourse_wire::dialect::grammar::{SellerError, SellerErrorKind};
use bourse_wire::error::{ApiError, ErrorType, PreviousError};
use std::borrow::Cow;

/// What a failed attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The seller refused the request itself: the buyer's fault, and no other seller is asked.
    BadRequest,
    /// The prompt does not fit: the buyer's fault, though a larger context elsewhere may help.
    ContextLength,
    /// 429.
    RateLimited,
    /// The seller is full.
    Overloaded,
    /// Nothing usable in time.
    Timeout,
    /// Anything else that is the seller's fault.
    Unavailable,
    /// The seller's filter refused the content: another seller's may not.
    ContentPolicy,
    /// The money does not cover this seller's price.
    Unaffordable,
    /// The request cannot be said in the seller's grammar; another's may do.
    Untranslatable,
}

impl FailureClass {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::ContextLength,
        Self::RateLimited,
        Self::Overloaded,
        Self::Timeout,
        Self::Unavailable,
        Self::ContentPolicy,
        Self::Unaffordable,
        Self::Untranslatable,
    ];

    /// The word for it in metrics and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ContextLength => "context_length",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::ContentPolicy => "content_policy",
            Self::Unaffordable => "unaffordable",
            Self::Untranslatable => "untranslatable",
        }
    }
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub class: FailureClass,
    /// HTTP status or its equivalent; 0 when nothing came back.
    pub status: u16,
    /// In words, shown to the buyer. Names no key and no prompt.
    pub reason: String,
    /// Seconds after which the seller wants to be asked again.
    pub retry_after_s: Option<u64>,
    /// The field at fault, where it is the request's.
    pub param: Option<Cow<'static, str>>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(class: FailureClass, status: u16, reason: impl Into<String>) -> Self {
        Self { class, status, reason: reason.into(), retry_after_s: None, param: None }
    }

    /// What a seller told, with the status that it came with.
    pub fn told(error: &SellerError, status: u16, retry_after_s: Option<u64>) -> Self {
        let class = match error.kind {
            SellerErrorKind::InvalidRequest => FailureClass::BadRequest,
            SellerErrorKind::ContextLength => FailureClass::ContextLength,
            SellerErrorKind::ContentPolicy => FailureClass::ContentPolicy,
            SellerErrorKind::RateLimited => FailureClass::RateLimited,
            SellerErrorKind::Overloaded => FailureClass::Overloaded,
            SellerErrorKind::Timeout => FailureClass::Timeout,
            SellerErrorKind::Unavailable => FailureClass::Unavailable,
        };
        Self { retry_after_s, ..Self::new(class, status, error.message.clone()) }
    }

    /// The request cannot be said in the seller's grammar.
    pub fn untranslatable(error: &ApiError) -> Self {
        let failure = Self::new(FailureClass::Untranslatable, 0, error.message.clone());
        Self { param: error.param.clone(), ..failure }
    }

    /// The seller broke off or sent something unusable.
    pub fn broken(status: u16, reason: impl Into<String>) -> Self {
        Self::new(FailureClass::Unavailable, status, reason)
    }

    /// What the breaker learns.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.class {
            FailureClass::BadRequest
            | FailureClass::ContextLength
            | FailureClass::ContentPolicy
            | FailureClass::Unaffordable
            | FailureClass::Untranslatable => Outcome::Neutral,
            FailureClass::RateLimited => Outcome::RateLimited {
                retry_after: self.retry_after_s.map(|s| DurationMs(s.saturating_mul(1_000))),
            },
            FailureClass::Unavailable if self.status == 403 => Outcome::Forbidden,
            FailureClass::Unavailable if self.status == 200 => Outcome::Broken,
            _ => Outcome::Failure,
        }
    }
}

/// Seconds of a `Retry-After` value: a number, or an HTTP date against `now_s`.
pub(crate) fn retry_after_s(value: &str, now_s: u64) -> Option<u64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(seconds);
    }
    let at = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(at.as_secs().saturating_sub(now_s))
}

/// What a buyer reads when every attempt failed.
pub(crate) fn all_failed(failures: &[(String, Failure)]) -> ApiError {
    let classes = || failures.iter().map(|(_, f)| f.class);
    let kind = if failures.is_empty() {
        ErrorType::Timeout
    } else if classes().any(|c| c == FailureClass::BadRequest)
        || classes().all(|c| c == FailureClass::Untranslatable)
    {
        ErrorType::InvalidRequest
    } else if classes().all(|c| c == FailureClass::ContextLength) {
        ErrorType::ContextLengthExceeded
    } else if classes().all(|c| c == FailureClass::Unaffordable) {
        ErrorType::PaymentRequired
    } else if classes().all(|c| c == FailureClass::RateLimited) {
        ErrorType::RateLimitExceeded
    } else if classes().all(|c| matches!(c, FailureClass::RateLimited | FailureClass::Overloaded)) {
        ErrorType::ProviderOverloaded
    } else if classes().all(|c| c == FailureClass::Timeout) {
        ErrorType::Timeout
    } else {
        ErrorType::ProviderUnavailable
    };
    if kind == ErrorType::PaymentRequired {
        let reason = failures.first().map_or_else(String::new, |(_, f)| f.reason.clone());
        return ApiError::new(kind, reason);
    }
    let told = failures.iter().rfind(|(_, f)| f.class == FailureClass::BadRequest).or(failures.last());
    let message = match told {
        Some((seller, failure)) if kind == ErrorType::InvalidRequest => {
            format!("seller `{seller}` refused the request: {}", failure.reason)
        }
        Some((seller, failure)) if failures.len() == 1 => {
            format!("seller `{seller}` failed: {}", failure.reason)
        }
        Some((seller, failure)) => {
            format!("all {} sellers failed; the last, `{seller}`: {}", failures.len(), failure.reason)
        }
        None => "no seller could be asked before the deadline".to_owned(),
    };
    let mut error = ApiError::new(kind, message);
    error.param = told.and_then(|(_, f)| f.param.clone());
    error.retry_after_s = failures.iter().filter_map(|(_, f)| f.retry_after_s).min();
    error.previous = failures
        .iter()
        .map(|(seller, f)| PreviousError {
            seller: seller.clone(),
            status: f.status,
            reason: f.reason.clone(),
        })
        .collect();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(classes: &[FailureClass], kind: ErrorType) {
        let failures: Vec<_> = classes.iter().map(|c| ("s".to_owned(), Failure::new(*c, 0, "why"))).collect();
        assert_eq!(all_failed(&failures).kind, kind, "{classes:?}");
    }

    #[test]
    fn the_status_follows_from_all_failures() {
        use FailureClass::{BadRequest, ContextLength, Overloaded, RateLimited, Timeout, Unavailable};
        check(&[RateLimited, RateLimited], ErrorType::RateLimitExceeded);
        check(&[RateLimited, Overloaded], ErrorType::ProviderOverloaded);
        check(&[RateLimited, Unavailable], ErrorType::ProviderUnavailable);
        check(&[Timeout], ErrorType::Timeout);
        check(&[Timeout, Unavailable], ErrorType::ProviderUnavailable);
        check(&[Unavailable, BadRequest], ErrorType::InvalidRequest);
        check(&[ContextLength], ErrorType::ContextLengthExceeded);
        check(&[], ErrorType::Timeout);
    }

    #[test]
    fn the_earliest_hint_counts() {
        let hinted =
            |s| Failure { retry_after_s: Some(s), ..Failure::new(FailureClass::RateLimited, 429, "x") };
        let error = all_failed(&[("a".into(), hinted(9)), ("b".into(), hinted(4))]);
        assert_eq!(error.retry_after_s, Some(4));
        assert_eq!(error.previous.len(), 2);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_s("7", 0), Some(7));
        assert_eq!(retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 40), Some(60));
        assert_eq!(retry_after_s("Thu, 01 Jan 1970 00:00:10 GMT", 40), Some(0));
        assert_eq!(retry_after_s("soon", 0), None);
        assert_eq!(retry_after_s("-5", 0), None);
    }
}
