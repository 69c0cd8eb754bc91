//! Time of one plan over 1, 20, 1,000 and 100,000 offers of one model: a plain request, one with many rules,
//! one whose order is fixed; and of the digest's bytes.

use bourse_market::{
    Cutoffs, DataPolicy, Demand, HealthTable, MarketSnapshot, MaxPrice, Offer, Policy, Preferences,
    Quantization, QuantizationSet, Sort, Supports, plan,
};
use bourse_types::{Digest32, ModelSlug, PicoUsdPerToken, PriceSchedule, SellerName, UnixMs};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

/// Every seventh has less of everything, so that rules have something to refuse.
fn offer(n: u64) -> Option<Offer> {
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(50_000),
        ..PriceSchedule::per_token(
            PicoUsdPerToken(100_000 + 1_000 * (n % 1_000)),
            PicoUsdPerToken(400_000 + 3_000 * (n % 1_000)),
        )
    };
    let seller = SellerName::parse(&format!("seller-{n}")).ok()?;
    let ordinary = Offer {
        completion_tokens_max: Some(8_192),
        quantization: Quantization::Fp8,
        data: DataPolicy::ZDR,
        ..Offer::new(ModelSlug::parse("bench/model").ok()?, seller, Some(prices), 131_072)
    };
    let poor = Offer {
        context_tokens_max: 600,
        data: DataPolicy::NONE,
        supports: Supports::NONE,
        ..ordinary.clone()
    };
    Some(if n % 7 == 6 { poor } else { ordinary })
}

fn bench(c: &mut Criterion) {
    let plain = Preferences::default();
    let names = |list: [&str; 2]| list.iter().filter_map(|n| SellerName::parse(n).ok()).collect::<Vec<_>>();
    let policy =
        Policy { data: DataPolicy::ZDR, ignored: names(["seller-7", "seller-8"]), ..Policy::default() };
    let ruled = Preferences {
        ignore: names(["seller-1", "seller-2"]),
        max_price: MaxPrice { completion: Some(PicoUsdPerToken(2_000_000)), ..MaxPrice::default() },
        data: DataPolicy::NO_COLLECTION,
        quantizations: Some(QuantizationSet::default().with(Quantization::Fp8)),
        ..Preferences::default()
    }
    .tightened_by(&policy);
    let sorted = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
    let cut_off = Preferences {
        max_latency: Cutoffs { p90: Some(900), ..Cutoffs::default() },
        ..Preferences::default()
    };
    let cases = [("plain", &plain), ("ruled", &ruled), ("sorted", &sorted), ("cut_off", &cut_off)];
    let mut group = c.benchmark_group("plan");
    for count in [1u64, 20, 1_000, 100_000] {
        let offers = (0..count).filter_map(offer).collect();
        let Ok(snapshot) = MarketSnapshot::new(offers, Digest32::default()) else { return };
        let health = HealthTable::new(&snapshot);
        for (name, preferences) in cases {
            let demand = Demand {
                prompt_bytes: 2_000,
                messages: 4,
                max_tokens: Some(512),
                needs: Supports::TOOLS,
                ..Demand::new("bench/model", preferences)
            };
            let mut seed = 0;
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    seed += 1;
                    plan(black_box(&snapshot), &health, black_box(&demand), UnixMs(1), seed)
                });
            });
        }
        let demand = Demand::new("bench/model", &plain);
        let Ok(planned) = plan(&snapshot, &health, &demand, UnixMs(1), 1) else { return };
        group.bench_function(BenchmarkId::new("digest_bytes", count), |b| {
            b.iter(|| black_box(&planned).digest_bytes());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
