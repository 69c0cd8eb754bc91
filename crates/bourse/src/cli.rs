//! The command line: an enum of commands, one arm and one call each.

use crate::cmd;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::Failure;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// An open market for AI inference: one endpoint, metered, settled and provable.
#[derive(Debug, Parser)]
#[command(name = "bourse", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole market on this machine.
    Up(cmd::up::Args),
    /// Serve buyers with exchanges elsewhere: one of many gateways.
    Gateway(cmd::gateway::Args),
    /// Ask the running market one question and stream the answer.
    Chat(cmd::chat::Args),
    /// Make, list, end and limit API keys.
    Key(cmd::key::Args),
    /// Make and list workspaces.
    Workspace(cmd::workspace::Args),
    /// Show and set budgets and rates.
    Limits(cmd::limits::Args),
    /// Read and check the books.
    Ledger(cmd::ledger::Args),
    /// Pay sellers, and say where each takes money.
    Payout(cmd::payout::Args),
    /// Move the books of a stopped market into a database.
    Migrate(cmd::migrate::Args),
    /// List what the running market sells.
    Models(cmd::models::Args),
    /// Run a node: a model on this machine that sells through a market.
    Node(cmd::node::Args),
    /// Check a receipt or a liability proof offline, a receipt also against the market's log.
    Verify(cmd::verify::Args),
    /// Fetch and keep a receipt with its proofs.
    Receipt(cmd::receipt::Args),
    /// Pin a tokenizer, or count tokens as the market does.
    Tokens(cmd::tokens::Args),
    /// Explain a routing decision, or replay all of them.
    Route(cmd::route::Args),
    /// Explain the configuration.
    Config(cmd::config::Args),
    /// Print completions for a shell.
    Completions(cmd::completions::Args),
}

/// Where the market's state lives; every command takes it.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Folder of the market's state [default: the user's data folder, or `BOURSE_DATA_DIR`].
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The data directory that was meant.
    pub fn locate(&self, environment: &Environment) -> Result<DataDir, Failure> {
        Ok(DataDir::locate(self.data_dir.as_deref(), environment)?.0)
    }
}

/// Parses what was typed and runs it.
pub fn run() -> Result<ExitCode, Failure> {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    match cli.command {
        Command::Up(args) => cmd::up::run(&args, &environment),
        Command::Gateway(args) => cmd::gateway::run(&args, &environment),
        Command::Chat(args) => cmd::chat::run(&args, &environment),
        Command::Key(args) => cmd::key::run(&args, &environment),
        Command::Workspace(args) => cmd::workspace::run(&args, &environment),
        Command::Limits(args) => cmd::limits::run(&args, &environment),
        Command::Ledger(args) => cmd::ledger::run(&args, &environment),
        Command::Payout(args) => cmd::payout::run(&args, &environment),
        Command::Migrate(args) => cmd::migrate::run(&args, &environment),
        Command::Models(args) => cmd::models::run(&args, &environment),
        Command::Node(args) => cmd::node::run(&args, &environment),
        Command::Verify(args) => cmd::verify::run(&args),
        Command::Receipt(args) => cmd::receipt::run(&args, &environment),
        Command::Tokens(args) => cmd::tokens::run(&args),
        Command::Route(args) => cmd::route::run(&args, &environment),
        Command::Config(args) => cmd::config::run(&args, &environment),
        Command::Completions(args) => cmd::completions::run(&args),
    }
}
