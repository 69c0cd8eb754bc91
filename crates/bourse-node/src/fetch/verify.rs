//! Hashing what a source gave, and putting it in its place only when it is right.

use super::{CatalogueEntry, FetchProgress, ProgressSink};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Whether the file at `path` is the entry's.
pub(super) fn file(path: &Path, entry: &CatalogueEntry, progress: ProgressSink<'_>) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let (bytes, hash) = copy_hashed(&mut file, &mut io::sink(), entry, &mut |done, total| {
        progress(FetchProgress::Verifying { done, total });
    })
    .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    compare(entry, bytes, &hash).map_err(|reason| format!("{} {reason}", path.display()))
}

/// Writes the bytes of `source` to the entry's file in `dir`, if they are the right ones.
pub(super) fn install(
    source: &mut impl Read,
    entry: &CatalogueEntry,
    dir: &Path,
    progress: ProgressSink<'_>,
) -> Result<PathBuf, String> {
    let write_error = |error: io::Error| format!("{} cannot be written: {error}", dir.display());
    let mut staged = NamedTempFile::new_in(dir).map_err(write_error)?;
    let (bytes, hash) = copy_hashed(source, staged.as_file_mut(), entry, &mut |done, total| {
        progress(FetchProgress::Verifying { done, total });
    })
    .map_err(|error| format!("the file could not be unpacked: {error}"))?;
    compare(entry, bytes, &hash).map_err(|reason| format!("the file {reason}"))?;
    staged.as_file().sync_all().map_err(write_error)?;
    let path = dir.join(entry.file_name);
    staged.persist(&path).map_err(|error| write_error(error.error))?;
    Ok(path)
}

/// Copies at most one byte more than the entry has, so that a source without end is noticed and not kept.
fn copy_hashed(
    source: &mut impl Read,
    target: &mut impl Write,
    entry: &CatalogueEntry,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut source = source.take(entry.bytes + 1);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..n]);
        target.write_all(&buffer[..n])?;
        // Some sources come in small pieces; whoever draws is told once for each buffer.
        let told = done / BUFFER_BYTES as u64;
        done += n as u64;
        if done / BUFFER_BYTES as u64 != told {
            progress(done, entry.bytes);
        }
    }
    progress(done, entry.bytes);
    Ok((done, hasher.finalize().to_hex().to_string()))
}

fn compare(entry: &CatalogueEntry, bytes: u64, hash: &str) -> Result<(), String> {
    if bytes > entry.bytes {
        Err(format!("has more than the {} bytes of the catalogue", entry.bytes))
    } else if bytes < entry.bytes {
        Err(format!("has {bytes} bytes, the catalogue says {}", entry.bytes))
    } else if hash != entry.blake3 {
        Err("has another BLAKE3 hash than the catalogue says".to_owned())
    } else {
        Ok(())
    }
}
