//! The books as an accountant reads them: a page of entries, and the trial balance that it comes to.
//!
//! A row is an hour, what happens, who pays, who receives and how much, in dollars (or in whole credits for accounts that
//! count them). `hold 1` sets money aside under that number, `post 1` settles it, `let go 1` frees it; a row that begins
//! with `+` happens only together with the one before it. What cannot happen is marked in the last column.

use super::*;
use std::collections::BTreeMap;

/// Who keeps an account in these books. Only what a customer or a sub-account has may be spent.
const CHART: [(&str, AccountKind, Unit); 14] = [
    ("bank", AccountKind::Escrow, Unit::NANO_USD),
    ("alice", AccountKind::Customer, Unit::NANO_USD),
    ("alice/agent", AccountKind::SubAccount, Unit::NANO_USD),
    ("clearing", AccountKind::Clearing, Unit::NANO_USD),
    ("acme", AccountKind::SellerPayable, Unit::NANO_USD),
    ("fee", AccountKind::Fee, Unit::NANO_USD),
    ("rounding", AccountKind::Rounding, Unit::NANO_USD),
    ("verifiers", AccountKind::VerifierPool, Unit::NANO_USD),
    ("insurance", AccountKind::Insurance, Unit::NANO_USD),
    ("suspense", AccountKind::Suspense, Unit::NANO_USD),
    ("burn", AccountKind::Burn, Unit::NANO_USD),
    ("subsidy", AccountKind::Subsidy, Unit::NANO_USD),
    ("gifts", AccountKind::Subsidy, Unit::credits(1)),
    ("alice's gifts", AccountKind::SubAccount, Unit::credits(1)),
];

/// `bank` is what others hold for the market, `subsidy` and `gifts` what it gives: these may be in debit.
fn limit(kind: AccountKind) -> BalanceLimit {
    match kind {
        AccountKind::Escrow | AccountKind::Subsidy => BalanceLimit::None,
        _ => BalanceLimit::DebitsWithinCredits,
    }
}

fn place(name: &str) -> usize {
    CHART.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| panic!("nobody is called {name}"))
}

fn id_of(name: &str) -> AccountId {
    AccountId(place(name) as u64 + 1)
}

fn is_money(name: &str) -> bool {
    CHART[place(name)].2 == Unit::NANO_USD
}

fn read_amount(text: &str, of: &str) -> Amount {
    if of.is_empty() || is_money(of) {
        bourse_types::NanoUsd::parse_usd(text).unwrap().into()
    } else {
        Amount(text.parse().unwrap())
    }
}

fn show_amount(sum: u128, of: &str) -> String {
    if is_money(of) {
        bourse_types::NanoUsd(u64::try_from(sum).unwrap()).to_usd_string()
    } else {
        sum.to_string()
    }
}

/// Books with the whole chart.
fn books() -> State {
    let mut state = State::new(Limits::default(), HashKey([3, 5]));
    for (n, (_, kind, unit)) in CHART.into_iter().enumerate() {
        let account = Account { id: AccountId(n as u64 + 1), kind, limit: limit(kind), unit };
        assert_eq!(state.apply(UnixMs(0), &[Event::Open(account)]), [Ok(Applied::Done)]);
    }
    state
}

/// Books every row and checks what the last column says of it.
fn book(state: &mut State, page: &str) {
    let mut holds: BTreeMap<String, (TransferId, String)> = BTreeMap::new();
    let (mut chain, mut marks): (Vec<Event>, Vec<String>) = (Vec::new(), Vec::new());
    let rows: Vec<Vec<&str>> = page
        .lines()
        .map(|line| line.trim().trim_matches('|').split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.len() == 6 && row[0] != "at")
        .collect();
    for (n, row) in rows.iter().enumerate() {
        let [at, what, debit, credit, amount, mark] = row[..] else { unreachable!() };
        let (hour, minute) = at.split_once(':').unwrap();
        let now = UnixMs((number(hour) * 60 + number(minute)) * 60_000);
        let own = TransferId((u128::from(now.0) << 80) | (n as u128 + 1));
        let what = what.trim_start_matches("+ ");
        let kind = if let Some(name) = what.strip_prefix("hold ") {
            holds.insert(name.to_owned(), (own, debit.to_owned()));
            let (amount, expires_at) =
                (read_amount(amount, debit), now.plus(bourse_types::DurationMs(600_000)));
            TransferKind::Pending { debit: id_of(debit), credit: id_of(credit), amount, expires_at }
        } else if let Some(name) = what.strip_prefix("post ") {
            TransferKind::Post { pending: holds[name].0, amount: read_amount(amount, &holds[name].1) }
        } else if let Some(name) = what.strip_prefix("let go ") {
            TransferKind::Void { pending: holds[name].0 }
        } else {
            TransferKind::Single {
                debit: id_of(debit),
                credit: id_of(credit),
                amount: read_amount(amount, debit),
            }
        };
        let linked = rows.get(n + 1).is_some_and(|next| next[1].starts_with('+'));
        chain.push(Event::Transfer(Transfer { id: own, linked, kind }));
        marks.push(mark.to_owned());
        if !linked {
            let told: Vec<_> = state.apply(now, &chain).into_iter().map(word).collect();
            let want: Vec<_> = marks.iter().map(|mark| if mark.is_empty() { "done" } else { mark }).collect();
            assert_eq!(told, want, "row {n}: {row:?}");
            chain.clear();
            marks.clear();
        }
    }
    state.check_books().unwrap();
}

/// The accounts that moved, and the sums of each unit.
fn trial_balance(state: &State) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut sums: BTreeMap<Unit, [u128; 2]> = BTreeMap::new();
    for (name, _, unit) in CHART {
        let (_, balance) = state.account(id_of(name)).unwrap();
        let (debits, credits) = (balance.debits_posted, balance.credits_posted);
        let held = balance.debits_pending;
        if debits + credits + held > 0 {
            let held = if held > 0 { show_amount(held, name) } else { String::new() };
            rows.push(vec![name.to_owned(), show_amount(debits, name), show_amount(credits, name), held]);
        }
        let sum = sums.entry(unit).or_default();
        (sum[0], sum[1]) = (sum[0] + debits, sum[1] + credits);
    }
    for (unit, [debits, credits]) in sums.into_iter().filter(|(_, sum)| sum[0] > 0) {
        let of = if unit == Unit::NANO_USD { "bank" } else { "gifts" };
        rows.push(vec![
            format!("all {unit}"),
            show_amount(debits, of),
            show_amount(credits, of),
            String::new(),
        ]);
    }
    rows
}

/// Books a page and holds its trial balance against the one that is written.
fn check_page(page: &str, balance: &str) {
    let mut state = books();
    book(&mut state, page);
    let want: Vec<Vec<String>> = balance
        .lines()
        .filter(|line| line.contains('|') && !line.contains("| debits"))
        .map(|line| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert_eq!(trial_balance(&state), want);
}

#[test]
fn a_request_is_paid_to_the_nano_dollar() {
    check_page(
        "| at    | what             | pays     | receives | how much    | |
         | 09:00 | top up           | bank     | alice    | 10          | |
         | 09:01 | hold 1           | alice    | clearing | 0.005       | |
         | 09:02 | post 1           |          |          | 0.000712346 | |
         | 09:02 | + seller's share | clearing | acme     | 0.000676728 | |
         | 09:02 | + 5 % of it      | clearing | fee      | 0.000035617 | |
         | 09:02 | + rounding up    | clearing | rounding | 0.000000001 | |
         | 09:03 | hold 2           | alice    | clearing | 0.25        | |",
        "| account      | debits       | credits      | held        |
         | bank         | 10.000000000 | 0.000000000  |             |
         | alice        | 0.000712346  | 10.000000000 | 0.250000000 |
         | clearing     | 0.000712346  | 0.000712346  |             |
         | acme         | 0.000000000  | 0.000676728  |             |
         | fee          | 0.000000000  | 0.000035617  |             |
         | rounding     | 0.000000000  | 0.000000001  |             |
         | all nano-USD | 10.001424692 | 10.001424692 |             |",
    );
}

#[test]
fn an_agent_spends_what_was_set_apart_for_it_and_no_more() {
    check_page(
        "| at    | what      | pays        | receives    | how much | |
         | 09:00 | top up    | bank        | alice       | 10       | |
         | 09:01 | set apart | alice       | alice/agent | 1        | |
         | 09:02 | hold 1    | alice/agent | clearing    | 0.75     | |
         | 09:03 | hold 2    | alice/agent | clearing    | 0.26     | poor |
         | 09:04 | hold 3    | alice       | clearing    | 9        | |
         | 09:05 | hold 4    | alice       | clearing    | 0.01     | poor |
         | 09:06 | let go 1  |             |             |          | |
         | 09:07 | give back | alice/agent | alice       | 1        | |
         | 09:08 | withdraw  | alice       | bank        | 1        | |",
        "| account      | debits       | credits      | held        |
         | bank         | 10.000000000 | 1.000000000  |             |
         | alice        | 2.000000000  | 11.000000000 | 9.000000000 |
         | alice/agent  | 1.000000000  | 1.000000000  |             |
         | all nano-USD | 13.000000000 | 13.000000000 |             |",
    );
}

#[test]
fn a_claim_that_does_not_match_waits_in_suspense() {
    check_page(
        "| at    | what               | pays      | receives  | how much | |
         | 09:00 | top up             | bank      | alice     | 10       | |
         | 09:01 | hold 1             | alice     | clearing  | 2        | |
         | 09:02 | post 1             |           |           | 2        | |
         | 09:02 | + recounted        | clearing  | acme      | 1.5      | |
         | 09:02 | + claimed beyond   | clearing  | suspense  | 0.5      | |
         | 17:00 | half was right     | suspense  | acme      | 0.25     | |
         | 17:00 | half was not       | suspense  | alice     | 0.25     | |
         | 17:01 | once is enough     | suspense  | acme      | 0.25     | poor |",
        "| account      | debits       | credits      | held |
         | bank         | 10.000000000 | 0.000000000  |      |
         | alice        | 2.000000000  | 10.250000000 |      |
         | clearing     | 2.000000000  | 2.000000000  |      |
         | acme         | 0.000000000  | 1.750000000  |      |
         | suspense     | 0.500000000  | 0.500000000  |      |
         | all nano-USD | 14.500000000 | 14.500000000 |      |",
    );
}

#[test]
fn fees_pay_verifiers_and_insurance_and_a_payout_takes_what_is_owed() {
    check_page(
        "| at    | what            | pays      | receives  | how much | |
         | 09:00 | top up          | bank      | alice     | 10       | |
         | 09:01 | hold 1          | alice     | clearing  | 8        | |
         | 09:02 | post 1          |           |           | 8        | |
         | 09:02 | + seller        | clearing  | acme      | 6        | |
         | 09:02 | + fee           | clearing  | fee       | 2        | |
         | 10:00 | for verifiers   | fee       | verifiers | 0.5      | |
         | 10:00 | + for failures  | fee       | insurance | 0.5      | |
         | 10:00 | + out for good  | fee       | burn      | 0.25     | |
         | 11:00 | made good       | insurance | alice     | 0.5      | |
         | 12:00 | pay out         | acme      | bank      | 6        | |
         | 12:01 | pay out again   | acme      | bank      | 6        | poor |
         | 12:02 | part of a chain | fee       | burn      | 0.5      | linked |
         | 12:02 | + cannot be     | burn      | fee       | 0.76     | poor |",
        "| account      | debits       | credits      | held |
         | bank         | 10.000000000 | 6.000000000  |      |
         | alice        | 8.000000000  | 10.500000000 |      |
         | clearing     | 8.000000000  | 8.000000000  |      |
         | acme         | 6.000000000  | 6.000000000  |      |
         | fee          | 1.250000000  | 2.000000000  |      |
         | verifiers    | 0.000000000  | 0.500000000  |      |
         | insurance    | 0.500000000  | 0.500000000  |      |
         | burn         | 0.000000000  | 0.250000000  |      |
         | all nano-USD | 33.750000000 | 33.750000000 |      |",
    );
}

#[test]
fn gifts_are_counted_apart_and_the_seller_is_paid_in_money() {
    check_page(
        "| at    | what            | pays          | receives      | how much | |
         | 09:00 | ten gifts       | gifts         | alice's gifts | 10       | |
         | 09:01 | hold 1          | alice's gifts | gifts         | 4        | |
         | 09:02 | post 1          |               |               | 3        | |
         | 09:02 | + the house     | subsidy       | clearing      | 0.75     | |
         | 09:02 | + the seller    | clearing      | acme          | 0.75     | |
         | 09:03 | gifts as money  | alice's gifts | acme          | 1        | units |
         | 09:04 | too many        | alice's gifts | gifts         | 8        | poor |",
        "| account                | debits      | credits     | held |
         | clearing               | 0.750000000 | 0.750000000 |      |
         | acme                   | 0.000000000 | 0.750000000 |      |
         | subsidy                | 0.750000000 | 0.000000000 |      |
         | gifts                  | 10          | 3           |      |
         | alice's gifts          | 3           | 10          |      |
         | all nano-USD           | 1.500000000 | 1.500000000 |      |
         | all credits of class 1 | 13          | 13          |      |",
    );
}
