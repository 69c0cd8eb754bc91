//! How attempts fail, and what the buyer is told when all have failed.

use bourse_market::Outcome;
use bourse_types::{DurationMs, UnixMs};
use bourse_wire::dialect::grammar::{SellerError, SellerErrorKind};
use bourse_wire::dialect::retry_hint::{self, RETRY_HINT_MS_MAX};
use bourse_wire::error::{ApiError, ErrorType, PreviousError};
use http::{HeaderMap, HeaderName, header};
use std::borrow::Cow;
use std::time::UNIX_EPOCH;

/// Milliseconds of a pause, beside `Retry-After` or instead of it; OpenAI's and Azure's.
const RETRY_AFTER_MS_HEADER: HeaderName = HeaderName::from_static("retry-after-ms");

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
    /// How long the seller wants to be left alone.
    pub retry_after: Option<DurationMs>,
    /// The field at fault, where it is the request's.
    pub param: Option<Box<str>>,
    /// What the buyer is told where its own money or limits are the reason.
    pub refusal: Option<Box<ApiError>>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(class: FailureClass, status: u16, reason: impl Into<String>) -> Self {
        Self { class, status, reason: reason.into(), retry_after: None, param: None, refusal: None }
    }

    /// The buyer's money or its limits do not cover this seller's price.
    pub fn unaffordable(refusal: ApiError) -> Self {
        let (status, reason) = (refusal.status(), refusal.message.clone());
        Self { refusal: Some(Box::new(refusal)), ..Self::new(FailureClass::Unaffordable, status, reason) }
    }

    /// What a seller told, with the status and the header that it came with; without such a header its error may say how
    /// long to wait.
    pub fn told(error: &SellerError, status: u16, retry_after: Option<DurationMs>) -> Self {
        let class = match error.kind {
            SellerErrorKind::InvalidRequest => FailureClass::BadRequest,
            SellerErrorKind::ContextLength => FailureClass::ContextLength,
            SellerErrorKind::ContentPolicy => FailureClass::ContentPolicy,
            SellerErrorKind::RateLimited => FailureClass::RateLimited,
            SellerErrorKind::Overloaded => FailureClass::Overloaded,
            SellerErrorKind::Timeout => FailureClass::Timeout,
            SellerErrorKind::Unavailable => FailureClass::Unavailable,
        };
        let retry_after = retry_after.or(error.retry_after);
        Self { retry_after, ..Self::new(class, status, error.message.clone()) }
    }

    /// The request cannot be said in the seller's grammar, so the seller was not asked.
    pub fn untranslatable(error: &ApiError) -> Self {
        let failure = Self::new(FailureClass::Untranslatable, 0, error.message.clone());
        Self { param: error.param.as_deref().map(Box::from), ..failure }
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
            FailureClass::RateLimited => Outcome::RateLimited { retry_after: self.retry_after },
            FailureClass::Unavailable if self.status == 403 => Outcome::Forbidden,
            FailureClass::Unavailable if self.status == 200 => Outcome::Broken,
            _ => Outcome::Failure,
        }
    }
}

/// How long a seller wants to be left alone by its headers: `retry-after-ms`, which is finer, or `Retry-After`, a number of
/// seconds or an HTTP date.
pub(crate) fn retry_after(headers: &HeaderMap, now: UnixMs) -> Option<DurationMs> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    if let Some(exact) = text(&RETRY_AFTER_MS_HEADER).and_then(|value| retry_hint::of_number(value, 1)) {
        return Some(exact);
    }
    let value = text(&header::RETRY_AFTER)?;
    retry_hint::of_number(value, 1_000).or_else(|| {
        let at = httpdate::parse_http_date(value.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let at = UnixMs(u64::try_from(at.as_millis()).ok()?);
        Some(DurationMs(at.since(now).0.min(RETRY_HINT_MS_MAX)))
    })
}

/// Longest wait that a buyer is told, in seconds. Clients sleep as long as they are told; the market asks elsewhere, and
/// who comes back early is only told to wait again.
const RETRY_AFTER_TOLD_S_MAX: u64 = 60;
/// When to come back where every seller is busy and none says for how long.
const RETRY_AFTER_UNTOLD_S: u64 = 1;

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
        let first = failures.first().map(|(_, failure)| failure);
        let reason = || first.map_or_else(String::new, |failure| failure.reason.clone());
        let refusal = first.and_then(|failure| failure.refusal.as_deref()).cloned();
        return refusal.unwrap_or_else(|| ApiError::new(kind, reason()));
    }
    let told = failures.iter().rfind(|(_, f)| f.class == FailureClass::BadRequest);
    // Who was asked says more than who was not.
    let told = told.or_else(|| failures.iter().rfind(|(_, f)| f.class != FailureClass::Untranslatable));
    let told = told.or(failures.last());
    let message = match told {
        Some((_, failure))
            if failure.class == FailureClass::Untranslatable && kind == ErrorType::InvalidRequest =>
        {
            format!("no seller of the model can be asked this: {}", failure.reason)
        }
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
    error.param = told.and_then(|(_, f)| f.param.clone()).map(|param| Cow::Owned(param.into()));
    let hints = failures.iter().filter_map(|(_, f)| f.retry_after);
    let told = hints.min().map(|span| span.0.div_ceil(1_000).min(RETRY_AFTER_TOLD_S_MAX));
    let is_busy = matches!(kind, ErrorType::RateLimitExceeded | ErrorType::ProviderOverloaded);
    error.retry_after_s = told.or(is_busy.then_some(RETRY_AFTER_UNTOLD_S));
    error.previous = failures
        .iter()
        .map(|(seller, f)| PreviousError {
            seller: seller.clone(),
            status: f.status,
            reason: match f.class {
                FailureClass::Untranslatable => format!("not asked: {}", f.reason),
                _ => f.reason.clone(),
            },
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
    fn who_was_not_asked_has_refused_nothing() {
        let unsaid = Failure::untranslatable(&ApiError::field("tools[0]", "`tools[0]`: runs at a seller"));
        let error = all_failed(&[("a".into(), unsaid.clone()), ("b".into(), unsaid.clone())]);
        assert_eq!((error.kind, error.param.as_deref()), (ErrorType::InvalidRequest, Some("tools[0]")));
        assert_eq!(error.message, "no seller of the model can be asked this: `tools[0]`: runs at a seller");
        assert_eq!(error.previous[1].reason, "not asked: `tools[0]`: runs at a seller");
        let refused = Failure::new(FailureClass::BadRequest, 422, "no");
        let error = all_failed(&[("a".into(), refused), ("b".into(), unsaid)]);
        assert_eq!(error.message, "seller `a` refused the request: no", "who was asked counts");
    }

    #[test]
    fn the_earliest_hint_counts() {
        let hinted = |ms| Failure {
            retry_after: Some(DurationMs(ms)),
            ..Failure::new(FailureClass::RateLimited, 429, "x")
        };
        let error = all_failed(&[("a".into(), hinted(9_000)), ("b".into(), hinted(3_001))]);
        assert_eq!(error.retry_after_s, Some(4), "rounded up");
        let day = all_failed(&[("a".into(), hinted(86_400_000))]);
        assert_eq!(day.retry_after_s, Some(RETRY_AFTER_TOLD_S_MAX), "clients would sleep for a day");
        let untold = all_failed(&[("a".into(), Failure::new(FailureClass::Overloaded, 503, "x"))]);
        assert_eq!(untold.retry_after_s, Some(RETRY_AFTER_UNTOLD_S));
        assert_eq!(error.previous.len(), 2);
    }

    #[test]
    fn headers_say_how_long_to_wait() {
        let check = |fields: &[(&'static str, &str)], want: Option<u64>| {
            let fields = fields.iter().map(|(name, value)| {
                (HeaderName::from_static(name), http::HeaderValue::try_from(*value).unwrap())
            });
            let headers: HeaderMap = fields.collect();
            assert_eq!(retry_after(&headers, UnixMs(40_000)).map(|span| span.0), want, "{headers:?}");
        };
        check(&[("retry-after", "7")], Some(7_000));
        check(&[("retry-after", "0.5")], Some(500));
        check(&[("retry-after", "Thu, 01 Jan 1970 00:01:40 GMT")], Some(60_000));
        check(&[("retry-after", "Thu, 01 Jan 1970 00:00:10 GMT")], Some(0));
        check(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], Some(RETRY_HINT_MS_MAX));
        check(&[("retry-after-ms", "1200"), ("retry-after", "2")], Some(1_200));
        check(&[("retry-after-ms", "x"), ("retry-after", "2")], Some(2_000));
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "-5")], None);
        check(&[], None);
    }

    #[test]
    fn a_header_goes_before_what_the_error_says() {
        let error = SellerError::new(SellerErrorKind::RateLimited, "slow down: try again in 1.5s");
        let failure = |header| Failure::told(&error, 429, header);
        assert_eq!(failure(None).retry_after, Some(DurationMs(1_500)));
        assert_eq!(failure(Some(DurationMs(9))).retry_after, Some(DurationMs(9)));
        let outcome = Outcome::RateLimited { retry_after: Some(DurationMs(1_500)) };
        assert_eq!(failure(None).outcome(), outcome, "the breaker learns it to the millisecond");
    }
}
