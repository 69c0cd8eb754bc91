//! The repository as a value: texts by path, crates with their dependencies.
//!
//! Read once from disk and `cargo metadata`; built by hand in tests. Folders that hold no source of ours
//! (`target`, `node_modules`, hidden ones but `.ci` and `.cargo`) are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::source::Source;
use crate::workspace::Workspace;

/// Folders never entered, wherever they stand.
const SKIPPED: [&str; 3] = ["target", "node_modules", "__pycache__"];
/// Hidden folders that are ours.
const HIDDEN: [&str; 2] = [".ci", ".cargo"];
/// File endings that hold text of ours.
const TEXT: [&str; 14] =
    ["rs", "md", "toml", "py", "mjs", "js", "ts", "json", "sh", "sql", "yml", "yaml", "conf", "txt"];

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One crate of the workspace and the names it depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crate {
    pub(crate) dependencies: BTreeSet<(Kind, String)>,
}

impl Crate {
    /// Names of the normal dependencies.
    pub(crate) fn normal(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|(kind, _)| *kind == Kind::Normal).map(|(_, name)| name.as_str())
    }
}

/// The repository in memory.
#[derive(Default)]
pub(crate) struct Tree {
    /// Text by path from the root, with `/` between names.
    pub(crate) files: BTreeMap<String, String>,
    /// Rust files read as tokens; the error's text where that failed.
    pub(crate) sources: BTreeMap<String, Result<Source, String>>,
    /// Workspace members by name.
    pub(crate) crates: BTreeMap<String, Crate>,
    /// Files that are compiled for tests only.
    pub(crate) tests: BTreeSet<String>,
}

impl Tree {
    /// Reads the repository from disk.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(&workspace.root, "", &mut files)?;
        Ok(Self::new(files, crates(&workspace.metadata)))
    }

    /// A tree from texts and crates.
    pub(crate) fn new(files: BTreeMap<String, String>, crates: BTreeMap<String, Crate>) -> Self {
        let sources: BTreeMap<_, _> = files
            .iter()
            .filter(|(path, _)| has_ending(path, "rs"))
            .map(|(path, text)| (path.clone(), Source::read(text)))
            .collect();
        let tests = test_files(&sources);
        Self { files, sources, crates, tests }
    }

    /// Rust files that could be read, tests included.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.sources.iter().filter_map(|(path, source)| Some((path.as_str(), source.as_ref().ok()?)))
    }

    /// Whether this file is compiled for tests only.
    pub(crate) fn is_test(&self, path: &str) -> bool {
        self.tests.contains(path)
    }
}

/// Whether a path ends in this extension.
pub(crate) fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == ending)
}

fn collect(root: &Path, folder: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("cannot list {folder}"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, files)?;
            }
        } else if kind.is_file() && is_text(&path) {
            // A name that ends like text but holds other bytes is a fixture, not prose.
            if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                files.insert(path, text);
            }
        }
    }
    Ok(())
}

fn is_text(path: &str) -> bool {
    path == ".ci/run" || path.starts_with("LICENSE") || TEXT.iter().any(|ending| has_ending(path, ending))
}

fn crates(metadata: &Value) -> BTreeMap<String, Crate> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let dependencies = list(&package["dependencies"])
                .iter()
                .filter_map(|d| Some((kind(d["kind"].as_str()), d["name"].as_str()?.to_owned())))
                .collect();
            (package["name"].as_str().unwrap_or_default().to_owned(), Crate { dependencies })
        })
        .collect()
}

fn kind(name: Option<&str>) -> Kind {
    match name {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

/// Files under `tests` or `benches`, files called `tests.rs`, and modules declared under `#[cfg(test)]`.
fn test_files(sources: &BTreeMap<String, Result<Source, String>>) -> BTreeSet<String> {
    let by_name = |path: &&String| {
        path.ends_with("/tests.rs")
            || path.contains("/tests/")
            || path.contains("/benches/")
            || path.starts_with("tests/")
    };
    let mut tests: BTreeSet<String> = sources.keys().filter(by_name).cloned().collect();
    for (path, source) in sources {
        let Ok(source) = source else { continue };
        for module in &source.test_modules {
            let file = format!("{}/{module}.rs", module_folder(path));
            let folder = format!("{}/{module}/", module_folder(path));
            tests.extend(sources.keys().filter(|p| **p == file || p.starts_with(&folder)).cloned());
        }
    }
    tests
}

/// Where the modules declared in this file stand.
fn module_folder(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.rsplit_once('/') {
        Some((folder, "lib" | "main" | "mod")) => folder.to_owned(),
        _ => stem.to_owned(),
    }
}
