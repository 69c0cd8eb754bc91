use super::*;
use crate::demand::Demand;
use crate::health::{HealthTable, Outcome};
use crate::offer::Offer;
use crate::preferences::Preferences;
use crate::snapshot::tests::offer;
use crate::snapshot::{MarketSnapshot, Model};
use bourse_types::{Digest32, PicoUsdPerToken, PriceSchedule, UnixMs};

const NOW: UnixMs = UnixMs(1_000);

fn market(offers: usize) -> MarketSnapshot {
    let priced = |n: usize| {
        let price = PicoUsdPerToken(100_000 + 7_919 * (n as u64 % 89));
        Offer {
            prices: Some(PriceSchedule::per_token(price, price)),
            ..offer(if n.is_multiple_of(3) { "n" } else { "m" }, &format!("s{n}"))
        }
    };
    MarketSnapshot::new((0..offers).map(priced).collect(), Digest32::default()).unwrap()
}

/// Every second offer fails, so that it rests.
fn health(snapshot: &MarketSnapshot) -> HealthTable {
    let mut health = HealthTable::new(snapshot);
    for index in (0..snapshot.offers().len() as u32).step_by(2).map(OfferIndex) {
        for _ in 0..3 {
            health.on_start(index);
            health.on_outcome(index, NOW, Outcome::Failure);
        }
    }
    health
}

/// Draws from the offers of both models, those that rest or the others, and asks the definition each time.
#[track_caller]
fn check(offers: usize, verdict_of: impl Fn(&[Span<'_>]) -> u8) {
    let (snapshot, wishes) = (market(offers), Preferences::default());
    let (health, demand) = (health(&snapshot), Demand::new("m", &wishes));
    let models: Vec<&Model> = ["n", "m"].iter().map(|slug| snapshot.model(slug).unwrap()).collect();
    let mut spans: Vec<Span<'_>> = models.into_iter().map(Span::new).collect();
    let field = Field::new(&snapshot, &health, &demand, NOW, &spans);
    for span in &mut spans {
        field.classify(span);
    }
    let verdict = verdict_of(&spans);
    let spans: Vec<&Span<'_>> = spans.iter().collect();
    let members = Members { spans: &spans, verdict };
    for seed in 0..40 {
        let mut lottery = field.lottery(&members).0;
        let (mut random, mut same) = (Random::new(seed), Random::new(seed));
        let mut taken = Vec::new();
        for _ in 0..16 {
            let want = field.defined(&members, same.unit(), &taken);
            let weights = |block: usize| field.weights(&members, block);
            let drawn = lottery.draw(&mut random, &weights, &|_, _| unreachable!("near enough"));
            assert_eq!(drawn, Some(want), "seed {seed} after {taken:?}");
            taken.push(want);
        }
    }
}

#[test]
fn the_first_class_is_drawn_by_its_definition() {
    check(70, |_| OPEN);
    check(500, |_| OPEN);
}

/// Whose blocks have no gaps by the definition.
#[test]
fn a_later_class_is_drawn_by_its_definition() {
    let resting = |spans: &[Span<'_>]| {
        let class = (0..CLASSES).rfind(|class| spans[0].later[*class] > 0).unwrap();
        LATER | class as u8
    };
    check(70, resting);
    check(500, resting);
}
