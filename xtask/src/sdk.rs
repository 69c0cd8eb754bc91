//! Stock SDKs against a real market: the compatibility promise, kept by a test.
//!
//! A market is started as a user starts it (`bourse up --json`) on a port of the system's choice with a fresh
//! data folder, simulated sellers of every dialect beside the local node. The scripts under `tests/sdk` use the
//! SDKs as they come from their registries; they learn the market's address, its key and what it sells from the
//! environment. Afterwards the market is interrupted as by Ctrl-C, must leave with 0, and its books must be clean.

mod sellers;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::setup::clients::Clients;
use crate::workspace::{Profile, Workspace, must, output};
use sellers::Sellers;

/// Slug of the local node's model.
const LOCAL_MODEL: &str = "huggingfacetb/smollm2-135m-instruct";
/// How long a program may take to say that it is ready; an unoptimised build loads a model in this time.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// How long the market may take to close its books after an interrupt.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Checks that passed and failed.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    fn note(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("ok   {name}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                self.failed += 1;
            }
        }
    }
}

/// Runs the simulated upstream as a program with these arguments.
pub(crate) fn simulator(workspace: &Workspace, args: &[String]) -> Result<()> {
    let program = workspace.build(Profile::Dev, "bourse-sim", "bourse-upstream-sim")?;
    must(Command::new(program).args(args))
}

/// Starts a market, runs every SDK's checks against it, closes it and checks its books.
pub(crate) fn run(workspace: &Workspace, model: &Path, clients: &Clients) -> Result<Tally> {
    let bourse = workspace.build(Profile::Dev, "bourse", "bourse")?;
    let simulator = workspace.build(Profile::Dev, "bourse-sim", "bourse-upstream-sim")?;
    let home = workspace.scratch("market")?.join(std::process::id().to_string());
    fs::create_dir_all(&home)?;
    let result = in_home(workspace, model, clients, &home, &bourse, &simulator);
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    result
}

fn in_home(
    workspace: &Workspace,
    model: &Path,
    clients: &Clients,
    home: &Path,
    bourse: &Path,
    simulator: &Path,
) -> Result<Tally> {
    let sellers = Sellers::start(simulator)?;
    let config = home.join("bourse.toml");
    fs::write(&config, &sellers.config)?;
    let data = home.join("data");
    let mut up = Command::new(bourse);
    up.args(["up", "--json", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .arg("--data-dir")
        .arg(&data);
    up.env("BOURSE_MODEL_PATH", model).env(sellers::KEY_VARIABLE, "sk-seller");
    let mut market = Program::start(&mut up)?;
    let (base_url, key) = (market.ready("/base_url")?, market.ready("/api_key")?);
    let management_key = management_key(bourse, &data)?;
    // Anthropic's client writes the version into the path by itself.
    let origin = base_url.trim_end_matches("/v1");
    let mut tally = Tally::default();
    let scripts = workspace.root.join("tests/sdk");
    let mut python = Command::new("python3");
    python.arg("-s").arg(scripts.join("python/run.py")).env("PYTHONPATH", &clients.python);
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut node = Command::new(&clients.node_program);
    node.arg(scripts.join("node/run.mjs")).env("BOURSE_NODE_CLIENT", clients.node.join("package.json"));
    for (name, script) in [("Python", &mut python), ("Node", &mut node)] {
        println!("{name} SDKs");
        for (client, url) in [("OPENAI", base_url), ("ANTHROPIC", origin), ("OPENROUTER", base_url)] {
            script.env(format!("{client}_BASE_URL"), url).env(format!("{client}_API_KEY"), key);
        }
        script
            .env("BOURSE_PROGRAM", bourse)
            .env("BOURSE_DATA_DIR", &data)
            .env("BOURSE_TEST_MANAGEMENT_KEY", &management_key)
            .env("BOURSE_TEST_MARKET", sellers.sold.to_string());
        let run = checks(script, &mut tally);
        tally.note(&format!("the {name} checks ran to their end"), run);
    }
    println!("after the SDKs");
    tally.note("an interrupt closes the market with exit 0", market.interrupt());
    let mut check = Command::new(bourse);
    check.args(["ledger", "check", "--data-dir"]).arg(&data);
    tally.note("the books are clean", output(&mut check).map(drop));
    for (what, script) in [
        ("beancount comes to the same balances", "python/with_beancount.py"),
        ("pypdf finds in an invoice what the books say", "python/with_pypdf.py"),
        ("DuckDB adds the tables up to the same sums", "python/with_duckdb.py"),
    ] {
        let mut accountant = Command::new("python3");
        accountant.arg("-s").arg(scripts.join(script)).arg(bourse).arg(&data);
        accountant.env("PYTHONPATH", &clients.python).env("PYTHONDONTWRITEBYTECODE", "1");
        tally.note(what, output(&mut accountant).map(drop));
    }
    Ok(tally)
}

/// A key that administers keys, made at the open market as its operator makes one.
fn management_key(bourse: &Path, data: &Path) -> Result<String> {
    let mut create = Command::new(bourse);
    create.args(["key", "create", "--management", "--json", "--data-dir"]).arg(data).arg("keeper");
    let made: Value = serde_json::from_str(&output(&mut create)?)?;
    let key = made.get("secret").and_then(Value::as_str);
    Ok(key.context("the program printed no secret")?.to_owned())
}

/// Runs one script and adds the figures of its last line, `N passed, N failed`.
fn checks(script: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut child = script
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", script.get_program().display()))?;
    let mut last = String::new();
    for line in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
        last = line?;
        println!("{last}");
    }
    child.wait()?;
    let figures: Vec<usize> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [passed, failed] = figures[..] else { bail!("the script did not end with its figures: `{last}`") };
    tally.passed += passed;
    tally.failed += failed;
    Ok(())
}

/// A started program that printed one line of JSON when it was ready; killed when dropped.
struct Program {
    child: Child,
    ready: Value,
}

impl Program {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut program = Self { child, ready: Value::Null };
        let line = first_line(stdout).with_context(|| format!("{command:?} did not become ready"))?;
        program.ready = serde_json::from_str(&line).with_context(|| format!("no ready line: `{line}`"))?;
        Ok(program)
    }

    fn ready(&self, field: &str) -> Result<&str> {
        let value = self.ready.pointer(field).and_then(Value::as_str);
        value.with_context(|| format!("the ready line lacks {field}: {}", self.ready))
    }

    /// Interrupts it as Ctrl-C does and waits until it has left; an error unless it leaves in time with 0.
    fn interrupt(&mut self) -> Result<()> {
        must(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let deadline = std::time::Instant::now() + CLOSED_WITHIN;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("it left with {status}"),
                None if std::time::Instant::now() > deadline => {
                    bail!("it is still there after {CLOSED_WITHIN:?}")
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is fine: the point is that nothing we started outlives us.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of a program's stdout, or an error after [`READY_WITHIN`]; what follows is read and dropped.
fn first_line(stdout: ChildStdout) -> Result<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            // The receiver takes the first line only; the rest is read so that the program never blocks.
            let _ = send.send(line);
        }
    });
    receive.recv_timeout(READY_WITHIN).context("it printed nothing")?.context("its stdout broke")
}
