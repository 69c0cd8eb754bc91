//! Who may depend on whom.
//!
//! The table is the design: an edge that is not here is a decision nobody took. Only normal dependencies
//! count between our crates; a test may use what it likes. Pure crates also name every outside crate they use,
//! and a library that one crate is the home of (the database driver) may stand nowhere else.

use std::collections::BTreeSet;

use super::tree::Kind;
use super::{Finding, Tree};

/// Crates without clock, environment, I/O, threads or ambient randomness, with the outside crates they may use.
pub(crate) const PURE: [(&str, &[&str]); 5] = [
    ("bourse-types", &["thiserror"]),
    (
        "bourse-wire",
        &[
            "base64",
            "blake3",
            "bytes",
            "ed25519-dalek",
            "memchr",
            "schemars",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
    ("bourse-market", &["blake3", "crc32fast", "thiserror"]),
    ("bourse-ledger", &["blake3", "thiserror"]),
    ("bourse-proof", &["blake3", "ed25519-dalek", "serde", "serde_json", "sha2", "thiserror"]),
];

/// Every edge that a normal dependency between our crates may make.
const EDGES: [(&str, &[&str]); 14] = [
    ("bourse-types", &[]),
    ("bourse-wire", &["types"]),
    ("bourse-market", &["types"]),
    ("bourse-ledger", &["types"]),
    ("bourse-proof", &["types", "wire"]),
    ("bourse-engine", &["types"]),
    ("bourse-link", &["types", "wire"]),
    ("bourse-rails", &["types", "wire"]),
    ("bourse-exchange", &["types", "wire", "market", "ledger", "proof", "link", "rails"]),
    ("bourse-gateway", &["types", "wire", "market", "proof", "link", "rails"]),
    ("bourse-tokens", &["types", "wire", "engine"]),
    ("bourse-node", &["types", "wire", "proof", "engine", "link", "tokens"]),
    (
        "bourse-sim",
        &[
            "types", "wire", "market", "ledger", "proof", "engine", "link", "rails", "exchange", "gateway",
            "node", "tokens",
        ],
    ),
    (
        "bourse",
        &[
            "types", "wire", "market", "ledger", "proof", "engine", "link", "rails", "exchange", "gateway",
            "node", "tokens",
        ],
    ),
];

/// Outside crates with one home.
const HOMES: [(&str, &[&str]); 4] = [
    ("rusqlite", &["bourse-exchange"]),
    ("minijinja", &["bourse-tokens"]),
    ("tokenizers", &["bourse-tokens"]),
    ("webpki-roots", &["bourse-exchange", "bourse-gateway"]),
];

/// Crates of ours that stand outside the house and know nothing of it.
const OUTSIDERS: [&str; 1] = ["xtask"];

/// Compares every crate's dependencies with the tables.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, krate) in &tree.crates {
        let allowed = EDGES.iter().find(|(from, _)| from == name).map(|(_, to)| *to);
        if allowed.is_none() && !OUTSIDERS.contains(&name.as_str()) {
            findings.push(Finding::new("edges", name, 0, "is not in the table of crates: decide its edges"));
        }
        for dependency in krate.normal() {
            findings.extend(edge(name, allowed.unwrap_or(&[]), dependency));
        }
        findings.extend(outside(name, &krate.dependencies));
    }
    findings.extend(unused(tree));
    findings
}

fn edge(from: &str, allowed: &[&str], to: &str) -> Option<Finding> {
    let short = to.strip_prefix("bourse-").or((to == "bourse").then_some("bourse"))?;
    let message = || format!("may not depend on {to}; see the table of crates in ARCHITECTURE.md");
    (!allowed.contains(&short)).then(|| Finding::new("edges", from, 0, message()))
}

fn outside(name: &str, dependencies: &BTreeSet<(Kind, String)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (kind, dependency) in dependencies {
        let home = HOMES.iter().find(|(library, _)| library == dependency);
        if let Some((_, homes)) = home
            && *kind == Kind::Normal
            && !homes.contains(&name)
        {
            let message = format!("uses {dependency}, whose home is {}", homes.join(", "));
            findings.push(Finding::new("homes", name, 0, message));
        }
        let pure = PURE.iter().find(|(pure, _)| *pure == name);
        if let Some((_, third)) = pure
            && *kind != Kind::Dev
            && !dependency.starts_with("bourse-")
            && !third.contains(&dependency.as_str())
        {
            let message = format!("is pure and {dependency} is not in its table of outside crates");
            findings.push(Finding::new("pure", name, 0, message));
        }
    }
    findings
}

/// Lines of `[workspace.dependencies]` for outside crates that no crate uses.
fn unused(tree: &Tree) -> Vec<Finding> {
    let used: BTreeSet<&str> =
        tree.crates.values().flat_map(|c| c.dependencies.iter().map(|(_, name)| name.as_str())).collect();
    let Some(manifest) = tree.files.get("Cargo.toml") else { return Vec::new() };
    let mut inside = false;
    let mut findings = Vec::new();
    for (index, text) in manifest.lines().enumerate() {
        if text.starts_with('[') {
            inside = text == "[workspace.dependencies]";
        } else if let (true, Some((name, _))) = (inside, text.split_once('='))
            && !used.contains(name.trim())
            && !tree.crates.contains_key(name.trim())
        {
            let message = format!("no crate uses {}: remove the line", name.trim());
            findings.push(Finding::new("edges", "Cargo.toml", index + 1, message));
        }
    }
    findings
}
