//! Random markets, wishes, requests and outcomes from one seed, for tests that compare whole runs.

use crate::demand::Demand;
use crate::effective::Saving;
use crate::health::{Conversation, Outcome, Served, ToolCalls};
use crate::offer::{DataPolicy, Offer, OfferIndex, Operations, Quantization, ServiceTier, Supports, Unit};
use crate::preferences::{
    Cutoffs, MaxPrice, Partition, Policy, Preferences, QuantizationSet, Sort, TierWish,
};
use crate::snapshot::MarketSnapshot;
use crate::snapshot::tests::offer;
use crate::sticky::Warmth;
use bourse_types::{
    Digest32, DurationMs, ModelSlug, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, SellerName,
};

pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len() as u64) as usize]
    }
}

/// A book that is named by the digest of its offers, as the gateway names it.
pub(crate) fn named(offers: Vec<Offer>) -> MarketSnapshot {
    let sorted = MarketSnapshot::new(offers, Digest32::default()).unwrap();
    let digest = Digest32(*blake3::hash(&Offer::canonical_bytes(sorted.offers())).as_bytes());
    MarketSnapshot::new(sorted.offers().to_vec(), digest).unwrap()
}

/// A book of three models and about so many sellers, some with variants.
pub(crate) fn book(dice: &mut Dice, sellers: u64) -> MarketSnapshot {
    let mut offers = vec![Offer { prices: None, ..offer("m", "unpriced") }];
    for n in 0..sellers {
        if dice.one_in(6) {
            continue;
        }
        let base = one_offer(dice, &format!("s{n}"));
        if dice.one_in(5) {
            let tier = dice.pick(&[ServiceTier::Default, ServiceTier::Priority, ServiceTier::Flex]);
            let model = base.model.clone();
            offers.push(Offer { model, tier, ..one_offer(dice, &format!("s{n}/{}", tier.as_str())) });
        }
        offers.push(base);
    }
    named(offers)
}

fn one_offer(dice: &mut Dice, seller: &str) -> Offer {
    let model = dice.pick(&["m", "m", "m", "n", "o"]);
    let prompt = 100_000 + dice.roll(400_000);
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(if dice.one_in(2) { prompt / 10 } else { prompt }),
        request: NanoUsd(if dice.one_in(8) { dice.roll(90_000) } else { 0 }),
        ..PriceSchedule::per_token(PicoUsdPerToken(prompt), PicoUsdPerToken(2 * prompt + dice.roll(90_000)))
    };
    let plain = Supports::ALL.without(Supports::HIDDEN_REASONING);
    let chat = Operations::CHAT.with(Operations::TEXT);
    let mut one = Offer {
        prices: Some(prices),
        context_tokens_max: dice.pick(&[131_072, 8_192, 3_000]),
        completion_tokens_max: dice.one_in(4).then(|| 100 + dice.roll(4_000)),
        supports: dice.pick(&[plain, plain, plain, Supports::TOOLS, Supports::NONE]),
        capacity: dice.one_in(7).then(|| 1 + dice.roll(6) as u32),
        quantization: dice.pick(&[Quantization::Fp8, Quantization::Bf16, Quantization::Unknown]),
        region: dice.pick(&[None, Some("us"), Some("us-east5"), Some("eu/west")]).map(Into::into),
        data: dice.pick(&[DataPolicy::NONE, DataPolicy::NO_TRAINING, DataPolicy::ZDR]),
        is_distillable: dice.one_in(2),
        operations: dice.pick(&[chat, chat, chat, chat, chat, Operations::IMAGES]),
        ..offer(model, seller)
    };
    if one.operations == Operations::IMAGES {
        one.unit = Some(Unit::Image);
        one.prices = Some(PriceSchedule { unit: PicoUsdPerUnit(dice.roll(9_000_000_000)), ..prices });
    }
    one
}

fn names(dice: &mut Dice) -> Vec<SellerName> {
    let count = 1 + dice.roll(4);
    let name = |_| {
        let end = dice.pick(&["", "", "", "/priority", "/flex", "/default"]);
        SellerName::parse(&format!("s{}{end}", dice.roll(14))).unwrap()
    };
    (0..count).map(name).collect()
}

fn cutoffs(dice: &mut Dice, most: u64) -> Cutoffs {
    let mut limit = || dice.one_in(2).then(|| 1 + dice.roll(most) as u32);
    Cutoffs { p50: limit(), p75: limit(), p90: limit(), p99: limit() }
}

fn quantizations(dice: &mut Dice) -> QuantizationSet {
    QuantizationSet::default().with(dice.pick(&[Quantization::Fp8, Quantization::Bf16]))
}

fn max_price(dice: &mut Dice) -> MaxPrice {
    MaxPrice {
        prompt: dice.one_in(2).then(|| PicoUsdPerToken(100_000 + dice.roll(400_000))),
        completion: dice.one_in(2).then(|| PicoUsdPerToken(300_000 + dice.roll(800_000))),
        request: dice.one_in(2).then(|| NanoUsd(dice.roll(90_000))),
        image: dice.one_in(4).then(|| PicoUsdPerUnit(dice.roll(9_000_000_000))),
        audio: None,
    }
}

fn policy(dice: &mut Dice) -> Policy {
    Policy {
        allowed: if dice.one_in(3) { vec![(0..14).flat_map(|_| names(dice)).collect()] } else { Vec::new() },
        ignored: if dice.one_in(3) { names(dice) } else { Vec::new() },
        max_price: if dice.one_in(4) { max_price(dice) } else { MaxPrice::default() },
        data: if dice.one_in(4) { DataPolicy::NO_TRAINING } else { DataPolicy::NONE },
        enforce_distillable: dice.one_in(8),
        quantizations: dice.one_in(8).then(|| quantizations(dice)),
        regions: if dice.one_in(8) { vec![vec!["us".into(), "eu".into()]] } else { Vec::new() },
    }
}

/// Wishes of every kind, about one for each request.
pub(crate) fn wishes(dice: &mut Dice) -> Preferences {
    const RARE: u64 = 14;
    let tiers = [TierWish::Priority, TierWish::Flex, TierWish::AlsoPriority, TierWish::AlsoFlex];
    let sorts = [Sort::Price, Sort::Throughput, Sort::Latency, Sort::Exacto];
    let mut wishes = Preferences { allow_fallbacks: !dice.one_in(RARE), ..Preferences::default() };
    if dice.one_in(RARE) {
        wishes.order = names(dice);
    }
    if dice.one_in(RARE) {
        wishes.only = names(dice);
    }
    if dice.one_in(RARE) {
        wishes.ignore = names(dice);
    }
    if dice.one_in(RARE) {
        wishes.sort = Some(dice.pick(&sorts));
    }
    if dice.one_in(RARE) {
        wishes.partition = Partition::None;
    }
    if dice.one_in(RARE) {
        wishes.max_price = max_price(dice);
    }
    if dice.one_in(RARE) {
        wishes.data = dice.pick(&[DataPolicy::NO_COLLECTION, DataPolicy::NO_TRAINING]);
    }
    if dice.one_in(RARE) {
        wishes.quantizations = Some(quantizations(dice));
    }
    if dice.one_in(RARE) {
        wishes.regions = vec![dice.pick(&["us", "eu"]).into()];
    }
    if dice.one_in(RARE) {
        wishes.min_throughput = cutoffs(dice, 60_000);
    }
    if dice.one_in(RARE) {
        wishes.max_latency = cutoffs(dice, 1_200);
    }
    if dice.one_in(RARE) {
        wishes.tier = dice.pick(&tiers);
    }
    if dice.one_in(RARE) {
        let policy = policy(dice);
        wishes = wishes.tightened_by(&policy);
    }
    wishes.require_parameters = dice.one_in(RARE);
    wishes.enforce_distillable = dice.one_in(RARE);
    wishes
}

/// Whether each kind of wish is there, with its name.
pub(crate) fn kinds(wishes: &Preferences) -> [(&'static str, bool); 16] {
    let Preferences { order, only, ignore, allow_fallbacks, sort, partition, max_price, .. } = wishes;
    [
        ("order", !order.is_empty()),
        ("only", !only.is_empty()),
        ("ignore", !ignore.is_empty()),
        ("no fallbacks", !allow_fallbacks),
        ("sort", sort.is_some()),
        ("partition", *partition == Partition::None),
        ("max_price", !max_price.is_none()),
        ("require_parameters", wishes.require_parameters),
        ("data", !wishes.data.is_empty()),
        ("enforce_distillable", wishes.enforce_distillable),
        ("quantizations", wishes.quantizations.is_some()),
        ("regions", !wishes.regions.is_empty()),
        ("min_throughput", !wishes.min_throughput.is_none()),
        ("max_latency", !wishes.max_latency.is_none()),
        ("tier", wishes.tier != TierWish::Default),
        ("policy", wishes.policy != Policy::default()),
    ]
}

/// Some of these models, to fall back to.
pub(crate) fn fallbacks(dice: &mut Dice) -> Vec<ModelSlug> {
    let some = ["n", "m", "o"].into_iter().take(dice.pick(&[0, 0, 0, 1, 2, 3]));
    some.map(|slug| ModelSlug::parse(slug).unwrap()).collect()
}

/// What some offers of a book have seen of a prompt.
pub(crate) fn warmth(dice: &mut Dice, book: &MarketSnapshot) -> Vec<Warmth> {
    let count = dice.pick(&[0, 0, 1, 3]);
    let offers = book.offers().len() as u64;
    (0..count)
        .map(|_| {
            let offer = OfferIndex(dice.roll(offers) as u32);
            Warmth { offer, tokens: dice.roll(9_000) as u32, saving: Saving::Price }
        })
        .collect()
}

pub(crate) fn demand<'a>(
    dice: &mut Dice,
    preferences: &'a Preferences,
    fallbacks: &'a [ModelSlug],
    warmth: &'a [Warmth],
) -> Demand<'a> {
    let images = dice.one_in(15);
    Demand {
        prompt_bytes: dice.roll(20_000),
        messages: dice.roll(9) as u32,
        max_tokens: dice.one_in(2).then(|| 1 + dice.roll(500)),
        choices: 1 + dice.roll(2) as u32,
        operation: if images { Operations::IMAGES } else { Operations::CHAT },
        units_max: if images { 1 + dice.roll(4) } else { 0 },
        needs: dice.pick(&[Supports::NONE, Supports::NONE, Supports::NONE, Supports::TOOLS]),
        prefers: dice.pick(&[Supports::NONE, Supports::TOOLS, Supports::TOOLS.with(Supports::SEED)]),
        fallbacks,
        warmth,
        ..Demand::new(dice.pick(&["m", "m", "m", "n", "o", "nobody"]), preferences)
    }
}

pub(crate) fn outcome(dice: &mut Dice) -> Outcome {
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
