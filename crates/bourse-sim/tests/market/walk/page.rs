//! The page's prose and layout around the facts of one request.

use super::{PLAIN, STREAMED, root};
use bourse_proof::receipt::Verdict;
use std::fmt::Write as _;

/// Digests are shown by their first digits.
const DIGEST_DIGITS_SHOWN: usize = 16;
const LINE_CHARS: usize = 120;
const GATEWAY: &str = "crates/bourse-gateway/src/phase";

/// What happened.
pub(super) struct Facts {
    pub(super) admitted: String,
    pub(super) plan: String,
    pub(super) holds: String,
    pub(super) attempts: String,
    pub(super) stream: String,
    pub(super) settles: String,
    pub(super) movements: String,
    pub(super) receipt: String,
    pub(super) verdict: Verdict,
    pub(super) plain: String,
}

/// The page, phase by phase.
pub(super) fn page(facts: &Facts) -> String {
    let opening = wrapped(
        "One chat completion, from the socket to the log, as it happened in a market of three sellers. The test \
         [`walk.rs`](../crates/bourse-sim/tests/market/walk.rs) writes this page and fails when it is no longer \
         true; digests and signatures are cut.",
    );
    let text = format!("# Walk of a request\n\n{opening}\n");
    let mut page = Page { text, phases: 0 };
    let at = |name: &str| format!("{GATEWAY}/{name}.rs");
    let request = format!("POST /v1/chat/completions\nX-Bourse-Explain: 1\n\n{STREAMED}");
    page.phase(
        "Parse",
        "{} reads the body within its bounds and {} turns it into a job that keeps the buyer's bytes.",
        &[&at("parse"), "crates/bourse-wire/src/dialect/openai.rs"],
        &[("http", &request)],
    );
    page.phase(
        "Admit",
        "{} looks the key's SHA-256 up at the exchange before it reads the body, so that a stranger costs \
         nothing but a head.",
        &[&at("admit")],
        &[("text", &facts.admitted)],
    );
    page.phase(
        "Plan",
        "{} makes the job a demand, and the pure {} orders the offers and keeps a reason for each one \
         that it rejects.",
        &[&at("plan"), "crates/bourse-market/src/plan.rs"],
        &[("json", &facts.plan)],
    );
    page.phase(
        "Hold",
        "{} reserves the worst case so far, which {} computes, and adds the difference when the walk comes \
         to a dearer seller.",
        &[&at("hold"), "crates/bourse-market/src/quote.rs"],
        &[("text", &facts.holds)],
    );
    page.phase(
        "Dispatch",
        "{} asks one seller after the other under one deadline, in silence until the first content; each \
         gets the buyer's body with its own name for the model.",
        &[&at("dispatch")],
        &[("text", &facts.attempts)],
    );
    page.phase(
        "Relay",
        "{} forwards what it reads, {} counts it, and the stream ends in exactly one terminal; `{…}` \
         stands for the plan above.",
        &[&at("relay"), "crates/bourse-market/src/meter.rs"],
        &[("text", &facts.stream)],
    );
    page.phase(
        "Settle",
        "{} posts the charge once and voids the rest of the hold; {} moves it on to seller, fee and \
         rounding in the same step, so every transfer stands here from both its sides.",
        &[&at("settle"), "crates/bourse-exchange/src/core.rs"],
        &[("text", &facts.settles), ("text", &facts.movements)],
    );
    page.phase(
        "Prove",
        "{} drafts the receipt, {} takes it as a leaf, and {} checks the document offline.",
        &[&at("prove"), "crates/bourse-proof/src/log.rs", "crates/bourse-proof/src/receipt.rs"],
        &[("json", &cut_digests(&facts.receipt)), ("text", &verdict_lines(&facts.verdict))],
    );
    let _ = write!(
        page.text,
        "\n## In one piece\n\nWithout `stream` the same phases end in one body.\n\n```http\nPOST \
         /v1/chat/completions\nX-Bourse-Explain: 1\n\n{PLAIN}\n```\n\n```json\n{}\n```\n",
        facts.plain.trim_end()
    );
    page.text
}

/// The page as it grows.
struct Page {
    text: String,
    phases: usize,
}

impl Page {
    /// A phase: its sentence, in which `{name}` becomes a link to the file behind it, and its facts.
    fn phase(&mut self, title: &str, prose: &str, files: &[&str], facts: &[(&str, &str)]) {
        self.phases += 1;
        let mut prose = prose.to_owned();
        for file in files {
            assert!(root().join(file).is_file(), "the page names {file}, which is not there");
            let name = file.trim_start_matches("crates/");
            assert!(prose.contains("{}"), "{title}: no place for {file}");
            prose = prose.replacen("{}", &format!("[`{name}`](../{file})"), 1);
        }
        let _ = write!(self.text, "\n## {}. {title}\n\n{}\n", self.phases, wrapped(&prose));
        for (language, block) in facts {
            let _ = write!(self.text, "\n```{language}\n{}\n```\n", block.trim_end());
        }
    }
}

/// Prose in lines of at most [`LINE_CHARS`], unless a word is longer.
fn wrapped(prose: &str) -> String {
    let mut lines = vec![String::new()];
    for word in prose.split_whitespace() {
        let last = lines.last_mut().expect("one at least");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= LINE_CHARS {
            let _ = write!(last, " {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// JSON with its digests and signatures cut.
pub(super) fn cut_digests(json: &str) -> String {
    let is_digest = |piece: &&str| piece.len() >= 64 && piece.bytes().all(|byte| byte.is_ascii_hexdigit());
    let cut = |piece| match Some(piece).filter(is_digest) {
        Some(digest) => format!("{}…", &digest[..DIGEST_DIGITS_SHOWN]),
        None => piece.to_owned(),
    };
    json.split('"').map(cut).collect::<Vec<_>>().join("\"")
}

fn verdict_lines(verdict: &Verdict) -> String {
    let mut out = String::new();
    for check in &verdict.checks {
        let _ = writeln!(out, "{:<8} {:<21} {}", format!("{:?}", check.outcome), check.name, check.words);
    }
    let _ = writeln!(out, "holds: {}", verdict.holds());
    out
}
