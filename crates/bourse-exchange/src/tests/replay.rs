//! The books as they were.

use super::support::{START, serve};
use super::{key, market};
use crate::OpenError;
use crate::replay::replay_of;

#[test]
fn every_group_replays_to_what_the_books_were_then() {
    let exchange = market(1_000_000);
    let grant = key(&exchange, None);
    let mut seen = Vec::new();
    for n in 0..6 {
        serve(&exchange, n, grant, START).unwrap();
        let group = exchange.flush().unwrap().0;
        seen.push((group, exchange.digest().to_string()));
    }
    let replayed =
        |group| exchange.shared.index.lock().with_journal(|journal| replay_of(journal, group, |_, _| {}));
    for (n, (group, digest)) in seen.iter().enumerate() {
        let report = replayed(Some(*group)).unwrap();
        assert_eq!((report.group, &report.state_digest, report.receipts), (*group, digest, n as u64 + 1));
        let operator = report.accounts.iter().find(|line| line.name == "operator").unwrap();
        assert_eq!(operator.balance_usd, crate::books::usd(1_000_000 - 1_234 * (n as i128 + 1)));
    }
    let last = seen.last().unwrap();
    assert_eq!(replayed(None).unwrap().state_digest, last.1);
    for none in [0, last.0 + 1] {
        let refused = replayed(Some(none)).unwrap_err();
        assert!(matches!(refused, OpenError::NoGroup { asked, last: end } if asked == none && end == last.0));
    }
    let end = exchange.shared.index.lock().with_journal(|journal| journal.last());
    assert_eq!(replayed(None).unwrap().chain, end.chain.to_string());
}

#[test]
fn progress_is_told_to_the_end() {
    let exchange = market(1_000);
    let mut told = Vec::new();
    let report = exchange
        .shared
        .index
        .lock()
        .with_journal(|journal| replay_of(journal, None, |at, all| told.push((at, all))))
        .unwrap();
    assert_eq!((told.len() as u64, told.last()), (report.group, Some(&(report.group, report.group))));
}
