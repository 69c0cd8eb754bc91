//! `bourse`: reads what was typed, runs the command, tells how it ended.

use bourse::{cli, report};
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{}", report::render(failure.as_ref()));
            ExitCode::FAILURE
        }
    }
}
