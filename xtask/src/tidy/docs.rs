//! Prose stays true to the tree: every module opens with its rule, every link leads somewhere.
//!
//! Only links within the repository are followed; the network is not asked.

use super::tree::has_ending;
use super::{Finding, Tree};

/// Checks module openings and Markdown links.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = openings(tree);
    for (path, text) in tree.files.iter().filter(|(path, _)| has_ending(path, "md")) {
        for (line, target) in links(text) {
            findings.extend(follow(tree, path, &target).map(|m| Finding::new("links", path, line, m)));
        }
    }
    findings
}

fn openings(tree: &Tree) -> Vec<Finding> {
    let closed = |path: &&String| {
        has_ending(path, "rs")
            && !tree.is_test(path)
            && !tree.files[*path].lines().any(|line| line.starts_with("//!"))
    };
    let finding =
        |path: &String| Finding::new("docs", path, 1, "a module opens with `//!`: what it decides, why");
    tree.files.keys().filter(closed).map(finding).collect()
}

/// Targets of `[text](target)` outside fenced and inline code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            found.extend(targets.map(|(target, _)| (index + 1, target.to_owned())));
        }
    }
    found
}

fn follow(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { resolve(from, file) };
    let folder = format!("{}/", path.trim_end_matches('/'));
    let Some(text) = tree.files.get(&path) else {
        let is_folder = tree.files.keys().any(|p| p.starts_with(&folder));
        return (!is_folder).then(|| format!("`{target}` leads to {path}, which does not exist"));
    };
    let missing = !anchor.is_empty() && has_ending(&path, "md") && !anchors(text).any(|a| a == anchor);
    missing.then(|| format!("`{target}`: {path} has no heading #{anchor}"))
}

/// A relative target seen from a file, without `.` and `..`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Headings as the usual renderers name them: lower case, blanks to hyphens, other signs dropped.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}
