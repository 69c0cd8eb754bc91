//! `bourse receipt`: fetches a receipt with its proofs and keeps it, ready for `bourse verify`.

use crate::cli::Place;
use crate::config::Environment;
use crate::report::{Failure, Plain};
use crate::{attach, runtime};
use bourse_types::RequestId;
use http::StatusCode;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What helps where there is no receipt.
const NO_RECEIPT: &str = "a receipt is there once its request is settled; refused requests have none, and the id is the one in \
                          `X-Bourse-Receipt` or the answer's `id`";

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// The request's id, as in `X-Bourse-Receipt` or the answer's `id`.
    #[arg(value_name = "ID")]
    id: String,
    /// Where to keep it; `-` prints it [default: ID.json].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Fetches and keeps the receipt.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    // Parsed here, so that no odd text becomes a path of the API or of a file.
    let id = RequestId::parse(&args.id).map_err(|error| {
        Plain::new(format!("`{}` is not the id of a receipt", args.id)).because(error).boxed()
    })?;
    let client = attach::public(&args.place.locate(environment)?, environment)?;
    let bytes = runtime::small_reactor()?.block_on(client.get_bytes(&format!("/receipts/{id}")));
    let bytes = bytes.map_err(|error| error.hinting(StatusCode::NOT_FOUND, NO_RECEIPT))?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.json")));
    let written = if output == Path::new("-") {
        std::io::stdout().write_all(&bytes)
    } else {
        std::fs::write(&output, &bytes)
    };
    written
        .map_err(|error| Plain::new(format!("cannot write {}", output.display())).because(error).boxed())?;
    if output != Path::new("-") {
        eprintln!("kept as {}; check it with: bourse verify {}", output.display(), output.display());
    }
    Ok(ExitCode::SUCCESS)
}
