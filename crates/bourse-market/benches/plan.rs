//! Time of one plan over 1, 20, 1,000 and 100,000 offers of one model: a plain request, one with many rules,
//! one whose order is fixed, one with a cut-off of speed, and a plain one in a market where every offer has been
//! asked and some rest; of the digest's bytes; and of all that a gateway does to decide: the plan, its digest and
//! its entry in the journal.

use bourse_market::{
    Cutoffs, DataPolicy, Demand, HealthTable, JournalWriter, MarketSnapshot, MaxPrice, Offer, OfferIndex,
    Outcome, Policy, Preferences, Quantization, QuantizationSet, Sort, Supports, plan, plan_digest,
};
use bourse_types::{
    Digest32, DurationMs, ModelSlug, PicoUsdPerToken, PriceSchedule, RequestId, SellerName, UnixMs,
};
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

/// After one answer of every offer, but for one in fifty that failed three times and one in ten that limits.
fn lived(snapshot: &MarketSnapshot) -> HealthTable {
    let mut health = HealthTable::new(snapshot);
    for n in 0..snapshot.offers().len() as u32 {
        let outcomes = match n {
            n if n % 50 == 49 => [Some(Outcome::Failure); 3],
            n if n % 10 == 9 => [Some(Outcome::RateLimited { retry_after: Some(DurationMs(1)) }), None, None],
            n => [Some(Outcome::success(DurationMs(200 + u64::from(n) % 1_000))), None, None],
        };
        for outcome in outcomes.into_iter().flatten() {
            health.on_start(OfferIndex(n));
            health.on_outcome(OfferIndex(n), UnixMs(1), outcome);
        }
    }
    health
}

fn request(preferences: &Preferences) -> Demand<'_> {
    Demand {
        prompt_bytes: 2_000,
        messages: 4,
        max_tokens: Some(512),
        needs: Supports::TOOLS,
        ..Demand::new("bench/model", preferences)
    }
}

fn book(count: u64) -> Option<MarketSnapshot> {
    MarketSnapshot::new((0..count).filter_map(offer).collect(), Digest32::default()).ok()
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
    let cases =
        [("plain", &plain), ("ruled", &ruled), ("sorted", &sorted), ("cut_off", &cut_off), ("lived", &plain)];
    let mut group = c.benchmark_group("plan");
    for count in [1u64, 20, 1_000, 100_000] {
        let Some(snapshot) = book(count) else { return };
        let fresh = HealthTable::new(&snapshot);
        let lived = lived(&snapshot);
        for (name, preferences) in cases {
            let (demand, health) = (request(preferences), if name == "lived" { &lived } else { &fresh });
            let mut seed = 0;
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    seed += 1;
                    plan(black_box(&snapshot), health, black_box(&demand), UnixMs(1_000), seed)
                });
            });
        }
        let demand = Demand::new("bench/model", &plain);
        let Ok(planned) = plan(&snapshot, &fresh, &demand, UnixMs(1), 1) else { return };
        group.bench_function(BenchmarkId::new("digest_bytes", count), |b| {
            b.iter(|| black_box(&planned).digest_bytes());
        });
    }
    group.finish();
}

fn decide(c: &mut Criterion) {
    const BUFFER_BYTES: usize = 1 << 20;
    let plain = Preferences::default();
    let demand = request(&plain);
    let mut group = c.benchmark_group("decide");
    for count in [1, 20] {
        let Some(snapshot) = book(count) else { return };
        let health = HealthTable::new(&snapshot);
        let mut out = Vec::with_capacity(2 * BUFFER_BYTES);
        let mut writer = JournalWriter::begin(&snapshot, &health, &mut out);
        let mut seed = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                seed += 1;
                if out.len() > BUFFER_BYTES {
                    out.clear();
                }
                let made = plan(black_box(&snapshot), &health, black_box(&demand), UnixMs(1), seed);
                let digest = plan_digest(&made);
                let request = RequestId(u128::from(seed));
                writer.decision(request, (UnixMs(1), seed), &demand, digest, &mut out);
                made
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench, decide);
criterion_main!(benches);
