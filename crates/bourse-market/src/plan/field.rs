//! Who is left after the hard rules: in which group each stands, what it costs, and who is chosen.

use super::draw::{BLOCK, Lottery, Random, Weights, weight};
use super::rank::{Best, Key};
use super::{LATER, Span, sieve};
use crate::demand::Demand;
use crate::effective::{ExpectedTokens, burdened, effective_cost_pico};
use crate::health::{HealthTable, Quality, Standing, Statistics, Vital, Window};
use crate::offer::{OfferIndex, ServiceTier, Supports};
use crate::preferences::{Cutoffs, Partition, Sort, TierWish};
use crate::snapshot::MarketSnapshot;
use crate::snapshot::columns::{Facts, Weighed};
use bourse_types::{UnixMs, Usage};

/// Offers that rest.
const RESTS: u16 = 1 << 15;
/// Offers that miss a cut-off of speed.
const MISSES: u16 = 1 << 14;
/// Where a model's place among those named stands in a group.
const MODEL_AT: u32 = 8;
/// Offers that are not of the tier that goes first.
const OFF_TIER: u16 = 1 << 1;
/// Offers whose standing or quality puts them after the others.
const LOWER: u16 = 1;

/// What the choice is made from.
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(super) struct Field<'a> {
    snapshot: &'a MarketSnapshot,
    health: &'a HealthTable,
    vitals: &'a [Vital],
    demand: &'a Demand<'a>,
    now: UnixMs,
    usage: Usage,
    prompt: f64,
    completion: f64,
    /// Costs of offers that have seen a part of the prompt, by position.
    warm: Vec<(usize, f64)>,
    sort: Option<Sort>,
    has_cutoffs: bool,
    priority_first: bool,
    /// Standing and quality count only where the buyer does not sort.
    is_auto: bool,
    has_tools: bool,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        snapshot: &'a MarketSnapshot,
        health: &'a HealthTable,
        vitals: &'a [Vital],
        demand: &'a Demand<'a>,
        now: UnixMs,
        spans: &[Span],
    ) -> Self {
        let wishes = demand.preferences;
        let usage = demand.usage_expected();
        let flex = wishes.tier == TierWish::Flex && spans.iter().any(sieve::has_flex);
        let by_price = flex && !wishes.is_ordered();
        let mut field = Self {
            snapshot,
            health,
            vitals,
            demand,
            now,
            usage,
            prompt: usage.prompt.0 as f64,
            completion: usage.completion.0 as f64,
            warm: Vec::new(),
            sort: if by_price { Some(Sort::Price) } else { wishes.sort },
            has_cutoffs: !wishes.min_throughput.is_none() || !wishes.max_latency.is_none(),
            priority_first: wishes.tier == TierWish::Priority,
            is_auto: !wishes.is_ordered(),
            has_tools: demand.needs.with(demand.prefers).contains(Supports::TOOLS),
        };
        field.warm = field.warm_costs();
        field
    }

    /// Up to `budget` offers in the order in which they are asked, and from where on they rest.
    pub(super) fn choose(&self, spans: &mut [Span], budget: usize, seed: u64) -> (Vec<OfferIndex>, usize) {
        if self.sort.is_some() || !self.demand.preferences.order.is_empty() {
            self.sorted(spans, budget)
        } else {
            self.drawn(spans, budget, &mut Random::new(seed))
        }
    }

    /// The group of an offer but for its model; 0 for most.
    #[inline]
    fn class(&self, at: usize) -> u16 {
        let vital = &self.vitals[at];
        let admits = vital.admits(self.now);
        let is_plain = admits && (!self.is_auto || self.is_fine(vital));
        if is_plain && !self.has_cutoffs && !self.priority_first {
            return 0;
        }
        let flag = |is: bool, bit: u16| if is { bit } else { 0 };
        let is_unreliable = self.is_auto && vital.standing == Standing::LastResort;
        let facts = self.snapshot.columns().facts[at];
        flag(!admits || is_unreliable, RESTS)
            | flag(self.has_cutoffs && self.misses(at), MISSES)
            | flag(self.priority_first && facts & Facts::tier(ServiceTier::Priority) == 0, OFF_TIER)
            | flag(self.is_auto && !self.is_fine(vital), LOWER)
    }

    #[inline]
    fn is_fine(&self, vital: &Vital) -> bool {
        vital.standing == Standing::Normal && !(self.has_tools && vital.quality == Quality::Deprioritised)
    }

    fn statistics(&self, at: usize) -> Option<&Statistics> {
        self.health.statistics(OfferIndex(at as u32))
    }

    /// Whether a cut-off is missed; what was never measured misses.
    fn misses(&self, at: usize) -> bool {
        let wishes = self.demand.preferences;
        let statistics = self.statistics(at);
        let misses = |limits: Cutoffs, measured: Option<[f32; 4]>, is_met: fn(f32, f32) -> bool| {
            let Some(measured) = measured else { return !limits.is_none() };
            let mut pairs = limits.limits().into_iter().zip(measured);
            !pairs.all(|(limit, measured)| limit.is_none_or(|limit| is_met(measured, limit as f32)))
        };
        let throughput = statistics.and_then(|s| s.throughput_tokens_per_s(Window::FiveMinutes, self.now));
        let latency = statistics.and_then(|s| s.ttft_ms(Window::FiveMinutes, self.now));
        let milli = throughput.map(|p| [p.p50, p.p75, p.p90, p.p99].map(|t| t * 1_000.0));
        misses(wishes.min_throughput, milli, |measured, least| measured >= least)
            || misses(wishes.max_latency, latency.map(|p| [p.p50, p.p75, p.p90, p.p99]), |ms, most| {
                ms <= most
            })
    }

    fn sorted(&self, spans: &mut [Span], budget: usize) -> (Vec<OfferIndex>, usize) {
        let order = &self.demand.preferences.order;
        let mut best = Best::new(budget);
        for (place, span) in spans.iter_mut().enumerate() {
            let ranks =
                if order.is_empty() { Vec::new() } else { sieve::ranks(self.snapshot, span.range(), order) };
            let model = self.model_bits(place);
            for (offset, at) in span.range().enumerate() {
                if span.verdicts[offset] != 0 {
                    continue;
                }
                let group = self.class(at) | model;
                if group & RESTS != 0 {
                    span.verdicts[offset] = LATER;
                }
                let first = match self.sort {
                    _ if self.priority_first && group & OFF_TIER == 0 => -self.throughput(at),
                    Some(sort) => self.measure(sort, at),
                    None => 0.0,
                };
                // A rank of 0 is nobody's: after all that are named.
                let rank = ranks.get(offset).map_or(0, |rank| rank.wrapping_sub(1));
                best.offer(Key { group, rank, first, price: self.list_price(at), index: at as u32 });
            }
        }
        let keys = best.keys();
        let resting_from = keys.partition_point(|key| key.group & RESTS == 0);
        (keys.iter().map(|key| OfferIndex(key.index)).collect(), resting_from)
    }

    /// What a sort looks at; less is earlier.
    fn measure(&self, sort: Sort, at: usize) -> f64 {
        match sort {
            Sort::Price => 0.0,
            Sort::Throughput => -self.throughput(at),
            Sort::Latency => f64::from(self.vitals[at].ttft_ms),
            Sort::Exacto => f64::from(self.vitals[at].quality as u8),
        }
    }

    /// Median output tokens per second; below everything where it was never measured.
    fn throughput(&self, at: usize) -> f64 {
        let measured =
            self.statistics(at).and_then(|s| s.throughput_tokens_per_s(Window::FiveMinutes, self.now));
        measured.map_or(-1.0, |percentiles| f64::from(percentiles.p50))
    }

    fn drawn(&self, spans: &mut [Span], budget: usize, random: &mut Random) -> (Vec<OfferIndex>, usize) {
        let mut pools: Vec<Pool> = Vec::new();
        let mut later: Vec<(u16, u32)> = Vec::new();
        for (place, span) in spans.iter_mut().enumerate() {
            let group = self.model_bits(place);
            if pools.last().is_none_or(|pool| pool.group != group) {
                pools.push(Pool::new(group, span.verdicts.len()));
            }
            if let Some(pool) = pools.last_mut() {
                self.fill(pool, place, span, &mut later);
            }
        }
        for pool in &mut pools {
            pool.lottery.close();
        }
        later.sort_unstable();
        let mut attempts = Vec::with_capacity(budget);
        let mut resting_from = None;
        let mut groups: Vec<u16> = pools.iter().map(|pool| pool.group).collect();
        groups.extend(later.iter().map(|(group, _)| *group));
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            if group & RESTS != 0 {
                resting_from.get_or_insert(attempts.len());
            }
            let room = budget - attempts.len();
            if let Some(pool) = pools.iter_mut().find(|pool| pool.group == group) {
                self.draw_from_pool(pool, spans, room, random, &mut attempts);
            }
            let from = later.partition_point(|(of, _)| *of < group);
            let members = &later[from..from + later[from..].partition_point(|(of, _)| *of == group)];
            let room = budget - attempts.len();
            if self.priority_first && group & OFF_TIER == 0 {
                self.fastest(members, room, &mut attempts);
            } else {
                self.draw_from_list(members, room, random, &mut attempts);
            }
        }
        let resting_from = resting_from.unwrap_or(attempts.len());
        (attempts, resting_from)
    }

    /// Puts a model's offers of the first group into its lottery, and the others aside.
    fn fill(&self, pool: &mut Pool, place: usize, span: &mut Span, later: &mut Vec<(u16, u32)>) {
        let first = span.first as usize;
        pool.segments.push((pool.lottery.blocks(), place));
        for (block, verdicts) in span.verdicts.chunks_mut(BLOCK).enumerate() {
            let start = first + block * BLOCK;
            let mut count = 0;
            for (lane, verdict) in verdicts.iter_mut().enumerate() {
                if *verdict != 0 {
                    continue;
                }
                let class = self.class(start + lane);
                // Where priority goes first nobody stands in the pool: its first group is sorted.
                if class == 0 && !self.priority_first {
                    count += 1;
                } else {
                    *verdict = LATER;
                    later.push((class | pool.group, (start + lane) as u32));
                }
            }
            let weights = if count == 0 { [0.0; BLOCK] } else { self.block(start, verdicts) };
            if !self.warm.is_empty() {
                pool.heaviest = weights.iter().fold(pool.heaviest, |most, weight| most.max(*weight));
            }
            pool.lottery.push(&weights, count);
        }
    }

    /// The weights of up to [`BLOCK`] neighbours, of those whose verdict is still open.
    #[inline]
    fn block(&self, start: usize, verdicts: &[u8]) -> Weights {
        let mut weights = [0.0; BLOCK];
        let range = start..start + verdicts.len();
        let prices = &self.snapshot.columns().weighed[range.clone()];
        let vitals = &self.vitals[range.clone()];
        for (((slot, verdict), prices), vital) in weights.iter_mut().zip(verdicts).zip(prices).zip(vitals) {
            let cost = burdened(self.list_price_of(prices), vital.burden);
            *slot = if *verdict == 0 { weight(cost) } else { 0.0 };
        }
        if self.usage.units > 0 {
            for (lane, at) in range.clone().enumerate().filter(|(lane, _)| verdicts[*lane] == 0) {
                weights[lane] = weight(self.cost(at));
            }
        }
        let warm_from = self.warm.partition_point(|(at, _)| *at < start);
        for (at, cost) in self.warm[warm_from..].iter().take_while(|(at, _)| range.contains(at)) {
            if verdicts[at - start] == 0 {
                weights[at - start] = weight(*cost);
            }
        }
        weights
    }

    fn draw_from_pool(
        &self,
        pool: &mut Pool,
        spans: &[Span],
        room: usize,
        random: &mut Random,
        attempts: &mut Vec<OfferIndex>,
    ) {
        let favourite = self.favourite(pool, spans).filter(|_| room > 0);
        let Pool { lottery, segments, .. } = pool;
        let segment = |block: usize| {
            let at = segments.partition_point(|(from, _)| *from <= block).saturating_sub(1);
            let (from, place) = segments[at];
            (&spans[place], (block - from) * BLOCK)
        };
        let weights = |block: usize| {
            let (span, offset) = segment(block);
            let verdicts = &span.verdicts[offset..span.verdicts.len().min(offset + BLOCK)];
            self.block(span.first as usize + offset, verdicts)
        };
        if let Some(slot) = favourite {
            lottery.take(slot, &weights);
        }
        let drawn =
            (0..room).map_while(|n| favourite.filter(|_| n == 0).or_else(|| lottery.draw(random, weights)));
        for slot in drawn {
            let (span, offset) = segment(slot as usize / BLOCK);
            attempts.push(OfferIndex(span.first + (offset + slot as usize % BLOCK) as u32));
        }
    }

    /// The slot of a warm offer that its cache makes cheaper than everybody in the pool: it is not drawn
    /// but goes first. A draw among it and many cold ones would send most conversations away from what
    /// they saved.
    fn favourite(&self, pool: &Pool, spans: &[Span]) -> Option<u32> {
        let slot = |at: usize| {
            let segment = |(from, place): &(usize, usize)| {
                let span = &spans[*place];
                let offset = at.checked_sub(span.first as usize)?;
                (span.verdicts.get(offset) == Some(&0)).then_some((from * BLOCK + offset) as u32)
            };
            pool.segments.iter().find_map(segment)
        };
        let cheapest = |(at, cost): &(usize, f64)| {
            let saves = *cost < self.cold_cost(*at);
            if saves && weight(*cost) >= pool.heaviest { slot(*at) } else { None }
        };
        self.warm.iter().find_map(cheapest)
    }

    fn draw_from_list(
        &self,
        members: &[(u16, u32)],
        room: usize,
        random: &mut Random,
        attempts: &mut Vec<OfferIndex>,
    ) {
        if members.is_empty() || room == 0 {
            return;
        }
        let weights = |block: usize| {
            let mut weights = [0.0; BLOCK];
            let chunk = &members[block * BLOCK..members.len().min((block + 1) * BLOCK)];
            for (slot, (_, index)) in weights.iter_mut().zip(chunk) {
                *slot = weight(self.cost(*index as usize));
            }
            weights
        };
        let mut lottery = Lottery::with_capacity(members.len());
        for (block, chunk) in members.chunks(BLOCK).enumerate() {
            lottery.push(&weights(block), chunk.len() as u32);
        }
        lottery.close();
        for _ in 0..room {
            let Some(slot) = lottery.draw(random, weights) else { break };
            attempts.push(OfferIndex(members[slot as usize].1));
        }
    }

    fn fastest(&self, members: &[(u16, u32)], room: usize, attempts: &mut Vec<OfferIndex>) {
        if room == 0 {
            return;
        }
        let mut best = Best::new(room);
        for (group, index) in members {
            let at = *index as usize;
            let (first, price) = (-self.throughput(at), self.list_price(at));
            best.offer(Key { group: *group, rank: 0, first, price, index: *index });
        }
        attempts.extend(best.keys().iter().map(|key| OfferIndex(key.index)));
    }

    fn model_bits(&self, place: usize) -> u16 {
        match self.demand.preferences.partition {
            Partition::Model => (place as u16) << MODEL_AT,
            Partition::None => 0,
        }
    }

    /// The list price by the column, units left out. The order of the sums is that of
    /// [`effective_cost_pico`].
    #[inline]
    fn list_price_of(&self, prices: &Weighed) -> f64 {
        self.prompt * prices.prompt + self.completion * prices.completion + prices.request
    }

    /// The list price of the expected usage.
    fn list_price(&self, at: usize) -> f64 {
        self.list_price_of(&self.snapshot.columns().weighed[at]) + self.units_price(at)
    }

    /// What a good answer should cost at an offer.
    fn cost(&self, at: usize) -> f64 {
        match self.warm.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(warm) => self.warm[warm].1,
            Err(_) => self.cold_cost(at),
        }
    }

    /// The same where nothing of the prompt was seen before.
    fn cold_cost(&self, at: usize) -> f64 {
        burdened(self.list_price(at), self.vitals[at].burden)
    }

    /// Units are rare, so that their price has no column.
    fn units_price(&self, at: usize) -> f64 {
        if self.usage.units == 0 {
            return 0.0;
        }
        let price = self.snapshot.offers()[at].prices.map_or(0, |prices| prices.unit.0);
        self.usage.units as f64 * price as f64
    }

    fn warm_costs(&self) -> Vec<(usize, f64)> {
        let cost = |warmth: &crate::sticky::Warmth| {
            let at = warmth.offer.0 as usize;
            let prices = self.snapshot.offer(warmth.offer)?.prices?;
            let vital = self.vitals.get(at)?;
            let known = f64::from(warmth.tokens);
            let tokens = ExpectedTokens { prompt: self.prompt, completion: self.completion, known };
            let units = self.units_price(at) * f64::from(vital.burden);
            Some((at, effective_cost_pico(&prices, tokens, vital) + units))
        };
        let mut warm: Vec<_> = self.demand.warmth.iter().filter_map(cost).collect();
        warm.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        warm.dedup_by_key(|(at, _)| *at);
        warm
    }
}

/// A lottery over the first group of one model, or of all where they stand in one row.
struct Pool {
    group: u16,
    lottery: Lottery,
    /// The largest weight in it; 0 where nobody is warm.
    heaviest: f64,
    /// Block from which on slots are those of a span, and its place.
    segments: Vec<(usize, usize)>,
}

impl Pool {
    fn new(group: u16, members: usize) -> Self {
        Self { group, lottery: Lottery::with_capacity(members), heaviest: 0.0, segments: Vec::new() }
    }
}
