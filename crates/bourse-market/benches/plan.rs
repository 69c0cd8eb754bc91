//! Time of one plan over 1, 20 and 1,000 offers.

use bourse_market::{
    Demand, HealthTable, MarketSnapshot, Offer, Preferences, PromptBound, Quantization, Supports, plan,
};
use bourse_types::{Digest32, ModelSlug, PicoUsdPerToken, PriceSchedule, SellerName, UnixMs};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn offer(n: u64) -> Option<Offer> {
    Some(Offer {
        model: ModelSlug::parse("bench/model").ok()?,
        seller: SellerName::parse(&format!("seller-{n}")).ok()?,
        prices: Some(PriceSchedule {
            cached_prompt: PicoUsdPerToken(50_000),
            ..PriceSchedule::per_token(
                PicoUsdPerToken(100_000 + 1_000 * n),
                PicoUsdPerToken(400_000 + 3_000 * n),
            )
        }),
        context_tokens_max: 131_072,
        completion_tokens_max: Some(8_192),
        supports: Supports::ALL,
        capacity: Some(64),
        prompt_bound: PromptBound::CAUTIOUS,
        quantization: Quantization::Fp8,
        region: None,
    })
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    for count in [1u64, 20, 1_000] {
        let offers = (0..count).filter_map(offer).collect();
        let Ok(snapshot) = MarketSnapshot::new(offers, Digest32::default()) else { return };
        let health = HealthTable::new(&snapshot);
        let preferences = Preferences::default();
        let demand = Demand {
            model: "bench/model",
            prompt_bytes: 2_000,
            messages: 4,
            max_tokens: Some(512),
            choices: 1,
            needs: Supports::TOOLS,
            prefers: Supports::NONE,
            preferences: &preferences,
        };
        let mut seed = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                seed += 1;
                plan(black_box(&snapshot), &health, black_box(&demand), UnixMs(1), seed)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
