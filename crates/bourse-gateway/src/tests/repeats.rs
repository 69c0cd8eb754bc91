//! Requests that are sent twice, from the buyer's side: one charge, the same bytes.

use super::fakes::*;
use bourse_types::NanoUsd;
use std::time::Duration;

const KEYED: (&str, &str) = ("idempotency-key", "order-1");
const PATH: &str = "/v1/chat/completions";
const STREAM: &str = r#","stream":true"#;

async fn ask(house: &House, headers: &[(&str, &str)], rest: &str) -> Reply {
    house.call("POST", PATH, headers, &chat_body(rest)).await
}

fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    reply.headers.get(name).map(|value| value.to_str().unwrap())
}

#[track_caller]
fn check_same(first: &Reply, again: &Reply) {
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_eq!(header(again, "idempotent-replayed"), Some("true"));
    let mut headers = again.headers.clone();
    headers.remove("idempotent-replayed");
    assert_eq!(headers, first.headers);
}

#[track_caller]
fn check_conflict(reply: &Reply, retry_after: Option<&str>, words: &str) {
    let should_retry = if retry_after.is_some() { None } else { Some("false") };
    assert_eq!((reply.status, header(reply, "retry-after")), (409, retry_after), "{}", reply.text);
    assert_eq!(header(reply, "x-should-retry"), should_retry);
    assert!(reply.text.contains(words), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_has_the_same_bytes_at_whichever_gateway() {
    for rest in ["", STREAM] {
        let house = House::new(&["a"]);
        house.net.script("a", if rest.is_empty() { good_plain() } else { good_stream(&["Hello ", "there"]) });
        let before = house.funds.available();
        let first = ask(&house, &[KEYED], rest).await;
        assert_eq!((first.status, header(&first, "idempotent-replayed")), (200, None));
        let other = house.beside();
        for gateway in [&house, &other, &house] {
            check_same(&first, &ask(gateway, &[KEYED], rest).await);
        }
        check_conflict(&ask(&other, &[KEYED], r#","temperature":0"#).await, None, "used for another request");
        let elsewhere = other.call("POST", "/v1/responses", &[KEYED], &chat_body(rest)).await;
        check_conflict(&elsewhere, None, "used for another request");
        house.check_books(before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_first_runs_is_told_when_to_come_again() {
    let house = House::new(&["a"]);
    let answer = [vec![Act::Read, Act::Wait(Duration::from_secs(9))], good_plain()[1..].to_vec()].concat();
    house.net.script("a", answer);
    let other = house.beside();
    let (first, ()) = tokio::join!(ask(&house, &[KEYED], ""), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for gateway in [&house, &other] {
            check_conflict(&ask(gateway, &[KEYED], "").await, Some("1"), "is being answered");
        }
    });
    check_same(&first, &ask(&other, &[KEYED], "").await);
}

#[tokio::test(start_paused = true)]
async fn what_failed_may_be_tried_again() {
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, json_answer(500, "", "{}")]);
    assert_eq!(ask(&house, &[KEYED], "").await.status, 502);
    house.net.only("a", good_plain());
    let other = house.beside();
    let whole = ask(&other, &[KEYED], "").await;
    assert_eq!(header(&whole, "idempotent-replayed"), None);
    check_same(&whole, &ask(&house, &[KEYED], "").await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_names_its_receipt() {
    for rest in ["", STREAM] {
        let house = House::new(&["a"]);
        house.net.script("a", if rest.is_empty() { good_plain() } else { good_stream(&["Hello"]) });
        house.funds.keep_answers(Keeps::Nothing);
        let first = ask(&house, &[KEYED], rest).await;
        let receipt = header(&first, "x-bourse-receipt").unwrap();
        check_conflict(&ask(&house, &[KEYED], rest).await, None, receipt);
        assert_eq!(house.funds.receipts().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_another_api_key_of_the_account_names_its_receipt() {
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    let first = ask(&house, &[KEYED], "").await;
    let twin = format!("Bearer {TWIN_KEY}");
    let again = house.call_as(Some(&twin), "POST", PATH, &[KEYED], &chat_body("")).await;
    check_conflict(&again, None, header(&first, "x-bourse-receipt").unwrap());
    let stranger = format!("Bearer {OTHER_KEY}");
    let new = house.call_as(Some(&stranger), "POST", PATH, &[KEYED], &chat_body("")).await;
    assert_eq!((new.status, header(&new, "idempotent-replayed")), (200, None), "a key belongs to an account");
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_disk_but_not_for_a_store_that_hangs() {
    let took = |keeping, headers: &'static [(&'static str, &'static str)], rest: &'static str| async move {
        let house = House::new(&["a"]);
        house.net.script("a", if rest.is_empty() { good_plain() } else { good_stream(&["Hello"]) });
        house.funds.keep_answers(keeping);
        let since = tokio::time::Instant::now();
        assert_eq!(ask(&house, headers, rest).await.status, 200);
        since.elapsed()
    };
    let commit = FakeFunds::with(0).durable_after;
    let plain = took(Keeps::All, &[], "").await;
    assert!(plain < commit, "without a key it waits for nothing: {plain:?}");
    let keyed = took(Keeps::All, &[KEYED], "").await;
    assert!(keyed >= commit && keyed < commit + Duration::from_millis(2), "with one for the disk: {keyed:?}");
    let streamed = [took(Keeps::All, &[], STREAM).await, took(Keeps::All, &[KEYED], STREAM).await];
    assert_eq!(streamed[0], streamed[1], "a stream does that anyway");
    for rest in ["", STREAM] {
        let hung = took(Keeps::Hangs, &[KEYED], rest).await;
        let within = crate::repeat::KEEP_WITHIN;
        assert!(hung >= within && hung < within + Duration::from_millis(9), "{hung:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_kept_at_its_bound_and_not_one_byte_past_it() {
    let of = |bytes: usize| {
        let text = PLAIN.replace("Hello there", &"x".repeat(bytes));
        vec![Act::Read, json_answer(200, "", &text)]
    };
    let small = House::new(&["a"]);
    small.net.script("a", of(1));
    let rest = ask(&small, &[], "").await.text.len() - 1;
    for (over, status) in [(0, 200), (1, 409)] {
        // The usage tells as many tokens as the seller claims, so only the content's length differs.
        let house = House::build(&["a"], 1_000_000_000_000_000, |_| {});
        house.net.script("a", of(crate::repeat::BODY_BYTES_MAX - rest + over));
        let first = ask(&house, &[KEYED], "").await;
        assert_eq!((first.status, first.text.len()), (200, crate::repeat::BODY_BYTES_MAX + over));
        let again = ask(&house, &[KEYED], "").await;
        assert_eq!(again.status, status, "{over} bytes too many");
        assert!(over > 0 || again.text == first.text);
    }
}

/// A market that takes equal requests within that many seconds for one.
fn deduping(window_s: u64) -> House {
    let window = Duration::from_secs(window_s);
    House::build(&["a"], 10_000_000_000, |config| config.dedupe_window = Some(window))
}

#[tokio::test(start_paused = true)]
async fn equal_requests_within_the_window_are_one() {
    let house = deduping(60);
    house.net.script("a", good_plain());
    let since = tokio::time::Instant::now();
    let first = ask(&house, &[], "").await;
    check_same(&first, &ask(&house.beside(), &[], "").await);
    for (headers, rest) in
        [(&[("cache-control", "no-cache")][..], ""), (&[], r#","temperature":0"#), (&[KEYED], "")]
    {
        let new = ask(&house, headers, rest).await;
        assert_eq!((new.status, header(&new, "idempotent-replayed")), (200, None), "{headers:?} {rest}");
    }
    let stranger = format!("Bearer {TWIN_KEY}");
    let new = house.call_as(Some(&stranger), "POST", PATH, &[], &chat_body("")).await;
    assert_eq!(header(&new, "idempotent-replayed"), None, "a content belongs to an API key");
    tokio::time::sleep_until(since + Duration::from_millis(59_999)).await;
    check_same(&first, &ask(&house, &[], "").await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let new = ask(&house, &[], "").await;
    assert_eq!(header(&new, "idempotent-replayed"), None, "the window is over");
    assert_eq!(house.funds.receipts().len(), 6);
    assert!(house.funds.receipts().iter().all(|receipt| receipt.charge.total > NanoUsd::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_named_no_key_is_not_told_of_one() {
    let house = deduping(60);
    let answer = [vec![Act::Read, Act::Wait(Duration::from_secs(9))], good_plain()[1..].to_vec()].concat();
    house.net.script("a", answer);
    house.funds.keep_answers(Keeps::Nothing);
    let (first, ()) = tokio::join!(ask(&house, &[], ""), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let open = ask(&house, &[], "").await;
        check_conflict(&open, Some("1"), "is being answered: come again, or ask for another answer with");
    });
    let lost = ask(&house, &[], "").await;
    check_conflict(&lost, None, header(&first, "x-bourse-receipt").unwrap());
    assert!(lost.text.contains("`cache-control: no-cache`") && !lost.text.contains("Key"), "{}", lost.text);
}

#[tokio::test(start_paused = true)]
async fn equal_requests_are_several_where_no_window_is_set() {
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    for _ in 0..2 {
        assert_eq!(header(&ask(&house, &[], "").await, "idempotent-replayed"), None);
    }
    assert_eq!(house.funds.receipts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_two_sellers_is_one_answer() {
    let house = House::new(&["a", "b"]);
    house.net.script("a", vec![Act::Read, stream_head(), events(&[&role(), &text("Hello ")]), stream_end()]);
    house.net.script("b", good_stream(&["there"]));
    let rest = r#","stream":true,"stream_failure":"continue","provider":{"order":["a","b"]}"#;
    let first = ask(&house, &[KEYED], rest).await;
    assert_eq!(
        (first.content(), house.funds.receipts().len()),
        ("Hello there".to_owned(), 2),
        "{}",
        first.text
    );
    assert_eq!(house.funds.held_under_claims(), 2, "both parts hold under the claim");
    check_same(&first, &ask(&house.beside(), &[KEYED], rest).await);
    assert_eq!(house.funds.receipts().len(), 2);
}
