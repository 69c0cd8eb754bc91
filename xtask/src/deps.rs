//! The page of outside dependencies, written from the manifests.
//!
//! Every direct dependency has a sentence in `xtask/dependencies.txt` (`NAME: SENTENCE`); one without a
//! sentence, or a sentence without its dependency, is an error. The page also counts the whole tree of the
//! shipped binary, so that growth shows in a diff.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::{Workspace, metadata};

const SENTENCES: &str = "xtask/dependencies.txt";
const PAGE: &str = "docs/operate/dependencies.md";

/// Writes the page, or with `check` only compares it.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    let full = metadata(&workspace.root, &["--locked"])?;
    let page = page(&direct(&workspace.metadata), &sentences(workspace)?, shipped(&full).len())?;
    let path = workspace.root.join(PAGE);
    if check {
        if fs::read_to_string(&path).ok().as_deref() != Some(page.as_str()) {
            bail!("{PAGE} is not what the manifests say: run `cargo xtask deps`");
        }
        return Ok(());
    }
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Outside crates named by a manifest of ours: name to (users, whether only tests use it).
fn direct(metadata: &Value) -> BTreeMap<String, (BTreeSet<String>, bool)> {
    let mut found: BTreeMap<String, (BTreeSet<String>, bool)> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        let user = package["name"].as_str().unwrap_or_default();
        for dependency in list(&package["dependencies"]) {
            let name = dependency["name"].as_str().unwrap_or_default();
            if dependency["path"].is_string() {
                continue;
            }
            let entry = found.entry(name.to_owned()).or_insert_with(|| (BTreeSet::new(), true));
            entry.0.insert(user.to_owned());
            entry.1 &= dependency["kind"].as_str() == Some("dev");
        }
    }
    found
}

fn sentences(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(workspace.root.join(SENTENCES)).context(SENTENCES)?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, sentence) = line.split_once(": ").with_context(|| format!("{SENTENCES}: `{line}`"))?;
            Ok((name.to_owned(), sentence.to_owned()))
        })
        .collect()
}

/// Package ids that the binary's normal and build dependencies reach, ours included.
fn shipped(full: &Value) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> =
        list(&full["resolve"]["nodes"]).iter().filter_map(|n| Some((n["id"].as_str()?, n))).collect();
    let is_binary = |package: &&Value| package["name"].as_str() == Some("bourse");
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> =
        list(&full["packages"]).iter().filter(is_binary).filter_map(|p| p["id"].as_str()).collect();
    while let Some(id) = open.pop() {
        if !reached.insert(id.to_owned()) {
            continue;
        }
        for dependency in nodes.get(id).map_or(&[][..], |node| list(&node["deps"])) {
            let kinds = list(&dependency["dep_kinds"]);
            if kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev")) {
                open.extend(dependency["pkg"].as_str());
            }
        }
    }
    reached
}

fn page(
    direct: &BTreeMap<String, (BTreeSet<String>, bool)>,
    sentences: &BTreeMap<String, String>,
    shipped: usize,
) -> Result<String> {
    let silent: Vec<&str> =
        direct.keys().filter(|n| !sentences.contains_key(*n)).map(String::as_str).collect();
    let stale: Vec<&str> =
        sentences.keys().filter(|n| !direct.contains_key(*n)).map(String::as_str).collect();
    if !silent.is_empty() || !stale.is_empty() {
        bail!("{SENTENCES}: no sentence for [{}], no use of [{}]", silent.join(", "), stale.join(", "));
    }
    let mut page = String::from(
        "# Dependencies\n\nWritten by `cargo xtask deps` from the manifests; the sentences stand in \
         [`xtask/dependencies.txt`](../../xtask/dependencies.txt).\n",
    );
    for (title, tests_only) in
        [("Shipped, or used by the house's own tasks", false), ("Tests and benches only", true)]
    {
        write!(page, "\n## {title}\n\n| crate | what for | used by |\n| --- | --- | --- |\n")?;
        for (name, (users, _)) in direct.iter().filter(|(_, (_, tests))| *tests == tests_only) {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            writeln!(page, "| `{name}` | {} | {} |", sentences[name], users.join(", "))?;
        }
    }
    write!(
        page,
        "\n## The whole tree\n\nThe binary `bourse` is built from {shipped} crates, ours included, counted over \
         all platforms.\n"
    )?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        serde_json::json!({"packages": [
            {"name": "bourse-a", "dependencies": [
                {"name": "bourse-b", "path": "b", "kind": null},
                {"name": "serde", "kind": null}, {"name": "proptest", "kind": "dev"}]},
            {"name": "bourse-b", "dependencies": [{"name": "serde", "kind": "dev"}]},
        ]})
    }

    fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, sentence)| ((*name).to_owned(), (*sentence).to_owned())).collect()
    }

    #[test]
    fn every_direct_dependency_has_a_sentence_and_a_user() {
        let direct = direct(&metadata());
        let both = words(&[("serde", "Shapes."), ("proptest", "Laws.")]);
        let page = page(&direct, &both, 7).unwrap();
        assert!(page.contains("| `serde` | Shapes. | bourse-a, bourse-b |"), "{page}");
        let (_, tests_only) = page.split_once("## Tests and benches only").unwrap();
        assert!(tests_only.contains("| `proptest` | Laws. | bourse-a |") && page.contains("from 7 crates"));
    }

    #[test]
    fn a_missing_or_stale_sentence_fails() {
        let direct = direct(&metadata());
        let missing = page(&direct, &words(&[("serde", "Shapes.")]), 7).unwrap_err().to_string();
        assert!(missing.contains("no sentence for [proptest]"), "{missing}");
        let three = words(&[("serde", "S."), ("proptest", "P."), ("rand", "R.")]);
        assert!(page(&direct, &three, 7).unwrap_err().to_string().contains("no use of [rand]"));
    }

    #[test]
    fn the_shipped_tree_leaves_tests_out() {
        let node = |id: &str, deps: &[(&str, Option<&str>)]| {
            let deps: Vec<Value> = deps
                .iter()
                .map(|(pkg, kind)| serde_json::json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]}))
                .collect();
            serde_json::json!({"id": id, "deps": deps})
        };
        let nodes = [
            node("bourse", &[("a", None), ("t", Some("dev"))]),
            node("a", &[("b", Some("build")), ("bourse", Some("dev"))]),
            node("b", &[]),
            node("t", &[]),
        ];
        let full = serde_json::json!({
            "packages": [{"name": "bourse", "id": "bourse"}, {"name": "a", "id": "a"}],
            "resolve": {"nodes": nodes},
        });
        assert_eq!(shipped(&full).into_iter().collect::<Vec<_>>(), ["a", "b", "bourse"]);
    }
}
