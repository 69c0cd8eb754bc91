//! `bourse ledger suspense`: sellers' shares that wait, and who gets them.

use crate::cmd::operator::unasked;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::Failure;
use crate::{admin, cmd};
use bourse_exchange::{AdminReply, AdminRequest, CaseLine, Party};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print every share that waits, with what was claimed and what was counted.
    List,
    /// Give a share to the seller, or back to the buyer. Repeating it changes nothing.
    Release {
        /// The request, as `list` and its receipt name it.
        request: String,
        /// Whose it is.
        #[arg(long, value_enum)]
        to: To,
    },
}

/// Who may have a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum To {
    /// The claim was right.
    Seller,
    /// It was not.
    Buyer,
}

impl From<To> for Party {
    fn from(to: To) -> Self {
        match to {
            To::Seller => Self::Seller,
            To::Buyer => Self::Buyer,
        }
    }
}

pub(super) fn run(
    json: bool,
    data_dir: &DataDir,
    environment: &Environment,
    action: &Action,
) -> Result<ExitCode, Failure> {
    let request = match action {
        Action::List => AdminRequest::ListSuspense {},
        Action::Release { request, to } => {
            AdminRequest::ReleaseSuspense { request: request.clone(), to: (*to).into() }
        }
    };
    match admin::ask(data_dir, environment, request)? {
        AdminReply::Suspense { cases } if json => cmd::tell_line(&cmd::json(&cases)?)?,
        AdminReply::Suspense { cases } => cmd::tell(&table(&cases))?,
        reply @ AdminReply::Released { .. } if json => cmd::tell_line(&cmd::json(&reply)?)?,
        AdminReply::Released { request, to } => {
            cmd::tell_line(&format!("the share of {request} belongs to the {}", to.as_str()))?;
        }
        _ => return Err(unasked()),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(cases: &[CaseLine]) -> String {
    if cases.is_empty() {
        return "nothing is in suspense\n".to_owned();
    }
    let head = ["REQUEST", "TIME (UTC)", "SELLER", "BUYER", "SHARE", "PROMPT", "COMPLETION"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(cases.iter().map(|case| {
        [
            case.request.clone(),
            cmd::utc(case.at_ms),
            case.seller.clone(),
            case.customer.clone(),
            cmd::dollars(&case.amount_usd),
            against(case.prompt_claimed, case.prompt_recounted, case.prompt_allowed),
            against(case.completion_claimed, case.completion_recounted, case.completion_allowed),
        ]
    }));
    let mut text = cmd::columns(&rows);
    text.push_str("tokens: claimed / counted (at most allowed)\n");
    text
}

/// A claim against its count.
fn against(claimed: u64, recounted: Option<u64>, allowed: u64) -> String {
    let recounted = recounted.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
    format!("{claimed} / {recounted} ({allowed})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_told_in_columns() {
        assert_eq!(table(&[]), "nothing is in suspense\n");
        let case = CaseLine {
            request: "gen-1".to_owned(),
            at_ms: 1_800_000_000_000,
            seller: "maple".to_owned(),
            customer: "alice".to_owned(),
            amount_usd: "0.000000240".to_owned(),
            tokenizer: "07".repeat(32),
            prompt_claimed: 40,
            prompt_recounted: Some(20),
            prompt_allowed: 37,
            completion_claimed: 9,
            completion_recounted: None,
            completion_allowed: 20,
        };
        let text = table(&[case]);
        assert!(
            text.contains("40 / 20 (37)") && text.contains("9 / ? (20)") && text.contains("maple"),
            "{text}"
        );
    }
}
