//! `cargo xtask mutants`: bugs that are planted on purpose, each of which a named test must find.
//!
//! The list is `xtask/mutants.txt`. Each bug is one line changed in a copy of the repository; it must compile, and the
//! test beside it must then fail. A bug that lives means a test that does not test. First every test is run without
//! any bug, so that one that fails anyway, or is not there, is told. Too slow for every change: run it when the money's
//! code or its tests change, and every night. What takes the time is building: each bug is built once, incrementally,
//! and bugs of one file and one program of tests come one after another, so that what was mended is not built twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, output};

const LIST: &str = "xtask/mutants.txt";

/// Which bugs; all, unless told.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Only those with this in their name.
    #[arg(long)]
    only: Option<String>,
}

/// One planted bug.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Mutant {
    name: String,
    file: String,
    from: String,
    to: String,
    /// Arguments of `cargo test`, the test's name last.
    test: String,
}

impl Mutant {
    /// Which program of tests, as arguments of `cargo test`: a package and a target.
    fn program(&self) -> &str {
        self.test.rsplit_once(' ').map_or("", |(program, _)| program)
    }

    fn test_name(&self) -> &str {
        self.test.rsplit_once(' ').map_or("", |(_, name)| name)
    }
}

/// What a run of tests came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing ran.
    NotBuilt,
    Failed,
    /// So many tests passed, and none failed.
    Passed(usize),
}

/// Reads it off what `cargo test` printed: a program of tests that was built says how many it runs before it runs them.
fn outcome(is_success: bool, stdout: &str) -> Outcome {
    let ran = stdout.lines().any(|line| line.starts_with("running ") && line.contains(" test"));
    let passed =
        |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok();
    match (is_success, ran) {
        (_, false) => Outcome::NotBuilt,
        (false, true) => Outcome::Failed,
        (true, true) => Outcome::Passed(stdout.lines().filter_map(passed).sum()),
    }
}

/// The copy that bugs are planted in.
struct Nursery {
    root: PathBuf,
    target: PathBuf,
}

/// Plants each bug in turn; fails when one lives.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let text =
        fs::read_to_string(workspace.root.join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let mut mutants = parse(&text)?;
    if let Some(only) = &args.only {
        mutants.retain(|mutant| mutant.name.contains(only));
    }
    mutants.sort_by(|a, b| (a.program(), &a.file).cmp(&(b.program(), &b.file)));
    let nursery = Nursery::copy(workspace)?;
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for mutant in &mutants {
        tests.entry(mutant.program()).or_default().insert(mutant.test_name());
    }
    for (program, names) in tests {
        nursery.passes(program, &names)?;
    }
    let mut alive = Vec::new();
    for (n, mutant) in mutants.iter().enumerate() {
        let is_found = nursery.finds(mutant)?;
        println!(
            "{:3}/{} {} {}",
            n + 1,
            mutants.len(),
            if is_found { "found" } else { "LIVES" },
            mutant.name
        );
        if !is_found {
            alive.push(mutant.name.as_str());
        }
    }
    if alive.is_empty() {
        println!("{} bugs were planted, and each was found by its test", mutants.len());
        return Ok(());
    }
    bail!("{} bug(s) live: {}", alive.len(), alive.join("; "))
}

/// Reads the list: blocks of `key: value` lines with an empty line between them.
fn parse(text: &str) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for block in text.split("\n\n") {
        let mut mutant = Mutant::default();
        for line in block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (key, value) =
                line.split_once(": ").with_context(|| format!("{LIST}: no `key: value`: {line}"))?;
            let field = match key {
                "name" => &mut mutant.name,
                "file" => &mut mutant.file,
                "from" => &mut mutant.from,
                "to" => &mut mutant.to,
                "test" => &mut mutant.test,
                other => bail!("{LIST}: no such key: {other}"),
            };
            value.clone_into(field);
        }
        let Mutant { name, file, from, to, test } = &mutant;
        if mutant == Mutant::default() {
            continue;
        }
        if [name, file, from, to, test].iter().any(|field| field.is_empty()) {
            bail!("{LIST}: a block lacks one of name, file, from, to, test: {block}");
        }
        if !test.contains(' ') {
            bail!("{LIST}: a test without a package or a name: {test}");
        }
        mutants.push(mutant);
    }
    Ok(mutants)
}

/// The text with the bug in it; the place must be there once.
fn planted(text: &str, mutant: &Mutant) -> Result<String> {
    match text.matches(&mutant.from).count() {
        1 => Ok(text.replacen(&mutant.from, &mutant.to, 1)),
        count => bail!("`{}` stands {count} times in {}: `{}`", mutant.from, mutant.file, mutant.name),
    }
}

impl Nursery {
    /// Copies what git knows, as it is now. Files that did not change keep their times, so that little is built again.
    fn copy(workspace: &Workspace) -> Result<Self> {
        let scratch = workspace.scratch("mutants")?;
        let (root, target) = (scratch.join("tree"), scratch.join("target"));
        let listed = output(Command::new("git").current_dir(&workspace.root).arg("ls-files"))?;
        for file in listed.lines() {
            let (from, to) = (workspace.root.join(file), root.join(file));
            let Ok(bytes) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|old| old == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
            fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(Self { root, target })
    }

    fn cargo_test(&self, program: &str, names: &BTreeSet<&str>) -> Result<(Outcome, Output)> {
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).env("CARGO_INCREMENTAL", "1");
        command.args(["test", "--quiet", "--package"]).args(program.split(' '));
        let out = command.args(["--", "--exact"]).args(names).output().context("cannot start cargo")?;
        Ok((outcome(out.status.success(), &String::from_utf8_lossy(&out.stdout)), out))
    }

    fn passes(&self, program: &str, names: &BTreeSet<&str>) -> Result<()> {
        let (outcome, out) = self.cargo_test(program, names)?;
        if outcome == Outcome::Passed(names.len()) {
            return Ok(());
        }
        bail!("the tests of `{program}` do not all pass without any bug:\n{}", printed(&out))
    }

    fn finds(&self, mutant: &Mutant) -> Result<bool> {
        let path = self.root.join(&mutant.file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", mutant.file))?;
        fs::write(&path, planted(&text, mutant)?)?;
        let tested = self.cargo_test(mutant.program(), &BTreeSet::from([mutant.test_name()]));
        fs::write(&path, text)?;
        let (outcome, out) = tested?;
        if outcome == Outcome::NotBuilt {
            bail!("`{}` does not compile:\n{}", mutant.name, printed(&out));
        }
        Ok(outcome == Outcome::Failed)
    }
}

fn printed(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_reads_and_every_place_is_there_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutants = parse(&fs::read_to_string(root.join(LIST)).unwrap()).unwrap();
        assert!(mutants.len() >= 20, "{}", mutants.len());
        for mutant in &mutants {
            let text = fs::read_to_string(root.join(&mutant.file)).unwrap();
            assert_ne!(planted(&text, mutant).unwrap(), text, "{}", mutant.name);
        }
        let names: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
        assert_eq!(names.len(), mutants.len(), "each has a name of its own");
    }

    #[test]
    fn what_does_not_compile_is_no_test_that_fails() {
        let check = |is_success, stdout, want| assert_eq!(outcome(is_success, stdout), want);
        check(false, "", Outcome::NotBuilt);
        check(true, "", Outcome::NotBuilt);
        check(false, "\nrunning 1 test\nF\n\ntest result: FAILED. 0 passed; 1 failed;", Outcome::Failed);
        check(false, "\nrunning 1 test\n", Outcome::Failed);
        check(true, "\nrunning 2 tests\n..\ntest result: ok. 2 passed; 0 failed;", Outcome::Passed(2));
        check(true, "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed;", Outcome::Passed(0));
    }

    #[test]
    fn a_block_that_lacks_something_is_told() {
        assert!(parse("name: x\nfile: y").unwrap_err().to_string().contains("lacks"));
        assert!(parse("what: x").unwrap_err().to_string().contains("no such key"));
        let mutant = Mutant { from: "a".into(), to: "b".into(), ..Mutant::default() };
        assert!(planted("a a", &mutant).unwrap_err().to_string().contains("2 times"));
        assert_eq!(planted("xax", &mutant).unwrap(), "xbx");
    }
}
