//! The node's key: one ed25519 secret in the data directory.
//!
//! The public half is the node's name, so losing the file means joining as a stranger. It is created once,
//! whole (written beside its place and linked without replacing), readable by its owner only, and refused
//! when others can read it.

use bourse_proof::sign::Signer;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the key's file in the data directory.
pub const KEY_FILE: &str = "node.key";
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the node's key {} cannot be used", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the node's key {} is readable by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Exposed {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not 64 hex digits.
    #[error("the node's key {} does not hold 64 hex digits; restore it, or remove it to begin anew", path.display())]
    Malformed {
        /// The path.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness for a key: {0}")]
    Randomness(getrandom::Error),
}

/// The key in `data_dir`, made on the first call.
pub fn load_or_create(data_dir: &Path) -> Result<Signer, KeyError> {
    let path = data_dir.join(KEY_FILE);
    let io_error = |source| KeyError::Io { path: path.clone(), source };
    if !path.exists() {
        create(data_dir, &path)?;
    }
    let mode = fs::metadata(&path).map_err(io_error)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(KeyError::Exposed { path, mode });
    }
    let text = fs::read_to_string(&path).map_err(io_error)?;
    let secret = bourse_types::Digest32::parse_hex(text.trim());
    secret.map(|secret| Signer::from_bytes(&secret.0)).map_err(|_| KeyError::Malformed { path })
}

fn create(data_dir: &Path, path: &Path) -> Result<(), KeyError> {
    let io_error = |source| KeyError::Io { path: path.to_owned(), source };
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(KeyError::Randomness)?;
    fs::create_dir_all(data_dir).map_err(io_error)?;
    // Temporary files are made with mode 0600, and the name keeps it.
    let mut staged = tempfile::NamedTempFile::new_in(data_dir).map_err(io_error)?;
    writeln!(staged, "{}", bourse_types::Digest32(secret)).map_err(io_error)?;
    staged.as_file().sync_all().map_err(io_error)?;
    match staged.persist_noclobber(path) {
        Ok(_) => Ok(()),
        // Another process was first; its key is as good.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("data");
        let first = load_or_create(&nested).unwrap().node_id();
        assert_eq!(load_or_create(&nested).unwrap().node_id(), first);
        let mode = fs::metadata(nested.join(KEY_FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_ne!(load_or_create(dir.path()).unwrap().node_id(), first);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(KeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::write(&path, "abc").unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(KeyError::Malformed { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
    }
}
