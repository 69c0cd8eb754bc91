use super::*;
use crate::tests::fakes::{KEY, OTHER_KEY};
use bourse_types::{AccountId, KeyHash};
use http::{Method, StatusCode};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn keys_are_bounded() {
    let of = |bytes: usize| {
        let headers = headers(&[("idempotency-key", &"k".repeat(bytes))]);
        called(&headers, None).map(|called| matches!(called, Some(Called::Key(key)) if key.len() == bytes))
    };
    assert_eq!(of(IDEMPOTENCY_KEY_BYTES_MAX), Ok(true));
    assert_eq!(of(IDEMPOTENCY_KEY_BYTES_MAX + 1).unwrap_err().status(), 400);
    assert_eq!(of(0).unwrap_err().status(), 400);
    assert_eq!(called(&HeaderMap::new(), None), Ok(None));
    let two = headers(&[("idempotency-key", "a"), ("idempotency-key", "a")]);
    assert_eq!(called(&two, None).unwrap_err().status(), 400);
}

#[test]
fn without_a_key_a_window_counts_unless_the_buyer_wants_another_answer() {
    let window = Duration::from_secs(5);
    let check = |pairs: &[(&'static str, &str)], want: Option<Called<'_>>| {
        assert_eq!(called(&headers(pairs), Some(window)), Ok(want), "{pairs:?}");
    };
    check(&[], Some(Called::Content(window)));
    check(&[("idempotency-key", "a")], Some(Called::Key(b"a")));
    check(&[("idempotency-key", "a"), ("cache-control", "no-cache")], Some(Called::Key(b"a")));
    check(&[("cache-control", "no-cache")], None);
    check(&[("cache-control", "max-age=0"), ("cache-control", "max-age=1, No-Store")], None);
    check(&[("cache-control", "max-age=0")], Some(Called::Content(window)));
}

/// Who asks what.
struct Asked {
    account: u64,
    api_key: &'static str,
    called: Called<'static>,
    method: Method,
    path: &'static str,
    body: &'static str,
}

const FIRST: Asked = Asked {
    account: 1,
    api_key: KEY,
    called: Called::Key(b"a"),
    method: Method::POST,
    path: "/v1/chat/completions",
    body: "b",
};

fn claim(asked: &Asked) -> Claim {
    repeat(asked).claim(RequestId(1))
}

fn repeat(asked: &Asked) -> Repeat {
    let request = http::Request::builder().method(asked.method.clone()).uri(asked.path);
    let request = request.header("authorization", format!("Bearer {}", asked.api_key));
    let (head, ()) = request.body(()).unwrap().into_parts();
    let hash = KeyHash(*blake3::hash(asked.api_key.as_bytes()).as_bytes());
    let grant = KeyGrant::new(hash, AccountId(asked.account));
    Repeat::new(&grant, asked.called, &head, asked.body.as_bytes()).unwrap()
}

#[test]
fn a_key_belongs_to_an_account_and_stands_for_one_request() {
    let first = claim(&FIRST);
    let check = |asked: Asked, same_name: bool, same_fingerprint: bool| {
        let other = claim(&asked);
        let same = (other.name == first.name, other.fingerprint == first.fingerprint);
        assert_eq!(same, (same_name, same_fingerprint));
    };
    check(FIRST, true, true);
    check(Asked { api_key: OTHER_KEY, ..FIRST }, true, true);
    check(Asked { account: 2, ..FIRST }, false, false);
    check(Asked { called: Called::Key(b"c"), ..FIRST }, false, false);
    check(Asked { method: Method::PUT, ..FIRST }, true, false);
    check(Asked { path: "/v1/responses", ..FIRST }, true, false);
    check(Asked { path: "/v1/chat/completions?a=b", ..FIRST }, true, false);
    check(Asked { body: "b ", ..FIRST }, true, false);
    assert_eq!(first.kept_for, CLAIM_AGE_MAX);
}

#[test]
fn a_form_is_the_same_whatever_stands_between_its_parts() {
    let fingerprint = |kind: &str, boundary: &str, parts: &[&str]| {
        let parts: Vec<_> = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
        let request = http::Request::post("/v1/audio/transcriptions");
        let request = request.header("authorization", format!("Bearer {KEY}")).header("content-type", kind);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let body = format!("{}--{boundary}--\r\n", parts.concat());
        let grant = KeyGrant::new(KeyHash([1; 32]), AccountId(1));
        Repeat::new(&grant, FIRST.called, &head, body.as_bytes()).unwrap().claim.fingerprint
    };
    let form = |boundary: &str, parts: &[&str]| {
        fingerprint(&format!("multipart/form-data; boundary={boundary}"), boundary, parts)
    };
    // Client libraries draw a new boundary for each try.
    let first = form("one", &["a", "bc"]);
    assert_eq!(form("another", &["a", "bc"]), first);
    for other in [&["a", "bd"][..], &["ab", "c"], &["a", "bc", ""], &["a\r\n\r\nbc"], &["bc", "a"]] {
        assert_ne!(form("one", other), first, "{other:?}");
    }
    assert_ne!(fingerprint("application/json", "one", &["a", "bc"]), first);
}

#[test]
fn a_content_belongs_to_an_api_key() {
    let content = |window| Asked { called: Called::Content(Duration::from_secs(window)), ..FIRST };
    let first = claim(&content(5));
    assert_eq!(first.kept_for, DurationMs(5_000));
    assert_eq!(claim(&content(6)).name, first.name);
    assert_ne!(first.name, claim(&FIRST).name);
    for other in [
        Asked { api_key: OTHER_KEY, ..content(5) },
        Asked { body: "c", ..content(5) },
        Asked { path: "/v1/responses", ..content(5) },
    ] {
        assert_ne!(claim(&other).name, first.name);
    }
}

fn kept(body: &'static str) -> Kept {
    let headers =
        headers(&[("content-type", "text/plain"), ("x-bourse-notice", "a"), ("x-bourse-notice", "b")]);
    Kept { status: StatusCode::CREATED, headers, body: Bytes::from_static(body.as_bytes()) }
}

#[test]
fn only_who_asked_can_open_an_answer() {
    let (first, name) = (RequestId(1), Digest32([4; 32]));
    let seal =
        |asked: &Asked, salt: u8| repeat(asked).sealer.seal(&kept("a secret"), &name, first, &[salt; 32]);
    let sealed = seal(&FIRST, 1);
    let open = |asked: &Asked, sealed: &[u8]| repeat(asked).sealer.open(sealed, &name, first);
    assert_eq!(open(&FIRST, &sealed), Some(kept("a secret")));
    assert_eq!(
        open(&Asked { body: "c", ..FIRST }, &sealed),
        Some(kept("a secret")),
        "the claim decides on that"
    );
    for other in [
        Asked { api_key: OTHER_KEY, ..FIRST },
        Asked { account: 2, ..FIRST },
        Asked { called: Called::Key(b"ab"), ..FIRST },
        Asked { called: Called::Content(Duration::ZERO), ..FIRST },
    ] {
        assert_eq!(open(&other, &sealed), None);
    }
    let sealer = repeat(&FIRST).sealer;
    assert_eq!(sealer.open(&sealed, &name, RequestId(2)), None, "another request's");
    assert_eq!(sealer.open(&sealed, &Digest32([5; 32]), first), None, "another claim's");
    assert_ne!(sealed[33..], seal(&FIRST, 2)[33..], "a key for each answer");
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("secret") && !text.contains("notice"), "{text}");
}

#[test]
fn a_damaged_answer_does_not_open() {
    let (first, name) = (RequestId(1), Digest32([4; 32]));
    let sealer = repeat(&FIRST).sealer;
    let sealed = sealer.seal(&kept("b"), &name, first, &[9; 32]);
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert_eq!(sealer.open(&damaged, &name, first), None, "byte {at}");
        assert_eq!(sealer.open(&sealed[..at], &name, first), None, "{at} bytes");
    }
}
