//! One case per rule of the ledger.

use super::*;
use crate::{ACCOUNTS_MAX, CHAIN_EVENTS_MAX, ID_AHEAD_MAX, KNOWN_IDS_MAX, PENDINGS_MAX};

#[test]
fn money_moves_and_sums_to_zero() {
    check("s1 fund>alice 100\n s2 alice>bob 30", "done done", "fund -100, alice 70, bob 30");
    check("s1 fund>alice 0", "done", "");
}

#[test]
fn nobody_spends_what_they_do_not_have() {
    check("s1 fund>alice 100\n s2 alice>bob 101", "done poor", "fund -100, alice 100");
    check("s1 fund>alice 100\n s2 alice>bob 100", "done done", "fund -100, alice 0, bob 100");
    check("s1 fund>alice 9\n h2 alice>till 8\n h3 alice>till 2", "done done poor", "fund -9, alice 9-8");
    check("s1 till>bill 1", "poor", "");
    check("s1 bill>till 5\n s2 till>bill 5\n s3 till>bill 1", "done done poor", "till 0, bill 0");
}

#[test]
fn a_hold_is_posted_in_part_and_the_rest_is_free_again() {
    let held = "s1 fund>alice 100\n h2 alice>till 60\n";
    check(held, "done done", "fund -100, alice 100-60");
    check(&format!("{held} p3 h2 25"), "done done done", "fund -100, alice 75, till 25");
    check(&format!("{held} p3 h2 60"), "done done done", "fund -100, alice 40, till 60");
    check(&format!("{held} p3 h2 61"), "done done more", "fund -100, alice 100-60");
    check(&format!("{held} v3 h2\n s4 alice>bob 100"), "done done done done", "fund -100, alice 0, bob 100");
    check(&format!("{held} v3 h2\n p4 h2 1"), "done done done unknown", "fund -100, alice 100");
}

#[test]
fn a_hold_is_raised_to_a_total() {
    let held = "s1 fund>alice 100\n h2 alice>till 60\n";
    check(&format!("{held} r3 h2 80\n p4 h2 80"), "done done done done", "fund -100, alice 20, till 80");
    check(&format!("{held} r3 h2 80\n r3 h2 80"), "done done done exists", "fund -100, alice 100-80");
    check(&format!("{held} r3 h2 101"), "done done poor", "fund -100, alice 100-60");
    check(&format!("{held} r3 h2 10"), "done done exists", "fund -100, alice 100-60");
    check("r3 h2 10", "unknown", "");
}

#[test]
fn an_id_is_taken_once() {
    let first = "s1 fund>alice 100\n h2 alice>till 60\n";
    check(&format!("{first} s1 fund>alice 100"), "done done exists", "fund -100, alice 100-60");
    check(&format!("{first} s1 fund>alice 101"), "done done reused", "fund -100, alice 100-60");
    check(&format!("{first} h2 alice>till 60"), "done done exists", "fund -100, alice 100-60");
    check(&format!("{first} h2 alice>till 60 until 7"), "done done reused", "fund -100, alice 100-60");
    check(
        &format!("{first} p3 h2 5\n p3 h2 5\n p3 h2 6\n h2 alice>till 60"),
        "done done done exists reused exists",
        "fund -100, alice 95, till 5",
    );
    check("s1 alice>bob 5\n s2 fund>alice 5\n s1 alice>bob 5", "poor done done", "fund -5, alice 0, bob 5");
}

#[test]
fn a_chain_happens_whole_or_not_at_all() {
    let held = "s1 fund>alice 100\n h2 alice>till 60\n";
    let settle = "p3 h2 50 &\n s4 till>bob 40 &\n s5 till>fund 10\n";
    check(&format!("{held}{settle}"), "done done done done done", "fund -90, alice 50, bob 40, till 0");
    check(
        &format!("{held}{settle}{settle}"),
        "done done done done done exists exists exists",
        "fund -90, alice 50, bob 40, till 0",
    );
    check(
        &format!("{held} p3 h2 50 &\n s4 alice>bob 51 &\n s5 till>fund 10"),
        "done done linked poor linked",
        "fund -100, alice 100-60",
    );
    check(&format!("{held} p3 h2 50 &\n p4 h2 1"), "done done linked unknown", "fund -100, alice 100-60");
    check(
        &format!("{held} r3 h2 70 &\n v4 h2 &\n s5 nobody>bob 1"),
        "done done linked linked nobody",
        "fund -100, alice 100-60",
    );
    check("h1 fund>till 5 &\n h1 fund>till 5", "linked held", "");
    check("s1 fund>alice 1 &", "open", "");
    check("s1 fund>alice 1 &\n orphan h9", "linked unlinkable", "");
}

#[test]
fn a_chain_is_known_by_its_first_id_and_its_content() {
    let chain = "s1 fund>alice 5 &\n s2 fund>bob 5\n";
    check(&format!("{chain} s1 fund>alice 5"), "done done reused", "fund -10, alice 5, bob 5");
    check(
        &format!("{chain} s1 fund>alice 5 &\n s2 fund>bob 6"),
        "done done reused linked",
        "fund -10, alice 5, bob 5",
    );
}

#[test]
fn two_accounts_are_needed_and_known() {
    check(
        "s1 fund>nobody 1\n s2 nobody>fund 1\n s3 fund>fund 1\n h4 fund>fund 1",
        "nobody nobody same same",
        "",
    );
}

#[test]
fn holds_expire_only_by_an_event_and_only_in_time() {
    let held = "@100\n s1 fund>alice 9\n h2 alice>till 8 until 150\n";
    check(&format!("{held} @149\n expire h2"), "done done early", "fund -9, alice 9-8");
    check(&format!("{held} @150\n expire h2\n expire h2"), "done done done unknown", "fund -9, alice 9");
    check(&format!("{held} @999\n p3 h2 8"), "done done done", "fund -9, alice 1, till 8");
    check(
        &format!("{held} r3 h2 8 until 160\n @159\n expire h2"),
        "done done done early",
        "fund -9, alice 9-8",
    );
    check(&format!("{held} orphan h2"), "done done done", "fund -9, alice 9");
}

#[test]
fn due_lists_overdue_holds_oldest_first_until_they_are_released() {
    let mut state = ledger(SMALL);
    run(
        &mut state,
        "h1 fund>till 1 until 30\n h2 fund>till 1 until 10\n h3 fund>till 1 until 20\n r4 h2 1 until 25\n v5 h3",
    );
    assert_eq!(state.due(UnixMs(24), 9), []);
    assert_eq!(state.due(UnixMs(30), 1), [id(2)]);
    assert_eq!(state.due(UnixMs(30), 9), [id(2), id(1)]);
    run(&mut state, "@30\n expire h2");
    assert_eq!(state.due(UnixMs(30), 9), [id(1)]);
}

#[test]
fn time_never_goes_back() {
    check(
        "@100\n h1 fund>till 5 until 150\n @160\n h2 fund>till 5 until 150\n @10\n expire h1",
        "done done done",
        "fund 0-5",
    );
}

#[test]
fn forgotten_ids_are_refused_and_open_holds_are_not_forgotten() {
    let mut state = ledger(Limits { known_ids_max: 3, ..SMALL });
    let outcomes = "done done done done";
    assert_eq!(run(&mut state, "h1 fund>till 9\n s2 fund>bob 1\n s3 fund>bob 1\n s4 fund>bob 1"), outcomes);
    assert_eq!(
        run(&mut state, "h1 fund>till 9\n s2 fund>bob 1"),
        "exists exists",
        "1 is open, 2 is remembered"
    );
    assert_eq!(run(&mut state, "s5 fund>bob 1\n s2 fund>bob 1"), "done old", "2 is forgotten");
    assert_eq!(run(&mut state, "p0 h1 9"), "done", "an old id may settle an open hold");
    assert_eq!(run(&mut state, "s6 fund>bob 1\n s7 fund>bob 1\n s8 fund>bob 1"), "done done done");
    assert_eq!(run(&mut state, "p0 h1 9\n h1 fund>till 9"), "old old", "but only once");
    assert_eq!(run(&mut state, "v0 h1"), "old");
    assert_eq!(shown(&state), "fund -16, bob 7, till 9");
}

#[test]
fn ids_from_the_future_are_refused() {
    let last = ID_AHEAD_MAX.0 / 1000;
    check(&format!("s{last} fund>bob 1\n s{} fund>bob 1", last + 1), "done ahead", "fund -1, bob 1");
    check(&format!("@1000\n s{} fund>bob 1", last + 1), "done", "fund -1, bob 1");
}

#[test]
fn bounds_hold_at_the_bound_and_one_past_it() {
    assert_eq!(
        Limits::default(),
        Limits { accounts_max: ACCOUNTS_MAX, pendings_max: PENDINGS_MAX, known_ids_max: KNOWN_IDS_MAX }
    );
    let four = "h1 fund>till 1\n h2 fund>till 1\n h3 fund>till 1\n h4 fund>till 1\n";
    check(
        &format!("{four} h5 fund>till 1\n v6 h1\n h5 fund>till 1"),
        "done done done done full done done",
        "fund 0-4",
    );
    let mut state = ledger(SMALL);
    let eighth = Account::of_money(AccountId(8), AccountKind::Fee, BalanceLimit::None);
    let full = Refusal::AccountsFull { max: 7 };
    assert_eq!(state.apply(UnixMs(0), &[Event::Open(eighth)]), [Err(full)]);
    let chain =
        |len: usize| (1..=len).map(move |n| format!("s{n} fund>bob 1{}\n", if n < len { " &" } else { "" }));
    let longest: String = chain(CHAIN_EVENTS_MAX).collect();
    assert_eq!(run(&mut state, &longest), ["done"; CHAIN_EVENTS_MAX].join(" "));
    let longer: String = chain(CHAIN_EVENTS_MAX + 1).collect();
    assert!(run(&mut state, &longer).ends_with("linked long"));
}

#[test]
fn an_account_is_opened_once() {
    let mut state = ledger(SMALL);
    let fee = |limit| Event::Open(Account::of_money(account("fund"), AccountKind::Subsidy, limit));
    assert_eq!(state.apply(UnixMs(0), &[fee(BalanceLimit::None)]), [Ok(Applied::Exists)]);
    let differs = Err(Refusal::AccountDiffers(account("fund")));
    assert_eq!(state.apply(UnixMs(0), &[fee(BalanceLimit::DebitsWithinCredits)]), [differs]);
    let other = Account {
        unit: Unit::TOKEN_SECONDS,
        ..Account::of_money(account("fund"), AccountKind::Subsidy, BalanceLimit::None)
    };
    assert_eq!(state.apply(UnixMs(0), &[Event::Open(other)]), [differs], "its unit is part of it");
}

#[test]
fn a_refusal_names_the_account_and_what_it_has() {
    let mut state = ledger(SMALL);
    run(&mut state, "s1 fund>alice 9\n h2 alice>till 4");
    let refused = state.apply(UnixMs(0), &[parse("s3 alice>bob 6")]);
    let needed = Amount(6);
    assert_eq!(refused, [Err(Refusal::ExceedsBalance { account: account("alice"), available: 5, needed })]);
}

#[test]
fn a_refusal_leaves_no_trace_in_the_state() {
    let mut state = ledger(SMALL);
    run(&mut state, "s1 fund>alice 9\n h2 alice>till 4");
    let before = state.digest();
    run(&mut state, "@500\n r3 h2 5 &\n p4 h2 5 &\n s5 alice>bob 9\n s1 fund>alice 9\n expire h2\n v9 h8");
    assert_eq!(state.digest(), before);
}

#[test]
fn what_an_account_counts_stays_among_its_kind() {
    check("s1 gift>alix 5\n s2 alix>gift 6\n s3 alix>gift 2", "done poor done", "gift -3, alix 3");
    check("s1 fund>alix 1\n s2 gift>alice 1\n h3 gift>till 1", "units units units", "");
    // One is given for the other by two transfers that happen together, or not at all.
    let given = "s1 fund>alice 9\n";
    let swap = |price: u64, credits: u64| format!("{given} s2 alice>till {price} &\n s3 gift>alix {credits}");
    check(&swap(9, 4), "done done done", "fund -9, alice 0, till 9, gift -4, alix 4");
    check(&swap(10, 4), "done poor linked", "fund -9, alice 9");
    check(&format!("{given} s2 alice>till 9 &\n s3 gift>till 4"), "done linked units", "fund -9, alice 9");
}

#[test]
fn units_have_names() {
    let all = [Unit::NANO_USD, Unit::TOKEN_SECONDS, Unit::REQUESTS, Unit::TOKENS, Unit::credits(7)];
    let names = all.map(|unit| unit.to_string());
    assert_eq!(names, ["nano-USD", "token-seconds", "requests", "tokens", "credits of class 7"]);
    assert_eq!((Unit::default(), Amount::from(bourse_types::NanoUsd(5)).nano_usd().0), (Unit::NANO_USD, 5));
}
