//! `bourse ledger project`: the books as tables, once or as long as it runs.

use crate::admin;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_exchange::{ProjectError, Projection, project};
use clap::builder::NonEmptyStringValueParser;
use std::ops::ControlFlow;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The PostgreSQL database for the tables [default: the one that holds the books].
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// The variable that holds its address, where that has a password in it.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "to")]
    to_env: Option<String>,
    /// The database that holds the books [default: what the data directory says].
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    from: Option<String>,
    /// The variable that holds its address.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "from")]
    from_env: Option<String>,
    /// Go on as the books grow, until interrupted.
    #[arg(long)]
    follow: bool,
    /// Drop the tables, and views that were built on them, and make them anew.
    #[arg(long)]
    rebuild: bool,
}

impl Args {
    /// Whether the books are not in the data directory.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.from.is_some() || self.from_env.is_some()
    }
}

pub(super) fn run(
    json: bool,
    data_dir: &DataDir,
    environment: &Environment,
    args: &Args,
) -> Result<ExitCode, Failure> {
    let address = |given: &Option<String>, variable: &Option<String>| {
        crate::cmd::address(given.as_deref(), variable.as_deref(), environment)
    };
    let from = address(&args.from, &args.from_env)?;
    // Books that are named by their own address need no second one.
    let to = address(&args.to, &args.to_env)?.or_else(|| from.clone());
    let what = Projection { from, to, rebuild: args.rebuild, follow: args.follow };
    let bar = crate::cmd::groups_bar();
    let projected = project(data_dir.root(), &what, |projected| {
        bar.set_length(projected.of);
        bar.set_position(projected.group);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let projected = projected.map_err(|error| refused(data_dir, error))?;
    if json {
        crate::cmd::tell_line(&crate::cmd::json(&projected)?)?;
    } else {
        crate::cmd::tell(&format!("the tables in `bourse_read` are at group {}\n", projected.group))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(data_dir: &DataDir, error: ProjectError) -> Failure {
    let hint = match &error {
        ProjectError::Open(_) => "",
        ProjectError::NoTarget => "--to URL names one",
        ProjectError::Tables(_) => "started again, it goes on where it stopped",
        ProjectError::Layout { found } if *found > bourse_exchange::PROJECTION_LAYOUT => {
            "use the newer program that wrote them, or `--rebuild` to make them anew with this one"
        }
        ProjectError::Layout { .. } => "`--rebuild` makes them anew",
        ProjectError::OtherBooks { .. } => "name another database, or `--rebuild` to replace what is there",
        ProjectError::Another => "one is enough; it ends by an interrupt",
    };
    match error {
        ProjectError::Open(error) => admin::cannot_open(data_dir, error).into(),
        other => Plain::new(other.to_string()).hint(hint).boxed(),
    }
}
