//! What one outcome costs, whose work must not grow with the number of offers, and what the journal does.

use bourse_market::{
    Demand, HealthTable, JournalWriter, MarketSnapshot, Offer, OfferIndex, Outcome, Preferences, Served,
    plan, plan_digest,
};
use bourse_types::{
    Digest32, DurationMs, ModelSlug, PicoUsdPerToken, PriceSchedule, RequestId, SellerName, UnixMs,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn offer(n: usize) -> Option<Offer> {
    let model = ModelSlug::parse("m").ok()?;
    let seller = SellerName::parse(&format!("s{n}")).ok()?;
    let prices = PriceSchedule::per_token(PicoUsdPerToken(1_000 + n as u64), PicoUsdPerToken(2_000));
    Some(Offer::new(model, seller, Some(prices), 8_192))
}

fn book(count: usize) -> MarketSnapshot {
    let offers = (0..count).filter_map(offer).collect();
    MarketSnapshot::new(offers, Digest32::default()).unwrap_or_else(|_| MarketSnapshot::empty())
}

fn served(n: u64) -> Outcome {
    Outcome::Success(Served {
        ttft: DurationMs(100 + n % 400),
        whole: DurationMs(2_000 + n % 3_000),
        prompt_tokens: 1_000,
        completion_tokens: 100,
        ..Served::default()
    })
}

fn outcomes(c: &mut Criterion) {
    let mut group = c.benchmark_group("health/outcome");
    for offers in [100u32, 1_000, 10_000] {
        let mut health = HealthTable::new(&book(offers as usize));
        let mut n = 0u64;
        let mut tell = |health: &mut HealthTable| {
            let offer = OfferIndex((n % u64::from(offers)) as u32);
            health.on_start(offer);
            health.on_outcome(offer, UnixMs(n * 3), served(n));
            n += 1;
        };
        for _ in 0..offers * 2 {
            tell(&mut health);
        }
        group.bench_function(BenchmarkId::from_parameter(offers), |b| b.iter(|| tell(&mut health)));
    }
    group.finish();
}

fn journal(c: &mut Criterion) {
    let snapshot = book(10);
    let health = HealthTable::new(&snapshot);
    let mut out = Vec::new();
    let mut writer = JournalWriter::begin(&snapshot, &health, &mut out);
    let preferences = Preferences::default();
    let demand = Demand { prompt_bytes: 4_000, messages: 4, ..Demand::new("m", &preferences) };
    let digest = plan_digest(&plan(&snapshot, &health, &demand, UnixMs(1), 1));
    c.bench_function("health/journal decision, start and outcome", |b| {
        b.iter(|| {
            out.clear();
            writer.decision(RequestId(1), (UnixMs(1), 1), black_box(&demand), digest, &mut out);
            writer.started(OfferIndex(1), &mut out);
            writer.outcome(OfferIndex(1), UnixMs(2), &served(1), &mut out);
        });
    });
}

criterion_group!(benches, outcomes, journal);
criterion_main!(benches);
