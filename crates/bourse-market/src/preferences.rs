//! The buyer's wishes about sellers (the field's `provider` object), and what an account or key allows.
//!
//! Prices in `max_price` are dollars per *million* tokens on the wire and pico-dollars per token here;
//! latency is seconds on the wire and milliseconds here. Where the field's documents contradict
//! themselves, what is here is decided: preferences of speed look at the last five minutes.
//!
//! **Names.** A name without `/` is a *base*: it means the seller of that name and all its variants and
//! regions (`vertex` means `vertex/us-east5`), but never an offer of another service tier. A name with `/`
//! means exactly the offer so called, whatever its tier.
//!
//! **Policies** only tighten: they stand beside the wishes as one more sieve, so that no combination of a
//! wish and a policy admits what either refuses. Lists of allowed sellers are kept apart and all must
//! agree; denied ones are united, prices take the lesser, promises add up.

use crate::offer::{DataPolicy, Offer, Quantization, ServiceTier};
use crate::rejection::PricePart;
use bourse_types::{MoneyError, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, SellerName};
use std::sync::Arc;

/// Most names in each list of [`Preferences`] and [`Policy`].
pub const PREFERENCE_NAMES_MAX: usize = 32;

/// How the offers of several models stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Partition {
    /// A later model is asked when the earlier ones failed.
    #[default]
    Model,
    /// All offers of all models in one row.
    None,
}

/// A deterministic order that replaces the draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// Cheapest expected list price of this request first.
    Price,
    /// Most output tokens per second first (median of five minutes); never measured ones last.
    Throughput,
    /// Shortest measured time to the first token first; never measured ones last.
    Latency,
    /// Best tier of quality first, then the cheapest.
    Exacto,
}

/// Which service tier the buyer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TierWish {
    /// Ordinary service.
    #[default]
    Default,
    /// Priority offers by throughput, then ordinary ones.
    Priority,
    /// Only flex offers, by price, where the model has any; else ordinary ones.
    Flex,
    /// Ordinary and priority offers alike (`:nitro`), unless there is an `order`.
    AlsoPriority,
    /// Ordinary and flex offers alike (`:floor`), unless there is an `order`.
    AlsoFlex,
}

/// The most that a buyer accepts. Hard: no offer under it means no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxPrice {
    /// Per prompt token.
    pub prompt: Option<PicoUsdPerToken>,
    /// Per completion token.
    pub completion: Option<PicoUsdPerToken>,
    /// Once per request.
    pub request: Option<NanoUsd>,
    /// Per image, where images are the unit.
    pub image: Option<PicoUsdPerUnit>,
    /// Per second of audio, where seconds are the unit.
    pub audio: Option<PicoUsdPerUnit>,
}

impl MaxPrice {
    /// Reads dollars per million tokens such as `1.5`. Rounds down: a price meets the rounded limit
    /// exactly when it meets the written one.
    pub fn parse_usd_per_million(text: &str) -> Result<PicoUsdPerToken, MoneyError> {
        // Nano-dollars per million tokens are femto-dollars per token.
        NanoUsd::parse_usd(text).map(|per_million| PicoUsdPerToken(per_million.0 / 1_000))
    }

    /// The lesser of both, part by part.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            prompt: least(self.prompt, other.prompt),
            completion: least(self.completion, other.completion),
            request: least(self.request, other.request),
            image: least(self.image, other.image),
            audio: least(self.audio, other.audio),
        }
    }

    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The first part of an offer's prices that is above the limit, with what is asked.
    pub fn exceeded_by(&self, offer: &Offer, prices: &PriceSchedule) -> Option<PricePart> {
        self.parts_exceeded(offer, prices).next()
    }

    pub(crate) fn parts_exceeded(
        &self,
        offer: &Offer,
        prices: &PriceSchedule,
    ) -> impl Iterator<Item = PricePart> + use<> {
        let above = |part: PricePart, is: bool| is.then_some(part);
        let unit_max = offer.unit.and_then(|unit| match unit {
            crate::offer::Unit::Image => self.image,
            crate::offer::Unit::Second => self.audio,
            crate::offer::Unit::Character | crate::offer::Unit::Search => None,
        });
        [
            above(PricePart::Prompt(prices.prompt), self.prompt.is_some_and(|max| prices.prompt > max)),
            above(
                PricePart::Completion(prices.completion),
                self.completion.is_some_and(|max| prices.completion > max),
            ),
            above(PricePart::Request(prices.request), self.request.is_some_and(|max| prices.request > max)),
            offer.unit.and_then(|unit| {
                above(PricePart::Unit(unit, prices.unit), unit_max.is_some_and(|max| prices.unit > max))
            }),
        ]
        .into_iter()
        .flatten()
    }
}

fn least<T: Ord>(one: Option<T>, two: Option<T>) -> Option<T> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// A set of [`Quantization`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuantizationSet(pub(crate) u16);

impl QuantizationSet {
    /// The set with one more member. `fp4` brings `mxfp4` and `nvfp4` along, `fp8` brings `mxfp8`: a buyer
    /// who accepts the coarser word accepts its kinds.
    #[must_use]
    pub fn with(self, member: Quantization) -> Self {
        let one = |member: Quantization| 1u16 << member as u8;
        let more = match member {
            Quantization::Fp4 => one(Quantization::Mxfp4) | one(Quantization::Nvfp4),
            Quantization::Fp8 => one(Quantization::Mxfp8),
            _ => 0,
        };
        Self(self.0 | one(member) | more)
    }

    /// Members of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `member` is in the set.
    pub fn contains(self, member: Quantization) -> bool {
        self.0 & 1 << member as u8 != 0
    }
}

/// Limits at percentiles of the last five minutes; all that are given must hold. Milliseconds for a
/// latency, tokens per 1,000 seconds for a throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cutoffs {
    /// For one answer of two.
    pub p50: Option<u32>,
    /// For three of four.
    pub p75: Option<u32>,
    /// For nine of ten.
    pub p90: Option<u32>,
    /// For 99 of 100.
    pub p99: Option<u32>,
}

impl Cutoffs {
    /// Percentiles and limits, those that are given.
    pub(crate) fn limits(self) -> [Option<u32>; 4] {
        [self.p50, self.p75, self.p90, self.p99]
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// The buyer's wishes about sellers; see the module about names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// Tried first, in this order; the rest follows by price. Replaces the draw.
    pub order: Vec<SellerName>,
    /// When not empty, nobody else.
    pub only: Vec<SellerName>,
    /// Never these.
    pub ignore: Vec<SellerName>,
    /// When false: only the sellers in `order`, or without `order` a single attempt.
    pub allow_fallbacks: bool,
    /// A deterministic order instead of the draw.
    pub sort: Option<Sort>,
    /// How the offers of several models stand to each other.
    pub partition: Partition,
    /// The most that may be asked.
    pub max_price: MaxPrice,
    /// When true, [`Demand::prefers`](crate::Demand::prefers) is needed.
    pub require_parameters: bool,
    /// Promises that the seller must have made (`data_collection`, `zdr`).
    pub data: DataPolicy,
    /// Only models whose author allows training on their answers.
    pub enforce_distillable: bool,
    /// When given, only offers stored so.
    pub quantizations: Option<QuantizationSet>,
    /// When not empty, only offers in one of these regions: `us` means `us` and all that continues it
    /// after `-` or `/`.
    pub regions: Vec<Arc<str>>,
    /// Offers below go last, in tokens per 1,000 seconds.
    pub min_throughput: Cutoffs,
    /// Offers above go last, in milliseconds to the first token.
    pub max_latency: Cutoffs,
    /// Which service tier.
    pub tier: TierWish,
    /// What the account and the key allow; see [`Preferences::tightened_by`].
    pub policy: Policy,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            only: Vec::new(),
            ignore: Vec::new(),
            allow_fallbacks: true,
            sort: None,
            partition: Partition::Model,
            max_price: MaxPrice::default(),
            require_parameters: false,
            data: DataPolicy::NONE,
            enforce_distillable: false,
            quantizations: None,
            regions: Vec::new(),
            min_throughput: Cutoffs::default(),
            max_latency: Cutoffs::default(),
            tier: TierWish::Default,
            policy: Policy::default(),
        }
    }
}

/// Why preferences were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`provider.{list}` has {count} names, at most {PREFERENCE_NAMES_MAX} are allowed")]
pub struct PreferencesError {
    /// Which list.
    pub list: &'static str,
    /// How many names it has.
    pub count: usize,
}

impl Preferences {
    /// Checks the bounds; for the edge that builds this from foreign input.
    pub fn check(&self) -> Result<(), PreferencesError> {
        let lists = [
            ("order", self.order.len()),
            ("only", self.only.len()),
            ("ignore", self.ignore.len()),
            ("regions", self.regions.len()),
        ];
        match lists.into_iter().find(|(_, count)| *count > PREFERENCE_NAMES_MAX) {
            Some((list, count)) => Err(PreferencesError { list, count }),
            None => Ok(()),
        }
    }

    /// The same wishes under one more policy. Never admits an offer that was refused before.
    #[must_use]
    pub fn tightened_by(mut self, policy: &Policy) -> Self {
        self.policy = self.policy.and(policy);
        self
    }

    /// Whether the order is fixed, so that nothing is drawn.
    pub(crate) fn is_ordered(&self) -> bool {
        !self.order.is_empty() || self.sort.is_some()
    }
}

/// What an account or a key allows. The default allows everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Each list must name the seller; an empty list names nobody.
    pub allowed: Vec<Vec<SellerName>>,
    /// Never these.
    pub ignored: Vec<SellerName>,
    /// The most that may be asked.
    pub max_price: MaxPrice,
    /// Promises that the seller must have made.
    pub data: DataPolicy,
    /// Only models whose author allows training on their answers.
    pub enforce_distillable: bool,
    /// When given, only offers stored so.
    pub quantizations: Option<QuantizationSet>,
    /// Each list must name the region; an empty list names none.
    pub regions: Vec<Vec<Arc<str>>>,
}

/// What a policy refuses an offer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyRule {
    /// It is not among the allowed sellers.
    Allowed,
    /// It is among the ignored ones.
    Ignored,
    /// It asks too much.
    MaxPrice(PricePart),
    /// It does not promise enough.
    Data(DataPolicy),
    /// Its answers must not be trained on.
    Distillable,
    /// Its weights are stored in another form.
    Quantization,
    /// It runs elsewhere.
    Region,
}

impl Policy {
    /// Both policies at once.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.allowed.extend(other.allowed.iter().cloned());
        self.ignored.extend(other.ignored.iter().cloned());
        self.regions.extend(other.regions.iter().cloned());
        self.max_price = self.max_price.min(other.max_price);
        self.data = self.data.with(other.data);
        self.enforce_distillable |= other.enforce_distillable;
        self.quantizations = match (self.quantizations, other.quantizations) {
            (Some(one), Some(two)) => Some(one.and(two)),
            (one, two) => one.or(two),
        };
        self
    }

    /// The first rule by which the policy refuses an offer.
    pub fn refuses(&self, offer: &Offer) -> Option<PolicyRule> {
        let named = |names: &Vec<SellerName>| names.iter().any(|name| names_offer(name, offer));
        if !self.allowed.iter().all(named) {
            return Some(PolicyRule::Allowed);
        }
        if named(&self.ignored) {
            return Some(PolicyRule::Ignored);
        }
        let lacking = self.data.without(offer.data.closed());
        if !lacking.is_empty() {
            return Some(PolicyRule::Data(lacking));
        }
        if self.enforce_distillable && !offer.is_distillable {
            return Some(PolicyRule::Distillable);
        }
        if self.quantizations.is_some_and(|set| !set.contains(offer.quantization)) {
            return Some(PolicyRule::Quantization);
        }
        if !self.regions.iter().all(|words| is_in_regions(words, offer.region.as_deref())) {
            return Some(PolicyRule::Region);
        }
        let prices = offer.prices.as_ref()?;
        self.max_price.exceeded_by(offer, prices).map(PolicyRule::MaxPrice)
    }
}

/// Whether a name means an offer; see the module.
pub(crate) fn names_offer(name: &SellerName, offer: &Offer) -> bool {
    let (name, seller) = (name.as_str(), offer.seller.as_str());
    name == seller
        || !name.contains('/')
            && offer.tier == ServiceTier::Default
            && seller.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a region is one of the words or continues one. No region is in none.
pub(crate) fn is_in_regions(words: &[Arc<str>], region: Option<&str>) -> bool {
    let Some(region) = region else { return false };
    words.iter().any(|word| {
        region.strip_prefix(&**word).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
    })
}

#[cfg(test)]
mod tests;
