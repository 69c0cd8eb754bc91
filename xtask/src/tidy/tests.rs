//! Each rule is shown to fail on a planted fault, and to pass on the house without it.

use std::collections::BTreeMap;

use super::tree::{Crate, Kind};
use super::{Tree, check, edges, plugs, pure, size};

const BANS: &str =
    r#"disallowed-methods = [{ path = "std::time::Instant::now" }, { path = "std::fs::read" }]"#;

/// A small house in order: the homes of all plugs, lint files of the pure crates, one edge.
fn house() -> (BTreeMap<String, String>, BTreeMap<String, Crate>) {
    let mut files = BTreeMap::new();
    let mut put = |path: &str, text: &str| files.insert(path.to_owned(), text.to_owned());
    put("crates/bourse-node/src/engine.rs", "//! Home.\npub trait Engine { fn run(&self); }\n");
    put("crates/bourse-wire/src/dialect/grammar.rs", "//! Home.\npub trait Dialect {}\n");
    put("crates/bourse-rails/src/rail.rs", "//! Home.\npub trait PaymentRail {}\n");
    put("crates/bourse-gateway/src/adapter.rs", "//! Home.\npub trait ProviderAdapter {}\n");
    put(
        "crates/bourse-ledger/src/journal.rs",
        "//! Home.\npub trait Journal {}\npub struct Memory;\nimpl Journal for Memory {}\n",
    );
    for (name, _) in edges::PURE {
        put(&format!("crates/{name}/clippy.toml"), BANS);
    }
    let crates = BTreeMap::from([krate("bourse-market", &[(Kind::Normal, "bourse-types")])]);
    (files, crates)
}

fn krate(name: &str, dependencies: &[(Kind, &str)]) -> (String, Crate) {
    let dependencies = dependencies.iter().map(|(kind, to)| (*kind, (*to).to_owned())).collect();
    (name.to_owned(), Crate { dependencies })
}

/// The house with these files on top, checked whole: `place:line rule` of every finding.
fn with_files(planted: &[(&str, &str)]) -> Vec<String> {
    let (mut files, crates) = house();
    files.extend(planted.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
    let findings = check(&Tree::new(files, crates));
    findings.iter().map(|f| format!("{}:{} {}", f.place, f.line, f.rule)).collect()
}

fn with_crate(name: &str, dependencies: &[(Kind, &str)]) -> Vec<String> {
    let (files, mut crates) = house();
    crates.extend([krate(name, dependencies)]);
    check(&Tree::new(files, crates)).iter().map(|f| format!("{} {} {}", f.place, f.rule, f.message)).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_house_in_order_has_no_findings() {
    assert_eq!(with_files(&[]), NONE);
}

#[test]
fn a_planted_forbidden_edge_fails() {
    let found = with_crate("bourse-market", &[(Kind::Normal, "bourse-ledger")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("bourse-market edges may not depend on bourse-ledger"), "{found:?}");
    assert_eq!(with_crate("bourse-market", &[(Kind::Dev, "bourse-sim")]), NONE);
    assert_eq!(with_crate("bourse-node", &[(Kind::Normal, "bourse-market")]).len(), 1);
    assert_eq!(with_crate("bourse", &[(Kind::Normal, "bourse-sim")]).len(), 1);
    assert_eq!(with_crate("bourse-novelty", &[]).len(), 1);
}

#[test]
fn a_pure_crate_names_its_outside_crates_and_libraries_have_homes() {
    assert_eq!(with_crate("bourse-ledger", &[(Kind::Normal, "tokio")]).len(), 1);
    assert_eq!(with_crate("bourse-ledger", &[(Kind::Dev, "proptest")]), NONE);
    assert_eq!(with_crate("bourse-gateway", &[(Kind::Normal, "rusqlite")]).len(), 1);
    assert_eq!(with_crate("bourse-exchange", &[(Kind::Normal, "rusqlite")]), NONE);
}

#[test]
fn a_workspace_dependency_that_nobody_uses_fails() {
    let manifest =
        "[workspace.dependencies]\nbourse-market = { path = \"x\" }\nunused = \"1\"\n[profile.dev]\na = 1\n";
    assert_eq!(with_files(&[("Cargo.toml", manifest)]), ["Cargo.toml:3 edges"]);
}

#[test]
fn a_clock_planted_in_a_pure_crate_fails() {
    let path = "crates/bourse-market/src/plan.rs";
    let cases = [
        "let now = std::time::Instant::now();",
        "use std::{fmt, time::SystemTime};",
        "use std::time; fn f() { time::Instant::now(); }",
        "let text = format!(\"{:?}\", std::env::var(\"HOME\"));",
        "use std::fs;",
        "use std::*;",
        "async fn f() {}",
        "fn f() { println!(\"x\"); }",
        "fn f() { std::thread::spawn(|| ()); }",
        "let h = std::collections::hash_map::RandomState::new();",
    ];
    for case in cases {
        let found = with_files(&[(path, &format!("//! Planted.\n{case}\n"))]);
        assert_eq!(found, [format!("{path}:2 pure")], "{case}");
    }
}

#[test]
fn words_strings_and_tests_of_a_pure_crate_are_free() {
    let text = "//! std::fs is named here.\n// Instant::now()\nconst A: &str = \"std::env::var\";\nlet rand = 1;\n\
                #[cfg(test)]\nmod tests { use std::time::Instant; }\n#[test]\nfn t() { std::env::var(\"X\"); }\n";
    assert_eq!(with_files(&[("crates/bourse-types/src/a.rs", text)]), NONE);
    let parent = "//! Parent.\n#[cfg(test)]\nmod cases;\n";
    let child = "//! Child.\nuse std::fs;\n";
    let planted = [("crates/bourse-types/src/lib.rs", parent), ("crates/bourse-types/src/cases.rs", child)];
    assert_eq!(with_files(&planted), NONE);
    assert_eq!(with_files(&planted[1..]), ["crates/bourse-types/src/cases.rs:2 pure"]);
}

#[test]
fn a_pure_crate_without_its_bans_fails() {
    let weak = r#"# { path = "std::fs::read" }
disallowed-methods = [{ path = "std::time::Instant::now" }]"#;
    assert_eq!(
        with_files(&[("crates/bourse-proof/clippy.toml", weak)]),
        ["crates/bourse-proof/clippy.toml:0 pure"]
    );
    let (mut files, crates) = house();
    files.remove("crates/bourse-wire/clippy.toml");
    assert_eq!(pure::check(&Tree::new(files, crates)).len(), 1);
}

#[test]
fn a_fourth_file_that_names_a_plug_fails() {
    let user = "//! Uses it.\nfn f() { let m = bourse_ledger::Memory; }\n";
    let paths = ["a", "b", "c", "d"].map(|name| format!("crates/bourse-exchange/src/{name}.rs"));
    let three: Vec<(&str, &str)> = paths[..3].iter().map(|p| (p.as_str(), user)).collect();
    assert_eq!(with_files(&three), NONE);
    let four: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), user)).collect();
    assert_eq!(with_files(&four), ["crates/bourse-ledger/src/journal.rs:0 plugs"]);
    let mut in_a_test = three.clone();
    in_a_test.push(("crates/bourse-exchange/src/tests.rs", user));
    in_a_test.push(("crates/bourse-exchange/tests/it.rs", user));
    assert_eq!(with_files(&in_a_test), NONE);
}

#[test]
fn a_dialect_that_only_sellers_speak_is_named_by_its_registry_and_its_adapter() {
    let dialect = |name: &str| format!("//! D.\npub struct {name};\nimpl Dialect for {name} {{}}\n");
    let home = |name: &str| format!("crates/bourse-wire/src/dialect/{}.rs", name.to_lowercase());
    let named = |name: &str| format!("//! N.\npub const N: Shape = Shape::{name};\n");
    let found = |name: &str, paths: &[&str]| {
        let (home, dialect, named) = (home(name), dialect(name), named(name));
        let mut files = vec![(home.as_str(), dialect.as_str())];
        files.extend(paths.iter().map(|path| (*path, named.as_str())));
        with_files(&files)
    };
    let simulator = ["crates/bourse-sim/src/a.rs", "crates/bourse-sim/src/b.rs"];
    let house = ["crates/a/src/a.rs", "crates/a/src/b.rs", "crates/a/src/c.rs"];
    let all = [&simulator[..], &house, &["crates/a/src/d.rs"]].concat();
    assert_eq!(found("Gemini", &all[..5]), NONE);
    assert_eq!(found("Gemini", &all), ["crates/bourse-wire/src/dialect/gemini.rs:0 plugs"]);
    assert_eq!(found("Messages", &all), NONE);
}

#[test]
fn a_plug_is_small_and_stands_at_home() {
    let home = "crates/bourse-ledger/src/journal.rs";
    let wide = "//! Home.\npub trait Journal { fn a(); fn b(); fn c(); fn d(); fn e(); fn f(); }\n";
    assert_eq!(with_files(&[(home, wide)]), [format!("{home}:2 plugs")]);
    assert_eq!(with_files(&[(home, "//! Moved.\n")]), [format!("{home}:0 plugs")]);
    let (mut files, crates) = house();
    files.remove(home);
    assert_eq!(plugs::check(&Tree::new(files, crates)).len(), 1);
}

#[test]
fn sizes_have_a_limit_and_a_ratchet() {
    let path = "crates/bourse-types/src/long.rs";
    let file = |lines: usize| format!("//! Long.\n{}", "const A: u8 = 1;\n".repeat(lines - 1));
    assert_eq!(with_files(&[(path, &file(size::FILE_LINES_MAX))]), NONE);
    assert_eq!(with_files(&[(path, &file(size::FILE_LINES_MAX + 1))]), [format!("{path}:0 size")]);
    let entry = |lines: usize| format!("{lines} {path} # because\n");
    let long = file(size::FILE_LINES_MAX + 5);
    let with_entry = |lines: usize| with_files(&[(path, &long), (size::RATCHET, &entry(lines))]);
    assert_eq!(with_entry(size::FILE_LINES_MAX + 5), NONE);
    assert_eq!(with_entry(size::FILE_LINES_MAX + 4), [format!("{path}:0 size")]);
    assert_eq!(with_entry(size::FILE_LINES_MAX + 6), [format!("{}:0 size", size::RATCHET)]);
    let gone = with_files(&[(size::RATCHET, &entry(700))]);
    assert_eq!(gone, [format!("{}:0 size", size::RATCHET)]);
}

#[test]
fn functions_have_a_limit_and_tests_do_not() {
    let path = "crates/bourse-types/src/long.rs";
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    a();\n".repeat(lines - 2));
    let at = function(size::FUNCTION_LINES_MAX);
    let past = function(size::FUNCTION_LINES_MAX + 1);
    assert_eq!(with_files(&[(path, &format!("//! L.\n{at}"))]), NONE);
    assert_eq!(with_files(&[(path, &format!("//! L.\n{past}"))]), [format!("{path}:2 size")]);
    assert_eq!(with_files(&[(path, &format!("//! L.\n#[cfg(test)]\nmod tests {{ {past} }}"))]), NONE);
}

#[test]
fn unfinished_and_foreign_texts_fail() {
    let path = "crates/bourse-node/src/a.rs";
    let cases = [
        concat!("// TO", "DO: later"),
        "fn f() { todo!() }",
        "fn f() { dbg!(1); }",
        "#[test]\n#[ignore]\nfn f() {}",
        concat!("const P: &str = \"/", "work/main\";"),
        concat!("const H: &str = \"https://pypi", ".org/simple\";"),
        "#[test] fn f() { std::thread::sleep(d) }",
    ];
    for case in cases {
        let found = with_files(&[(path, &format!("//! Planted.\n{case}\n"))]);
        assert_eq!(found.len(), 1, "{case}: {found:?}");
        assert!(found[0].ends_with(" text"), "{case}: {found:?}");
    }
    let fine =
        "//! Fine.\nconst A: &str = \"target/work/x\";\nfn f() { std::thread::sleep(d) }\nlet todo = 1;\n";
    assert_eq!(with_files(&[(path, fine)]), NONE);
}

#[test]
fn links_lead_somewhere_and_modules_open_with_their_rule() {
    let page = "docs/a.md";
    let fine = "# A title\n[self](#a-title) [b](sub/b.md#b) [root](../README.md) [folder](sub/) [web](https://x.y)\n\
                `[not](a-link)`\n```\n[nor](this)\n```\n";
    let others = [("docs/sub/b.md", "## B\n"), ("README.md", "# R\n")];
    assert_eq!(with_files(&[others.as_slice(), &[(page, fine)]].concat()), NONE);
    for broken in ["[x](gone.md)", "[x](#nowhere)", "[x](sub/b.md#c)", "[x](../README.md)[y](gone)"] {
        let found = with_files(&[others.as_slice(), &[(page, broken)]].concat());
        assert_eq!(found, [format!("{page}:1 links")], "{broken}");
    }
    let silent = "crates/bourse-node/src/a.rs";
    assert_eq!(with_files(&[(silent, "fn f() {}\n")]), [format!("{silent}:1 docs")]);
    let unread = "//! Broken.\nfn f( {\n";
    assert_eq!(with_files(&[(silent, unread)]), [format!("{silent}:0 source")]);
}
