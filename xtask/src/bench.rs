//! `cargo xtask bench`: figures with the machine they were taken on.
//!
//! Programs are built in release first, so that no compiler runs beside a measurement. The gateway's and the
//! engine's drivers are Python scripts under `bench/` (standard library only); the ledger's is an example of
//! the exchange. Each writes its own page into `bench/results/`.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::setup;
use crate::workspace::{Profile, Workspace, must};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    what: What,
    /// Arguments for the driver itself.
    #[arg(last = true)]
    driver: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// CPU per request beside nginx, in both durability modes; ready time; memory.
    Gateway,
    /// Prompt and decoding speed beside llama.cpp on the same file.
    Engine,
    /// Durable hold and post pairs a second, CPU per pair.
    Ledger,
}

/// Runs one bench.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match args.what {
        What::Gateway => gateway(workspace, &args.driver),
        What::Engine => engine(workspace, &args.driver),
        What::Ledger => ledger(workspace, &args.driver),
    }
}

fn gateway(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let bourse = workspace.build(Profile::Release, "bourse", "bourse")?;
    let tools = workspace.target.join("bench-gateway");
    let manifest = "bench/gateway/load/Cargo.toml";
    let mut load = workspace.cargo(&["build", "--release", "--locked", "--manifest-path", manifest]);
    must(load.arg("--target-dir").arg(&tools))?;
    let mut script = python(workspace, "bench/gateway/run.py");
    script.arg("--bourse").arg(bourse).arg("--tools").arg(tools.join("release"));
    must(script.arg("--work").arg(workspace.scratch("bench-gateway")?).args(driver))
}

fn engine(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let model = setup::model(workspace)?;
    must(python(workspace, "bench/engine/run.py").env(setup::MODEL_VARIABLE, model).args(driver))
}

fn ledger(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let bench = ["run", "--release", "--package", "bourse-exchange", "--example", "ledger_bench", "--"];
    must(workspace.cargo(&bench).args(driver))
}

fn python(workspace: &Workspace, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(&workspace.root).arg(workspace.root.join(script));
    command
}
