//! `bourse completions`: completions for a shell, made from the commands themselves.

use crate::cli::Cli;
use crate::report::Failure;
use clap::CommandFactory as _;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bourse", &mut script);
    super::tell(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
