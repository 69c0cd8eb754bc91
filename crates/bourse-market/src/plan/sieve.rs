//! The hard rules, over columns: each leaves its number with the offers that it refuses first.
//!
//! A rule that nobody asked for is not run, and one that all offers of a model meet (see
//! [`Totals`](crate::snapshot::columns::Totals)) is skipped, so that a plain request reads almost nothing here.
//! [`refusals`] says the same of one offer, rule by rule, from its plain value; a test holds both against
//! each other.

use super::Span;
use crate::demand::Demand;
use crate::health::Vital;
use crate::offer::{Offer, OfferIndex, ServiceTier};
use crate::preferences::{MaxPrice, TierWish, is_in_regions, names_offer};
use crate::rejection::{Rejection, missing, needed};
use crate::snapshot::MarketSnapshot;
use crate::snapshot::columns::Facts;
use bourse_types::SellerName;
use std::ops::Range;
use std::sync::Arc;

/// All bits of the tiers, and of the quantizations.
const TIERS: u64 =
    Facts::tier(ServiceTier::Default) | Facts::tier(ServiceTier::Priority) | Facts::tier(ServiceTier::Flex);
const QUANTIZATIONS: u64 = Facts::quantizations(0x3FFF);

/// Runs every hard rule over the offers of a model.
pub(super) fn sift(snapshot: &MarketSnapshot, vitals: &[Vital], demand: &Demand<'_>, span: &mut Span) {
    let wishes = demand.preferences;
    let sieve = Sieve { snapshot, range: span.range() };
    let verdicts = &mut span.verdicts;
    if !wishes.only.is_empty() {
        sieve.refuse_unnamed(&wishes.only, verdicts, Rejection::NotInOnly);
    }
    sieve.refuse_named(&wishes.ignore, verdicts, Rejection::Ignored);
    if !wishes.regions.is_empty() {
        sieve.refuse_elsewhere(&wishes.regions, verdicts, Rejection::Region);
    }
    sieve.refuse_by_facts(demand, span.totals.facts_all, span.totals.facts_any, verdicts);
    sieve.refuse_small(demand, span, vitals);
    let verdicts = &mut span.verdicts;
    sieve.refuse_dear(&wishes.max_price, verdicts, Rejection::MaxPrice);
    sieve.refuse_by_policy(demand, verdicts);
    if !wishes.allow_fallbacks && !wishes.order.is_empty() {
        sieve.refuse_unnamed(&wishes.order, verdicts, Rejection::FallbacksOff);
    }
    sieve.prefer(demand, span);
}

struct Sieve<'a> {
    snapshot: &'a MarketSnapshot,
    range: Range<usize>,
}

impl Sieve<'_> {
    /// For each offer, 1 more than the position of the first name that means it; 0 for none.
    fn ranks(&self, names: &[SellerName]) -> Vec<u8> {
        let mut ranks = vec![0; self.range.len()];
        for (rank, name) in (1u8..).zip(names) {
            for at in self.named(name) {
                if ranks[at] == 0 {
                    ranks[at] = rank;
                }
            }
        }
        ranks
    }

    /// The offers that a name means: one by that name, and those whose names continue it, which are
    /// neighbours because offers are sorted by name.
    fn named(&self, name: &SellerName) -> impl Iterator<Item = usize> {
        let offers = &self.snapshot.offers()[self.range.clone()];
        let name = name.as_str();
        let itself = offers.binary_search_by(|o| o.seller.as_str().cmp(name)).ok();
        let variants = if name.contains('/') {
            0..0
        } else {
            let (first, past) = (format!("{name}/"), format!("{name}0"));
            let before = |end: &str| offers.partition_point(|o| o.seller.as_str() < end);
            before(&first)..before(&past)
        };
        let ordinary = move |at: &usize| offers[*at].tier == ServiceTier::Default;
        itself.into_iter().chain(variants.filter(ordinary))
    }

    fn refuse_unnamed(&self, names: &[SellerName], verdicts: &mut [u8], reason: Rejection) {
        let named = self.ranks(names);
        refuse(verdicts, reason, named.iter().map(|rank| *rank == 0));
    }

    fn refuse_named(&self, names: &[SellerName], verdicts: &mut [u8], reason: Rejection) {
        for at in names.iter().flat_map(|name| self.named(name)) {
            if verdicts[at] == 0 {
                verdicts[at] = reason.number();
            }
        }
    }

    fn refuse_elsewhere(&self, words: &[Arc<str>], verdicts: &mut [u8], reason: Rejection) {
        let columns = self.snapshot.columns();
        let is_in = |name: &Arc<str>| is_in_regions(words, Some(name));
        let allowed: Vec<bool> = std::iter::once(false).chain(columns.regions.iter().map(is_in)).collect();
        let regions = &columns.region[self.range.clone()];
        refuse(verdicts, reason, regions.iter().map(|region| !allowed[*region as usize]));
    }

    fn refuse_dear(&self, max: &MaxPrice, verdicts: &mut [u8], reason: Rejection) {
        if max.is_none() {
            return;
        }
        let columns = self.snapshot.columns();
        let limits = [
            max.prompt.map_or(u64::MAX, |price| price.0),
            max.completion.map_or(u64::MAX, |price| price.0),
            max.request.map_or(u64::MAX, |price| price.0),
        ];
        let prices = &columns.prices[self.range.clone()];
        let above = |asked: &[u64; 3]| asked.iter().zip(&limits).any(|(asked, max)| asked > max);
        refuse(verdicts, reason, prices.iter().map(above));
        if max.image.is_some() || max.audio.is_some() {
            let offers = self.snapshot.offers()[self.range.clone()].iter();
            let above = |offer: &Offer| offer.prices.is_some_and(|p| max.exceeded_by(offer, &p).is_some());
            refuse(verdicts, reason, offers.map(above));
        }
    }

    fn refuse_by_facts(&self, demand: &Demand<'_>, all: u64, any: u64, verdicts: &mut [u8]) {
        let wishes = demand.preferences;
        let rules = FactRules::of(demand, any);
        if rules.met_by_all(all, any) {
            return;
        }
        let facts = &self.snapshot.columns().facts[self.range.clone()];
        for (verdict, facts) in verdicts.iter_mut().zip(facts) {
            if *verdict == 0 && !rules.are_met(*facts) {
                *verdict = rules.why(*facts).number();
            }
        }
        // An offer of another tier is admitted by its full name.
        for name in wishes.only.iter().chain(&wishes.order) {
            let same = |offer: &&Offer| offer.seller == *name;
            for at in self.named(name) {
                let Some(offer) = self.snapshot.offers().get(self.range.start + at).filter(same) else {
                    continue;
                };
                if verdicts[at] == Rejection::ServiceTier.number() && offer.tier != ServiceTier::Default {
                    let untiered = FactRules { tiers: TIERS, ..rules };
                    let facts = facts[at];
                    verdicts[at] = if untiered.are_met(facts) { 0 } else { untiered.why(facts).number() };
                }
            }
        }
    }

    /// Refuses what surely cannot fit (what may fit is tried: the seller counts exactly) and who is full.
    fn refuse_small(&self, demand: &Demand<'_>, span: &mut Span, vitals: &[Vital]) {
        let columns = self.snapshot.columns();
        let (context, answer) = (demand.context_tokens_least(), demand.answer_tokens());
        if context > span.totals.context_min || answer > span.totals.completion_min {
            let limits = &columns.limits[self.range.clone()];
            refuse(&mut span.verdicts, Rejection::MaxTokens, limits.iter().map(|(_, most)| answer > *most));
            let is_long = |(most, _): &(u64, u64)| context > *most;
            refuse(&mut span.verdicts, Rejection::ContextTooLong, limits.iter().map(is_long));
        }
        if span.totals.has_capacity {
            let pairs = columns.capacity[self.range.clone()].iter().zip(&vitals[self.range.clone()]);
            let is_full = |(capacity, vital): (&u32, &Vital)| vital.in_flight >= *capacity;
            refuse(&mut span.verdicts, Rejection::AtCapacity, pairs.map(is_full));
        }
    }

    fn refuse_by_policy(&self, demand: &Demand<'_>, verdicts: &mut [u8]) {
        let policy = &demand.preferences.policy;
        let reason = Rejection::Policy;
        for names in &policy.allowed {
            self.refuse_unnamed(names, verdicts, reason);
        }
        self.refuse_named(&policy.ignored, verdicts, reason);
        for words in &policy.regions {
            self.refuse_elsewhere(words, verdicts, reason);
        }
        self.refuse_dear(&policy.max_price, verdicts, reason);
        let need = Facts::data(policy.data) | if policy.enforce_distillable { Facts::DISTILLABLE } else { 0 };
        let stored = policy.quantizations.map_or(QUANTIZATIONS, |set| Facts::quantizations(set.0));
        if need != 0 || stored != QUANTIZATIONS {
            let facts = &self.snapshot.columns().facts[self.range.clone()];
            refuse(verdicts, reason, facts.iter().map(|f| f & need != need || f & stored == 0));
        }
    }

    /// Narrows to offers that support what the buyer sent, one capability at a time, as long as some do.
    fn prefer(&self, demand: &Demand<'_>, span: &mut Span) {
        let facts = &self.snapshot.columns().facts[self.range.clone()];
        for wanted in demand.prefers.members() {
            let bit = Facts::supports(wanted);
            if span.totals.facts_all & bit != 0 || span.totals.facts_any & bit == 0 {
                continue;
            }
            let left = || span.verdicts.iter().zip(facts).filter(|(verdict, _)| **verdict == 0);
            let supported = left().filter(|(_, facts)| *facts & bit != 0).count();
            if supported > 0 && supported < left().count() {
                let lacks = facts.iter().map(|facts| facts & bit == 0);
                refuse(&mut span.verdicts, Rejection::MissingPreferred, lacks);
            }
        }
    }
}

/// Writes the reason where an offer is left and the rule refuses it.
fn refuse(verdicts: &mut [u8], reason: Rejection, refused: impl Iterator<Item = bool>) {
    let number = reason.number();
    for (verdict, is_refused) in verdicts.iter_mut().zip(refused) {
        if *verdict == 0 && is_refused {
            *verdict = number;
        }
    }
}

/// The rank of each offer in `order`, from 1; 0 for none.
pub(super) fn ranks(snapshot: &MarketSnapshot, range: Range<usize>, order: &[SellerName]) -> Vec<u8> {
    Sieve { snapshot, range }.ranks(order)
}

/// Rules on facts that are packed into one number.
#[derive(Debug, Clone, Copy)]
struct FactRules {
    need: u64,
    need_data: u64,
    need_operation: u64,
    need_distillable: u64,
    tiers: u64,
    stored: u64,
}

impl FactRules {
    fn of(demand: &Demand<'_>, any: u64) -> Self {
        let wishes = demand.preferences;
        let need_data = Facts::data(wishes.data);
        let need_operation = Facts::operations(demand.operation);
        let need_distillable = if wishes.enforce_distillable { Facts::DISTILLABLE } else { 0 };
        let supports = Facts::supports(needed(demand));
        Self {
            need: Facts::PRICED | need_data | need_operation | need_distillable | supports,
            need_data,
            need_operation,
            need_distillable,
            tiers: tiers(demand, any & Facts::tier(ServiceTier::Flex) != 0),
            stored: wishes.quantizations.map_or(QUANTIZATIONS, |set| Facts::quantizations(set.0)),
        }
    }

    fn are_met(&self, facts: u64) -> bool {
        facts & self.need == self.need && facts & self.tiers != 0 && facts & self.stored != 0
    }

    fn met_by_all(&self, all: u64, any: u64) -> bool {
        all & self.need == self.need
            && any & TIERS & !self.tiers == 0
            && any & QUANTIZATIONS & !self.stored == 0
    }

    /// The first rule that is not met.
    fn why(&self, facts: u64) -> Rejection {
        let lacks = |need: u64| facts & need != need;
        if lacks(Facts::PRICED) {
            Rejection::UnknownPrice
        } else if lacks(self.need_operation) {
            Rejection::Operation
        } else if facts & self.tiers == 0 {
            Rejection::ServiceTier
        } else if lacks(self.need_data) {
            Rejection::DataPolicy
        } else if lacks(self.need_distillable) {
            Rejection::NotDistillable
        } else if facts & self.stored == 0 {
            Rejection::Quantization
        } else {
            Rejection::MissingSupport
        }
    }
}

/// The tiers that a demand admits.
fn tiers(demand: &Demand<'_>, has_flex: bool) -> u64 {
    let ordinary = Facts::tier(ServiceTier::Default);
    let by_variant = demand.preferences.order.is_empty();
    match demand.preferences.tier {
        TierWish::Priority => ordinary | Facts::tier(ServiceTier::Priority),
        TierWish::AlsoPriority if by_variant => ordinary | Facts::tier(ServiceTier::Priority),
        TierWish::Flex if has_flex => Facts::tier(ServiceTier::Flex),
        TierWish::AlsoFlex if by_variant => ordinary | Facts::tier(ServiceTier::Flex),
        _ => ordinary,
    }
}

/// Whether some offer of a model is of the flex tier.
pub(super) fn has_flex(span: &Span) -> bool {
    span.totals.facts_any & Facts::tier(ServiceTier::Flex) != 0
}

/// Every hard rule that refuses one offer, but for those that depend on other offers or on health.
pub(crate) fn refusals(snapshot: &MarketSnapshot, index: OfferIndex, demand: &Demand<'_>) -> Vec<Rejection> {
    let Some(offer) = snapshot.offer(index) else { return Vec::new() };
    let wishes = demand.preferences;
    let named = |names: &[SellerName]| names.iter().any(|name| names_offer(name, offer));
    let by_full_name =
        |names: &[SellerName]| offer.tier != ServiceTier::Default && names.contains(&offer.seller);
    let any = snapshot.model(offer.model.as_str()).map_or(0, |(_, totals)| totals.facts_any);
    let admitted = tiers(demand, any & Facts::tier(ServiceTier::Flex) != 0) & Facts::tier(offer.tier) != 0;
    let prices = offer.prices.as_ref();
    let rules = [
        (Rejection::UnknownPrice, prices.is_none()),
        (Rejection::Operation, !offer.operations.contains(demand.operation)),
        (Rejection::NotInOnly, !wishes.only.is_empty() && !named(&wishes.only)),
        (Rejection::Ignored, named(&wishes.ignore)),
        (Rejection::ServiceTier, !admitted && !by_full_name(&wishes.only) && !by_full_name(&wishes.order)),
        (Rejection::DataPolicy, !offer.data.closed().contains(wishes.data)),
        (Rejection::NotDistillable, wishes.enforce_distillable && !offer.is_distillable),
        (
            Rejection::Region,
            !wishes.regions.is_empty() && !is_in_regions(&wishes.regions, offer.region.as_deref()),
        ),
        (Rejection::Quantization, wishes.quantizations.is_some_and(|set| !set.contains(offer.quantization))),
        (Rejection::MissingSupport, !missing(offer, demand).is_empty()),
        (Rejection::ContextTooLong, demand.context_tokens_least() > offer.context_tokens_max),
        (Rejection::MaxTokens, offer.completion_tokens_max.is_some_and(|most| demand.answer_tokens() > most)),
        (
            Rejection::MaxPrice,
            prices.is_some_and(|prices| wishes.max_price.exceeded_by(offer, prices).is_some()),
        ),
        (Rejection::Policy, wishes.policy.refuses(offer).is_some()),
        (
            Rejection::FallbacksOff,
            !wishes.allow_fallbacks && !wishes.order.is_empty() && !named(&wishes.order),
        ),
    ];
    rules.into_iter().filter_map(|(rule, refuses)| refuses.then_some(rule)).collect()
}
