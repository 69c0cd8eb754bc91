//! What the commands of operators share: which market is meant, JSON or text, and one question with its answer.

use crate::admin;
use crate::cli::Place;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_exchange::{AdminReply, AdminRequest};
use std::process::ExitCode;

/// What can be typed for every one of them.
#[derive(Debug, clap::Args)]
pub(super) struct Operator {
    #[command(flatten)]
    place: Place,
    /// JSON instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Operator {
    /// The data directory that was meant.
    pub(super) fn locate(&self, environment: &Environment) -> Result<DataDir, Failure> {
        self.place.locate(environment)
    }

    /// Asks the market, running or stopped. Prints the answer as it came with `--json`, else as `text` does.
    pub(super) fn ask(
        &self,
        environment: &Environment,
        request: AdminRequest,
        text: impl FnOnce(AdminReply) -> Result<(), Failure>,
    ) -> Result<ExitCode, Failure> {
        let reply = admin::ask(&self.locate(environment)?, environment, request)?;
        if self.json {
            super::tell_line(&super::json(&reply)?)?;
        } else {
            text(reply)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The answer is not one to what was asked.
pub(super) fn unasked() -> Failure {
    Plain::new("the market answered another question").boxed()
}
