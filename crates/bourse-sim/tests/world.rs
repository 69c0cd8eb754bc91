//! Whole markets from one seed, in virtual time: the laws of the books hold whatever happens.

use bourse_sim::world::{Report, WorldConfig, run, shrink};

/// Runs a market; a failure is cut down and shown.
fn hold(config: &WorldConfig) -> Report {
    run(config).unwrap_or_else(|violation| match shrink(config) {
        Some(shrunk) => panic!("{shrunk}"),
        None => panic!("seed {}: {violation}, but not when run again", config.seed),
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let config = WorldConfig::new(7, 2_000);
    assert_eq!(hold(&config), hold(&config));
    assert_ne!(hold(&config), hold(&WorldConfig::new(8, 2_000)));
}

#[test]
fn a_hundred_thousand_requests_with_faults_end_with_clean_books() {
    let report = hold(&WorldConfig::new(2_026, 100_000));
    println!("{report:#?}");
    assert_eq!(report.requests(), 100_000);
    // Every kind of end has happened, or the run proves less than it says.
    for (kind, count) in [
        ("completed", report.completed),
        ("broken off", report.broken_off),
        ("unanswered", report.unanswered),
        ("cancelled", report.cancelled),
        ("out of budget", report.out_of_budget),
        ("refused", report.refused),
        ("orphaned", report.orphaned),
        ("vanished", report.vanished),
        ("failovers", report.failovers),
        ("extensions", report.extensions),
        ("lost, and nobody had been told", report.books.lost_unacknowledged),
    ] {
        assert!(count > 20, "{kind}: {count}");
    }
}

#[test]
fn many_small_markets() {
    for seed in 0..40 {
        hold(&WorldConfig { restarts: 3, ..WorldConfig::new(seed, 300) });
    }
}
