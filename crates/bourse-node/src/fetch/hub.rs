//! The Hugging Face hub and the cache that its tools share.
//!
//! `hf-hub` gives the conventions (where the cache is, how a repository is spelt in it, the token); the bytes come over a small blocking HTTP client with bounds on every wait, because a machine
//! without a route to the hub must fall through to the next source in seconds. A partial download stays
//! beside the cache and is resumed by range; it becomes the model's file only after its hash was checked.

use super::{CatalogueEntry, FetchProgress, HubFile, ProgressSink, verify};
use hf_hub::{Cache, Repo, RepoType};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;

/// The hub, unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";
/// For finding the name, and for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the first bytes of an answer, and between pieces of it.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How to reach the hub.
#[derive(Clone)]
pub struct HubConfig {
    /// Base URL.
    pub endpoint: String,
    /// The shared cache.
    pub cache_dir: PathBuf,
    /// A bearer token, sent to the endpoint's host only.
    pub token: Option<String>,
}

impl std::fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

impl HubConfig {
    /// As Hugging Face's own tools read it: `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` or the stored token.
    pub fn from_env() -> Self {
        let cache = Cache::from_env();
        Self {
            endpoint: std::env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.to_owned()),
            token: std::env::var("HF_TOKEN").ok().or_else(|| cache.token()),
            cache_dir: cache.path().clone(),
        }
    }
}

fn repository(file: &HubFile) -> Repo {
    Repo::with_revision(file.repository.to_owned(), RepoType::Model, file.revision.to_owned())
}

/// The file in the shared cache, used where it lies.
pub(super) fn cached(
    file: &HubFile,
    entry: &CatalogueEntry,
    config: &HubConfig,
    progress: ProgressSink<'_>,
) -> Result<PathBuf, String> {
    let snapshots = config.cache_dir.join(repository(file).folder_name()).join("snapshots");
    let path = snapshots.join(file.revision).join(file.file);
    if !path.is_file() {
        return Err(format!("not in {}", config.cache_dir.display()));
    }
    verify::file(&path, entry, progress)?;
    Ok(path)
}

/// Downloads the file into `dir`.
pub(super) fn download(
    file: &HubFile,
    entry: &CatalogueEntry,
    config: &HubConfig,
    dir: &Path,
    progress: ProgressSink<'_>,
) -> Result<PathBuf, String> {
    let part = part_path(entry, dir);
    let have = fs::metadata(&part).map_or(0, |metadata| metadata.len());
    if have < entry.bytes {
        receive(file, entry, config, &part, have, progress)?;
    }
    let checked = File::open(&part)
        .map_err(|error| format!("{} cannot be read: {error}", part.display()))
        .and_then(|mut staged| verify::install(&mut staged, entry, dir, progress));
    // Right bytes have been copied and wrong ones are worth nothing, so the part goes either way.
    remove_part(entry, dir);
    checked
}

/// Removes what a download may have left; the model has come from somewhere.
pub(super) fn remove_part(entry: &CatalogueEntry, dir: &Path) {
    // Mostly there is none. One that stays costs disk, and the next download checks it like any other.
    let _ = fs::remove_file(part_path(entry, dir));
}

/// The hash in the name keeps a part of another version from being resumed.
fn part_path(entry: &CatalogueEntry, dir: &Path) -> PathBuf {
    dir.join(format!("{}.{}.part", entry.file_name, &entry.blake3[..16]))
}

fn receive(
    file: &HubFile,
    entry: &CatalogueEntry,
    config: &HubConfig,
    part: &Path,
    have: u64,
    progress: ProgressSink<'_>,
) -> Result<(), String> {
    let endpoint = config.endpoint.trim_end_matches('/');
    let url = format!("{endpoint}/{}/resolve/{}/{}", file.repository, file.revision, file.file);
    let mut request = agent().get(&url).header("range", format!("bytes={have}-"));
    if let Some(token) = &config.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().map_err(|error| describe(&error))?;
    let write_error = |error: io::Error| format!("{} cannot be written: {error}", part.display());
    let mut target = OpenOptions::new().create(true).append(true).open(part).map_err(write_error)?;
    let start = match response.status() {
        StatusCode::PARTIAL_CONTENT => have,
        StatusCode::OK => {
            // A server that knows no ranges sends everything again.
            target.set_len(0).map_err(write_error)?;
            0
        }
        status => return Err(format!("it answered {status}")),
    };
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = start;
    while done <= entry.bytes {
        let n = body.read(&mut buffer).map_err(|error| format!("the download broke off: {error}"))?;
        if n == 0 {
            break;
        }
        target.write_all(&buffer[..n]).map_err(write_error)?;
        done += n as u64;
        progress(FetchProgress::Bytes { done, total: entry.bytes });
    }
    if done < entry.bytes {
        Err("the download broke off; the next start resumes it".to_owned())
    } else {
        Ok(())
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(SILENCE_MAX))
        .timeout_per_read(Some(SILENCE_MAX))
        .user_agent(concat!("bourse/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(401 | 403) => "it wants a token; set HF_TOKEN".to_owned(),
        ureq::Error::StatusCode(status) => format!("it answered {status}"),
        other => format!("it cannot be reached: {other}"),
    }
}
