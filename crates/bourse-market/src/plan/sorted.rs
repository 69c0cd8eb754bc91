//! The choice where the buyer fixes the order: by `order`, by `sort`, by the fastest of a tier.

use super::draw::BLOCK;
use super::field::{Field, OFF_TIER, RESTS, group};
use super::rank::{Best, Key, UNRANKED};
use super::{LATER, Span, sieve};
use crate::health::Window;
use crate::offer::OfferIndex;
use crate::preferences::{Partition, Sort};

impl Field<'_> {
    /// Up to `budget` offers in their order, and from where on they rest.
    pub(super) fn sorted(&self, spans: &mut [Span<'_>], budget: usize) -> (Vec<OfferIndex>, usize) {
        let mut best = Best::new(budget);
        for (place, span) in (0u16..).zip(spans) {
            let place = if self.demand.preferences.partition == Partition::Model { place } else { 0 };
            self.rank(span, place, &mut best);
        }
        let keys = best.keys();
        let resting_from = keys.partition_point(|key| key.group < group(RESTS, 0));
        (keys.iter().map(|key| OfferIndex(key.index)).collect(), resting_from)
    }

    /// Lets a model's offers that are left take part.
    fn rank(&self, span: &mut Span<'_>, place: u16, best: &mut Best) {
        let order = &self.demand.preferences.order;
        let ranks = if order.is_empty() { Vec::new() } else { sieve::ranks(self.snapshot, span, order) };
        let is_by_price = ranks.is_empty() && self.sort == Some(Sort::Price) && !self.priority_first;
        let (first, mut resting) = (span.first(), 0);
        for (start, verdicts) in span.blocks_mut() {
            let mut prices = [0.0; BLOCK];
            self.list_prices(start, &mut prices[..verdicts.len()]);
            let (classed, notable) = self.classed(start, verdicts.len());
            let price_max = if is_by_price { best.price_max(group(0, place)) } else { f64::INFINITY };
            for (lane, (verdict, price)) in verdicts.iter_mut().zip(prices).enumerate() {
                if *verdict != 0 {
                    continue;
                }
                let at = start + lane;
                let class = if classed >> lane & 1 == 0 { 0 } else { self.class((start, lane), notable) };
                if class == 0 && price > price_max {
                    continue;
                }
                if class & RESTS != 0 {
                    *verdict = LATER | class;
                    resting += 1;
                }
                let first_by = match self.sort {
                    _ if self.priority_first && class & OFF_TIER == 0 => -self.throughput(at),
                    Some(sort) => self.measure(sort, at),
                    None => 0.0,
                };
                // A rank of 0 is nobody's.
                let rank = ranks.get(at - first).map_or(UNRANKED, |rank| rank.wrapping_sub(1));
                let price = price + self.units_price(at);
                best.offer(Key {
                    group: group(class, place),
                    rank,
                    first: first_by,
                    price,
                    index: at as u32,
                });
            }
        }
        span.later[usize::from(RESTS)] += resting;
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

    /// Adds the fastest of these offers, at most `room`.
    pub(super) fn fastest(
        &self,
        members: impl Iterator<Item = usize>,
        room: usize,
        attempts: &mut Vec<OfferIndex>,
    ) {
        let mut best = Best::new(room);
        for at in members {
            let (first, price) = (-self.throughput(at), self.list_price(at));
            best.offer(Key { group: 0, rank: 0, first, price, index: at as u32 });
        }
        attempts.extend(best.keys().iter().map(|key| OfferIndex(key.index)));
    }
}
