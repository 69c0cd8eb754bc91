use super::*;
use crate::canonical::{Bytes, Canonical};
use crate::dice::{self, Dice, book, outcome};
use crate::offer::{Offer, Operations, ServiceTier};
use crate::plan::plan;
use crate::snapshot::tests::offer;
use bourse_types::{DurationMs, ModelSlug, PicoUsdPerToken, SellerName};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A market that keeps a journal: `decisions` of them, attempts that overlap, and now and then another
/// book or a checkpoint. It ends with a checkpoint.
fn recorded(seed: u64, decisions: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut snapshot = book(&mut dice, 14);
    let mut health = HealthTable::new(&snapshot);
    let mut out = Vec::new();
    let mut writer = JournalWriter::begin(&snapshot, &health, &mut out);
    let mut open: Vec<(ModelSlug, SellerName)> = Vec::new();
    let mut now = UnixMs(1_700_000_000_000);
    for n in 0..decisions {
        now = now.plus(DurationMs(dice.roll(400)));
        let preferences = dice::wishes(&mut dice);
        let (fallbacks, warmth) = (dice::fallbacks(&mut dice), dice::warmth(&mut dice, &snapshot));
        let demand = dice::demand(&mut dice, &preferences, &fallbacks, &warmth);
        let seed = dice.roll(1 << 31);
        let made = plan(&snapshot, &health, &demand, now, seed);
        writer.decision(RequestId(u128::from(n)), (now, seed), &demand, plan_digest(&made), &mut out);
        if let Some(first) = made.ok().and_then(|plan| plan.attempts.first().copied()) {
            health.on_start(first);
            writer.started(first, &mut out);
            let asked = snapshot.offer(first).unwrap();
            open.push((asked.model.clone(), asked.seller.clone()));
        }
        while open.len() > 20 || (!open.is_empty() && dice.one_in(2)) {
            let (model, seller) = open.swap_remove(dice.roll(open.len() as u64) as usize);
            let Some(ended) = snapshot.index_of(model.as_str(), seller.as_str()) else { continue };
            let how = outcome(&mut dice);
            health.on_outcome(ended, now, how);
            writer.outcome(ended, now, &how, &mut out);
        }
        if dice.one_in(700) {
            // What is known of an offer that leaves shows here for the last time.
            writer.checkpoint(&health, &mut out);
            let next = book(&mut dice, 14);
            health = health.carried(&snapshot, &next);
            snapshot = next;
            writer.book(&snapshot, &mut out);
        }
        if dice.one_in(900) {
            writer.checkpoint(&health, &mut out);
        }
    }
    writer.checkpoint(&health, &mut out);
    out
}

fn events(bytes: &[u8]) -> Vec<DecisionEvent> {
    JournalReader::new(bytes).unwrap().map(Result::unwrap).collect()
}

fn replayed(bytes: &[u8], policy: Option<ReplayPolicy>) -> ReplayReport {
    let mut replayer = Replayer::new(policy);
    let mut report = ReplayReport::default();
    for event in JournalReader::new(bytes).unwrap() {
        report.add(&replayer.feed(event.unwrap()).unwrap());
    }
    report
}

#[test]
fn ten_thousand_decisions_replay_bit_for_bit() {
    let report = replayed(&recorded(1, 10_000), Some(ReplayPolicy::Default));
    assert_eq!((report.decisions, report.identical), (10_000, 10_000));
    assert_eq!((report.checkpoints_differing, report.chosen_otherwise), (0, 0));
    assert!(report.differing.is_empty() && report.compared > 5_000);
}

/// What the journal of these tests is made of, so that none of it goes missing unnoticed.
#[test]
fn the_journal_knows_every_kind_of_event_wish_and_outcome() {
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut count = |what, is: bool| *counts.entry(what).or_default() += u32::from(is);
    for event in events(&recorded(1, 10_000)) {
        match event {
            DecisionEvent::Book(_) => count("book", true),
            DecisionEvent::Checkpoint(_) => count("checkpoint", true),
            DecisionEvent::Started(_) => count("started", true),
            DecisionEvent::Outcome { outcome, .. } => match outcome {
                Outcome::Success(_) => count("success", true),
                Outcome::Failure => count("failure", true),
                Outcome::Broken => count("broken", true),
                Outcome::RateLimited { .. } => count("rate limited", true),
                Outcome::Forbidden => count("forbidden", true),
                Outcome::Neutral => count("neutral", true),
            },
            DecisionEvent::Decision(record) => {
                let demand = record.demand.as_demand();
                count("fallbacks", !demand.fallbacks.is_empty());
                count("warmth", !demand.warmth.is_empty());
                for (kind, is) in dice::kinds(demand.preferences) {
                    count(kind, is);
                }
            }
        }
    }
    let few = |what: &&str| if matches!(*what, "book" | "checkpoint") { 8 } else { 300 };
    assert_eq!(counts.len(), 9 + 2 + 16);
    assert!(counts.iter().all(|(what, count)| *count >= few(what)), "{counts:?}");
}

/// Whether a replay of these events differs from what was recorded.
fn is_noticed<'a>(mut replayer: Replayer, events: impl IntoIterator<Item = &'a DecisionEvent>) -> bool {
    events.into_iter().any(|event| match replayer.feed(event.clone()).unwrap() {
        Replayed::Applied => false,
        Replayed::Checkpoint { is_identical } => !is_identical,
        Replayed::Decision(decision) => !decision.is_identical,
    })
}

/// The event with one thing changed that a plan was made from, by what it was.
fn flipped(event: &DecisionEvent) -> Vec<(&'static str, DecisionEvent)> {
    match event {
        DecisionEvent::Decision(record) => {
            let other = DecisionRecord { seed: record.seed ^ 1, ..(**record).clone() };
            vec![("seed", DecisionEvent::Decision(Box::new(other)))]
        }
        DecisionEvent::Outcome { offer, now, outcome } => {
            let other = if *outcome == Outcome::Failure { Outcome::Broken } else { Outcome::Failure };
            vec![("outcome", DecisionEvent::Outcome { offer: *offer, now: *now, outcome: other })]
        }
        DecisionEvent::Book(book) => {
            // The book is named by its offers, and every plan binds the name.
            let other = dice::named(with_price(book, |pico| pico + 1));
            vec![("price", DecisionEvent::Book(Box::new(other)))]
        }
        DecisionEvent::Checkpoint(_) | DecisionEvent::Started(_) => Vec::new(),
    }
}

/// A book's offers, the cheapest of the ordinary chats of `m` at another price.
fn with_price(book: &MarketSnapshot, change: fn(u64) -> u64) -> Vec<Offer> {
    let mut offers = book.offers().to_vec();
    let is_chat = |o: &&mut Offer| {
        o.model.as_str() == "m" && o.operations.contains(Operations::CHAT) && o.tier == ServiceTier::Default
    };
    let prices = offers.iter_mut().filter(is_chat).filter_map(|offer| offer.prices.as_mut());
    let cheapest = prices.min_by_key(|prices| prices.prompt).unwrap();
    cheapest.prompt = PicoUsdPerToken(change(cheapest.prompt.0));
    offers
}

#[test]
fn a_price_that_changed_under_the_name_of_its_book_shows_in_the_draws() {
    let events = events(&recorded(1, 1_000));
    let DecisionEvent::Book(book) = &events[0] else { panic!("a journal starts with a book") };
    let other = MarketSnapshot::new(with_price(book, |pico| 2 * pico), book.digest()).unwrap();
    let other = DecisionEvent::Book(Box::new(other));
    assert!(is_noticed(Replayer::new(None), std::iter::once(&other).chain(&events[1..])));
    assert!(!is_noticed(Replayer::new(None), &events));
}

#[test]
fn one_flipped_seed_outcome_or_price_is_noticed() {
    let events = events(&recorded(1, 10_000));
    let mut replayer = Replayer::new(None);
    let mut noticed = BTreeMap::<&str, u32>::new();
    let mut outcomes = 0u32;
    for (at, event) in events.iter().enumerate() {
        let before = replayer.clone();
        let is_skipped = match replayer.feed(event.clone()).unwrap() {
            // Where nobody can serve, nothing is drawn and the seed says nothing.
            Replayed::Decision(decision) => decision.plan.is_err(),
            // Every twentieth outcome: they take long to show.
            Replayed::Applied if matches!(event, DecisionEvent::Outcome { .. }) => {
                outcomes += 1;
                !outcomes.is_multiple_of(20)
            }
            _ => false,
        };
        for (what, other) in if is_skipped { Vec::new() } else { flipped(event) } {
            let rest = || std::iter::once(&other).chain(&events[at + 1..]);
            assert!(is_noticed(before.clone(), rest()), "{what} of event {at}");
            *noticed.entry(what).or_default() += 1;
        }
    }
    assert!(noticed["seed"] > 5_000 && noticed["outcome"] > 250 && noticed["price"] > 8, "{noticed:?}");
}

#[test]
fn two_files_replay_as_one() {
    let mut dice = Dice::new(3);
    let snapshot = book(&mut dice, 14);
    let mut health = HealthTable::new(&snapshot);
    let mut first = Vec::new();
    let mut writer = JournalWriter::begin(&snapshot, &health, &mut first);
    for n in 0..500 {
        let (offer, now) = (OfferIndex(dice.roll(5) as u32), UnixMs(n * 100));
        let how = outcome(&mut dice);
        health.on_start(offer);
        writer.started(offer, &mut first);
        health.on_outcome(offer, now, how);
        writer.outcome(offer, now, &how, &mut first);
    }
    let mut second = Vec::new();
    JournalWriter::begin(&snapshot, &health, &mut second);
    let mut replayer = Replayer::new(None);
    for file in [&first, &second] {
        for event in JournalReader::new(file).unwrap() {
            let came = replayer.feed(event.unwrap()).unwrap();
            assert_ne!(came, Replayed::Checkpoint { is_identical: false });
        }
    }
    assert_eq!(replayer.market().unwrap().1, &health);
}

#[test]
fn an_outcome_that_is_missing_is_noticed() {
    let bytes = recorded(2, 3_000);
    let mut replayer = Replayer::new(None);
    let mut report = ReplayReport::default();
    let mut outcomes = 0;
    for event in JournalReader::new(&bytes).unwrap() {
        let event = event.unwrap();
        outcomes += u32::from(matches!(event, DecisionEvent::Outcome { .. }));
        if outcomes % 50 == 7 && matches!(event, DecisionEvent::Outcome { .. }) {
            continue;
        }
        report.add(&replayer.feed(event).unwrap());
    }
    assert!(report.identical < report.decisions && !report.differing.is_empty());
    assert!(report.differing.len() <= REQUESTS_NAMED_MAX && report.checkpoints_differing > 0);
}

#[test]
fn other_policies_choose_otherwise_and_the_cost_shows() {
    let bytes = recorded(4, 4_000);
    let compare = |policy| replayed(&bytes, Some(policy));
    let price = compare(ReplayPolicy::PriceOnly);
    assert!(price.chosen_otherwise > 0 && price.list_pico_instead < price.list_pico);
    let speed = compare(ReplayPolicy::LatencyOnly);
    assert!(speed.chosen_otherwise > 0 && speed.list_pico_instead > price.list_pico_instead);
    assert!(compare(ReplayPolicy::ListPriceDraw).chosen_otherwise > 0);
    let luck = compare(ReplayPolicy::Reseeded(1));
    assert!(luck.chosen_otherwise > 0);
    assert_eq!(luck.identical, luck.decisions);
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let bytes = recorded(5, 12);
    let whole: Vec<usize> = {
        let mut reader = JournalReader::new(&bytes).unwrap();
        let mut ends = vec![reader.offset()];
        while let Some(event) = reader.next() {
            event.unwrap();
            ends.push(reader.offset());
        }
        ends
    };
    assert_eq!(whole.last(), Some(&bytes.len()));
    let read = |bytes: &[u8]| {
        let mut reader = JournalReader::new(bytes).unwrap();
        let last = reader.by_ref().last();
        (reader.offset(), last.map(|event| event.map(|_| ())))
    };
    for end in whole[0]..bytes.len() {
        let offset = whole.iter().copied().filter(|at| *at <= end).max().unwrap();
        let want = if offset == end { Ok(()) } else { Err(JournalError::Torn { offset }) };
        let (stopped, last) = read(&bytes[..end]);
        assert_eq!((stopped, last.unwrap_or(Ok(()))), (offset, want), "cut at {end}");
        // File systems leave zeros where data should be.
        let mut zeroed = bytes[..end].to_vec();
        zeroed.resize(end + 300, 0);
        let (stopped, last) = read(&zeroed);
        let at_most = whole.iter().copied().filter(|at| *at <= end).max();
        assert!(
            Some(stopped) >= at_most && matches!(last, Some(Err(JournalError::Torn { .. }))),
            "zeros at {end}"
        );
    }
    let last_frame = whole[whole.len() - 2];
    for at in whole[0]..last_frame {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let (stopped, last) = read(&damaged);
        assert!(stopped <= at && matches!(last, Some(Err(_))), "bit at {at}");
    }
    assert!(matches!(JournalReader::new(&bytes[1..]), Err(JournalError::NotAJournal)));
}

#[test]
fn frames_cannot_be_swapped_or_dropped() {
    let mut out = Vec::new();
    let snapshot = MarketSnapshot::empty();
    let mut writer = JournalWriter::begin(&snapshot, &HealthTable::default(), &mut out);
    let start = out.len();
    writer.started(OfferIndex(1), &mut out);
    let middle = out.len();
    writer.started(OfferIndex(2), &mut out);
    writer.started(OfferIndex(3), &mut out);
    let frame = middle - start;
    let damaged = |bytes: &[u8]| {
        let last = JournalReader::new(bytes).unwrap().last();
        assert!(matches!(last, Some(Err(JournalError::Damaged { .. }))), "{last:?}");
    };
    let swapped = [&out[..start], &out[middle..middle + frame], &out[start..middle], &out[middle + frame..]];
    damaged(&swapped.concat());
    damaged(&[&out[..start], &out[middle..]].concat());
}

#[test]
fn a_journal_must_start_with_book_and_health() {
    let started = DecisionEvent::Started(OfferIndex(0));
    assert_eq!(Replayer::default().feed(started), Err(ReplayError::NoStart));
    let mut replayer = Replayer::default();
    replayer.feed(DecisionEvent::Book(Box::new(MarketSnapshot::empty()))).unwrap();
    let health = HealthTable::new(&MarketSnapshot::new(vec![offer("m", "a")], Digest32::default()).unwrap());
    let other = replayer.feed(DecisionEvent::Checkpoint(Box::new(health)));
    assert_eq!(other, Err(ReplayError::AnotherBook { health: 1, book: 0 }));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Offer::read(&mut Bytes::new(&bytes));
        let _ = HealthTable::read(&mut Bytes::new(&bytes));
        let _ = RecordedDemand::read(&mut Bytes::new(&bytes));
        let mut file = Vec::new();
        JournalWriter::begin(&MarketSnapshot::empty(), &HealthTable::default(), &mut file);
        file.extend_from_slice(&bytes);
        let _ = JournalReader::new(&file).unwrap().count();
    }

    /// A book that was read is the book that was written, and so is its health after any outcomes.
    #[test]
    fn books_and_health_round_trip(seed: u64, count in 0u64..300) {
        let mut dice = Dice::new(seed);
        let snapshot = book(&mut dice, 14);
        let mut health = HealthTable::new(&snapshot);
        for n in 0..count {
            let offer = OfferIndex(dice.roll(snapshot.offers().len() as u64) as u32);
            health.on_start(offer);
            health.on_outcome(offer, UnixMs(n * dice.roll(10_000)), outcome(&mut dice));
        }
        let mut bytes = Vec::new();
        snapshot.put(&mut bytes);
        health.put(&mut bytes);
        let mut from = Bytes::new(&bytes);
        let read = MarketSnapshot::read(&mut from).unwrap();
        prop_assert_eq!((read.offers(), read.digest()), (snapshot.offers(), snapshot.digest()));
        prop_assert_eq!(HealthTable::read(&mut from), Ok(health));
        prop_assert_eq!(from.end(), Ok(()));
    }
}
