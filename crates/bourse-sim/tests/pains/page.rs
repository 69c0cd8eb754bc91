//! `docs/pains.md` names tests that exist, and at least one for each pain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/pains.md";
const PAINS: usize = 20;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the house")
}

/// The tests that a row names, as (file, name): links of the form [`name`](../path/to/file.rs).
fn tests_of(row: &str) -> Vec<(String, String)> {
    let links = row.split("[`").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("`](../")?;
        let (file, _) = rest.split_once(')')?;
        Some((file.to_owned(), name.to_owned()))
    });
    links.filter(|(file, _)| file.contains(".rs")).collect()
}

/// The rows of the table by the number of their pain.
fn rows(page: &str) -> BTreeMap<usize, &str> {
    let numbered = |line: &&str| line.strip_prefix("| ")?.split(' ').next()?.parse::<usize>().ok();
    page.lines().filter_map(|line| Some((numbered(&line)?, line))).collect()
}

/// Whether a source has a function of this name below an attribute of tests.
fn has_test(source: &str, name: &str) -> bool {
    let Some(at) = source.find(&format!("fn {name}(")) else { return false };
    let before = source[..at].trim_end();
    let before = before.strip_suffix("async").unwrap_or(before).trim_end();
    let attribute = before.lines().next_back().unwrap_or_default().trim_start();
    attribute.starts_with("#[") && attribute.contains("test")
}

/// What is wrong with the page.
fn mistakes(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let rows = rows(page);
    let mut mistakes = Vec::new();
    for pain in 1..=PAINS {
        let Some(row) = rows.get(&pain) else {
            mistakes.push(format!("pain {pain} has no row"));
            continue;
        };
        let tests = tests_of(row);
        let own = format!("pain_{pain:02}_");
        if !tests.iter().any(|(_, name)| name.starts_with(&own)) {
            mistakes.push(format!("pain {pain} has no test of its own"));
        }
        for (file, name) in tests {
            let Some(source) = read(&file) else {
                mistakes.push(format!("pain {pain}: there is no {file}"));
                continue;
            };
            if !has_test(&source, &name) {
                mistakes.push(format!("pain {pain}: there is no test `{name}` in {file}"));
            }
        }
    }
    mistakes
}

#[test]
fn every_pain_has_tests_that_exist() {
    let root = root();
    let page = fs::read_to_string(root.join(PAGE)).expect("the page of the pains");
    let found = mistakes(&page, |file| fs::read_to_string(root.join(file)).ok());
    assert!(found.is_empty(), "{PAGE}: {found:#?}");
}

#[test]
fn a_page_that_names_what_is_not_there_is_found_out() {
    let row = |n: usize| format!("| {n} | x | y | z | [`pain_{n:02}_x`](../a.rs) |\n");
    let page: String = (1..=PAINS).map(row).collect();
    let test = |n: usize| format!("#[test]\nfn pain_{n:02}_x() {{}}\n");
    let source: String = (1..=PAINS).map(test).collect();
    let read = |_: &str| Some(source.clone());
    assert_eq!(mistakes(&page, read), Vec::<String>::new());
    assert_eq!(mistakes(&page.replace(&row(7), ""), read), ["pain 7 has no row"]);
    let other = mistakes(&page.replace("`pain_03_x`", "`another`"), read);
    assert_eq!(other, ["pain 3 has no test of its own", "pain 3: there is no test `another` in a.rs"]);
    assert!(mistakes(&page, |_| None).contains(&"pain 20: there is no a.rs".to_owned()));
    let helper = source.replace("#[test]\nfn pain_09_x", "const X: u8 = 1;\nfn pain_09_x");
    assert_eq!(mistakes(&page, |_| Some(helper.clone())), ["pain 9: there is no test `pain_09_x` in a.rs"]);
}
