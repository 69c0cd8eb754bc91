//! `cargo xtask nightly`: the long forms of the money's tests.
//!
//! | what | ordinary run | here |
//! | --- | --- | --- |
//! | seeds of the simulated books | 200 | 10,000: a million requests |
//! | `kill -9` of the exchange | 60 in SQLite, 40 in PostgreSQL | 1,000 in each |
//! | planted bugs | none | all |

use anyhow::Result;

use crate::mutants;
use crate::workspace::{Workspace, available, must};

const SEEDS: &str = "10000";
const KILLS: &str = "1000";

/// Runs them one after another; the first that fails is the last.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let test = |target: &str, name: &str, variable: &str, value: &str| {
        let nextest = available("cargo", &["nextest", "--version"]);
        let filter = format!("test({name})");
        let args: Vec<&str> = if nextest {
            vec!["nextest", "run", "-p", "bourse-exchange", "-E", &filter, "--success-output", "final"]
        } else {
            vec!["test", "-p", "bourse-exchange", target, name, "--", "--nocapture"]
        };
        must(workspace.cargo(&args).env(variable, value))
    };
    test("--lib", "no_seed_moves_a_nano_dollar", "BOURSE_SIMULATION_SEEDS", SEEDS)?;
    test("--tests", "acknowledged_posts_survive", "BOURSE_KILLS", KILLS)?;
    mutants::run(workspace, &mutants::Args::default())
}
