use super::*;
use crate::canonical::{Bytes, Canonical};
use crate::demand::Demand;
use crate::health::{Conversation, Served, ToolCalls};
use crate::offer::{Offer, Supports};
use crate::plan::plan;
use crate::preferences::{Cutoffs, MaxPrice, Policy, Preferences, Sort, TierWish};
use crate::snapshot::tests::offer;
use crate::sticky::Warmth;
use bourse_types::{DurationMs, ModelSlug, PicoUsdPerToken, SellerName};
use proptest::prelude::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// A book of two models and up to twelve sellers, with prices of its own.
fn book(dice: &mut Dice, name: u8) -> MarketSnapshot {
    let mut offers = Vec::new();
    for n in 0..12 {
        if dice.roll(5) == 0 {
            continue;
        }
        let mut one = offer(if n % 3 == 0 { "n" } else { "m" }, &format!("s{n}"));
        if let Some(prices) = &mut one.prices {
            prices.prompt = PicoUsdPerToken(100_000 + dice.roll(400_000));
        }
        offers.push(Offer { capacity: (n == 5).then_some(9), ..one });
    }
    offers.push(Offer { prices: None, ..offer("m", "unpriced") });
    MarketSnapshot::new(offers, Digest32([name; 32])).unwrap()
}

fn wishes(dice: &mut Dice) -> Preferences {
    let names = |list: &[&str]| list.iter().map(|name| SellerName::parse(name).unwrap()).collect();
    match dice.roll(8) {
        0 => Preferences { sort: Some(Sort::Latency), ..Preferences::default() },
        1 => Preferences { order: names(&["s4", "s1"]), ..Preferences::default() },
        2 => Preferences { only: names(&["s1", "s2", "s7"]), ..Preferences::default() },
        3 => {
            let prompt = Some(PicoUsdPerToken(200_000));
            let max_price = MaxPrice { prompt, ..MaxPrice::default() };
            Preferences { max_price, ..Preferences::default() }
        }
        4 => {
            let policy = Policy { allowed: vec![names(&["s1", "s2", "s3"])], ..Policy::default() };
            let regions = vec!["us".into()];
            let max_latency = Cutoffs { p90: Some(1_500), ..Cutoffs::default() };
            let tier = TierWish::AlsoFlex;
            let wishes = Preferences { max_latency, tier, ..Preferences::default() };
            if dice.roll(4) == 0 { Preferences { regions, ..wishes } } else { wishes.tightened_by(&policy) }
        }
        _ => Preferences::default(),
    }
}

fn outcome(dice: &mut Dice) -> Outcome {
    let tools = [ToolCalls::None, ToolCalls::Good, ToolCalls::InvalidJson, ToolCalls::SchemaMismatch];
    match dice.roll(12) {
        0 => Outcome::Failure,
        1 => Outcome::Broken,
        2 => Outcome::RateLimited { retry_after: (dice.roll(2) == 0).then(|| DurationMs(dice.roll(9_000))) },
        3 => Outcome::Neutral,
        4 => Outcome::Forbidden,
        _ => Outcome::Success(Served {
            ttft: DurationMs(50 + dice.roll(900)),
            whole: DurationMs(1_000 + dice.roll(9_000)),
            prompt_tokens: dice.roll(4_000) as u32,
            cached_tokens: dice.roll(4_000) as u32,
            completion_tokens: dice.roll(400) as u32,
            conversation: if dice.roll(2) == 0 { Conversation::New } else { Conversation::Continued },
            tools: tools[dice.roll(4) as usize],
        }),
    }
}

/// A market that keeps a journal: `decisions` of them, attempts that overlap, and now and then another
/// book or a checkpoint.
fn recorded(seed: u64, decisions: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut snapshot = book(&mut dice, 0);
    let mut health = HealthTable::new(&snapshot);
    let mut out = Vec::new();
    let mut writer = JournalWriter::begin(&snapshot, &health, &mut out);
    let mut open: Vec<SellerName> = Vec::new();
    let mut now = UnixMs(1_700_000_000_000);
    let fallbacks = [ModelSlug::parse("n").unwrap()];
    let warmth = [Warmth { offer: OfferIndex(1), tokens: 900 }];
    for n in 0..decisions {
        now = now.plus(DurationMs(dice.roll(400)));
        let preferences = wishes(&mut dice);
        let demand = Demand {
            prompt_bytes: dice.roll(20_000),
            messages: dice.roll(9) as u32,
            max_tokens: (dice.roll(2) == 0).then(|| 1 + dice.roll(500)),
            choices: 1 + dice.roll(2) as u32,
            prefers: Supports::TOOLS,
            fallbacks: &fallbacks[..dice.roll(2) as usize],
            warmth: &warmth[..dice.roll(2) as usize],
            ..Demand::new(["m", "m", "n", "nobody"][dice.roll(4) as usize], &preferences)
        };
        let seed = dice.roll(1 << 31);
        let made = plan(&snapshot, &health, &demand, now, seed);
        writer.decision(RequestId(u128::from(n)), (now, seed), &demand, plan_digest(&made), &mut out);
        if let Some(first) = made.ok().and_then(|plan| plan.attempts.first().copied()) {
            health.on_start(first);
            writer.started(first, &mut out);
            open.push(snapshot.offer(first).unwrap().seller.clone());
        }
        while open.len() > 20 || (!open.is_empty() && dice.roll(2) == 0) {
            let seller = open.swap_remove(dice.roll(open.len() as u64) as usize);
            let model = if snapshot.index_of("m", seller.as_str()).is_some() { "m" } else { "n" };
            let Some(ended) = snapshot.index_of(model, seller.as_str()) else { continue };
            let how = outcome(&mut dice);
            health.on_outcome(ended, now, how);
            writer.outcome(ended, now, &how, &mut out);
        }
        if dice.roll(700) == 0 {
            let next = book(&mut dice, n as u8);
            health = health.carried(&snapshot, &next);
            snapshot = next;
            writer.book(&snapshot, &mut out);
        }
        if dice.roll(900) == 0 {
            writer.checkpoint(&health, &mut out);
        }
    }
    out
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

#[test]
fn two_files_replay_as_one() {
    let mut dice = Dice(3);
    let snapshot = book(&mut dice, 0);
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
        let mut dice = Dice(seed);
        let snapshot = book(&mut dice, 1);
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
