//! `cargo xtask test`: everything that must hold before a change is done.
//!
//! Order: outside parts first (so that a missing one is told at once), house rules, the generated pages, the
//! workspace's tests (nextest where it is installed, plain cargo otherwise), the documentation's tests, and
//! last the stock SDKs against a real market. A filter after `--` goes to the workspace's tests alone and
//! leaves the rest out.

use anyhow::{Result, bail};

use crate::workspace::{Workspace, available, must};
use crate::{deps, sdk, setup, tidy};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the stock SDKs; Node is not needed then.
    #[arg(long)]
    no_sdk: bool,
    /// Only the stock SDKs.
    #[arg(long, conflicts_with = "no_sdk")]
    only_sdk: bool,
    /// Only the workspace's tests, with these arguments for nextest or cargo test.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Runs the suite; stops at the first part that fails.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let model = setup::model(workspace)?;
    let tests = |command: &mut std::process::Command| {
        // A run that was asked for the model may not pass by skipping what needs it.
        must(command.env(setup::MODEL_VARIABLE, &model).env("BOURSE_REQUIRE_MODEL", "1"))
    };
    let nextest = available("cargo", &["nextest", "--version"]);
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--all-targets"] };
    if !args.filter.is_empty() {
        let named = args.filter.iter().any(|word| word == "-p" || word == "--package");
        let scope: &[&str] = if named { &[] } else { &["--workspace"] };
        return tests(workspace.cargo(runner).args(scope).args(&args.filter));
    }
    let clients = if args.no_sdk { None } else { Some(setup::clients::Clients::fetch(workspace)?) };
    if !args.only_sdk {
        tidy::run(workspace)?;
        deps::run(workspace, true)?;
        tests(workspace.cargo(runner).arg("--workspace"))?;
        tests(&mut workspace.cargo(&["test", "--workspace", "--doc"]))?;
    }
    let Some(clients) = clients else { return Ok(()) };
    let tally = sdk::run(workspace, &model, &clients)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("{} SDK check(s) failed", tally.failed);
    }
    Ok(())
}
