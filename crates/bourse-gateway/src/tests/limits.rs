//! Budgets and rates over HTTP: who is refused with what, and how they are set.

use super::api::described;
use super::fakes::{House, MANAGEMENT_KEY, Reply, good_plain, good_stream};
use bourse_market::HOLD_STEP_TOKENS_MIN;
use bourse_types::{DurationMs, NanoUsd, UnixMs};
use bourse_wire::funds::{BudgetStatus, FundsError, LimitReset, RateStatus, RateUnit, Scope};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn house() -> House {
    let house = House::build(&["a", "b"], 10_000_000_000, |_| {});
    house.net.script("a", good_plain());
    house.net.script("b", good_plain());
    house
}

fn over_budget(scope: Scope) -> FundsError {
    let budget = BudgetStatus {
        scope,
        reset: LimitReset::Daily,
        limit: NanoUsd(1_000),
        includes_byok: false,
        spent: NanoUsd(700),
        held: NanoUsd(250),
        left: NanoUsd(50),
        resets_at: Some(UnixMs(1_800_057_600_000)),
    };
    FundsError::OverBudget { budget: Box::new(budget), needed: NanoUsd(60) }
}

/// One that is refused before anybody is asked, with nothing held.
async fn refused(why: FundsError) -> Reply {
    let house = house();
    house.funds.hold_no_more(why);
    let reply = house.chat("").await;
    described("POST", CHAT, &reply);
    house.check_books(10_000_000_000, 0);
    reply
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_says_whose_it_is_and_when_it_begins_anew() {
    for (scope, status, word) in [
        (Scope::Key, 402, "payment_required"),
        (Scope::Workspace, 403, "permission_denied"),
        (Scope::Organisation, 403, "permission_denied"),
    ] {
        let reply = refused(over_budget(scope)).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (status, word));
        let error = reply.json()["error"].clone();
        let want = json!({
            "scope": scope.as_str(), "unit": "usd", "interval": "daily", "limit": 0.000_001, "left": 0.000_000_05,
            "needed": 0.000_000_06, "in_flight": 0.000_000_25, "resets_at": "2027-01-16T00:00:00Z",
        });
        assert_eq!(error["metadata"]["limit"], want);
        let message = error["message"].as_str().unwrap();
        let begins = format!("the {} has $0.00000005 of its daily limit left", scope.as_str());
        assert!(message.starts_with(&begins), "{message}");
        assert!(!reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
    }
    let (available, needed, held) = (NanoUsd(5), NanoUsd(7), NanoUsd(9));
    let poor = refused(FundsError::InsufficientFunds { available, needed, held }).await;
    assert_eq!(poor.status, 402);
    let limit = poor.json()["error"]["metadata"]["limit"].clone();
    assert_eq!((&limit["scope"], &limit["limit"]), (&json!("account"), &Value::Null));
    assert_eq!((&limit["left"], &limit["in_flight"]), (&json!(0.000_000_005), &json!(0.000_000_009)));
}

#[tokio::test(start_paused = true)]
async fn books_that_have_stopped_say_when_to_come_back() {
    let reply = refused(FundsError::Journal("no space left on device".into())).await;
    assert_eq!((reply.status, reply.error_type().as_str()), (503, "provider_overloaded"));
    assert_eq!(reply.headers["retry-after"], "5");
    assert!(reply.text.contains("nothing was charged") && !reply.text.contains("device"), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_used_up_says_when_to_come_back() {
    let rate = Box::new(RateStatus {
        scope: Scope::Workspace,
        unit: RateUnit::Tokens,
        limit: 900,
        used: 890,
        left: 10,
        resets_at: Some(UnixMs(1_800_000_060_000)),
    });
    let retry_after = Some(DurationMs(17_001));
    let reply = refused(FundsError::RateLimited { rate: rate.clone(), needed: 40, retry_after }).await;
    assert_eq!((reply.status, reply.error_type().as_str()), (429, "rate_limit_exceeded"));
    let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((header("retry-after"), header("retry-after-ms")), (Some("18"), Some("17001")));
    assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), (Some("900"), Some("10")));
    assert_eq!((header("x-ratelimit-reset"), header("x-should-retry")), (Some("1800000060000"), None));
    let want = json!({
        "scope": "workspace", "unit": "tokens", "interval": "minute", "limit": 900, "left": 10, "needed": 40,
        "used": 890, "resets_at": "2027-01-15T08:01:00Z",
    });
    assert_eq!(reply.json()["error"]["metadata"]["limit"], want);
    assert_eq!(reply.json()["error"]["metadata"]["retry_after"], 18);

    let never = refused(FundsError::RateLimited { rate, needed: 901, retry_after: None }).await;
    assert_eq!((never.status, never.headers.get("retry-after")), (429, None));
    assert_eq!(never.headers["x-should-retry"], "false", "it is more than the rate ever allows");
}

#[tokio::test(start_paused = true)]
async fn tokens_of_prompt_and_answer_are_told() {
    let house = House::build(&["a"], 10_000_000_000, |_| {});
    house.net.only("a", good_plain());
    assert_eq!(house.chat(r#","max_tokens":100"#).await.status, 200);
    house.net.only("a", good_stream(&["a", "b"]));
    assert_eq!(house.chat(r#","stream":true"#).await.status, 200);
    let told = house.funds.tokens();
    let [plain, stream] = told[..] else { panic!("{told:?}") };
    let plain = plain.expect("it is counted");
    assert!(plain > 100 && plain < 200, "a short prompt and an answer of 100: {plain}");
    let stream = stream.expect("it is counted");
    assert_eq!(stream, plain - 100 + HOLD_STEP_TOKENS_MIN, "the same prompt and one step");
}

#[tokio::test(start_paused = true)]
async fn a_workspace_is_made_and_its_limits_are_set_and_lifted() {
    let house = house();
    let manager = format!("Bearer {MANAGEMENT_KEY}");
    let call = async |method: &str, path: &str, pattern: &str, body: &str, status: u16| {
        let reply = house.call_as(Some(&manager), method, path, &[], body).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text);
        described(method, pattern, &reply);
        reply.json()
    };
    let all = "/v1/workspaces";
    let one = "/v1/workspaces/{id}";
    let budget = "/v1/workspaces/{id}/budgets/{interval}";
    let made = call("POST", all, all, r#"{"name":"Team","slug":"team"}"#, 201).await["data"].clone();
    assert_eq!(
        (&made["slug"], &made["id"]),
        (&json!("team"), &json!("00000000-0000-0000-0000-000000000000"))
    );
    assert_eq!(call("GET", all, all, "", 200).await["data"], json!([made]));
    let set = call("PUT", "/v1/workspaces/team/budgets/monthly", budget, r#"{"limit_usd":100}"#, 200).await;
    assert_eq!((&set["data"]["limit_usd"], &set["data"]["interval"]), (&json!(100), &json!("monthly")));
    assert_eq!(
        (&set["data"]["reset_interval"], &set["data"]["scope"]),
        (&json!("monthly"), &json!("workspace"))
    );
    let rates = r#"{"requests_per_minute":60,"tokens_per_minute":90000}"#;
    let path = "/v1/workspaces/team/rate-limits";
    call("PUT", path, "/v1/workspaces/{id}/rate-limits", rates, 200).await;
    let shown = call("GET", "/v1/workspaces/team", one, "", 200).await["data"].clone();
    assert_eq!(
        (&shown["name"], &shown["rate_limits"][1]["limit_per_minute"]),
        (&json!("Team"), &json!(90_000))
    );
    let budgets = "/v1/workspaces/team/budgets";
    assert_eq!(
        call("GET", budgets, "/v1/workspaces/{id}/budgets", "", 200).await["data"][0]["limit_usd"],
        json!(100)
    );
    let gone = call("DELETE", "/v1/workspaces/team/budgets/monthly", budget, "", 200).await;
    assert_eq!(gone, json!({ "deleted": true }));
    assert_eq!(call("GET", budgets, "/v1/workspaces/{id}/budgets", "", 200).await["data"], json!([]));

    for (method, path, pattern, body, status) in [
        ("GET", "/v1/workspaces/other", one, "", 404),
        ("PUT", "/v1/workspaces/team", budget, r#"{"limit_usd":1}"#, 404),
        ("PUT", "/v1/workspaces/team/budgets/yearly", budget, r#"{"limit_usd":1}"#, 400),
        ("PUT", "/v1/workspaces/team/budgets/daily", budget, r#"{"limit_usd":-1}"#, 400),
        ("PUT", path, "/v1/workspaces/{id}/rate-limits", r#"{"requests_per_minute":0}"#, 400),
        ("POST", all, all, r#"{"name":"x","slug":"No"}"#, 400),
        ("POST", all, all, r#"{"name":"x","slug":"default"}"#, 400),
        ("GET", "/v1/workspaces?offset=x", all, "", 400),
    ] {
        call(method, path, pattern, body, status).await;
    }
    let whole = "/v1/organization";
    let window = "/v1/organization/budgets/{interval}";
    call("GET", whole, whole, "", 200).await;
    let set = call("PUT", "/v1/organization/budgets/lifetime", window, r#"{"limit_usd":7}"#, 200).await;
    assert_eq!((&set["data"]["resets_at"], &set["data"]["scope"]), (&Value::Null, &json!("organization")));
    call("DELETE", "/v1/organization/budgets/daily", window, "", 200).await;
    call("PUT", "/v1/organization/rate-limits", "/v1/organization/rate-limits", rates, 200).await;
    let key = format!("/v1/keys/{}/rate-limits", "00".repeat(32));
    let of_key = "/v1/keys/{hash}/rate-limits";
    let set = call("PUT", &key, of_key, r#"{"requests_per_minute":5}"#, 200).await;
    assert_eq!(set["data"]["rate_limits"][0]["scope"], "key");
    call("GET", &key, of_key, "", 200).await;
    call("GET", "/v1/keys/nonsense/rate-limits", of_key, "", 404).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_shown() {
    let house = house();
    let get = async |path: &str| house.call("GET", path, &[], "").await.json()["data"].clone();
    let key = get("/v1/key").await;
    assert_eq!((&key["in_flight"], &key["held"]), (&json!(0.000_000_077), &json!(0.000_000_099)));
    assert_eq!((&key["workspace_id"], &key["effective_budget"]), (&json!("default"), &Value::Null));
    assert_eq!(get("/v1/credits").await["in_flight"], json!(0.000_000_099));
}
