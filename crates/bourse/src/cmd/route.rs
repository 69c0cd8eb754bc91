//! `bourse route`: why a request went where it went, and what another policy would have done.
//!
//! Both replay the journal of decisions that the market keeps in its data directory: the plan is made again from the
//! offers, the health, the demand, the time and the seed of that moment, and must come out the same to the bit. A receipt
//! binds the plan's digest, so `explain` shows not a story but the decision that was sealed.

use super::operator::Operator;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_gateway::decision_files;
use bourse_market::{
    DecisionEvent, Demand, Execution, JournalError, JournalReader, MarketSnapshot, Plan, PlanError,
    ReplayPolicy, ReplayReport, Replayed, Replayer, diagnose, execution,
};
use bourse_types::{Digest32, RequestId};
use bourse_wire::receipt_json::receipt_document_from_json;
use clap::Subcommand;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Most rejected offers that are shown one by one.
const REJECTED_SHOWN_MAX: usize = 64;
/// Pico-dollars in a dollar.
const PICO_PER_USD: f64 = 1e12;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the decision behind a receipt again, and show it.
    Explain {
        /// A receipt's file, or the id of a request.
        #[arg(value_name = "RECEIPT")]
        receipt: String,
    },
    /// Make every decision of a journal again, and compare with another policy.
    Replay {
        /// A journal file, or a folder of them [default: the market's own].
        #[arg(value_name = "JOURNAL")]
        journal: Option<PathBuf>,
        /// What to compare with: `default`, `price`, `latency`, `list-price-draw`, `seed:N`.
        #[arg(long, value_name = "P", value_parser = policy, default_value = "default")]
        policy: ReplayPolicy,
    },
}

fn policy(text: &str) -> Result<ReplayPolicy, String> {
    match text {
        "default" => Ok(ReplayPolicy::Default),
        "price" => Ok(ReplayPolicy::PriceOnly),
        "latency" => Ok(ReplayPolicy::LatencyOnly),
        "list-price-draw" => Ok(ReplayPolicy::ListPriceDraw),
        other => other
            .strip_prefix("seed:")
            .and_then(|n| n.parse().ok())
            .map(ReplayPolicy::Reseeded)
            .ok_or_else(|| "use default, price, latency, list-price-draw or seed:N".to_owned()),
    }
}

/// Replays and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.operator.locate(environment)?;
    match &args.action {
        Action::Explain { receipt } => explain(args.operator.json, &data_dir, receipt),
        Action::Replay { journal, policy } => {
            let journal = journal.clone().unwrap_or_else(|| data_dir.decisions());
            replay(args.operator.json, &files_of(&journal)?, *policy)
        }
    }
}

fn explain(json: bool, data_dir: &DataDir, text: &str) -> Result<ExitCode, Failure> {
    let (request, sealed) = receipt(text)?;
    for path in files_of(&data_dir.decisions())?.iter().rev() {
        let bytes = read(path)?;
        let mut replayer = Replayer::new(None);
        for event in events(&bytes, path)? {
            // A stream that was taken up has a receipt for each part and one plan for all.
            let demand = match &event {
                DecisionEvent::Decision(record) if record.request == request || sealed.is_some() => {
                    Some((record.demand.clone(), record.request == request))
                }
                _ => None,
            };
            let before = demand.as_ref().and_then(|_| replayer.market().map(|(book, _)| book.clone()));
            let replayed = replayer.feed(event).map_err(|error| unreplayable(path, error))?;
            let (Replayed::Decision(decision), Some((demand, is_named)), Some(book)) =
                (replayed, demand, before)
            else {
                continue;
            };
            let digest = bourse_market::plan_digest(&decision.plan);
            if !is_named && sealed != Some(digest) {
                continue;
            }
            let found = Found {
                request,
                is_identical: decision.is_identical,
                is_sealed: sealed.map(|sealed| sealed == digest),
                digest,
                plan: &decision.plan,
                book: &book,
                demand: demand.as_demand(),
            };
            super::tell_line(&if json { found.json().to_string() } else { found.text() })?;
            return Ok(if found.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Err(Plain::new(format!("no decision is recorded for {request}"))
        .hint(
            "decisions of the last moment are not written yet, and old ones go when gateway.decisions_bytes_max is \
             reached; the second part of a stream that was taken up is explained by its receipt's file, not by its id",
        )
        .boxed())
}

/// The request, and the digest of its plan when a whole receipt was given.
fn receipt(text: &str) -> Result<(RequestId, Option<Digest32>), Failure> {
    if let Ok(request) = RequestId::parse(text) {
        return Ok((request, None));
    }
    let bytes = read(Path::new(text))?;
    let document = receipt_document_from_json(&bytes).map_err(|error| {
        Plain::new(format!("{text} is neither a request's id nor a receipt"))
            .because(error)
            .hint("`bourse receipt ID` fetches a receipt")
    })?;
    Ok((document.receipt.request, Some(document.receipt.plan_digest)))
}

fn replay(json: bool, files: &[PathBuf], policy: ReplayPolicy) -> Result<ExitCode, Failure> {
    let mut report = ReplayReport::default();
    for path in files {
        let bytes = read(path)?;
        let mut replayer = Replayer::new(Some(policy));
        for event in events(&bytes, path)? {
            report.add(&replayer.feed(event).map_err(|error| unreplayable(path, error))?);
        }
    }
    super::tell(&if json { format!("{}\n", report_json(&report)) } else { report_text(&report) })?;
    let is_identical = report.identical == report.decisions && report.checkpoints_differing == 0;
    Ok(if is_identical { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let files = decision_files(path).map_err(|error| {
        Plain::new(format!("there is no journal of decisions in {}", path.display()))
            .because(error)
            .hint("a market that runs keeps one; --data-dir DIR looks elsewhere")
    })?;
    if files.is_empty() {
        return Err(Plain::new(format!("there is no journal of decisions in {}", path.display()))
            .hint("it lies in `decisions` below the data directory; --data-dir DIR finds it there")
            .boxed());
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Plain::new(format!("cannot read {}", path.display())).because(error).boxed())
}

/// The events of one file. A tail that was cut by a crash ends them; damage is an error.
fn events<'a>(bytes: &'a [u8], path: &'a Path) -> Result<Vec<DecisionEvent>, Failure> {
    let damaged =
        |error: JournalError| Plain::new(format!("{} is damaged", path.display())).because(error).boxed();
    let mut events = Vec::new();
    for event in JournalReader::new(bytes).map_err(damaged)? {
        match event {
            Ok(event) => events.push(event),
            Err(JournalError::Torn { .. }) => break,
            Err(error) => return Err(damaged(error)),
        }
    }
    Ok(events)
}

fn unreplayable(path: &Path, error: bourse_market::ReplayError) -> Failure {
    Plain::new(format!("{} cannot be replayed", path.display())).because(error).boxed()
}

/// A decision that was found and made again.
struct Found<'a> {
    request: RequestId,
    is_identical: bool,
    is_sealed: Option<bool>,
    digest: Digest32,
    plan: &'a Result<Plan, PlanError>,
    book: &'a MarketSnapshot,
    demand: Demand<'a>,
}

impl Found<'_> {
    fn holds(&self) -> bool {
        self.is_identical && self.is_sealed != Some(false)
    }

    fn seller(&self, index: bourse_market::OfferIndex) -> String {
        let offer = self.book.offer(index);
        offer.map_or_else(|| "?".to_owned(), |offer| format!("{} ({})", offer.seller, offer.model))
    }

    fn compared(&self) -> Vec<Execution> {
        self.plan.as_ref().map_or_else(|_| Vec::new(), |plan| execution(self.book, plan, &self.demand))
    }

    /// Every offer that was not tried, with its reason.
    fn rejected(&self) -> Vec<(String, &'static str, String)> {
        let rejected = match self.plan {
            Ok(plan) => &plan.rejected,
            Err(PlanError::NoOffers { rejected }) => rejected,
            Err(PlanError::ModelNotFound) => return Vec::new(),
        };
        let reason = |(index, reason): (_, bourse_market::Rejection)| {
            let offer = self.book.offer(index)?;
            Some((self.seller(index), reason.code(), reason.explain(offer, &self.demand).to_string()))
        };
        rejected.iter().filter_map(reason).take(REJECTED_SHOWN_MAX).collect()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let identical =
            if self.is_identical { "the same to the bit" } else { "NOT the one that was recorded" };
        let _ = writeln!(out, "{}: the plan made again is {identical}", self.request);
        let _ = writeln!(out, "  plan {}", self.digest);
        match self.is_sealed {
            Some(true) => out.push_str("  the receipt binds this plan\n"),
            Some(false) => out.push_str("  the receipt binds ANOTHER plan\n"),
            None => {}
        }
        if let Ok(plan) = self.plan {
            let _ = writeln!(out, "  seed {}, book {}", plan.seed, plan.snapshot);
        }
        for (number, one) in (1..).zip(self.compared()) {
            let expected = one
                .expected
                .map_or_else(|| "at an unknown price".to_owned(), |usd| format!("{usd} expected"));
            let _ = write!(out, "  {number}. {}: {expected}", self.seller(one.offer));
            match one.next_best {
                Some((other, usd)) => {
                    let _ = writeln!(out, "; the cheapest other, {}, {usd}", self.seller(other));
                }
                None => out.push_str("; nobody else could serve\n"),
            }
        }
        if let Err(error) = self.plan {
            let _ = writeln!(out, "  {error}");
            for change in diagnose(self.book, error, &self.demand).nearest.map(|(_, c)| c).unwrap_or_default()
            {
                let _ = writeln!(out, "  smallest change: {change}");
            }
        }
        for (seller, _, reason) in self.rejected() {
            let _ = writeln!(out, "  not {seller}: {reason}");
        }
        out.truncate(out.trim_end().len());
        out
    }

    fn json(&self) -> Value {
        let attempts = self.compared().into_iter().map(|one| {
            json!({
                "offer": self.seller(one.offer),
                "expected_usd": one.expected.map(bourse_types::NanoUsd::to_usd_string),
                "next_best": one.next_best.map(|(other, usd)| json!({
                    "offer": self.seller(other), "expected_usd": usd.to_usd_string(),
                })),
            })
        });
        let rejected = self
            .rejected()
            .into_iter()
            .map(|(seller, code, reason)| json!({ "offer": seller, "code": code, "reason": reason }));
        json!({
            "request": self.request.to_string(),
            "identical": self.is_identical,
            "bound_by_receipt": self.is_sealed,
            "plan_digest": self.digest.to_string(),
            "seed": self.plan.as_ref().ok().map(|plan| plan.seed.to_string()),
            "attempts": attempts.collect::<Vec<_>>(),
            "rejected": rejected.collect::<Vec<_>>(),
            "error": self.plan.as_ref().err().map(ToString::to_string),
        })
    }
}

fn report_text(report: &ReplayReport) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} decisions made again, {} the same to the bit; {} checkpoints of health differ",
        report.decisions, report.identical, report.checkpoints_differing
    );
    for request in &report.differing {
        let _ = writeln!(out, "  decided otherwise: {request}");
    }
    let usd = |pico: f64| pico / PICO_PER_USD;
    let _ = writeln!(
        out,
        "{} compared: the other policy chooses another first seller {} times\n  by list price   ${:.9} here, ${:.9} there\n  \
         effective cost  ${:.9} here, ${:.9} there",
        report.compared,
        report.chosen_otherwise,
        usd(report.list_pico),
        usd(report.list_pico_instead),
        usd(report.effective_pico),
        usd(report.effective_pico_instead)
    );
    out
}

fn report_json(report: &ReplayReport) -> Value {
    json!({
        "decisions": report.decisions,
        "identical": report.identical,
        "checkpoints_differing": report.checkpoints_differing,
        "differing": report.differing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "compared": report.compared,
        "chosen_otherwise": report.chosen_otherwise,
        "list_usd": report.list_pico / PICO_PER_USD,
        "list_usd_instead": report.list_pico_instead / PICO_PER_USD,
        "effective_usd": report.effective_pico / PICO_PER_USD,
        "effective_usd_instead": report.effective_pico_instead / PICO_PER_USD,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_words() {
        assert_eq!(policy("price"), Ok(ReplayPolicy::PriceOnly));
        assert_eq!(policy("seed:7"), Ok(ReplayPolicy::Reseeded(7)));
        assert!(policy("seed:x").is_err() && policy("best").is_err());
    }
}
