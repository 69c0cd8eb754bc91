//! The data directory: what lies where, and who may read it.
//!
//! The directory is 0700 and every file that holds a secret is 0600 and appears whole or not at all
//! (written beside, synced, renamed). The journal only knows hashes of keys; the operator's own key is kept
//! readable in `operator.key`, because a second start has to print it and `bourse chat` has to use it.
//! `market.json` exists while a market runs and says where; a leftover of a killed market is told apart by
//! the lock, not by a guess about process ids.

use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::Environment;

/// Longest small file (key, token, runtime state) that is read, in bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DataDirError {
    /// Neither a flag, nor a variable, nor a home says where.
    #[error("there is no place for the market's data")]
    #[diagnostic(help("give --data-dir DIR, or set HOME or XDG_DATA_HOME"))]
    Nowhere,
    /// A file or folder resists.
    #[error("cannot {action} {}", path.display())]
    #[diagnostic(help(
        "check that the folder exists, is yours and has space left; --data-dir DIR chooses another"
    ))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold what it should", path.display())]
    #[diagnostic(help(
        "it was written by another version or edited by hand; move it away and start the market again"
    ))]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// Where a market keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// What a running market tells other commands on the same machine.
/// Not `Debug`: it holds a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The public API, such as `http://127.0.0.1:8420/v1`.
    pub base_url: String,
    /// The process of gateway and exchange.
    pub pid: u32,
    /// What the operator's endpoint asks for, while this market runs.
    pub admin_token: String,
}

impl DataDir {
    /// The directory itself, wherever it was said to be.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The flag's, else `BOURSE_DATA_DIR`, else `bourse` in the user's XDG data folder. Also says which.
    pub fn locate(flag: Option<&Path>, environment: &Environment) -> Result<(Self, String), DataDirError> {
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = |base: PathBuf| base.join(".local/share");
        let (root, origin) = if let Some(flag) = flag {
            (flag.to_owned(), "flag --data-dir")
        } else if let Some(root) = environment.get("BOURSE_DATA_DIR") {
            (PathBuf::from(root), "environment variable BOURSE_DATA_DIR")
        } else if let Some(base) = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(home)) {
            (base.join("bourse"), "default")
        } else {
            return Err(DataDirError::Nowhere);
        };
        Ok((Self { root }, origin.to_owned()))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The operator's key, readable by its owner only.
    pub fn operator_key_file(&self) -> PathBuf {
        self.root.join("operator.key")
    }

    /// What exchange and gateways on other machines both know, readable by its owner only.
    pub fn exchange_secret_file(&self) -> PathBuf {
        self.root.join("exchange.secret")
    }

    /// Where a running market says where it is.
    pub fn runtime_file(&self) -> PathBuf {
        self.root.join("market.json")
    }

    /// The configuration that is read when none is named.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("bourse.toml")
    }

    /// The journal of decisions.
    pub fn decisions(&self) -> PathBuf {
        self.root.join("decisions")
    }

    /// What the local node keeps: its key.
    pub fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// Weights that were fetched.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Makes the folder, for its owner only, and its parents.
    pub fn create(&self) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Io { action: "make the folder", path: self.root.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(failed)
    }

    /// The operator's key; `None` before the first start.
    pub fn operator_key(&self) -> Result<Option<String>, DataDirError> {
        let path = self.operator_key_file();
        let Some(text) = read_small(&path)? else { return Ok(None) };
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(DataDirError::Malformed { path });
        }
        Ok(Some(key.to_owned()))
    }

    /// Keeps the operator's key.
    pub fn keep_operator_key(&self, key: &str) -> Result<(), DataDirError> {
        write_private(&self.operator_key_file(), format!("{key}\n").as_bytes())
    }

    /// What a running market wrote; `None` when none runs (or a leftover cannot be told from one).
    pub fn runtime(&self) -> Result<Option<Runtime>, DataDirError> {
        let path = self.runtime_file();
        let Some(text) = read_small(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|_| DataDirError::Malformed { path })
    }

    /// Says where the market is.
    pub fn publish(&self, runtime: &Runtime) -> Result<(), DataDirError> {
        let path = self.runtime_file();
        let text = serde_json::to_vec(runtime).map_err(|_| DataDirError::Malformed { path: path.clone() })?;
        write_private(&path, &text)
    }

    /// Takes the runtime file away; one that is gone already is fine.
    pub fn withdraw(&self) -> Result<(), DataDirError> {
        let path = self.runtime_file();
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(DataDirError::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }
}

/// Reads a small text file; `None` when there is none, an error when it is longer than
/// [`SMALL_FILE_BYTES_MAX`] or not text.
pub fn read_small(path: &Path) -> Result<Option<String>, DataDirError> {
    let failed = |source| DataDirError::Io { action: "read", path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    if metadata.len() > SMALL_FILE_BYTES_MAX {
        return Err(DataDirError::Malformed { path: path.to_owned() });
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(DataDirError::Malformed { path: path.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that only its owner may read; a reader sees the old content or the new, never a part.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { action: "write", path: path.to_owned(), source };
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        // The name itself is durable once the folder is.
        path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn check_place(flag: Option<&str>, environment: &[(&str, &str)], want: Option<&str>) {
        let got = DataDir::locate(flag.map(Path::new), &Environment::of(environment)).ok();
        assert_eq!(got.map(|(dir, _)| dir.root), want.map(PathBuf::from));
    }

    #[test]
    fn the_nearest_word_says_where() {
        let home = ("HOME", "/home/ada");
        check_place(Some("here"), &[("BOURSE_DATA_DIR", "/there"), home], Some("here"));
        check_place(None, &[("BOURSE_DATA_DIR", "/there"), home], Some("/there"));
        check_place(None, &[("XDG_DATA_HOME", "/data"), home], Some("/data/bourse"));
        check_place(None, &[("XDG_DATA_HOME", "relative"), home], Some("/home/ada/.local/share/bourse"));
        check_place(None, &[("XDG_DATA_HOME", ""), home], Some("/home/ada/.local/share/bourse"));
        check_place(None, &[], None);
    }

    #[test]
    fn secrets_are_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::at(folder.path().join("deep/er"));
        dir.create().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.root()), 0o700);
        assert_eq!(dir.operator_key().unwrap(), None);
        dir.keep_operator_key("sk-bourse-abc").unwrap();
        dir.keep_operator_key("sk-bourse-def").unwrap();
        assert_eq!(dir.operator_key().unwrap().as_deref(), Some("sk-bourse-def"));
        assert_eq!(mode(&dir.operator_key_file()), 0o600);
        assert_eq!(std::fs::read_dir(dir.root()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn the_runtime_file_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::at(folder.path().to_owned());
        let runtime =
            Runtime { base_url: "http://127.0.0.1:1/v1".to_owned(), pid: 7, admin_token: "t".to_owned() };
        assert!(dir.runtime().unwrap().is_none());
        dir.publish(&runtime).unwrap();
        assert!(dir.runtime().unwrap() == Some(runtime));
        dir.withdraw().unwrap();
        dir.withdraw().unwrap();
        assert!(dir.runtime().unwrap().is_none());
    }

    #[test]
    fn a_small_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bound = usize::try_from(SMALL_FILE_BYTES_MAX).unwrap();
        std::fs::write(&path, vec![b'a'; bound]).unwrap();
        assert_eq!(read_small(&path).unwrap().map(|text| text.len()), Some(bound));
        std::fs::write(&path, vec![b'a'; bound + 1]).unwrap();
        assert!(matches!(read_small(&path), Err(DataDirError::Malformed { .. })));
        std::fs::write(&path, [0xFF]).unwrap();
        assert!(matches!(read_small(&path), Err(DataDirError::Malformed { .. })));
    }
}
