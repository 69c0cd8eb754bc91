//! Who takes part: sellers with their offers, buyers with their purses.

use super::performance::Speed;
use crate::seed::{Random, mix};
use crate::upstream::FaultScript;
use bourse_market::{MarketSnapshot, Offer, Supports};
use bourse_types::{Digest32, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule, SellerName, SlugError};

/// Models on sale.
pub(super) const MODELS: [&str; 2] = ["sim/small", "sim/large"];
const SELLERS: u64 = 6;

/// A seller's ways, beside its offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seller {
    pub(super) speed: Speed,
    pub(super) faults: FaultScript,
}

/// All sellers, and the picture of the market that they make.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) snapshot: MarketSnapshot,
    sellers: Vec<(SellerName, Seller)>,
}

impl Cast {
    /// The sellers of one seed. One of them never says its price, so nobody may be sent there.
    pub(super) fn new(seed: u64, fault_permille: u16) -> Result<Self, SlugError> {
        let mut random = Random::new(mix(seed ^ 0x5E11));
        let (mut sellers, mut offers) = (Vec::new(), Vec::new());
        for number in 0..SELLERS {
            let name = SellerName::parse(&format!("seller-{number}"))?;
            for model in MODELS {
                let priced = number != SELLERS - 1;
                offers.push(offer(&mut random, ModelSlug::parse(model)?, name.clone(), priced));
            }
            let speed = Speed { first_token_ms: 20 + random.below(200), token_ms: 1 + random.below(6) };
            let permille = if number == 0 { 900 } else { fault_permille };
            let faults = FaultScript::Seeded { seed: random.next_u64(), permille };
            sellers.push((name, Seller { speed, faults }));
        }
        let digest = digest_of(seed);
        let snapshot = MarketSnapshot::new(offers, digest).unwrap_or_else(|_| MarketSnapshot::empty());
        Ok(Self { snapshot, sellers })
    }

    pub(super) fn seller(&self, name: &SellerName) -> Option<&Seller> {
        self.sellers.iter().find(|(known, _)| known == name).map(|(_, seller)| seller)
    }
}

fn digest_of(seed: u64) -> Digest32 {
    let mut bytes = [0u8; 32];
    for (index, part) in bytes.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mix(seed ^ index as u64).to_le_bytes());
    }
    Digest32(bytes)
}

fn offer(random: &mut Random, model: ModelSlug, seller: SellerName, priced: bool) -> Offer {
    let prompt = 1 + random.below(900_000);
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(prompt / 10),
        completion: PicoUsdPerToken(1 + random.below(4_000_000)),
        request: NanoUsd(if random.permille(200) { random.below(5_000) } else { 0 }),
        ..PriceSchedule::per_token(PicoUsdPerToken(prompt), PicoUsdPerToken(0))
    };
    Offer {
        completion_tokens_max: random.permille(300).then_some(900),
        supports: Supports::CHOICES,
        capacity: random.permille(300).then_some(64),
        ..Offer::new(model, seller, priced.then_some(prices), 32_768)
    }
}
