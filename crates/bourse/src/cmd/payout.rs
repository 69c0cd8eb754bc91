//! `bourse payout`: what sellers are paid, and where. Works on a running market and on a stopped one.
//!
//! Where the rail is `manual` a person pays: `list --open` says what and to whom, `confirm` and `fail` say what became of
//! it. Everything is told with the payout's id, which never changes.

use crate::admin;
use crate::cli::Place;
use crate::config::Environment;
use crate::report::{Failure, Plain};
use bourse_exchange::{AdminReply, AdminRequest, OwedLine, PayoutLine, SELLER_PREFIX};
use clap::Subcommand;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print payouts, and what is owed beside them.
    List {
        /// Only those on their way: what a person has to pay, where the rail is `manual`.
        #[arg(long)]
        open: bool,
        /// Rows with commas, for a spreadsheet or a bank.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Plan and send payouts now instead of at the end of the epoch.
    Run,
    /// Say that a payout was paid, where a person pays. Repeating it changes nothing.
    Confirm {
        /// The payout, as `list` names it.
        payout: String,
        /// By which others find the payment, such as a bank's number.
        #[arg(long, value_name = "TEXT")]
        reference: String,
    },
    /// Say that a payout was not paid and will not be: the seller is owed its amount again.
    Fail {
        /// The payout, as `list` names it.
        payout: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Set or show where a seller takes money; setting it again also lets a seller go on whose last payout failed.
    Address {
        /// The seller's name, such as `maple`, or its account's, `seller:maple`.
        seller: String,
        /// The address [default: show it].
        #[arg(conflicts_with = "none")]
        address: Option<String>,
        /// Pay this seller no more.
        #[arg(long)]
        none: bool,
    },
}

impl Action {
    fn request(&self) -> AdminRequest {
        match self {
            Self::Run => AdminRequest::RunPayouts {},
            Self::Confirm { payout, reference } => {
                AdminRequest::ConfirmPayout { payout: payout.clone(), reference: reference.clone() }
            }
            Self::Fail { payout, reason } => {
                AdminRequest::FailPayout { payout: payout.clone(), reason: reason.clone() }
            }
            Self::Address { seller, address, none } if *none || address.is_some() => {
                AdminRequest::PayoutAddress { seller: seller.clone(), address: address.clone() }
            }
            Self::List { .. } | Self::Address { .. } => AdminRequest::ListPayouts {},
        }
    }
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.place.locate(environment)?;
    let reply = admin::ask(&data_dir, environment, args.action.request())?;
    let reply = match (reply, &args.action) {
        (AdminReply::Payouts { owed, .. }, Action::Address { seller, .. }) => address_of(owed, seller)?,
        (AdminReply::Payouts { payouts, owed }, Action::List { open: true, .. }) => {
            let payouts = payouts.into_iter().filter(PayoutLine::is_open).collect();
            AdminReply::Payouts { payouts, owed }
        }
        (reply, _) => reply,
    };
    if args.json {
        super::tell_line(&super::json(&reply)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match (&reply, &args.action) {
        (AdminReply::Payouts { payouts, .. }, Action::List { csv: true, .. }) => {
            super::tell(&PayoutLine::csv(payouts))?;
        }
        (AdminReply::Payouts { payouts, owed }, _) => super::tell(&text(payouts, owed))?,
        (AdminReply::Payout { payout }, _) => super::tell_line(&ended(payout))?,
        (AdminReply::PayoutAddress { seller, address: Some(address), is_new }, _) => {
            super::tell_line(&format!("{seller} takes money at {address}"))?;
            if *is_new {
                eprintln!("hint: `{seller}` has sold nothing yet; `bourse payout list` shows who has");
            }
        }
        (AdminReply::PayoutAddress { seller, address: None, .. }, _) => {
            super::tell_line(&format!("{seller} has no payout address and is paid nothing"))?;
            eprintln!("hint: `bourse payout address {seller} ADDRESS` sets one");
        }
        _ => return Err(Plain::new("the market answered another question").boxed()),
    }
    Ok(ExitCode::SUCCESS)
}

fn address_of(owed: Vec<OwedLine>, seller: &str) -> Result<AdminReply, Failure> {
    let seller = seller.strip_prefix(SELLER_PREFIX).unwrap_or(seller);
    let line = owed.into_iter().find(|line| line.seller == seller);
    let line = line.ok_or_else(|| {
        Plain::new(format!("no seller is called `{seller}`"))
            .hint("`bourse payout list` shows those that have sold something or have an address")
            .boxed()
    })?;
    Ok(AdminReply::PayoutAddress { seller: line.seller, address: line.payee, is_new: false })
}

fn ended(payout: &PayoutLine) -> String {
    let PayoutLine { id, seller, state, .. } = payout;
    let note = payout.note.as_deref().unwrap_or_default();
    match state.as_str() {
        "failed" => {
            format!("{id} failed: {note}; {seller} is owed {} again", super::dollars(&payout.amount_usd))
        }
        _ => format!("{id} {state} {} to {seller}: {note}", super::dollars(&payout.amount_usd)),
    }
}

fn text(payouts: &[PayoutLine], owed: &[OwedLine]) -> String {
    let mut text = String::new();
    if payouts.is_empty() {
        text.push_str("no payouts\n");
    } else {
        let head = ["PAYOUT", "SINCE (UTC)", "SELLER", "AMOUNT", "STATE", "RAIL", "TO", "NOTE"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(payouts.iter().map(|payout| {
            let note = payout.trouble.as_ref().or(payout.note.as_ref()).cloned().unwrap_or_default();
            [
                payout.id.clone(),
                super::utc(payout.since_ms),
                payout.seller.clone(),
                super::dollars(&payout.amount_usd),
                payout.state.clone(),
                payout.rail.clone(),
                payout.payee.clone(),
                note,
            ]
        }));
        text.push_str(&super::columns(&rows));
    }
    if !owed.is_empty() {
        let mut rows = vec![["SELLER", "OWED", "TO", "NEXT RUN"].map(str::to_owned)];
        rows.extend(owed.iter().map(|line| {
            let next =
                line.withheld.as_ref().map_or_else(|| "pays".to_owned(), |why| format!("not paid: {why}"));
            let payee = line.payee.clone().unwrap_or_default();
            [line.seller.clone(), super::dollars(&line.owed_usd), payee, next]
        }));
        text.push('\n');
        text.push_str(&super::columns(&rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payouts_and_what_is_owed_are_told_in_columns() {
        assert_eq!(text(&[], &[]), "no payouts\n");
        let payout = PayoutLine {
            id: "pay-1".to_owned(),
            seller: "maple".to_owned(),
            payee: "DE89".to_owned(),
            amount_usd: "12.340000000".to_owned(),
            rail: "manual".to_owned(),
            state: "sending".to_owned(),
            planned_ms: 1_800_000_000_000,
            since_ms: 1_800_000_000_000,
            note: None,
            trouble: None,
        };
        let owed = OwedLine {
            seller: "maple".to_owned(),
            owed_usd: "0.001000000".to_owned(),
            payee: Some("DE89".to_owned()),
            withheld: Some("pay-1 is on its way".to_owned()),
        };
        let want = "\
PAYOUT  SINCE (UTC)          SELLER  AMOUNT  STATE    RAIL    TO    NOTE
pay-1   2027-01-15 08:00:00  maple   $12.34  sending  manual  DE89

SELLER  OWED    TO    NEXT RUN
maple   $0.001  DE89  not paid: pay-1 is on its way
";
        assert_eq!(text(std::slice::from_ref(&payout), &[owed]), want);
        let failed = PayoutLine { state: "failed".to_owned(), note: Some("closed".to_owned()), ..payout };
        assert_eq!(ended(&failed), "pay-1 failed: closed; maple is owed $12.34 again");
    }
}
