//! `bourse limits`: budgets and rates of keys, workspaces and whole organisations. Works on a running market and on a
//! stopped one.
//!
//! Without `--key` and `--workspace` the whole organisation is meant. A key's budget is its limit, which `bourse key
//! limit` sets.

use super::operator::{Operator, unasked};
use crate::config::Environment;
use crate::report::Failure;
use bourse_exchange::{AdminReply, AdminRequest, LimitsInfo, ScopeText};
use clap::{Subcommand, ValueEnum};
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: Operator,
    /// A key's: its id, the start of its id, or its label.
    #[arg(long, global = true, value_name = "KEY", conflicts_with_all = ["workspace", "account"])]
    key: Option<String>,
    /// A workspace's: its id or its short name.
    #[arg(long, global = true, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// The account, or that of the workspace [default: operator].
    #[arg(long, global = true, value_name = "NAME")]
    account: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show budgets and rates, and what is left of them.
    Show,
    /// Set or lift the budget of one window.
    Budget {
        /// The window, in UTC.
        interval: Interval,
        /// Most that may be spent in one window, in USD; `none` lifts the budget.
        usd: String,
        /// Whether what the account's own sellers bill counts [default: as it was].
        #[arg(long, value_name = "BOOL")]
        count_byok: Option<bool>,
    },
    /// Set or lift rates.
    Rate {
        /// Most requests in any sixty seconds; 0 lifts the rate [default: as it was].
        #[arg(long, value_name = "COUNT")]
        requests: Option<u64>,
        /// Most tokens in any sixty seconds, of prompts and answers; 0 lifts the rate [default: as it was].
        #[arg(long, value_name = "COUNT", required_unless_present = "requests")]
        tokens: Option<u64>,
    },
}

/// A window of a budget.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Interval {
    Daily,
    /// From Monday.
    Weekly,
    /// From the first.
    Monthly,
    Lifetime,
}

impl Interval {
    fn word(self) -> String {
        let word = match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Lifetime => "lifetime",
        };
        word.to_owned()
    }
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    args.operator.ask(environment, request(args), |reply| match reply {
        AdminReply::Limits { limits } => super::tell(&table(&limits)),
        _ => Err(unasked()),
    })
}

fn request(args: &Args) -> AdminRequest {
    let account = args.account.clone();
    let of = match (&args.key, &args.workspace) {
        (Some(key), _) => ScopeText::Key { key: key.clone() },
        (None, Some(workspace)) => ScopeText::Workspace { workspace: workspace.clone(), account },
        (None, None) => ScopeText::Organization { account },
    };
    match &args.action {
        Action::Show => AdminRequest::Limits { of },
        Action::Budget { interval, usd, count_byok } => AdminRequest::SetBudget {
            of,
            interval: interval.word(),
            limit_usd: (usd != "none").then(|| usd.clone()),
            includes_byok: *count_byok,
        },
        Action::Rate { requests, tokens } => {
            AdminRequest::SetRates { of, requests_per_minute: *requests, tokens_per_minute: *tokens }
        }
    }
}

fn table(limits: &LimitsInfo) -> String {
    let mut rows = vec![["LIMIT", "MOST", "USED", "IN FLIGHT", "LEFT", "BEGINS ANEW"].map(str::to_owned)];
    let total = ["all".to_owned(), "none".to_owned(), super::dollars(&limits.used_usd)];
    let [all, none, used] = total;
    rows.push([all, none, used, super::dollars(&limits.in_flight_usd), String::new(), String::new()]);
    rows.extend(limits.budgets.iter().map(|budget| {
        let [most, spent, held, left] =
            [&budget.limit_usd, &budget.spent_usd, &budget.in_flight_usd, &budget.left_usd]
                .map(|usd| super::dollars(usd));
        let resets = budget.resets_at_ms.map_or_else(|| "never".to_owned(), super::utc);
        [budget.interval.clone(), most, spent, held, left, resets]
    }));
    rows.extend(limits.rates.iter().map(|rate| {
        let [most, used, left] = [rate.limit_per_minute, rate.used, rate.left].map(|count| count.to_string());
        let name = format!("{} a minute", rate.unit);
        [name, most, used, String::new(), left, "by and by".to_owned()]
    }));
    super::columns(&rows)
}
