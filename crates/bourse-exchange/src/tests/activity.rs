//! What an account used, by day, model and seller; and the notes of its generations.

use super::support::{START, hold, request, settlement};
use super::{ask, check_clean, key, market, market_in};
use crate::index::INDEX_FILE;
use crate::{AdminReply, Exchange, OPERATOR, hash_key};
use bourse_types::{KeyHash, ModelSlug, NanoUsd, SellerName, TokenCount, UnixMs, UtcDay};
use bourse_wire::funds::{
    ACTIVITY_DAYS, ACTIVITY_OTHER, ACTIVITY_ROWS_PER_DAY_MAX, ActivityQuery, Billing, Funds, GenerationNote,
    HoldRequest, KeyGrant, NoteText, ProviderResponse, Records, Settlement,
};

fn at(text: &str) -> UnixMs {
    UnixMs::parse_iso(text).unwrap_or_else(|| panic!("{text}"))
}

fn settle(exchange: &Exchange, n: u64, grant: KeyGrant, now: UnixMs, change: impl FnOnce(&mut Settlement)) {
    let asked = HoldRequest { byok: NanoUsd(900), ..hold(request(n, now), grant, 900, now) };
    exchange.hold(&asked).unwrap();
    let mut ended = settlement(request(n, now), grant, 900, now);
    change(&mut ended);
    exchange.settle(ended).unwrap();
}

/// `day model@seller requests prompt/completion/reasoning cost+byok` of every row.
fn shown(exchange: &Exchange, query: ActivityQuery, now: UnixMs) -> Vec<String> {
    let rows = exchange.activity(OPERATOR, &query, now).unwrap();
    let line = |row: &bourse_wire::funds::ActivityRow| {
        let s = row.sums;
        format!(
            "{} {}@{} {} {}/{}/{} {}+{}",
            row.day,
            row.model.as_str().rsplit('/').next().unwrap(),
            row.seller,
            s.requests,
            s.prompt_tokens,
            s.completion_tokens,
            s.reasoning_tokens,
            s.cost.0,
            s.byok_cost.0
        )
    };
    rows.iter().map(line).collect()
}

fn use_up_three_days(exchange: &Exchange) -> (KeyGrant, KeyGrant) {
    let (one, two) = (key(exchange, None), key(exchange, None));
    settle(exchange, 1, one, at("2083-01-15T23:59:59.999Z"), |_| ());
    settle(exchange, 2, one, at("2083-01-16"), |s| s.note.reasoning_tokens = Some(TokenCount(2)));
    settle(exchange, 3, two, at("2083-01-16T08:00:00Z"), |s| s.billing = Billing::Byok);
    settle(exchange, 4, one, at("2083-01-16T09:00:00Z"), |s| {
        s.receipt.model = ModelSlug::parse("a/another").unwrap();
        s.receipt.seller = Some(SellerName::parse("maple").unwrap());
    });
    settle(exchange, 5, one, at("2083-01-16T10:00:00Z"), |s| {
        s.receipt.seller = None;
        s.receipt.charge = super::support::charge(0);
    });
    settle(exchange, 6, one, at("2083-01-17"), |_| ());
    (one, two)
}

fn check_three_days(exchange: &Exchange, two: KeyHash) {
    let now = at("2083-01-17T12:00:00Z");
    let (model, all) = ("smollm2-135m-instruct", ActivityQuery::default());
    let want = [
        format!("2083-01-15 {model}@local 1 9/3/0 900+0"),
        "2083-01-16 another@maple 1 9/3/0 900+0".to_owned(),
        format!("2083-01-16 {model}@local 2 18/6/2 945+900"),
    ];
    assert_eq!(shown(exchange, all, now), want, "the running day is not shown");
    let of_day = |day: &str| ActivityQuery { day: UtcDay::parse(day), ..all };
    assert_eq!(shown(exchange, of_day("2083-01-16"), now), want[1..]);
    assert_eq!(shown(exchange, of_day("2083-01-17"), now), Vec::<String>::new());
    let of_key = ActivityQuery { key: Some(two), ..all };
    assert_eq!(shown(exchange, of_key, now), [format!("2083-01-16 {model}@local 1 9/3/0 45+900")]);
    assert_eq!(exchange.activity(crate::FEE, &all, now), Ok(vec![]), "another account's are its own");
    assert_eq!(shown(exchange, all, at("2083-02-14")).len(), 4, "thirty completed days");
    assert_eq!(shown(exchange, all, at("2083-02-15"))[0], want[1], "and no more");
}

#[test]
fn completed_days_are_summed_by_model_and_seller() {
    let exchange = market(1_000_000);
    let (_, two) = use_up_three_days(&exchange);
    check_three_days(&exchange, two.key);
    check_clean(&exchange);
}

#[test]
fn sums_survive_restarts_and_the_loss_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let (_, two) = use_up_three_days(&exchange);
    check_three_days(&exchange, two.key);
    exchange.close().unwrap();
    drop(exchange);
    check_three_days(&market_in(dir.path(), 0), two.key);
    std::fs::remove_file(dir.path().join(INDEX_FILE)).unwrap();
    check_three_days(&market_in(dir.path(), 0), two.key);
}

/// One row past the bound of a day, and one day past those that are kept.
fn check_bounds(exchange: &Exchange) {
    let grant = key(exchange, None);
    let day = at("2083-01-16");
    for n in 0..ACTIVITY_ROWS_PER_DAY_MAX as u64 + 2 {
        let model = ModelSlug::parse(&format!("a/{n}")).unwrap();
        settle(exchange, n, grant, day, |s| s.receipt.model = model);
        if n % 100 == 0 {
            exchange.flush().unwrap();
            drop(exchange.checkpoint());
        }
    }
    settle(exchange, 9_999, grant, day, |s| s.receipt.model = ModelSlug::parse("a/7").unwrap());
    let rows = shown(exchange, ActivityQuery::default(), at("2083-01-17"));
    assert_eq!(rows.len(), ACTIVITY_ROWS_PER_DAY_MAX + 1);
    let others: Vec<_> = rows.iter().filter(|row| row.contains(ACTIVITY_OTHER)).collect();
    assert_eq!(others, ["2083-01-16 other@other 2 18/6/0 1800+0"]);
    assert!(rows.contains(&"2083-01-16 7@local 2 18/6/0 1800+0".to_owned()), "a row that is there goes on");
    let later = UtcDay::of(day).plus(ACTIVITY_DAYS + 1);
    settle(exchange, 10_000, grant, later.start(), |_| ());
    let kept = shown(exchange, ActivityQuery::default(), later.plus(1).start());
    assert_eq!(kept.len(), 1, "older days are forgotten");
}

#[test]
fn rows_are_bounded_in_memory_and_on_disk() {
    check_bounds(&market(10_000_000));
    let dir = tempfile::tempdir().unwrap();
    check_bounds(&market_in(dir.path(), 10_000_000));
}

fn note() -> GenerationNote {
    let seller = SellerName::parse("maple").unwrap();
    let asked = ProviderResponse { seller, status: 429, latency_ms: Some(12), is_byok: false };
    GenerationNote {
        upstream_cost: Some(NanoUsd(5)),
        provider_responses: vec![asked],
        api_type: NoteText::clip("messages"),
        session_id: NoteText::clip("s-1"),
        ..GenerationNote::default()
    }
}

#[test]
fn notes_come_back_with_their_receipts_and_are_no_part_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let create = r#"{"op":"create_key","label":"n"}"#;
    let AdminReply::KeyCreated { secret, .. } = ask(&exchange, create) else { panic!() };
    let grant = exchange.authenticate(&hash_key(&secret.0), START).unwrap();
    settle(&exchange, 1, grant, START, |s| s.note = note());
    settle(&exchange, 2, grant, START, |_| ());
    // A market's own key served: whatever the caller says of a list price is not kept.
    settle(&exchange, 3, grant, START, |s| s.note = GenerationNote { byok_cost: Some(NanoUsd(9)), ..note() });
    let check = |exchange: &Exchange| {
        for (n, want) in [(1, note()), (2, GenerationNote::default()), (3, note())] {
            let found = exchange.generation(request(n, START)).unwrap().unwrap();
            assert_eq!(found.note, want);
            let document = exchange.receipt(request(n, START)).unwrap().unwrap();
            assert_eq!(document.receipt, found.receipt);
        }
        assert_eq!(exchange.generation(request(9, START)), Ok(None));
        check_clean(exchange);
    };
    check(&exchange);
    exchange.close().unwrap();
    drop(exchange);
    std::fs::remove_file(dir.path().join(INDEX_FILE)).unwrap();
    check(&market_in(dir.path(), 0));
}
