//! Every path means one operation, below both bases.

use super::*;
use std::collections::BTreeSet;

fn found(method: &Method, path: &str) -> (Endpoint, String) {
    let found = find(method, path).unwrap_or_else(|missed| panic!("{path}: {}", missed.error));
    (found.operation.endpoint, found.name.into_owned())
}

#[test]
fn paths_mean_the_same_below_both_bases() {
    for base in ["/v1", "/api/v1"] {
        let check = |path: &str, endpoint: Endpoint, name: &str| {
            assert_eq!(found(&Method::GET, &format!("{base}{path}")), (endpoint, name.to_owned()), "{path}");
        };
        check("/models", Endpoint::Models, "");
        check("/models/count", Endpoint::ModelCount, "");
        check("/models/user", Endpoint::OwnModels, "");
        check("/models/a/b/endpoints", Endpoint::ModelEndpoints, "a/b");
        check("/models/a%2Fb/endpoints", Endpoint::ModelEndpoints, "a/b");
        check("/models/a%2fb%3Afree", Endpoint::Model, "a/b:free");
        check("/models/a/b", Endpoint::Model, "a/b");
        check("/model/a/b", Endpoint::ModelDetails, "a/b");
        check("/keys/00ff", Endpoint::GetKey, "00ff");
        check("/receipts/gen-1", Endpoint::Receipt, "gen-1");
        let chat = found(&Method::POST, &format!("{base}/chat/completions"));
        assert_eq!(chat, (Endpoint::Generate(Api::Chat), String::new()));
    }
    assert_eq!(found(&Method::GET, "/health").0, Endpoint::Health);
    assert_eq!(found(&Method::HEAD, "/v1/models").0, Endpoint::Models);
    assert_eq!(found(&Method::POST, "/admin").0, Endpoint::Admin);
}

#[test]
fn unknown_paths_and_wrong_methods_are_told_apart() {
    for path in ["/", "/v2/models", "/v1", "/v1/", "/v1/health", "/v1/keys/", "/models", "/v1/receipts/", "*"]
    {
        let missed = find(&Method::GET, path).unwrap_err();
        assert_eq!((missed.error.status(), missed.allow), (404, None), "{path}");
    }
    let check = |method: &Method, path: &str, allow: &str| {
        let missed = find(method, path).unwrap_err();
        assert_eq!(missed.error.status(), 405, "{path}");
        assert_eq!(missed.allow.unwrap(), allow, "{path}");
        assert!(missed.error.message.contains(&format!("use {allow} here")), "{}", missed.error);
    };
    check(&Method::GET, "/v1/chat/completions", "POST");
    check(&Method::POST, "/v1/models", "GET, HEAD");
    check(&Method::DELETE, "/v1/models/count", "GET, HEAD");
    check(&Method::PUT, "/v1/keys", "POST, GET, HEAD");
    check(&Method::POST, "/v1/keys/00ff", "GET, PATCH, DELETE, HEAD");
    check(&Method::OPTIONS, "/api/v1/keys/00ff", "GET, PATCH, DELETE, HEAD");
    check(&Method::TRACE, "/health", "GET, HEAD");
    check(&Method::GET, "/admin", "POST");
}

#[test]
fn the_table_has_no_twins_and_finds_each_of_its_own() {
    let mut seen = BTreeSet::new();
    for operation in &OPERATIONS {
        assert!(seen.insert((operation.path, operation.verb.as_str())), "{} is there twice", operation.path);
        let base = if operation.base == Base::Api { "/v1" } else { "" };
        let path = format!("{base}{}", operation.path);
        let path = path.replace("{author}", "a").replace("{slug}", "b").replace("{model}", "a%2Fb");
        let path = path.replace("{hash}", "00").replace("{id}", "gen-1").replace("{interval}", "daily");
        let method = Method::from_bytes(operation.verb.as_str().as_bytes()).unwrap();
        assert!(std::ptr::eq(find(&method, &path).unwrap().operation, operation), "{path}");
        assert!(!operation.summary.is_empty() && operation.summary.ends_with('.'), "{path}");
    }
}
