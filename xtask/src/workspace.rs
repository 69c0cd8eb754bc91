//! Where things lie, and how a program is called.
//!
//! Paths come from cargo itself: the root is the parent of this crate's manifest folder, the target folder is
//! what `cargo metadata` says, so that a `CARGO_TARGET_DIR` of the caller's is respected everywhere. A program
//! that is missing is reported by its name together with what it is needed for.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The repository and cargo's view of it.
pub(crate) struct Workspace {
    /// Folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// `cargo metadata --no-deps`, parsed.
    pub(crate) metadata: Value,
}

impl Workspace {
    /// Finds the workspace that this program is run in.
    pub(crate) fn find() -> Result<Self> {
        // Of the checkout that runs, not of the one that was compiled: clones may share a target folder.
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root =
            Path::new(&manifest).parent().context("xtask stands in a folder of the workspace")?.to_path_buf();
        let metadata = metadata(&root, &["--no-deps"])?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
        Ok(Self { target: PathBuf::from(target), root, metadata })
    }

    /// A scratch folder of ours inside the target folder, made if absent.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.target.join("xtask").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A cargo command in the root; the same toolchain that runs this program.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(cargo_program());
        command.current_dir(&self.root).args(args);
        command
    }

    /// The built program of this name in a profile's folder.
    pub(crate) fn program(&self, profile: Profile, name: &str) -> PathBuf {
        self.target.join(profile.folder()).join(name)
    }

    /// Builds one binary of a package.
    pub(crate) fn build(&self, profile: Profile, package: &str, bin: &str) -> Result<PathBuf> {
        let mut command = self.cargo(&["build", "--package", package, "--bin", bin]);
        if matches!(profile, Profile::Release) {
            command.arg("--release");
        }
        must(&mut command)?;
        Ok(self.program(profile, bin))
    }
}

/// Which of cargo's profiles.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// `cargo metadata` in this folder.
pub(crate) fn metadata(root: &Path, args: &[&str]) -> Result<Value> {
    let mut command = Command::new(cargo_program());
    command.current_dir(root).args(["metadata", "--format-version", "1"]).args(args);
    serde_json::from_str(&output(&mut command)?).context("cargo metadata does not print JSON")
}

fn cargo_program() -> String {
    // Cargo sets this for programs it runs, so that `cargo +toolchain xtask` stays on that toolchain.
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The command as a person would type it, for messages.
fn typed(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it with our own stdout and stderr; an exit other than 0 is an error.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let line = typed(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs it and returns its stdout; stderr passes through.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = typed(command);
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !out.status.success() {
        bail!("`{line}` failed: {}", out.status);
    }
    String::from_utf8(out.stdout).with_context(|| format!("`{line}` printed bytes that are no text"))
}

/// Whether a program of this name answers `--version`.
pub(crate) fn available(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
