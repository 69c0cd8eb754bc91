//! The same plans from build to build and on every machine: plans over random markets, hashed together.

use crate::dice::{self, Dice};
use crate::health::HealthTable;
use crate::offer::OfferIndex;
use crate::plan::plan;
use crate::plan_digest;
use bourse_types::{DurationMs, UnixMs};

/// Books of one block and of many, health after many outcomes, wishes of every kind.
#[test]
fn ten_thousand_plans_are_golden() {
    let mut dice = Dice::new(11);
    let mut all = blake3::Hasher::new();
    for round in 0..250u64 {
        let sellers = [1, 3, 14, 14, 60, 90, 200, 500][(round % 8) as usize];
        let book = dice::book(&mut dice, sellers);
        let mut health = HealthTable::new(&book);
        let mut now = UnixMs(1_700_000_000_000);
        for _ in 0..40 {
            for _ in 0..dice.roll(sellers) {
                let offer = OfferIndex(dice.roll(book.offers().len() as u64) as u32);
                health.on_start(offer);
                if !dice.one_in(30) {
                    health.on_outcome(offer, now, dice::outcome(&mut dice));
                }
            }
            now = now.plus(DurationMs(dice.roll(3_000)));
            let wishes = dice::wishes(&mut dice);
            let (fallbacks, warmth) = (dice::fallbacks(&mut dice), dice::warmth(&mut dice, &book));
            let demand = dice::demand(&mut dice, &wishes, &fallbacks, &warmth);
            let seed = dice.roll(1 << 31);
            all.update(&plan_digest(&plan(&book, &health, &demand, now, seed)).0);
        }
    }
    assert_eq!(
        all.finalize().to_string(),
        "53fb91db67671e4c27cbbe3a4bc6ffa31d24296e3afda042794fd4c3cc977e13"
    );
}
