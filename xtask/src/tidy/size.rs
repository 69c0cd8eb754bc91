//! Files and functions stay short enough to read in one sitting.
//!
//! The limits are hard for new code. What is above them today stands in `xtask/ratchet.txt` with its present
//! size; an entry that could be smaller, or is not needed any more, is a finding too, so the list only shrinks.

use std::collections::BTreeMap;

use super::{Finding, Tree};

/// Lines of a file that are not tests, at most.
pub(crate) const FILE_LINES_MAX: usize = 600;
/// Lines of a function, at most.
pub(crate) const FUNCTION_LINES_MAX: usize = 100;
/// Where the exceptions stand: `LINES PATH` or `LINES PATH::FUNCTION`, one a line, `#` for a reason.
pub(crate) const RATCHET: &str = "xtask/ratchet.txt";

/// Compares every size with its limit or its entry.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let (mut entries, mut findings) = ratchet(tree.files.get(RATCHET).map_or("", String::as_str));
    for (path, source) in tree.rust().filter(|(path, _)| !tree.is_test(path)) {
        let lines = tree.files[path].lines().count().saturating_sub(source.test_lines);
        findings.extend(judge(&mut entries, path, 0, path, lines, FILE_LINES_MAX));
        for function in source.functions.iter().filter(|f| !f.in_test) {
            let key = format!("{path}::{}", function.name);
            let start = *function.lines.start();
            findings.extend(judge(&mut entries, path, start, &key, function.length(), FUNCTION_LINES_MAX));
        }
    }
    for key in entries.into_keys() {
        findings.push(Finding::new("size", RATCHET, 0, format!("{key} needs no entry: remove it")));
    }
    findings
}

fn judge(
    entries: &mut BTreeMap<String, usize>,
    path: &str,
    line: usize,
    key: &str,
    lines: usize,
    lines_max: usize,
) -> Option<Finding> {
    if lines <= lines_max {
        return None;
    }
    match entries.remove(key) {
        None => Some(Finding::new("size", path, line, format!("{key}: {lines} lines, at most {lines_max}"))),
        Some(entry) if lines > entry => {
            Some(Finding::new("size", path, line, format!("{key} grew from {entry} to {lines} lines")))
        }
        Some(entry) if lines < entry => {
            Some(Finding::new("size", RATCHET, 0, format!("{key} shrank: lower {entry} to {lines}")))
        }
        Some(_) => None,
    }
}

fn ratchet(text: &str) -> (BTreeMap<String, usize>, Vec<Finding>) {
    let mut entries = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
        if line.is_empty() {
            continue;
        }
        match line.split_once(' ').and_then(|(lines, key)| Some((key.trim(), lines.parse().ok()?))) {
            Some((key, lines)) => {
                entries.insert(key.to_owned(), lines);
            }
            None => {
                findings.push(Finding::new("size", RATCHET, index + 1, "is not `LINES PATH[::FUNCTION]`"));
            }
        }
    }
    (entries, findings)
}
