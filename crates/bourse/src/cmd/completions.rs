//! `bourse completions`: completions for a shell, made from the commands themselves.

use crate::cli::Cli;
use clap::CommandFactory as _;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> ExitCode {
    clap_complete::generate(args.shell, &mut Cli::command(), "bourse", &mut std::io::stdout());
    ExitCode::SUCCESS
}
