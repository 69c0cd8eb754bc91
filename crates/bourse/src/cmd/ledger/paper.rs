//! What goes to people on paper: printed or written into a file, as text, JSON, CSV or PDF.

use crate::report::{Failure, Plain};
use bourse_exchange::{AccountStatement, Invoice, MarketStatement};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines.
    Text,
    /// One object.
    Json,
    /// Rows with commas.
    Csv,
    /// Sheets of A4.
    Pdf,
}

/// What can be written in all formats.
pub(super) trait Paper: Serialize {
    fn text(&self) -> Vec<String>;
    fn csv(&self) -> String;
    fn pdf(&self) -> Vec<u8>;
}

macro_rules! paper {
    ($($kind:ty),*) => {$(
        impl Paper for $kind {
            fn text(&self) -> Vec<String> {
                self.text()
            }
            fn csv(&self) -> String {
                self.csv()
            }
            fn pdf(&self) -> Vec<u8> {
                self.pdf()
            }
        }
    )*};
}
paper!(Invoice, AccountStatement, MarketStatement);

/// Where it goes, found before anything is made.
pub(super) struct Desk<'a> {
    format: Format,
    out: Option<&'a Path>,
}

impl<'a> Desk<'a> {
    /// A PDF goes to no terminal; `name` is how a file for it may be called.
    pub(super) fn of(
        json: bool,
        format: Format,
        out: Option<&'a PathBuf>,
        name: &str,
    ) -> Result<Self, Failure> {
        let format = if json { Format::Json } else { format };
        if format == Format::Pdf && out.is_none() && std::io::stdout().is_terminal() {
            return Err(Plain::new("a PDF is nothing for a terminal")
                .hint(format!("add `--out {name}.pdf`"))
                .boxed());
        }
        Ok(Self { format, out: out.map(PathBuf::as_path) })
    }

    pub(super) fn put(&self, paper: &impl Paper) -> Result<ExitCode, Failure> {
        let bytes = match self.format {
            Format::Text => format!("{}\n", paper.text().join("\n")).into_bytes(),
            Format::Json => format!("{}\n", crate::cmd::json(paper)?).into_bytes(),
            Format::Csv => paper.csv().into_bytes(),
            Format::Pdf => paper.pdf(),
        };
        match self.out {
            Some(path) => std::fs::write(path, &bytes).map_err(|error| cannot_write(path, &error))?,
            None => crate::cmd::written(std::io::stdout().lock().write_all(&bytes))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Tells that a file could not be written.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Plain::new(format!("{} cannot be written: {error}", path.display()))
        .hint("name a file in a folder that is there")
        .boxed()
}
