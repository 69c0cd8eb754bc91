//! `bourse tokens`: the pin of a tokenizer, and the count that a receipt can be held against.
//!
//! Whoever has a receipt, the texts and the tokenizer counts here as the market did: the pin says that it is the same
//! tokenizer, `--request` counts a request's body as the model reads it, `--text` what a model wrote.

use crate::report::{Failure, Plain};
use bourse_gateway::{Clock as _, SystemClock};
use bourse_tokens::PinnedTokenizer;
use bourse_types::PromptTokens;
use bourse_wire::dialect::{Api, BODY_BYTES_MAX, front};
use bourse_wire::tokens::TokenCounter as _;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the digest by which `[[tokenizer]]` and receipts name a tokenizer.
    Pin(Source),
    /// Count tokens as the market does.
    Count {
        #[command(flatten)]
        source: Source,
        /// The body of a chat, as it was sent.
        #[arg(long, value_name = "FILE", conflicts_with = "text", required_unless_present = "text")]
        request: Option<PathBuf>,
        /// Text that a model wrote.
        #[arg(long, value_name = "FILE")]
        text: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Source {
    /// A `tokenizer.json` or a GGUF file.
    #[arg(value_name = "TOKENIZER")]
    path: PathBuf,
    /// A file with the chat template, as in the configuration.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

impl Source {
    fn open(&self) -> Result<PinnedTokenizer, Failure> {
        PinnedTokenizer::open(&self.path, self.template.as_deref(), None).map_err(|error| {
            Plain::new("the tokenizer cannot be used")
                .because(error)
                .hint("name a tokenizer.json or a GGUF file; other forms are not read")
                .boxed()
        })
    }
}

/// What was counted.
#[derive(serde::Serialize)]
struct Count {
    pin: String,
    tokens: u64,
    /// Whether it is a bound by rule instead of a count.
    at_most: bool,
}

/// Pins or counts. Reads files and asks no market.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::Pin(source) => {
            let pin = source.open()?.pin().to_string();
            let line = if args.json { super::json(&serde_json::json!({ "pin": pin }))? } else { pin };
            super::tell_line(&line)?;
        }
        Action::Count { source, request, text } => {
            let tokenizer = source.open()?;
            let counted = match (request, text) {
                (Some(request), _) => prompt(&tokenizer, request)?,
                (None, Some(text)) => tokenizer.text(&read(text)?).map(PromptTokens::Exact),
                (None, None) => None,
            };
            let counted =
                counted.ok_or_else(|| Plain::new("the text cannot be encoded with this tokenizer"))?;
            let at_most = matches!(counted, PromptTokens::AtMost(_));
            let count = Count { pin: tokenizer.pin().to_string(), tokens: counted.tokens(), at_most };
            let words = if at_most { " at most" } else { "" };
            let line =
                if args.json { super::json(&count)? } else { format!("{} tokens{words}", count.tokens) };
            super::tell_line(&line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prompt(tokenizer: &PinnedTokenizer, path: &Path) -> Result<Option<PromptTokens>, Failure> {
    let job = front::parse(Api::Chat, read(path)?.into_bytes().into()).map_err(|error| {
        Plain::new(format!("{} is not the body of a chat: {}", path.display(), error.message)).boxed()
    })?;
    let prompt = job.prompt_without_media().map_err(|error| Plain::new(error.message.into_owned()))?;
    Ok(tokenizer.prompt(&prompt, SystemClock.now()))
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error| Plain::new(format!("cannot read {}", path.display())).because(error).boxed();
    if std::fs::metadata(path).map_err(unreadable)?.len() > BODY_BYTES_MAX as u64 {
        return Err(Plain::new(format!("{} is larger than {BODY_BYTES_MAX} bytes", path.display())).boxed());
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
