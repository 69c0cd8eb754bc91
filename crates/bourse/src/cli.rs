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
    /// Ask the running market one question and stream the answer.
    Chat(cmd::chat::Args),
    /// List what the running market sells.
    Models(cmd::models::Args),
    /// Fetch and keep a receipt with its proofs.
    Receipt(cmd::receipt::Args),
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
        Command::Chat(args) => cmd::chat::run(&args, &environment),
        Command::Models(args) => cmd::models::run(&args, &environment),
        Command::Receipt(args) => cmd::receipt::run(&args, &environment),
        Command::Config(args) => cmd::config::run(&args, &environment),
        Command::Completions(args) => Ok(cmd::completions::run(&args)),
    }
}
