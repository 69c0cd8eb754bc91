//! What a pure crate may not name: clocks, environment, files, sockets, processes, threads, async, chance.
//!
//! Everything that varies comes in as a value (`now`, a seed, a snapshot), so that a plan or a verdict is the
//! same on every machine and a test needs no waiting. Clippy's bans in each crate's own `clippy.toml` catch
//! what types tell; this scan catches what tokens tell, macros included, and that the bans are there at all.

use std::collections::BTreeSet;

use super::edges::PURE;
use super::source::Path;
use super::{Finding, Tree};

/// Modules of the standard library that act on the world.
const MODULES: [&str; 9] = ["env", "fs", "io", "net", "os", "process", "random", "thread", "sys"];
/// Names that are a clock, a source of chance or a door to the world wherever they come from.
const NAMES: [&str; 8] =
    ["Instant", "SystemTime", "RandomState", "getrandom", "rand", "stdin", "stdout", "stderr"];
/// Words of async Rust.
const WORDS: [&str; 2] = ["async", "await"];
/// Macros that print or read the builder's environment.
const MACROS: [&str; 5] = ["print", "println", "eprint", "eprintln", "option_env"];
/// The crate whose `clippy.toml` the other pure crates repeat.
const PATTERN: &str = "crates/bourse-types/clippy.toml";

/// Scans the pure crates' own code and their lint files.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, _) in PURE {
        let folder = format!("crates/{name}/src/");
        for (path, source) in tree.rust().filter(|(path, _)| path.starts_with(&folder)) {
            if tree.is_test(path) {
                continue;
            }
            for named in source.paths.iter().filter(|p| !p.in_test) {
                if let Some(what) = forbidden(named) {
                    let message = format!("a pure crate may not name {what}: take it as an argument");
                    findings.push(Finding::new("pure", path, named.line, message));
                }
            }
        }
        findings.extend(bans(tree, name));
    }
    findings
}

fn forbidden(path: &Path) -> Option<String> {
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    if path.is_macro && MACROS.contains(segments.last()?) {
        return Some(format!("{}!", segments.join("::")));
    }
    let by_module = matches!(segments.as_slice(), ["std" | "core", module, ..] if MODULES.contains(module));
    let whole_std = matches!(segments.as_slice(), ["std", "self" | "*"]);
    let by_name = segments.iter().any(|s| NAMES.contains(s)) && (segments.len() > 1 || !is_word(segments[0]));
    let by_word = segments.len() == 1 && WORDS.contains(&segments[0]);
    (by_module || whole_std || by_name || by_word).then(|| segments.join("::"))
}

/// Lower-case names are forbidden only as part of a path: alone they may be a variable's name.
fn is_word(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_lowercase)
}

fn bans(tree: &Tree, name: &str) -> Option<Finding> {
    let pattern = banned(tree.files.get(PATTERN)?);
    let path = format!("crates/{name}/clippy.toml");
    let Some(text) = tree.files.get(&path) else {
        return Some(Finding::new("pure", path, 0, format!("is missing: repeat the bans of {PATTERN}")));
    };
    let here = banned(text);
    let missing: Vec<&str> = pattern.difference(&here).copied().collect();
    let message = || format!("lacks bans of {PATTERN}: {}", missing.join(", "));
    (!missing.is_empty()).then(|| Finding::new("pure", path, 0, message()))
}

/// The quoted `std::` paths of a lint file, comments aside.
fn banned(text: &str) -> BTreeSet<&str> {
    let code = text.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code));
    code.flat_map(|line| line.split('"')).filter(|quoted| quoted.starts_with("std::")).collect()
}
