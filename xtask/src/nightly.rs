//! `cargo xtask nightly`: the long forms of the money's tests.
//!
//! | what | ordinary run | here |
//! | --- | --- | --- |
//! | seeds of the simulated books | 200 | 10,000: a million requests |
//! | seeds of gateways and exchange together | 200 | 10,000: half a million requests |
//! | callers at once on one balance | 2,000 | 10,000 |
//! | `kill -9` of the exchange | 60 in SQLite, 40 in PostgreSQL | 1,000 in each |
//! | planted bugs | none | all |
//!
//! All but the planted bugs are built in the profile `nightly` of the workspace: optimised, with the checks of `dev`.

use anyhow::Result;

use crate::mutants;
use crate::workspace::{Workspace, available, must};

const PROFILE: &str = "nightly";
const SEEDS: &str = "10000";
const KILLS: &str = "1000";
const CALLERS: &str = "10000";

/// Runs them one after another; the first that fails is the last.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let test = |package: &str, target: &[&str], name: &str, (variable, value): (&str, &str)| {
        let nextest = available("cargo", &["nextest", "--version"]);
        let filter = format!("test({name})");
        let (head, tail): (&[&str], &[&str]) = if nextest {
            (&["nextest", "run", "--cargo-profile", PROFILE], &["-E", &filter, "--success-output", "final"])
        } else {
            (&["test", "--profile", PROFILE], &[name, "--", "--nocapture"])
        };
        let args = [head, &["-p", package], target, tail].concat();
        must(workspace.cargo(&args).env(variable, value))
    };
    let seeds = ("BOURSE_SIMULATION_SEEDS", SEEDS);
    test("bourse-exchange", &["--lib"], "no_seed_moves_a_nano_dollar", seeds)?;
    test("bourse-sim", &["--test", "gateways"], "no_seed_charges_what_was_not_told", seeds)?;
    test("bourse-sim", &["--test", "market"], "a_crowd_on_one_balance", ("BOURSE_CROWD", CALLERS))?;
    test("bourse-exchange", &["--test", "crash"], "acknowledged_posts_survive", ("BOURSE_KILLS", KILLS))?;
    mutants::run(workspace, &mutants::Args::default())
}
