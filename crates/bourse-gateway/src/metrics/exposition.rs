//! The text that Prometheus reads, version 0.0.4.
//!
//! Label values are words of ours or names of sellers and models, and neither has a character that must be escaped.
//! What is not known is left out; a number that is not one is never written.

use super::families::{Family, Kind};
use super::histogram::Histogram;
use std::fmt::Write as _;

/// Microseconds in a second.
const SECOND_US: u64 = 1_000_000;

/// The text so far.
#[derive(Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// Begins a family.
    pub(super) fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let Family { name, kind, help, .. } = family;
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        Samples { out: &mut self.0, family }
    }

    /// A family of one number.
    pub(super) fn value(&mut self, family: &'static Family, value: u64) {
        self.family(family).sample(&[], value);
    }

    /// A family of measurements, in seconds.
    pub(super) fn histogram(&mut self, family: &'static Family, histogram: &Histogram) {
        debug_assert!(family.kind == Kind::Histogram);
        let (below, count, sum_us) = histogram.read();
        let name = family.name;
        self.family(family);
        let out = &mut self.0;
        for (bound, count) in below {
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {count}", seconds(bound));
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {count}", seconds(sum_us));
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    out: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// One number. `values` are those of the family's labels, in their order.
    pub(super) fn sample(&mut self, values: &[&str], value: u64) {
        self.push_name(values);
        let _ = writeln!(self.out, " {value}");
    }

    /// One measurement, if there is one.
    pub(super) fn reading(&mut self, values: &[&str], value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        self.push_name(values);
        let _ = writeln!(self.out, " {value}");
    }

    fn push_name(&mut self, values: &[&str]) {
        debug_assert_eq!(values.len(), self.family.labels.len());
        self.out.push_str(self.family.name);
        for (n, (label, value)) in self.family.labels.iter().zip(values).enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{label}=\"{value}\"");
        }
        if !values.is_empty() {
            self.out.push('}');
        }
    }
}

/// Microseconds as decimal seconds, without zeros at the end.
fn seconds(us: u64) -> String {
    let (whole, rest) = (us / SECOND_US, us % SECOND_US);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:06}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (us, want) in [(0, "0"), (10, "0.00001"), (2_500_000, "2.5"), (600_000_000, "600")] {
            assert_eq!(seconds(us), want);
        }
    }
}
