//! The exposition, read strictly, and the page for operators.

use super::families::{self, Family, Kind};
use super::offers::OUTCOMES;
use super::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// One sample: its labels and its number.
pub(crate) type Sample = (BTreeMap<String, String>, f64);

/// Reads an exposition and refuses whatever a scraper could stumble on. Samples by name.
pub(crate) fn read(text: &str) -> HashMap<String, Vec<Sample>> {
    let mut samples: HashMap<String, Vec<Sample>> = HashMap::new();
    let mut seen = HashSet::new();
    let mut family: Option<&Family> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let found = families::ALL.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(help, found.help);
            assert!(seen.insert(name.to_owned()), "{name} twice");
            family = Some(found);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = family.unwrap();
            assert_eq!(rest, format!("{} {}", family.name, family.kind.as_str()));
        } else {
            let (name, labels, value) = sample(line);
            check(family.unwrap(), &name, &labels, value);
            let list = samples.entry(name).or_default();
            assert!(list.iter().all(|(known, _)| *known != labels), "twice: {line}");
            list.push((labels, value));
        }
    }
    assert_eq!(seen.len(), families::ALL.len(), "a family is missing");
    for histogram in families::ALL.iter().filter(|f| f.kind == Kind::Histogram) {
        check_histogram(histogram.name, &samples);
    }
    samples
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"))),
        None => (series, ""),
    };
    let pair = |pair: &str| {
        let (label, value) = pair.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap();
        assert!(!value.contains(['"', '\\', '\n']), "{line}");
        (label.to_owned(), value.to_owned())
    };
    let labels = labels.split(',').filter(|l| !l.is_empty()).map(pair).collect();
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn check(family: &Family, name: &str, labels: &BTreeMap<String, String>, value: f64) {
    assert!(value.is_finite() && value >= 0.0, "{name} {labels:?} {value}");
    let suffix = name.strip_prefix(family.name).unwrap_or_else(|| panic!("{name} under {}", family.name));
    let mut want: Vec<&str> = family.labels.to_vec();
    match (family.kind, suffix) {
        (Kind::Histogram, "_bucket") => want.push("le"),
        (Kind::Histogram, "_sum" | "_count") | (Kind::Counter | Kind::Gauge, "") => {}
        _ => panic!("{name} is not of a {}", family.kind.as_str()),
    }
    let want: HashSet<&str> = want.into_iter().collect();
    assert_eq!(labels.keys().map(String::as_str).collect::<HashSet<_>>(), want, "{name}");
    for (label, value) in labels {
        assert!(is_known(family, label, value), "{name}: {label}={value}");
    }
}

/// Whether a label may have this value; sellers and models may be any that the market knows.
fn is_known(family: &Family, label: &str, value: &str) -> bool {
    match label {
        "front" => Api::ALL.iter().any(|api| front_word(*api) == value),
        "class" if family.name == families::ANSWERS.name => {
            ["1xx", "2xx", "3xx", "4xx", "5xx"].contains(&value)
        }
        "class" => FailureClass::ALL.iter().any(|class| class.as_str() == value),
        "outcome" if family.name == families::ATTEMPTS.name => OUTCOMES.contains(&value),
        "outcome" => RequestOutcome::ALL.iter().any(|outcome| outcome.as_str() == value),
        "finish" => Finish::ALL.iter().any(|finish| finish.as_str() == value),
        "count" => ["claimed", "recounted"].contains(&value),
        "kind" => TOKEN_KINDS.contains(&value),
        "doubt" => Doubts::ALL.members().any(|doubt| doubt.to_string() == value),
        "reason" => AttemptReason::ALL.iter().any(|reason| reason.as_str() == value),
        "quantile" => ["0.5", "0.99"].contains(&value),
        "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
        "seller" | "model" => !value.is_empty(),
        _ => false,
    }
}

fn check_histogram(name: &str, samples: &HashMap<String, Vec<Sample>>) {
    let counts: Vec<f64> = samples[&format!("{name}_bucket")].iter().map(|(_, n)| *n).collect();
    assert!(counts.is_sorted(), "{name} {counts:?}");
    assert_eq!(counts.last(), samples[&format!("{name}_count")].first().map(|(_, n)| n), "{name}");
    assert_eq!(samples[&format!("{name}_sum")].len(), 1);
}

/// The whole number of a series.
pub(crate) fn value(samples: &HashMap<String, Vec<Sample>>, name: &str, labels: &[(&str, &str)]) -> u64 {
    let value = reading(samples, name, labels);
    assert!(value.fract().abs() < f64::EPSILON, "{name} {value}");
    value as u64
}

/// The number of a series.
pub(crate) fn reading(samples: &HashMap<String, Vec<Sample>>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &Sample| labels.iter().all(|(k, v)| sample.0.get(*k).is_some_and(|is| is == v));
    samples[name].iter().find(|sample| has(sample)).unwrap_or_else(|| panic!("{name} {labels:?}")).1
}

#[test]
fn an_idle_market_has_every_family_once() {
    let readings = Readings {
        offers: 2,
        nodes: 0,
        durable_waiting: 0,
        decisions_pending_bytes: 7,
        decisions_dropped_bytes: 0,
        health: Vec::new(),
    };
    let metrics = Metrics::default();
    metrics.answered(200);
    metrics.answered(503);
    let samples = read(&metrics.text(&Tallies::default(), &readings));
    assert_eq!(value(&samples, "bourse_answers_total", &[("class", "5xx")]), 1);
    assert_eq!(value(&samples, "bourse_offers", &[]), 2);
    assert_eq!(value(&samples, "bourse_decisions_pending_bytes", &[]), 7);
    assert!(!samples.contains_key("bourse_offer_uptime_ratio"));
}

#[test]
fn names_tell_kind_and_unit() {
    for family in families::ALL {
        let name = family.name;
        assert!(name.starts_with("bourse_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        if family.kind == Kind::Histogram {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        assert!(family.help.ends_with('.') || family.help.contains(':'), "{name}");
    }
}

/// The page and the table say the same. To mend it, put the expected lines into the page.
#[test]
fn the_page_for_operators_has_every_metric() {
    let page = include_str!("../../../../docs/operate/telemetry.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `bourse_")).collect();
    let want: Vec<String> = families::ALL
        .iter()
        .map(|f| {
            let labels: Vec<String> = f.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {} | {} | {} |", f.name, f.kind.as_str(), labels.join(" "), f.help)
        })
        .collect();
    assert_eq!(rows.join("\n"), want.join("\n"));
}
