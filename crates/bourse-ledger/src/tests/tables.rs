//! The books as an accountant reads them: a page of entries, and the trial balance that it comes to.
//!
//! A row is an hour, what happens, who pays, who receives and how much, in dollars (or in whole credits for accounts that
//! count them). `hold 1` sets money aside under that number for ten minutes, `post 1` settles it, `let go 1` frees it,
//! `time out 1` frees it when its time is over; a row that begins with `+` happens only together with the one before it.
//! What cannot happen is marked in the last column.

use super::*;
use std::collections::BTreeMap;

/// Who keeps an account in these books, what for, what it counts, and which rule its balance keeps.
const CHART: [(&str, AccountKind, Unit, BalanceLimit); 22] = [
    ("bank", AccountKind::Escrow, Unit::NANO_USD, BalanceLimit::None),
    ("vault", AccountKind::Escrow, Unit::NANO_USD, BalanceLimit::CreditsWithinDebits),
    ("alice", AccountKind::Customer, Unit::NANO_USD, COVERED),
    ("alice/agent", AccountKind::SubAccount, Unit::NANO_USD, COVERED),
    ("alice/workspace", AccountKind::SubAccount, Unit::NANO_USD, COVERED),
    ("alice/run", AccountKind::SubAccount, Unit::NANO_USD, COVERED),
    ("alice/channel", AccountKind::SubAccount, Unit::NANO_USD, COVERED),
    ("key", AccountKind::Allowance, Unit::NANO_USD, COVERED),
    ("allowances", AccountKind::Control, Unit::NANO_USD, BalanceLimit::None),
    ("clearing", AccountKind::Clearing, Unit::NANO_USD, COVERED),
    ("acme", AccountKind::SellerPayable, Unit::NANO_USD, COVERED),
    ("fee", AccountKind::Fee, Unit::NANO_USD, COVERED),
    ("rounding", AccountKind::Rounding, Unit::NANO_USD, COVERED),
    ("verifiers", AccountKind::VerifierPool, Unit::NANO_USD, COVERED),
    ("insurance", AccountKind::Insurance, Unit::NANO_USD, COVERED),
    ("suspense", AccountKind::Suspense, Unit::NANO_USD, COVERED),
    ("burn", AccountKind::Burn, Unit::NANO_USD, COVERED),
    ("subsidy", AccountKind::Subsidy, Unit::NANO_USD, BalanceLimit::None),
    ("gifts", AccountKind::Subsidy, Unit::credits(1), BalanceLimit::None),
    ("alice's gifts", AccountKind::SubAccount, Unit::credits(1), COVERED),
    ("capacity", AccountKind::Control, Unit::TOKEN_SECONDS, BalanceLimit::None),
    ("alice's seconds", AccountKind::SubAccount, Unit::TOKEN_SECONDS, COVERED),
];

/// Nobody gives what he has not got; what others hold for the market (`bank`) and what it gives (`subsidy`, `gifts`,
/// `capacity`, `allowances`) may be in debit. A `vault` pays out no more than lies in it.
const COVERED: BalanceLimit = BalanceLimit::DebitsWithinCredits;

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
    for (n, (_, kind, unit, limit)) in CHART.into_iter().enumerate() {
        let account = Account { id: AccountId(n as u64 + 1), kind, limit, unit };
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
        } else if let Some(name) = what.strip_prefix("let go ").or(what.strip_prefix("time out ")) {
            TransferKind::Void { pending: holds[name].0 }
        } else {
            TransferKind::Single {
                debit: id_of(debit),
                credit: id_of(credit),
                amount: read_amount(amount, debit),
            }
        };
        let linked = rows.get(n + 1).is_some_and(|next| next[1].starts_with('+'));
        chain.push(match what.strip_prefix("time out ") {
            Some(name) => Event::Release { pending: holds[name].0, reason: ReleaseReason::Expired },
            None => Event::Transfer(Transfer { id: own, linked, kind }),
        });
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
    for (name, _, unit, _) in CHART {
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

/// A key's limit is an account beside the money: what is held of both is held of none or of both.
#[test]
fn a_key_spends_from_its_account_within_its_limit() {
    check_page(
        "| at    | what            | pays       | receives   | how much | |
         | 09:00 | top up          | bank       | alice      | 10       | |
         | 09:00 | + the limit     | allowances | key        | 1        | |
         | 09:01 | hold 1          | alice      | clearing   | 0.75     | |
         | 09:01 | + hold 2        | key        | allowances | 0.75     | |
         | 09:02 | hold 3          | alice      | clearing   | 0.5      | linked |
         | 09:02 | + hold 4        | key        | allowances | 0.5      | poor |
         | 09:03 | post 1          |            |            | 0.25     | |
         | 09:03 | + post 2        |            |            | 0.25     | |
         | 09:03 | + the seller    | clearing   | acme       | 0.25     | |
         | 09:04 | no more for it  | key        | allowances | 0.75     | |
         | 09:05 | hold 5          | alice      | clearing   | 0.01     | linked |
         | 09:05 | + hold 6        | key        | allowances | 0.01     | poor |",
        "| account      | debits       | credits      | held |
         | bank         | 10.000000000 | 0.000000000  |      |
         | alice        | 0.250000000  | 10.000000000 |      |
         | key          | 1.000000000  | 1.000000000  |      |
         | allowances   | 1.000000000  | 1.000000000  |      |
         | clearing     | 0.250000000  | 0.250000000  |      |
         | acme         | 0.000000000  | 0.250000000  |      |
         | all nano-USD | 12.500000000 | 12.500000000 |      |",
    );
}

#[test]
fn a_workspace_gives_a_run_its_part_and_a_channel_is_closed_with_what_is_left() {
    check_page(
        "| at    | what            | pays            | receives        | how much | |
         | 09:00 | top up          | bank            | alice           | 10       | |
         | 09:01 | set apart       | alice           | alice/workspace | 5        | |
         | 09:02 | for a run       | alice/workspace | alice/run       | 2        | |
         | 09:03 | for a channel   | alice           | alice/channel   | 1        | |
         | 09:04 | hold 1          | alice/run       | clearing        | 2.01     | poor |
         | 09:04 | hold 2          | alice/run       | clearing        | 1.5      | |
         | 09:05 | post 2          |                 |                 | 1.5      | |
         | 09:05 | + the seller    | clearing        | acme            | 1.5      | |
         | 09:06 | the run ends    | alice/run       | alice/workspace | 0.5      | |
         | 09:06 | and has no more | alice/run       | alice/workspace | 0.01     | poor |
         | 09:07 | by the channel  | alice/channel   | acme            | 0.25     | |
         | 09:08 | it closes       | alice/channel   | alice           | 0.75     | |",
        "| account         | debits       | credits      | held |
         | bank            | 10.000000000 | 0.000000000  |      |
         | alice           | 6.000000000  | 10.750000000 |      |
         | alice/workspace | 2.000000000  | 5.500000000  |      |
         | alice/run       | 2.000000000  | 2.000000000  |      |
         | alice/channel   | 1.000000000  | 1.000000000  |      |
         | clearing        | 1.500000000  | 1.500000000  |      |
         | acme            | 0.000000000  | 1.750000000  |      |
         | all nano-USD    | 22.500000000 | 22.500000000 |      |",
    );
}

#[test]
fn a_hold_is_free_again_when_its_ten_minutes_are_over_and_no_moment_before() {
    check_page(
        "| at    | what       | pays  | receives | how much | |
         | 09:00 | top up     | bank  | alice    | 1        | |
         | 09:01 | hold 1     | alice | clearing | 1        | |
         | 09:10 | time out 1 |       |          |          | early |
         | 09:10 | hold 2     | alice | clearing | 0.01     | poor |
         | 09:11 | time out 1 |       |          |          | |
         | 09:11 | post 1     |       |          | 0.5      | unknown |
         | 09:12 | hold 3     | alice | clearing | 0.01     | |",
        "| account      | debits      | credits     | held        |
         | bank         | 1.000000000 | 0.000000000 |             |
         | alice        | 0.000000000 | 1.000000000 | 0.010000000 |
         | all nano-USD | 1.000000000 | 1.000000000 |             |",
    );
}

#[test]
fn an_escrow_pays_out_no_more_than_lies_in_it() {
    check_page(
        "| at    | what             | pays    | receives | how much | |
         | 09:00 | deposit          | vault   | alice    | 10       | |
         | 09:01 | earned           | alice   | acme     | 6        | |
         | 09:02 | paid out         | acme    | vault    | 6        | |
         | 09:03 | more than hers   | alice   | vault    | 4.01     | poor |
         | 09:04 | a gift           | subsidy | alice    | 1        | |
         | 09:05 | hers, not there  | alice   | vault    | 5        | poor |
         | 09:06 | what lies there  | alice   | vault    | 4        | |",
        "| account      | debits       | credits      | held |
         | vault        | 10.000000000 | 10.000000000 |      |
         | alice        | 10.000000000 | 11.000000000 |      |
         | acme         | 6.000000000  | 6.000000000  |      |
         | subsidy      | 1.000000000  | 0.000000000  |      |
         | all nano-USD | 27.000000000 | 27.000000000 |      |",
    );
}

#[test]
fn seconds_bought_ahead_are_used_or_lapse_and_are_no_money() {
    check_page(
        "| at    | what             | pays            | receives        | how much | |
         | 09:00 | top up           | bank            | alice           | 10       | |
         | 09:01 | bought ahead     | alice           | acme            | 3        | |
         | 09:01 | + the seconds    | capacity        | alice's seconds | 3600     | |
         | 09:02 | hold 1           | alice's seconds | capacity        | 600      | |
         | 09:03 | post 1           |                 |                 | 450      | |
         | 09:04 | seconds as money | alice's seconds | acme            | 1        | units |
         | 09:04 | seconds as gifts | alice's seconds | alice's gifts   | 1        | units |
         | 09:05 | hold 2           | alice's seconds | capacity        | 3151     | poor |
         | 10:01 | the rest lapses  | alice's seconds | capacity        | 3150     | |",
        "| account           | debits       | credits      | held |
         | bank              | 10.000000000 | 0.000000000  |      |
         | alice             | 3.000000000  | 10.000000000 |      |
         | acme              | 0.000000000  | 3.000000000  |      |
         | capacity          | 3600         | 3600         |      |
         | alice's seconds   | 3600         | 3600         |      |
         | all nano-USD      | 13.000000000 | 13.000000000 |      |
         | all token-seconds | 7200         | 7200         |      |",
    );
}

/// The chart of these pages has every kind of account, and what may be in debit is told apart by its rule.
#[test]
fn every_kind_of_account_has_its_rule() {
    let rules = |kind: AccountKind| {
        let rules: std::collections::BTreeSet<&str> =
            CHART.iter().filter(|row| row.1 == kind).map(|row| row.3.name()).collect();
        format!("{:<14} {}", kind.name(), rules.into_iter().collect::<Vec<_>>().join(" or "))
    };
    let table = "\
customer       debits_within_credits
allowance      debits_within_credits
seller_payable debits_within_credits
fee            debits_within_credits
rounding       debits_within_credits
subsidy        none
clearing       debits_within_credits
control        none
sub_account    debits_within_credits
verifier_pool  debits_within_credits
insurance      debits_within_credits
burn           debits_within_credits
escrow         credits_within_debits or none
suspense       debits_within_credits";
    assert_eq!(AccountKind::ALL.map(rules).join("\n"), table);
    for (name, kind, _, limit) in CHART {
        let (account, _) = books().account(id_of(name)).unwrap();
        assert_eq!((account.kind, account.limit), (kind, limit), "{name}");
    }
}
