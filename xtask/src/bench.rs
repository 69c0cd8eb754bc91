//! `cargo xtask bench`: figures with the machine they were taken on.
//!
//! Programs are built in release first, so that no compiler runs beside a measurement. The gateway's and the
//! engine's drivers are Python scripts under `bench/` (standard library only), as is that of the ledger's peer,
//! TigerBeetle; the ledger's own and the holds' are examples of the exchange and of the simulator. Each run leaves a page
//! and its raw figures in `bench/results/`, named by day.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::setup;
use crate::workspace::{Profile, Workspace, must, output};

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
    /// CPU per request beside nginx, in both durability modes, and with `-- --peers all` beside other gateways;
    /// ready time; memory.
    Gateway,
    /// Memory: ten thousand streams open at once, and a million requests one after another.
    Memory,
    /// Prompt and decoding speed beside llama.cpp on the same file.
    Engine,
    /// Durable hold and post pairs a second, CPU per pair, beside TigerBeetle and rows of databases.
    Ledger,
    /// What is held against what is charged, over a trace of requests: `-- --trace FILE.csv`.
    Holds,
}

/// Runs one bench.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match args.what {
        What::Gateway => gateway(workspace, &args.driver),
        What::Memory => memory(workspace, &args.driver),
        What::Engine => engine(workspace, &args.driver),
        What::Ledger => ledger(workspace, &args.driver),
        What::Holds => holds(workspace, &args.driver),
    }
}

fn gateway(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let mut script = beside_a_mock(workspace, "bench/gateway/run.py")?;
    must(script.arg("--cache").arg(workspace.target.join("peers")).args(driver))
}

fn memory(workspace: &Workspace, driver: &[String]) -> Result<()> {
    must(beside_a_mock(workspace, "bench/gateway/memory.py")?.args(driver))
}

/// A driver of the gateway's bench, with its programs built.
fn beside_a_mock(workspace: &Workspace, script: &str) -> Result<Command> {
    let bourse = workspace.build(Profile::Release, "bourse", "bourse")?;
    let tools = workspace.target.join("bench-gateway");
    let manifest = "bench/gateway/load/Cargo.toml";
    let mut load = workspace.cargo(&["build", "--release", "--locked", "--manifest-path", manifest]);
    must(load.arg("--target-dir").arg(&tools))?;
    let mut script = python(workspace, script);
    script.arg("--bourse").arg(bourse).arg("--tools").arg(tools.join("release"));
    script.arg("--work").arg(workspace.scratch("bench-gateway")?);
    Ok(script)
}

fn engine(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let model = setup::model(workspace)?;
    let json = result(workspace, "engine", "json")?;
    let mut script = python(workspace, "bench/engine/run.py");
    let printed = output(script.arg(model).arg("--out").arg(&json).args(driver))?;
    page(workspace, "Engine", "engine", &printed)
}

fn ledger(workspace: &Workspace, driver: &[String]) -> Result<()> {
    const PEER: &str = "tigerbeetle";
    let is_alone = driver == [PEER];
    let mut figures = serde_json::json!({});
    // First: what cannot be had is told before minutes of measuring.
    if driver.is_empty() || is_alone {
        let printed = output(python(workspace, "bench/ledger/peer.py").arg(workspace.target.join("peers")))?;
        let runs: serde_json::Result<Vec<Value>> = printed.lines().map(serde_json::from_str).collect();
        figures[PEER] = Value::Array(runs.context("the peer's driver prints JSON")?);
    }
    if !is_alone {
        let bench = ["run", "--release", "--package", "bourse-exchange", "--example", "ledger_bench", "--"];
        let printed = output(workspace.cargo(&bench).args(driver))?;
        let own: serde_json::Map<String, Value> =
            serde_json::from_str(&printed).context("the ledger's bench prints JSON")?;
        figures.as_object_mut().context("figures are an object")?.extend(own);
    }
    let printed = format!("{figures:#}\n");
    fs::write(result(workspace, "ledger", "json")?, &printed)?;
    page(workspace, "Ledger", "ledger", &printed)
}

fn holds(workspace: &Workspace, driver: &[String]) -> Result<()> {
    let json = result(workspace, "holds", "json")?;
    let bench = ["run", "--release", "--package", "bourse-sim", "--example", "holds_bench", "--"];
    let printed = output(workspace.cargo(&bench).args(driver).arg("--out").arg(&json))?;
    page(workspace, "Holds", "holds", &printed)
}

/// A file in `bench/results` for what is measured today.
fn result(workspace: &Workspace, name: &str, ending: &str) -> Result<PathBuf> {
    let folder = workspace.root.join("bench/results");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}-{name}.{ending}", today()?)))
}

fn today() -> Result<String> {
    Ok(output(Command::new("date").arg("+%F"))?.trim().to_owned())
}

/// Prints what a driver printed and writes it as a page that names the machine.
fn page(workspace: &Workspace, title: &str, name: &str, printed: &str) -> Result<()> {
    print!("{printed}");
    let (day, machine) = (today()?, machine()?);
    let text = format!(
        "# {title}, {day}\n\n`cargo xtask bench {name}`. Machine: {machine}.\n\n```text\n{}\n```\n",
        printed.trim_end()
    );
    let path = result(workspace, name, "md")?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Processor, cores, memory, kernel, compiler and load, in one line.
fn machine() -> Result<String> {
    let proc = |file: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field));
        line.and_then(|l| l.split_once(':'))
            .map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let kernel = output(Command::new("uname").arg("-sr"))?;
    let compiler = output(Command::new("rustc").arg("--version"))?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "{}, {cores} cores, {} of memory, {}; {}; load average after the run {}",
        proc("cpuinfo", "model name"),
        proc("meminfo", "MemTotal"),
        kernel.trim(),
        compiler.trim(),
        load.split(' ').next().unwrap_or("unknown")
    ))
}

fn python(workspace: &Workspace, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(&workspace.root).arg(workspace.root.join(script));
    command
}
