//! Plug points stay plugs: small traits, known homes, implementations that nobody names.
//!
//! An implementation is reached through its trait; the one line that registers it and the file that builds it
//! are all that may name it. When a fourth file names it, the plug leaks and the next implementation costs
//! edits all over the house.

use std::collections::BTreeSet;

use super::source::Source;
use super::{Finding, Tree};

/// Trait and the file it stands in.
const PLUGS: [(&str, &str); 5] = [
    ("Engine", "crates/bourse-node/src/engine.rs"),
    ("Dialect", "crates/bourse-wire/src/dialect/grammar.rs"),
    ("ProviderAdapter", "crates/bourse-gateway/src/adapter.rs"),
    ("Journal", "crates/bourse-ledger/src/journal.rs"),
    ("PaymentRail", "crates/bourse-rails/src/rail.rs"),
];
/// Implementations that may be named anywhere: these dialects are what buyers speak, and endpoints carry their names.
const SPOKEN_BY_BUYERS: [&str; 3] = ["Chat", "Messages", "Responses"];
/// Imitates other people's servers under the names that they have.
const SIMULATOR: &str = "crates/bourse-sim/";
/// Methods of a plug, at most.
const METHODS_MAX: usize = 5;
/// Files outside its own that may name an implementation, at most.
const FILES_MAX: usize = 3;

/// Checks every plug whose home's crate is in the tree.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (plug, home) in PLUGS {
        let Some(Ok(source)) = tree.sources.get(home) else {
            findings.push(Finding::new("plugs", home, 0, format!("is the home of `{plug}` and is missing")));
            continue;
        };
        findings.extend(shape(plug, home, source));
        findings.extend(leaks(tree, plug));
    }
    findings
}

fn shape(plug: &str, home: &str, source: &Source) -> Option<Finding> {
    let Some(found) = source.traits.iter().find(|t| t.name == plug) else {
        return Some(Finding::new("plugs", home, 0, format!("should hold `trait {plug}`")));
    };
    let message = || format!("`{plug}` has {} methods; a plug has at most {METHODS_MAX}", found.methods);
    (found.methods > METHODS_MAX).then(|| Finding::new("plugs", home, found.line, message()))
}

fn leaks(tree: &Tree, plug: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let implementations: BTreeSet<(&str, &str)> = tree
        .rust()
        .filter(|(path, _)| !tree.is_test(path))
        .flat_map(|(path, source)| source.impls.iter().map(move |i| (path, i)))
        .filter(|(_, i)| i.of_trait == plug && !i.in_test)
        .filter(|(_, i)| !SPOKEN_BY_BUYERS.contains(&i.of_type.as_str()))
        .map(|(path, i)| (path, i.of_type.as_str()))
        .collect();
    for (home, name) in implementations {
        let own_folder = format!("{}/", home.strip_suffix(".rs").unwrap_or(home));
        let outside: Vec<&str> = tree
            .rust()
            .filter(|(path, _)| *path != home && !path.starts_with(&own_folder))
            .filter(|(path, _)| {
                !tree.is_test(path) && !path.contains("/examples/") && !path.starts_with(SIMULATOR)
            })
            .filter(|(_, source)| names(source, name))
            .map(|(path, _)| path)
            .collect();
        if outside.len() > FILES_MAX {
            let files = outside.join(", ");
            let message =
                format!("`{name}` is a {plug} and is named by more than {FILES_MAX} files: {files}");
            findings.push(Finding::new("plugs", home, 0, message));
        }
    }
    findings
}

fn names(source: &Source, name: &str) -> bool {
    source.paths.iter().any(|path| !path.in_test && path.segments.iter().any(|segment| segment == name))
}
