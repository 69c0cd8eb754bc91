//! Phase 2: whose money it is.
//!
//! A key is known by its SHA-256. The check comes before the body is read, so that a stranger costs
//! nothing but a head.

use bourse_types::{KeyHash, UnixMs};
use bourse_wire::api::LimitReached;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{Funds, FundsError, KeyGrant, Scope};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

/// Longest key that is looked up.
pub(crate) const KEY_BYTES_MAX: usize = 512;

/// After how many seconds to ask again books that have stopped: a standby takes them over within that.
const BOOKS_AGAIN_S: u64 = 5;

/// Where Anthropic's clients put the key.
const ANTHROPIC_KEY_HEADER: &str = "x-api-key";

/// The hash of the key in the `Authorization` header, or in the one that Anthropic's clients use.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<KeyHash, ApiError> {
    Ok(KeyHash(Sha256::digest(key_in(headers)?).into()))
}

/// The key itself.
pub(crate) fn key_in(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let missing = || {
        ApiError::new(
            ErrorType::Authentication,
            "there is no API key: send it as `Authorization: Bearer KEY`; `bourse key create` makes one",
        )
    };
    for name in [header::AUTHORIZATION.as_str(), ANTHROPIC_KEY_HEADER] {
        if headers.get_all(name).iter().nth(1).is_some() {
            // Which of them counts would be a guess about whose money it is.
            let message = format!("the header `{name}` is there more than once: send one key");
            return Err(ApiError::new(ErrorType::Authentication, message));
        }
    }
    let key = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let (scheme, key) = value.as_bytes().split_at_checked(7).ok_or_else(missing)?;
            if !scheme.eq_ignore_ascii_case(b"bearer ") {
                return Err(missing());
            }
            key
        }
        None => headers.get(ANTHROPIC_KEY_HEADER).ok_or_else(missing)?.as_bytes(),
    };
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(missing());
    }
    Ok(key)
}

/// Looks the caller's key up.
pub(crate) fn admit(funds: &dyn Funds, headers: &HeaderMap, now: UnixMs) -> Result<KeyGrant, ApiError> {
    funds.authenticate(&key_of(headers)?, now).map_err(|error| refusal(&error))
}

/// What a buyer reads whose request came, or was still unanswered, when the market closes.
pub(crate) fn closing() -> ApiError {
    let message = "the market is closing; nothing was charged: ask again in a moment";
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::ProviderOverloaded, message) }
}

/// What a buyer reads whose answer met the market's own bounds on its way.
pub(crate) fn full(error: &FundsError) -> ApiError {
    let message = format!("{error}; nothing was charged: ask again in a moment");
    ApiError::new(ErrorType::ProviderOverloaded, message)
}

/// What a buyer reads while the books cannot be written, and nothing of the request was settled. Another exchange may
/// take over, or this one be started anew, so asking again may help.
pub(crate) fn books_stopped() -> ApiError {
    let message = "the market has stopped, as its books cannot be written; nothing was charged: ask again later, \
                   when its operator has started it again";
    ApiError { retry_after_s: Some(BOOKS_AGAIN_S), ..ApiError::new(ErrorType::ProviderOverloaded, message) }
}

/// What a buyer reads when the exchange refuses.
pub(crate) fn refusal(error: &FundsError) -> ApiError {
    let (kind, remedy) = match error {
        FundsError::UnknownKey => {
            (ErrorType::Authentication, ": check it, or make one with `bourse key create`")
        }
        FundsError::RevokedKey | FundsError::ExpiredKey => {
            (ErrorType::Authentication, ": make another with `bourse key create`")
        }
        FundsError::DisabledKey => {
            (ErrorType::Authentication, ": switch it on again with `bourse key enable`, or use another")
        }
        FundsError::ManagementKey => (ErrorType::PermissionDenied, ": use an inference key"),
        FundsError::NotManagement => {
            (ErrorType::PermissionDenied, ": make one with `bourse key create --management`")
        }
        FundsError::InsufficientFunds { .. } => {
            (ErrorType::PaymentRequired, ": add credit, or ask for less (`max_tokens`, `n`)")
        }
        FundsError::OverBudget { budget, .. } if budget.scope == Scope::Key => (
            ErrorType::PaymentRequired,
            ": raise it with `bourse key limit`, or ask for less (`max_tokens`, `n`)",
        ),
        FundsError::OverBudget { .. } => (
            ErrorType::PermissionDenied,
            ": wait for its next window, have it raised with `bourse limits budget`, or ask for less (`max_tokens`, `n`)",
        ),
        FundsError::RateLimited { retry_after: Some(_), .. } => {
            (ErrorType::RateLimitExceeded, ": wait as long as `Retry-After` says")
        }
        FundsError::RateLimited { .. } => {
            (ErrorType::RateLimitExceeded, ": no waiting helps, ask for less (`max_tokens`, `n`)")
        }
        FundsError::Conflict => (ErrorType::Conflict, ""),
        FundsError::ClaimTaken => (ErrorType::Conflict, ": use a new one"),
        FundsError::ClaimOpen => (ErrorType::Conflict, ": come again"),
        FundsError::ClaimPaid(_) => (ErrorType::Conflict, ": see its receipt, or use a new key"),
        // The market's own bounds, not the buyer's.
        FundsError::TooMany(_) | FundsError::Closing | FundsError::Away => {
            (ErrorType::ProviderOverloaded, ": try again in a moment")
        }
        FundsError::Journal(_) => return books_stopped(),
        FundsError::ExceedsHold { .. } | FundsError::NoHold | FundsError::NoRandomness(_) => {
            return ApiError::new(ErrorType::Server, "the books could not be written; nothing was charged");
        }
    };
    let mut api = ApiError::new(kind, format!("{error}{remedy}"));
    if let bourse_types::Retry::AfterMs(ms) = error.retry() {
        api.retry_after_s = Some(ms.div_ceil(1_000));
    }
    match LimitReached::of(error).map(|limit| serde_json::to_string(&limit)) {
        Some(Ok(limit)) => rate_headers(api.with_metadata(format!("\"limit\":{limit}")), error),
        _ => api,
    }
}

/// What clients read of a rate; the field's own header names. `X-RateLimit-Reset` is in Unix milliseconds.
fn rate_headers(api: ApiError, error: &FundsError) -> ApiError {
    let FundsError::RateLimited { rate, retry_after, .. } = error else { return api };
    let api =
        api.with_header("x-ratelimit-limit", rate.limit).with_header("x-ratelimit-remaining", rate.left);
    let api = rate.resets_at.iter().fold(api, |api, at| api.with_header("x-ratelimit-reset", at.0));
    retry_after.iter().fold(api, |api, span| api.with_header("retry-after-ms", span.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::NanoUsd;

    fn key(value: &str) -> Result<KeyHash, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        key_of(&headers)
    }

    #[test]
    fn keys_are_known_by_their_hash() {
        let abc =
            KeyHash::parse_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").unwrap();
        assert_eq!(key("Bearer abc").unwrap(), abc);
        assert_eq!(key("bearer  abc ").unwrap(), abc);
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(key(bad).unwrap_err().status(), 401, "{bad}");
        }
        assert_eq!(key_of(&HeaderMap::new()).unwrap_err().status(), 401);
        assert!(key(&format!("Bearer {}", "k".repeat(KEY_BYTES_MAX))).is_ok());
        assert!(key(&format!("Bearer {}", "k".repeat(KEY_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn one_key_is_one() {
        for name in ["authorization", ANTHROPIC_KEY_HEADER] {
            let mut headers = HeaderMap::new();
            headers.append(name, "Bearer abc".parse().unwrap());
            assert!(key_of(&headers).is_ok());
            headers.append(name, "Bearer abc".parse().unwrap());
            let error = key_of(&headers).unwrap_err();
            assert_eq!(error.status(), 401);
            assert!(error.message.contains(name) && !error.message.contains("abc"), "{error}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let (available, needed, held) = (NanoUsd(5), NanoUsd(7), NanoUsd(2));
        let poor = FundsError::InsufficientFunds { available, needed, held };
        let error = refusal(&poor);
        assert_eq!(error.status(), 402);
        assert!(error.message.contains("$0.000000005 available") && error.message.contains("max_tokens"));
        let full = refusal(&FundsError::TooMany("bytes wait for the disk"));
        assert_eq!((full.status(), full.retry_after_s), (503, Some(1)));
        assert_eq!(full.message, "too many bytes wait for the disk: try again in a moment");
        let broken = refusal(&FundsError::Journal("/secret/path".into()));
        assert_eq!((broken.status(), broken.retry_after_s), (503, Some(BOOKS_AGAIN_S)));
        assert!(broken.message.contains("nothing was charged"));
        assert!(!broken.message.contains("secret"));
    }
}
