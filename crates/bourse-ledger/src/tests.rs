//! Scripts against a small ledger, laws under random events, and the bytes.
//!
//! A script is a list of lines. `@5` sets the time; `s1 fund>alice 100` moves money; `h1 alice>till 60 until
//! 1000` holds; `r1 h1 80 until 1000`, `p1 h1 25`, `v1 h1` raise, post and void a hold; `expire h1` and
//! `orphan h1` release it; a trailing `&` links a line to the next. The digits are the id, one number
//! space for all letters. What comes out is one word per line, then the accounts that moved.

mod bytes;
mod laws;
mod rules;
mod tables;

use crate::{
    Account, AccountKind, Amount, Applied, Balance, BalanceLimit, Event, HashKey, Limits, Refusal,
    ReleaseReason, State, Transfer, TransferKind, Unit,
};
use bourse_types::{AccountId, TransferId, UnixMs};

/// `fund` may go into debt, `alice` and `bob` may not, `bill` may not be owed more than it paid; `gift` gives and `alix`
/// keeps credits of a class.
const ACCOUNTS: [(&str, AccountKind, BalanceLimit, Unit); 7] = [
    ("fund", AccountKind::Subsidy, BalanceLimit::None, Unit::NANO_USD),
    ("alice", AccountKind::Customer, BalanceLimit::DebitsWithinCredits, Unit::NANO_USD),
    ("bob", AccountKind::Customer, BalanceLimit::DebitsWithinCredits, Unit::NANO_USD),
    ("till", AccountKind::Clearing, BalanceLimit::None, Unit::NANO_USD),
    ("bill", AccountKind::Control, BalanceLimit::CreditsWithinDebits, Unit::NANO_USD),
    ("gift", AccountKind::Subsidy, BalanceLimit::None, Unit::credits(3)),
    ("alix", AccountKind::SubAccount, BalanceLimit::DebitsWithinCredits, Unit::credits(3)),
];
const SMALL: Limits = Limits { accounts_max: 7, pendings_max: 4, known_ids_max: 8 };

fn account(name: &str) -> AccountId {
    let place = ACCOUNTS.iter().position(|a| a.0 == name);
    AccountId(place.map_or(99, |place| place as u64 + 1))
}

fn ledger(limits: Limits) -> State {
    let mut state = State::new(limits, HashKey([11, 13]));
    for (name, kind, limit, unit) in ACCOUNTS {
        let opened = state.apply(UnixMs(0), &[Event::Open(Account { id: account(name), kind, limit, unit })]);
        assert_eq!(opened, [Ok(Applied::Done)]);
    }
    state
}

/// The id number `n` carries the time `n` seconds, so that larger numbers are younger.
fn id(n: u64) -> TransferId {
    TransferId(u128::from(n * 1000) << 80 | u128::from(n))
}

fn number(word: &str) -> u64 {
    word.trim_start_matches(char::is_alphabetic).parse().unwrap()
}

fn parse(line: &str) -> Event {
    let (line, linked) = line.strip_suffix('&').map_or((line, false), |line| (line, true));
    let words: Vec<&str> = line.split_whitespace().collect();
    let amount = |i: usize| Amount(number(words[i]));
    let hold = |i: usize| id(number(words[i]));
    let until = words.iter().position(|w| *w == "until");
    let expires_at = UnixMs(until.map_or(1_000, |i| number(words[i + 1])));
    match words[0] {
        "expire" => return Event::Release { pending: hold(1), reason: ReleaseReason::Expired },
        "orphan" => return Event::Release { pending: hold(1), reason: ReleaseReason::Orphaned },
        _ => {}
    }
    let sides = || {
        let (debit, credit) = words[1].split_once('>').unwrap();
        (account(debit), account(credit))
    };
    let kind = match &words[0][..1] {
        "s" => TransferKind::Single { debit: sides().0, credit: sides().1, amount: amount(2) },
        "h" => TransferKind::Pending { debit: sides().0, credit: sides().1, amount: amount(2), expires_at },
        "r" => TransferKind::Raise { pending: hold(1), to: amount(2), expires_at },
        "p" => TransferKind::Post { pending: hold(1), amount: amount(2) },
        _ => TransferKind::Void { pending: hold(1) },
    };
    Event::Transfer(Transfer { id: id(number(words[0])), linked, kind })
}

fn word(outcome: Result<Applied, Refusal>) -> &'static str {
    match outcome {
        Ok(Applied::Done) => "done",
        Ok(Applied::Exists) => "exists",
        Err(Refusal::Linked) => "linked",
        Err(Refusal::ChainOpen) => "open",
        Err(Refusal::ChainTooLong { .. }) => "long",
        Err(Refusal::NotLinkable) => "unlinkable",
        Err(Refusal::IdReused) => "reused",
        Err(Refusal::IdTooOld) => "old",
        Err(Refusal::IdAhead) => "ahead",
        Err(Refusal::AccountUnknown(_)) => "nobody",
        Err(Refusal::AccountDiffers(_)) => "differs",
        Err(Refusal::UnitsDiffer { .. }) => "units",
        Err(Refusal::SameAccount) => "same",
        Err(Refusal::ExceedsBalance { .. }) => "poor",
        Err(Refusal::PendingUnknown) => "unknown",
        Err(Refusal::PendingOpen) => "held",
        Err(Refusal::ExceedsPending { .. }) => "more",
        Err(Refusal::NotExpired) => "early",
        Err(Refusal::Overflow) => "overflow",
        Err(Refusal::AccountsFull { .. } | Refusal::PendingsFull { .. }) => "full",
    }
}

/// `alice 40-25` is posted net 40 of which 25 are held; accounts without debits or posted credits are left out.
fn shown(state: &State) -> String {
    let mut parts = Vec::new();
    for (name, ..) in ACCOUNTS {
        let (_, balance) = state.account(account(name)).unwrap();
        if balance.debits_pending + balance.debits_posted + balance.credits_posted > 0 {
            let held = balance.debits_pending;
            let held = if held == 0 { String::new() } else { format!("-{held}") };
            parts.push(format!("{name} {}{held}", balance.net_posted()));
        }
    }
    parts.join(", ")
}

fn run(state: &mut State, script: &str) -> String {
    let mut now = state.now();
    let mut words = Vec::new();
    let mut chain = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(time) = line.strip_prefix('@') {
            now = UnixMs(number(time));
            continue;
        }
        chain.push(parse(line));
        if !line.ends_with('&') {
            words.extend(state.apply(now, &chain).into_iter().map(word));
            chain.clear();
        }
    }
    words.extend(state.apply(now, &chain).into_iter().map(word));
    state.check_books().unwrap();
    words.join(" ")
}

/// Runs a script on a fresh ledger and compares outcomes and balances.
fn check(script: &str, outcomes: &str, balances: &str) {
    let mut state = ledger(SMALL);
    assert_eq!(run(&mut state, script), outcomes, "{script}");
    assert_eq!(shown(&state), balances, "{script}");
}
