//! House rules as checks: what a reviewer would otherwise have to remember.
//!
//! Every rule is a function over a [`Tree`], an in-memory picture of the repository, so that a test can plant
//! a forbidden edge, a clock in a pure crate or a plug that leaks and see the rule fail. A rule returns
//! [`Finding`]s; it never repairs. Sizes are ratcheted, not cliffed: `xtask/ratchet.txt` lists what is above
//! the limit today, and an entry may only shrink.
//!
//! Limits: Rust is read as tokens, not as types, so a clock hidden behind another crate's function is found
//! only by the table of crates that a pure crate may use, and by the `clippy.toml` in each pure crate.

mod docs;
mod edges;
mod plugs;
mod pure;
mod size;
mod source;
mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
pub(crate) use tree::Tree;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Path from the root, or the name of a crate.
    pub(crate) place: String,
    /// Line, from 1; 0 where the whole place is meant.
    pub(crate) line: usize,
    /// Name of the rule.
    pub(crate) rule: &'static str,
    /// What is wrong, and the remedy.
    pub(crate) message: String,
}

impl Finding {
    fn new(rule: &'static str, place: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { place: place.into(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": [{}] {}", self.rule, self.message)
    }
}

/// Every rule over one tree, findings in order of place.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let rules: [fn(&Tree) -> Vec<Finding>; 7] =
        [source::unreadable, edges::check, pure::check, plugs::check, size::check, text::check, docs::check];
    let mut findings: Vec<Finding> = rules.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings.dedup();
    findings
}

/// Checks the repository; an error when a rule is broken.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace)?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} finding(s)", findings.len());
    }
    println!("tidy: {} files, {} crates, no findings", tree.files.len(), tree.crates.len());
    Ok(())
}
