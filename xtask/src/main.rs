//! The house's own tasks, run as `cargo xtask TASK`.
//!
//! A task here is what a person or a machine types to know whether the repository is in order: `tidy` (house
//! rules as checks), `lint`, `test` (sets up every outside part inside the target folder), `mutants` (planted bugs that
//! tests must find), `nightly`, `bench`, `sim` and `deps`. The crate depends on no crate of ours on purpose: it must build
//! and judge the house while the house does not compile. Everything it makes lies under cargo's target folder; nothing is installed elsewhere.

mod bench;
mod deps;
mod lint;
mod mutants;
mod nightly;
mod sdk;
mod setup;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Bourse repository")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the house rules: crate edges, purity, plugs, sizes, texts, links.
    Tidy,
    /// Formatting, clippy with warnings denied, rustdoc with warnings denied.
    Lint,
    /// Every test: tidy, the workspace's own, the documentation's, and stock SDKs against a real market.
    Test(suite::Args),
    /// What takes too long for every change: 10,000 seeds, a thousand kills in each store, every planted bug.
    Nightly,
    /// Plant bugs, one at a time, each of which a named test must find.
    Mutants(mutants::Args),
    /// Measure and write the figures to bench/results.
    Bench(bench::Args),
    /// Run the upstream simulator as a program; arguments go to it.
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write docs/operate/dependencies.md from the manifests.
    Deps {
        /// Only say whether the page is up to date.
        #[arg(long)]
        check: bool,
    },
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Tidy => tidy::run(&workspace),
        Task::Lint => lint::run(&workspace),
        Task::Test(args) => suite::run(&workspace, &args),
        Task::Nightly => nightly::run(&workspace),
        Task::Mutants(args) => mutants::run(&workspace, &args),
        Task::Bench(args) => bench::run(&workspace, &args),
        Task::Sim { args } => sdk::simulator(&workspace, &args),
        Task::Deps { check } => deps::run(&workspace, check),
    }
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
