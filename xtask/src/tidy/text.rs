//! Texts that may not be committed: marks of unfinished work, paths of one machine, registries' hosts, waiting.
//!
//! A mark of unfinished work is a defect that somebody decided to ship; a machine's path works for one person;
//! a registry's host takes the choice away from the user's own configuration; a test that sleeps is slow on a
//! good day and red on a bad one.

use super::source::Source;
use super::{Finding, Tree};

/// Words that mark unfinished work. Written in halves so that this file does not trip over itself.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Folders that exist on one machine.
const FOLDERS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "farm/"), concat!("/", "Users/")];
/// Hosts of package registries.
const HOSTS: [&str; 5] = [
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
];
/// Macros that mark unfinished work or a forgotten look.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Scans every text, and the tokens of every Rust file.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        for (index, line) in text.lines().enumerate() {
            let broken = mark(line).or_else(|| folder(line)).or_else(|| host(line));
            findings.extend(broken.map(|message| Finding::new("text", path, index + 1, message)));
        }
    }
    for (path, source) in tree.rust() {
        findings.extend(unfinished(path, source));
        findings.extend(sleeps(path, source, tree.is_test(path)));
    }
    findings
}

fn mark(line: &str) -> Option<String> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.find(|word| MARKS.contains(word)).map(|word| format!("`{word}` marks unfinished work: finish it"))
}

fn folder(line: &str) -> Option<String> {
    let starts_path = |at: usize| {
        // Inside a longer path it is a folder of ours; at the start of one it is the machine's.
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-})".contains(c))
    };
    let found = FOLDERS.iter().find(|f| line.match_indices(**f).any(|(at, _)| starts_path(at)))?;
    Some(format!("`{found}` is a folder of one machine"))
}

fn host(line: &str) -> Option<String> {
    let found = HOSTS.iter().find(|host| line.contains(**host))?;
    Some(format!("`{found}` is a registry's host: leave the choice to the user's own configuration"))
}

fn unfinished(path: &str, source: &Source) -> Vec<Finding> {
    let macros = source.paths.iter().filter(|p| p.is_macro).filter_map(|p| {
        let name = p.segments.last().filter(|name| MACROS.contains(&name.as_str()))?;
        Some(Finding::new("text", path, p.line, format!("`{name}!` may not be committed")))
    });
    let ignored = source.attributes.iter().filter(|(name, _)| name == "ignore").map(|(_, line)| {
        Finding::new("text", path, *line, "a test that is not run: assert today's answer instead")
    });
    macros.chain(ignored).collect()
}

fn sleeps(path: &str, source: &Source, is_test: bool) -> Vec<Finding> {
    let sleeping = |p: &&super::source::Path| {
        (is_test || p.in_test) && p.segments.ends_with(&["thread".to_owned(), "sleep".to_owned()])
    };
    let finding = |p: &super::source::Path| {
        Finding::new("text", path, p.line, "a test may not sleep: wait for the event itself")
    };
    source.paths.iter().filter(sleeping).map(finding).collect()
}
