//! The hard rules: each leaves its number with the offers that it refuses first.
//!
//! A rule that nobody asked for is not run, and one that all offers of a model meet (see
//! [`Totals`](crate::snapshot::columns::Totals)) is skipped. Rules about what an offer is are asked once for each
//! [`Kind`] of the model's offers and looked up for each offer. [`refusals`] says the same of one offer, rule by
//! rule, from its plain value; a test holds both against each other.

use super::Span;
use crate::demand::Demand;
use crate::health::Vital;
use crate::offer::{Offer, OfferIndex, ServiceTier};
use crate::preferences::{MaxPrice, TierWish, is_in_regions, names_offer};
use crate::rejection::{Rejection, missing, needed};
use crate::snapshot::MarketSnapshot;
use crate::snapshot::columns::{Columns, Facts, Kind};
use bourse_types::SellerName;
use std::ops::Range;
use std::sync::Arc;

/// All bits of the tiers, and of the quantizations.
const TIERS: u64 =
    Facts::tier(ServiceTier::Default) | Facts::tier(ServiceTier::Priority) | Facts::tier(ServiceTier::Flex);
const QUANTIZATIONS: u64 = Facts::quantizations(0x3FFF);
/// Kinds of one model for which a table costs no allocation.
const KINDS_FEW: usize = 64;

/// Runs every hard rule over the offers of a model.
pub(super) fn sift(snapshot: &MarketSnapshot, vitals: &[Vital], demand: &Demand<'_>, span: &mut Span<'_>) {
    let wishes = demand.preferences;
    let (range, kinds) = span.model.ranges();
    let sieve = Sieve { snapshot, columns: snapshot.columns(), range, kinds };
    let (totals, verdicts) = (&span.model.totals, span.verdicts.as_mut_slice());
    if !wishes.only.is_empty() {
        sieve.refuse_unnamed(&wishes.only, verdicts, Rejection::NotInOnly);
    }
    sieve.refuse_named(&wishes.ignore, verdicts, Rejection::Ignored);
    sieve.refuse_kinds(demand, totals.facts_any, verdicts);
    if totals.has_capacity {
        let pairs = sieve.part(&sieve.columns.capacity).iter().zip(sieve.part(vitals));
        let is_full = |(capacity, vital): (&u32, &Vital)| vital.in_flight >= *capacity;
        refuse(verdicts, Rejection::AtCapacity, pairs.map(is_full));
    }
    sieve.refuse_dear(&wishes.max_price, &totals.prices_max, verdicts, Rejection::MaxPrice);
    sieve.refuse_by_policy(demand, &totals.prices_max, verdicts);
    if !wishes.allow_fallbacks && !wishes.order.is_empty() {
        sieve.refuse_unnamed(&wishes.order, verdicts, Rejection::FallbacksOff);
    }
    let mixed = totals.facts_any & !totals.facts_all;
    if Facts::supports(demand.prefers) & mixed != 0 {
        sieve.prefer(demand, verdicts);
    }
}

struct Sieve<'a> {
    snapshot: &'a MarketSnapshot,
    columns: &'a Columns,
    range: Range<usize>,
    kinds: Range<usize>,
}

impl Sieve<'_> {
    /// The model's part of a column.
    fn part<'c, T>(&self, column: &'c [T]) -> &'c [T] {
        &column[self.range.clone()]
    }

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

    /// The first offer whose name is not before `name`, and whether it is the one so called.
    fn find(&self, name: &SellerName) -> (usize, bool) {
        let offers = self.part(self.snapshot.offers());
        let at = offers.partition_point(|o| o.seller.as_str() < name.as_str());
        (at, offers.get(at).is_some_and(|o| o.seller == *name))
    }

    /// The offers that a name means: one by that name, and those whose names continue it, which are
    /// neighbours because offers are sorted by name.
    fn named(&self, name: &SellerName) -> impl Iterator<Item = usize> {
        let offers = self.part(self.snapshot.offers());
        let text = name.as_str();
        let (from, is_itself) = self.find(name);
        let continues = offers.get(from).is_some_and(|o| o.seller.as_str().starts_with(text));
        let variants = if !continues || text.contains('/') {
            0..0
        } else {
            // From `from` on, names before `text` and a byte: `text` itself, and those that go on with a lesser one.
            let before = |byte: u8| {
                let is_before = |o: &Offer| {
                    let rest = o.seller.as_str().strip_prefix(text);
                    rest.is_some_and(|rest| rest.as_bytes().first().is_none_or(|next| *next < byte))
                };
                from + offers[from..].partition_point(is_before)
            };
            before(b'/')..before(b'/' + 1)
        };
        let ordinary = move |at: &usize| offers[*at].tier == ServiceTier::Default;
        is_itself.then_some(from).into_iter().chain(variants.filter(ordinary))
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

    fn refuse_dear(&self, max: &MaxPrice, most: &[u64; 3], verdicts: &mut [u8], reason: Rejection) {
        if max.is_none() {
            return;
        }
        let limits = [
            max.prompt.map_or(u64::MAX, |price| price.0),
            max.completion.map_or(u64::MAX, |price| price.0),
            max.request.map_or(u64::MAX, |price| price.0),
        ];
        for ((column, limit), most) in self.columns.prices.iter().zip(limits).zip(most) {
            if *most > limit {
                refuse(verdicts, reason, self.part(column).iter().map(|asked| *asked > limit));
            }
        }
        if max.image.is_some() || max.audio.is_some() {
            let offers = self.part(self.snapshot.offers()).iter();
            let above = |offer: &Offer| offer.prices.is_some_and(|p| max.exceeded_by(offer, &p).is_some());
            refuse(verdicts, reason, offers.map(above));
        }
    }

    /// Asks `rule` of each kind, and writes its answer where an offer is left.
    fn look_up(&self, verdicts: &mut [u8], rule: impl Fn(&Kind) -> u8) {
        let kinds = &self.columns.kinds[self.kinds.clone()];
        with_table(kinds.len(), |table| {
            table.iter_mut().zip(kinds).for_each(|(answer, kind)| *answer = rule(kind));
            if table.iter().all(|answer| *answer == 0) {
                return;
            }
            for (verdict, kind) in verdicts.iter_mut().zip(self.part(&self.columns.kind)) {
                let answer = table[*kind as usize - self.kinds.start];
                *verdict = if *verdict == 0 { answer } else { *verdict };
            }
        });
    }

    /// Refuses by region, by facts, and what surely cannot fit: what may fit is tried, and the seller counts exactly.
    fn refuse_kinds(&self, demand: &Demand<'_>, any: u64, verdicts: &mut [u8]) {
        let wishes = demand.preferences;
        let (context, answer) = (demand.context_tokens_least(), demand.answer_tokens());
        let facts = FactRules::of(demand, any);
        let why = |facts: FactRules, kind: &Kind| {
            let is_elsewhere = || !is_in_regions(&wishes.regions, self.columns.region(kind));
            if !wishes.regions.is_empty() && is_elsewhere() {
                Rejection::Region.number()
            } else if !facts.are_met(kind.facts.0) {
                facts.why(kind.facts.0).number()
            } else if answer > kind.completion_max {
                Rejection::MaxTokens.number()
            } else if context > kind.context_max {
                Rejection::ContextTooLong.number()
            } else {
                0
            }
        };
        self.look_up(verdicts, |kind| why(facts, kind));
        // An offer of another tier is admitted by its full name.
        for name in wishes.only.iter().chain(&wishes.order) {
            let (at, is_itself) = self.find(name);
            if !is_itself || verdicts[at] != Rejection::ServiceTier.number() {
                continue;
            }
            let kind = self.columns.kind_of(self.range.start + at);
            if kind.facts.0 & Facts::tier(ServiceTier::Default) == 0 {
                verdicts[at] = why(FactRules { tiers: TIERS, ..facts }, kind);
            }
        }
    }

    fn refuse_by_policy(&self, demand: &Demand<'_>, most: &[u64; 3], verdicts: &mut [u8]) {
        let policy = &demand.preferences.policy;
        let reason = Rejection::Policy;
        for names in &policy.allowed {
            self.refuse_unnamed(names, verdicts, reason);
        }
        self.refuse_named(&policy.ignored, verdicts, reason);
        self.refuse_dear(&policy.max_price, most, verdicts, reason);
        let need = Facts::data(policy.data) | if policy.enforce_distillable { Facts::DISTILLABLE } else { 0 };
        let stored = policy.quantizations.map_or(QUANTIZATIONS, |set| Facts::quantizations(set.0));
        if need == 0 && stored == QUANTIZATIONS && policy.regions.is_empty() {
            return;
        }
        self.look_up(verdicts, |kind| {
            let region = self.columns.region(kind);
            let is_elsewhere = |words: &Vec<Arc<str>>| !is_in_regions(words, region);
            let lacks = kind.facts.0 & need != need || kind.facts.0 & stored == 0;
            if lacks || policy.regions.iter().any(is_elsewhere) { reason.number() } else { 0 }
        });
    }

    /// Narrows to offers that support what the buyer sent, one capability at a time, as long as some do.
    fn prefer(&self, demand: &Demand<'_>, verdicts: &mut [u8]) {
        let kinds = &self.columns.kinds[self.kinds.clone()];
        let (left, lacking) = (1, Rejection::MissingPreferred.number());
        with_table(kinds.len(), |table| {
            for (_, kind) in verdicts.iter().zip(self.part(&self.columns.kind)).filter(|(v, _)| **v == 0) {
                table[*kind as usize - self.kinds.start] = left;
            }
            for wanted in demand.prefers.members() {
                let has = |kind: &Kind| kind.facts.0 & Facts::supports(wanted) != 0;
                let some_left = |is: bool, table: &[u8]| {
                    table.iter().zip(kinds).any(|(state, kind)| *state == left && has(kind) == is)
                };
                if some_left(true, table) && some_left(false, table) {
                    for (state, kind) in table.iter_mut().zip(kinds) {
                        *state = if *state == left && !has(kind) { lacking } else { *state };
                    }
                }
            }
            if table.contains(&lacking) {
                let is_lacking = |kind: &u32| table[*kind as usize - self.kinds.start] == lacking;
                refuse(
                    verdicts,
                    Rejection::MissingPreferred,
                    self.part(&self.columns.kind).iter().map(is_lacking),
                );
            }
        });
    }
}

/// Lends a table of so many zeros.
fn with_table(len: usize, work: impl FnOnce(&mut [u8])) {
    if len <= KINDS_FEW {
        work(&mut [0; KINDS_FEW][..len]);
    } else {
        work(&mut vec![0; len]);
    }
}

/// Writes the reason where an offer is left and the rule refuses it.
fn refuse(verdicts: &mut [u8], reason: Rejection, refused: impl Iterator<Item = bool>) {
    let number = reason.number();
    for (verdict, is_refused) in verdicts.iter_mut().zip(refused) {
        *verdict = if *verdict == 0 && is_refused { number } else { *verdict };
    }
}

/// The rank of each offer in `order`, from 1; 0 for none.
pub(super) fn ranks(snapshot: &MarketSnapshot, span: &Span<'_>, order: &[SellerName]) -> Vec<u8> {
    let (range, kinds) = span.model.ranges();
    Sieve { snapshot, columns: snapshot.columns(), range, kinds }.ranks(order)
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
pub(super) fn has_flex(span: &Span<'_>) -> bool {
    span.model.totals.facts_any & Facts::tier(ServiceTier::Flex) != 0
}

/// Every hard rule that refuses one offer, but for those that depend on other offers or on health.
pub(crate) fn refusals(snapshot: &MarketSnapshot, index: OfferIndex, demand: &Demand<'_>) -> Vec<Rejection> {
    let Some(offer) = snapshot.offer(index) else { return Vec::new() };
    let wishes = demand.preferences;
    let named = |names: &[SellerName]| names.iter().any(|name| names_offer(name, offer));
    let by_full_name =
        |names: &[SellerName]| offer.tier != ServiceTier::Default && names.contains(&offer.seller);
    let any = snapshot.model(offer.model.as_str()).map_or(0, |model| model.totals.facts_any);
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
