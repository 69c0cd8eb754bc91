//! Counters and histograms, as Prometheus text.
//!
//! Plain atomics: a request touches a dozen of them, which costs tens of nanoseconds. Labels come from
//! closed sets.

use bourse_market::{Bill, Doubts};
use bourse_wire::receipt::Finish;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper ends of the buckets of durations, in milliseconds.
const BUCKETS_MS: [u64; 10] = [1, 5, 20, 100, 500, 1_000, 5_000, 20_000, 60_000, 300_000];

#[derive(Default)]
struct Histogram {
    buckets: [Counter; BUCKETS_MS.len()],
    count: Counter,
    sum_ms: Counter,
}

impl Histogram {
    fn observe(&self, ms: u64) {
        if let Some(at) = BUCKETS_MS.iter().position(|end| ms <= *end) {
            self.buckets[at].add(1);
        }
        self.count.add(1);
        self.sum_ms.add(ms);
    }
}

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    answers: [Counter; 6],
    finishes: [Counter; Finish::ALL.len()],
    doubts: [Counter; 5],
    prompt_tokens: Counter,
    completion_tokens: Counter,
    charged_nano_usd: Counter,
    durations: Histogram,
    pub(crate) attempt_failures: Counter,
    pub(crate) hedges: Counter,
    pub(crate) settle_failures: Counter,
    pub(crate) connections_refused: Counter,
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16) {
        self.answers[usize::from(status / 100).min(5)].add(1);
    }

    pub(crate) fn settled(&self, bill: &Bill, finish: Finish, total_ms: u64) {
        self.finishes[finish as usize].add(1);
        self.prompt_tokens.add(bill.usage.prompt.0);
        self.completion_tokens.add(bill.usage.completion.0);
        self.charged_nano_usd.add(bill.charge.total.0);
        self.durations.observe(total_ms);
    }

    pub(crate) fn doubts(&self, doubts: Doubts) {
        for (counter, one) in self.doubts.iter().zip(Doubts::ALL.members()) {
            counter.add(u64::from(doubts.contains(one)));
        }
    }

    /// The exposition text. `gauges` are read by the caller.
    pub(crate) fn text(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut out = String::with_capacity(4 * 1024);
        let head = |out: &mut String, name: &str, help: &str, kind: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut out, "bourse_answers_total", "Answers by class of status.", "counter");
        for (class, counter) in self.answers.iter().enumerate().skip(1) {
            let _ = writeln!(out, "bourse_answers_total{{class=\"{class}xx\"}} {}", counter.get());
        }
        head(&mut out, "bourse_settlements_total", "Settled requests by how they ended.", "counter");
        for (finish, counter) in Finish::ALL.iter().zip(&self.finishes) {
            let _ =
                writeln!(out, "bourse_settlements_total{{finish=\"{}\"}} {}", finish.as_str(), counter.get());
        }
        head(&mut out, "bourse_usage_doubts_total", "Usages that were odd, by what was odd.", "counter");
        for (counter, one) in self.doubts.iter().zip(Doubts::ALL.members()) {
            let _ = writeln!(out, "bourse_usage_doubts_total{{doubt=\"{one}\"}} {}", counter.get());
        }
        for (name, help, counter) in [
            ("bourse_prompt_tokens_total", "Prompt tokens billed.", &self.prompt_tokens),
            ("bourse_completion_tokens_total", "Completion tokens billed.", &self.completion_tokens),
            ("bourse_charged_nanodollars_total", "Nano-dollars charged.", &self.charged_nano_usd),
            ("bourse_attempt_failures_total", "Attempts at sellers that failed.", &self.attempt_failures),
            (
                "bourse_hedges_total",
                "Streams for which a second seller was asked beside a stalled one.",
                &self.hedges,
            ),
            ("bourse_settle_failures_total", "Settlements that the exchange refused.", &self.settle_failures),
            ("bourse_connections_refused_total", "Connections beyond the bound.", &self.connections_refused),
        ] {
            head(&mut out, name, help, "counter");
            let _ = writeln!(out, "{name} {}", counter.get());
        }
        for (name, help, value) in gauges {
            head(&mut out, name, help, "gauge");
            let _ = writeln!(out, "{name} {value}");
        }
        self.push_durations(&mut out);
        out
    }

    fn push_durations(&self, out: &mut String) {
        let name = "bourse_request_duration_seconds";
        let _ = writeln!(out, "# HELP {name} From arrival to settlement.\n# TYPE {name} histogram");
        let mut below = 0;
        for (end, counter) in BUCKETS_MS.iter().zip(&self.durations.buckets) {
            below += counter.get();
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", seconds(*end));
        }
        let count = self.durations.count.get();
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {count}", seconds(self.durations.sum_ms.get()));
    }
}

/// Milliseconds as decimal seconds.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_every_family_once() {
        let metrics = Metrics::default();
        metrics.answered(200);
        metrics.answered(503);
        metrics.durations.observe(7);
        metrics.durations.observe(400_000);
        let text = metrics.text(&[("bourse_nodes", "Connected nodes.", 2)]);
        for line in [
            "bourse_answers_total{class=\"2xx\"} 1",
            "bourse_answers_total{class=\"5xx\"} 1",
            "bourse_request_duration_seconds_bucket{le=\"0.020\"} 1",
            "bourse_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "bourse_request_duration_seconds_sum 400.007",
            "bourse_nodes 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}");
        }
        let types: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let unique: std::collections::HashSet<_> = types.iter().collect();
        assert_eq!(types.len(), unique.len());
    }
}
