//! The data directory: who owns it, and the exchange's own secret key.
//!
//! One live exchange per directory, by an advisory lock that the system drops with the process. The
//! directory is readable by its owner alone (0700), the key file and the books likewise (0600), also in a directory that
//! somebody else made. What a file that is there lets others do is its owner's matter.

use crate::store::{JOURNAL_FILE, PLACE_FILE};
use bourse_ledger::HashKey;
use bourse_proof::sign::Signer;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// File name of the lock.
const LOCK_FILE: &str = "exchange.lock";
/// File name of the secret key: 32 bytes.
const KEY_FILE: &str = "exchange.key";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another exchange lives in it.
    #[error("another process uses this data directory")]
    InUse,
    /// Reading or writing failed.
    #[error("{what} in the data directory")]
    Io {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The key file does not hold a key.
    #[error("`{KEY_FILE}` does not hold 32 bytes")]
    KeyFile,
    /// There are books and no key: a new one could not sign on.
    #[error("`{KEY_FILE}` is missing beside the books that it signs: bring it back from a backup")]
    KeyMissing,
    /// The system gave no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// Ownership of a data directory, until dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// Held open for its lock.
    _file: File,
}

/// Creates the directory if need be and takes it.
pub(crate) fn lock_dir(dir: &Path) -> Result<DirLock, DataDirError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    owner_only_dir(&mut builder);
    builder.create(dir).map_err(|source| DataDirError::Io { what: "creating the directory", source })?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    owner_only_file(&mut options);
    let file = options
        .open(dir.join(LOCK_FILE))
        .map_err(|source| DataDirError::Io { what: "opening the lock", source })?;
    match file.try_lock() {
        Ok(()) => Ok(DirLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse),
        Err(TryLockError::Error(source)) => Err(DataDirError::Io { what: "taking the lock", source }),
    }
}

/// Whether a live exchange owns the directory.
pub(crate) fn is_live(dir: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(dir.join(LOCK_FILE));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Reads the exchange's key, or makes one.
pub(crate) fn load_signer(dir: &Path) -> Result<Signer, DataDirError> {
    let path = dir.join(KEY_FILE);
    if path.exists() {
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(33).read_to_end(&mut bytes));
        read.map_err(|source| DataDirError::Io { what: "reading the key", source })?;
        let secret: [u8; 32] = bytes.try_into().map_err(|_| DataDirError::KeyFile)?;
        return Ok(Signer::from_bytes(&secret));
    }
    if [JOURNAL_FILE, PLACE_FILE].iter().any(|name| dir.join(name).exists()) {
        return Err(DataDirError::KeyMissing);
    }
    let secret = random()?;
    write_secret(&path, &secret).map_err(|source| DataDirError::Io { what: "writing the key", source })?;
    Ok(Signer::from_bytes(&secret))
}

/// Written whole under another name first: a crash leaves a key or none. Its name is on disk, too, when this returns:
/// books in a database would outlive a key that a power cut takes with its folder's last change.
pub(crate) fn write_secret(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("key.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    owner_only_file(&mut options);
    let mut file = options.open(&draft)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Makes an empty file for its owner alone where there is none. SQLite takes it for an empty database, and gives the files
/// beside it the same mode.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    owner_only_file(&mut options);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
pub(crate) fn owner_only_file(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
pub(crate) fn owner_only_file(_: &mut OpenOptions) {}

#[cfg(unix)]
fn owner_only_dir(builder: &mut DirBuilder) {
    std::os::unix::fs::DirBuilderExt::mode(builder, 0o700);
}

#[cfg(not(unix))]
fn owner_only_dir(_: &mut DirBuilder) {}

/// Random bytes of the system, or of a seed for simulations.
#[derive(Debug, Clone)]
pub(crate) enum Entropy {
    System,
    Seed { seed: [u8; 32], drawn: u64 },
}

impl Entropy {
    pub(crate) fn draw<const N: usize>(&mut self) -> Result<[u8; N], DataDirError> {
        match self {
            Self::System => random(),
            Self::Seed { seed, drawn } => {
                *drawn += 1;
                let mut out = [0u8; N];
                let mut hasher = blake3::Hasher::new_keyed(seed);
                hasher.update(&drawn.to_le_bytes());
                hasher.finalize_xof().fill(&mut out);
                Ok(out)
            }
        }
    }

    pub(crate) fn hash_key(&mut self) -> Result<HashKey, DataDirError> {
        let words: [u8; 16] = self.draw()?;
        let word = |half: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&words[half * 8..half * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        Ok(HashKey([word(0), word(1)]))
    }
}

fn random<const N: usize>() -> Result<[u8; N], DataDirError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
