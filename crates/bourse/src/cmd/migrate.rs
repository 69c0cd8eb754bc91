//! `bourse migrate`: moves the books of a stopped market into a database.

use crate::admin;
use crate::cli::Place;
use crate::config::Environment;
use crate::report::{Failure, Plain};
use bourse_exchange::{MigrateError, migrate};
use clap::builder::NonEmptyStringValueParser;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// The PostgreSQL database, such as `postgres://bourse@db.internal/bourse`.
    #[arg(long, value_name = "URL", required_unless_present = "to_env", value_parser = NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// The variable that holds its address, where that has a password in it.
    #[arg(long, value_name = "VARIABLE", conflicts_with = "to")]
    to_env: Option<String>,
}

/// Moves.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.place.locate(environment)?;
    let url = super::address(args.to.as_deref(), args.to_env.as_deref(), environment)?
        .ok_or_else(|| Plain::new("no database is named").hint("--to URL names one"))?;
    data_dir.create()?;
    let bar = super::groups_bar();
    let moved = migrate(data_dir.root(), &url, |at, all| {
        bar.set_length(all);
        bar.set_position(at);
    });
    bar.finish_and_clear();
    let groups = moved.map_err(|error| match error {
        MigrateError::Open(error) => admin::cannot_open(&data_dir, error),
        MigrateError::Database(error) => Plain::new("the database cannot be used")
            .because(error)
            .hint("nothing was moved; `docs/guides/operator.md` has the options of its address"),
        MigrateError::Moved => Plain::new("the books are in a database already")
            .hint("`exchange.journal` in the data directory names it"),
        MigrateError::OtherBooks => Plain::new("the database holds other books than this data directory")
            .hint("give an empty database, or the one that a move of these books was broken off in"),
    })?;
    super::tell(&match groups {
        0 => "nothing to move; `bourse up` begins a market there\n".to_owned(),
        _ => format!(
            "{groups} groups moved; `bourse up` goes on there. The old journal lies beside as `exchange.db.moved`.\n"
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}
