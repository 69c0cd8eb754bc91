//! Formatting, lints and documentation, with every warning an error.
//!
//! The bench's own small package stands outside the workspace, so it is named beside it.

use anyhow::Result;

use crate::workspace::{Workspace, must};

/// Manifests outside the workspace that are held to the same rules.
const OUTSIDE: [&str; 1] = ["bench/gateway/load/Cargo.toml"];

/// Runs every lint; stops at the first that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    must(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    for manifest in OUTSIDE {
        must(&mut workspace.cargo(&["fmt", "--manifest-path", manifest, "--check"]))?;
    }
    let deny = ["--", "-D", "warnings"];
    must(workspace.cargo(&["clippy", "--workspace", "--all-targets"]).args(deny))?;
    for manifest in OUTSIDE {
        let mut clippy = workspace.cargo(&["clippy", "--all-targets", "--manifest-path", manifest]);
        must(clippy.arg("--target-dir").arg(&workspace.target).args(deny))?;
    }
    must(workspace.cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}
