//! The choice by lot: group after group, each drawn from without replacement.
//!
//! A draw is over the offers of one class of one model, or of all models where they stand in one row. In the first
//! class a block of weights is a block of positions; those of a later class, who may be few, stand in blocks without
//! gaps. That matters only for the order in which float sums are made, and so only where [`defined`] is asked.

use super::draw::{BLOCK, Lottery, Random, Weights, defined, weight};
use super::field::{Field, OFF_TIER, RESTS};
use super::{CLASSES, LATER, OPEN, Span};
use crate::effective::burdened;
use crate::offer::OfferIndex;
use crate::preferences::Partition;

/// Bits of a class that go before the model's place: whether it rests and whether it misses a cut-off.
const BANDS: u8 = 4;
/// Classes in a band.
const CLASSES_PER_BAND: u8 = CLASSES as u8 / BANDS;

impl Field<'_> {
    /// Up to `budget` offers in the order in which they were drawn, and from where on they rest.
    pub(super) fn drawn(
        &self,
        spans: &mut [Span<'_>],
        budget: usize,
        random: &mut Random,
    ) -> (Vec<OfferIndex>, usize) {
        for span in spans.iter_mut() {
            self.classify(span);
        }
        let by_model = self.demand.preferences.partition == Partition::Model;
        let row_len = if by_model { 1 } else { spans.len() };
        let mut attempts = Vec::with_capacity(budget);
        let mut resting_from = budget;
        for band in 0..BANDS {
            let classes = band * CLASSES_PER_BAND..(band + 1) * CLASSES_PER_BAND;
            if classes.start == RESTS {
                resting_from = attempts.len();
            }
            for row in spans.chunks(row_len) {
                for class in classes.clone() {
                    let room = budget - attempts.len();
                    if room > 0 {
                        self.draw_class(row, class, room, random, &mut attempts);
                    }
                }
            }
        }
        (attempts, resting_from)
    }

    fn draw_class(
        &self,
        row: &[Span<'_>],
        class: u8,
        room: usize,
        random: &mut Random,
        attempts: &mut Vec<OfferIndex>,
    ) {
        // Where priority goes first nobody stands in the first class: its offers are sorted.
        let is_first = class == 0 && !self.priority_first;
        let count = |span: &Span<'_>| span.later[usize::from(class)];
        if !is_first && row.iter().all(|span| count(span) == 0) {
            return;
        }
        let verdict = if is_first { OPEN } else { LATER | class };
        let members = |spans| Members { spans, verdict };
        let mut draw = |members: Members<'_, '_>| {
            if self.priority_first && class & OFF_TIER == 0 {
                self.fastest(members.positions(), room, attempts);
            } else {
                self.draw(&members, room, random, attempts);
            }
        };
        if let [span] = row {
            return draw(members(&[span]));
        }
        let mut spans: Vec<_> = row.iter().collect();
        if !is_first {
            // Models stand in the order in which they were named, those of a later class by position.
            spans.sort_unstable_by_key(|span| span.first());
        }
        draw(members(&spans));
    }

    /// Puts everybody aside who is not of the first class.
    fn classify(&self, span: &mut Span<'_>) {
        let mut later = [0; CLASSES];
        for (start, verdicts) in span.blocks_mut() {
            let (mut lanes, notable) = self.classed(start, verdicts.len());
            while lanes != 0 {
                let lane = lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                if verdicts[lane] != 0 {
                    continue;
                }
                let class = self.class((start, lane), notable);
                if class != 0 || self.priority_first {
                    verdicts[lane] = LATER | class;
                    later[usize::from(class)] += 1;
                }
            }
        }
        span.later = later;
    }

    /// The weights of up to [`BLOCK`] neighbours, of those with this verdict, and how many these are.
    #[inline]
    fn block(&self, start: usize, verdicts: &[u8], of: u8) -> (Weights, u32) {
        let mut weights = [0.0; BLOCK];
        let count = verdicts.iter().map(|verdict| u32::from(*verdict == of)).sum();
        if count == 0 {
            return (weights, 0);
        }
        let range = start..start + verdicts.len();
        let slots = &mut weights[..verdicts.len()];
        self.list_prices(start, slots);
        for ((slot, verdict), burden) in slots.iter_mut().zip(verdicts).zip(&self.burdens[range.clone()]) {
            let of_cost = weight(burdened(*slot, *burden));
            *slot = if *verdict == of { of_cost } else { 0.0 };
        }
        if self.usage.units > 0 {
            for (lane, at) in range.clone().enumerate().filter(|(lane, _)| verdicts[*lane] == of) {
                weights[lane] = weight(self.cost(at));
            }
        }
        let warm_from = self.warm.partition_point(|(at, _)| *at < start);
        for (at, cost) in self.warm[warm_from..].iter().take_while(|(at, _)| range.contains(at)) {
            if verdicts[at - start] == of {
                weights[at - start] = weight(*cost);
            }
        }
        (weights, count)
    }

    fn draw(
        &self,
        members: &Members<'_, '_>,
        mut room: usize,
        random: &mut Random,
        attempts: &mut Vec<OfferIndex>,
    ) {
        let (mut lottery, heaviest) = self.lottery(members);
        let weights = |block: usize| self.weights(members, block);
        let defined = |unit: f64, taken: &[u32]| self.defined(members, unit, taken);
        let offer = |slot: u32| {
            let (start, _) = members.block(slot as usize / BLOCK);
            OfferIndex((start + slot as usize % BLOCK) as u32)
        };
        if let Some(slot) = self.favourite(members, heaviest) {
            lottery.take(slot, &weights);
            attempts.push(offer(slot));
            room -= 1;
        }
        for _ in 0..room {
            let Some(slot) = lottery.draw(random, &weights, &defined) else { break };
            attempts.push(offer(slot));
        }
    }

    /// A lottery of these members, and the largest weight in it, where somebody is warm.
    fn lottery(&self, members: &Members<'_, '_>) -> (Lottery, f64) {
        let blocks = members.spans.iter().map(|span| span.verdicts.len().div_ceil(BLOCK)).sum();
        let mut lottery = Lottery::new(blocks, members.spans[0].verdicts.len());
        let mut heaviest = 0.0f64;
        for (start, verdicts) in members.blocks() {
            let (weights, count) = self.block(start, verdicts, members.verdict);
            if !self.warm.is_empty() {
                heaviest = weights.iter().fold(heaviest, |most, weight| most.max(*weight));
            }
            lottery.push(&weights, count);
        }
        lottery.close();
        (lottery, heaviest)
    }

    fn weights(&self, members: &Members<'_, '_>, block: usize) -> Weights {
        let (start, verdicts) = members.block(block);
        self.block(start, verdicts, members.verdict).0
    }

    /// What a draw is by its definition.
    #[cold]
    fn defined(&self, members: &Members<'_, '_>, unit: f64, taken: &[u32]) -> u32 {
        let weights =
            members.blocks().map(|(start, verdicts)| self.block(start, verdicts, members.verdict).0);
        let mut weights: Vec<Weights> = weights.collect();
        if members.verdict == OPEN {
            return defined(unit, &mut weights, taken);
        }
        // The slots of the members, which stand without gaps.
        let is_member = |(_, weight): &(u32, f64)| *weight > 0.0;
        let (slots, packed): (Vec<u32>, Vec<f64>) =
            (0u32..).zip(weights.into_iter().flatten()).filter(is_member).unzip();
        let lane = |chunk: &[f64], lane: usize| chunk.get(lane).copied().unwrap_or(0.0);
        let blocks = packed.chunks(BLOCK).map(|chunk| std::array::from_fn(|n| lane(chunk, n)));
        let taken: Vec<u32> =
            taken.iter().filter_map(|slot| slots.binary_search(slot).ok()).map(|at| at as u32).collect();
        slots[defined(unit, &mut blocks.collect::<Vec<Weights>>(), &taken) as usize]
    }

    /// The slot of a warm offer of the first class that its cache makes cheaper than everybody else there: it is
    /// not drawn but goes first. A draw among it and many cold ones would send most conversations away from what
    /// they saved.
    fn favourite(&self, members: &Members<'_, '_>, heaviest: f64) -> Option<u32> {
        if members.verdict != OPEN {
            return None;
        }
        let slot = |at: usize| {
            let block = |(block, (start, verdicts)): (usize, (usize, &[u8]))| {
                let lane = at.checked_sub(start)?;
                (verdicts.get(lane) == Some(&OPEN)).then_some((block * BLOCK + lane) as u32)
            };
            members.blocks().enumerate().find_map(block)
        };
        let cheapest = |(at, cost): &(usize, f64)| {
            let saves = *cost < self.cold_cost(*at);
            if saves && weight(*cost) >= heaviest { slot(*at) } else { None }
        };
        self.warm.iter().find_map(cheapest)
    }
}

/// The offers of one verdict in some spans.
struct Members<'s, 'a> {
    spans: &'s [&'s Span<'a>],
    verdict: u8,
}

impl Members<'_, '_> {
    /// Blocks of verdicts, with and without members, each with the position of its first offer.
    fn blocks(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.spans.iter().flat_map(|span| span.blocks())
    }

    fn block(&self, mut nth: usize) -> (usize, &[u8]) {
        let mut spans = self.spans.iter();
        let mut span = spans.next();
        while let Some(blocks) = span.map(|span| span.verdicts.len().div_ceil(BLOCK)).filter(|n| nth >= *n) {
            nth -= blocks;
            span = spans.next();
        }
        let Some(span) = span else { return (0, &[]) };
        let offset = nth * BLOCK;
        (span.first() + offset, &span.verdicts[offset..span.verdicts.len().min(offset + BLOCK)])
    }

    /// Their positions.
    fn positions(&self) -> impl Iterator<Item = usize> {
        let is_member = |(_, verdict): &(usize, &u8)| **verdict == self.verdict;
        self.spans
            .iter()
            .flat_map(move |span| (span.first()..).zip(&span.verdicts).filter(is_member).map(|(at, _)| at))
    }
}

#[cfg(test)]
mod tests;
