//! Why nobody can serve a request, and what is the least that would have to change.
//!
//! Pure, and computed only when somebody asks: a plan keeps one byte for each offer, and here the offers
//! are looked at again, rule by rule. For each rule that refused an offer the diagnosis says how many it
//! refused first and the smallest change *of that rule alone* that would admit one; and of all offers it names
//! the one that the fewest changes would admit, with these. An offer's own failures (no price, at capacity)
//! are no rule of the buyer's and have no change.

use crate::demand::Demand;
use crate::offer::{DataPolicy, Offer, OfferIndex, Supports};
use crate::plan::{PlanError, Rejections, sieve};
use crate::preferences::PolicyRule;
use crate::rejection::{PricePart, Rejection, missing};
use crate::snapshot::MarketSnapshot;
use bourse_types::PicoUsdPerToken;
use std::fmt;

/// Most offers that are looked at for the smallest changes; the counts are of all.
pub const DIAGNOSED_OFFERS_MAX: usize = 4_096;
/// How the name of a free variant ends.
const FREE: &str = ":free";

/// Why a model cannot be had, in the field's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Nobody offers any of the models.
    ModelNotFound,
    /// The models are offered, but not for this kind of request.
    WrongEndpoint,
    /// The models are known, but no offer of them can be routed to.
    NoEndpoints,
    /// Rules about data left nobody.
    PrivacyRestricted,
    /// Other rules left nobody.
    ConstraintFiltered,
    /// A free variant was asked for, and only the paid model is offered.
    FreeVariantEnded,
    /// Everybody who could serve is full.
    CapacityExhausted,
    /// Everybody who could serve rests.
    TemporarilyUnavailable,
    /// Rules about regions left nobody.
    RegionRestricted,
}

impl Availability {
    /// Stable code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::ModelNotFound => "model_not_found",
            Self::WrongEndpoint => "wrong_endpoint",
            Self::NoEndpoints => "no_endpoints",
            Self::PrivacyRestricted => "privacy_restricted",
            Self::ConstraintFiltered => "constraint_filtered",
            Self::FreeVariantEnded => "free_variant_ended",
            Self::CapacityExhausted => "capacity_exhausted",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::RegionRestricted => "region_restricted",
        }
    }

    /// The HTTP status that the field answers with.
    pub fn status(self) -> u16 {
        match self {
            Self::WrongEndpoint => 400,
            Self::RegionRestricted => 403,
            Self::CapacityExhausted => 429,
            Self::TemporarilyUnavailable => 503,
            _ => 404,
        }
    }

    /// Whether the same request may be served a little later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::CapacityExhausted | Self::TemporarilyUnavailable)
    }
}

/// One change of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Accept this price; the old limit is in the request.
    Accept(PricePart),
    /// Leave a member of the request out.
    LeaveOut(&'static str),
    /// Add a word to a list.
    Add(&'static str, String),
    /// Take what names the offer out of a list.
    TakeOut(&'static str, String),
    /// Ask for at most so many tokens.
    MaxTokens(u64),
    /// Shorten prompt and answer together by so many tokens, at the least count.
    Shorten(u64),
    /// Do without these.
    DoWithout(Supports),
    /// Ask for a service tier.
    Tier(&'static str),
}

impl Change {
    /// What is done, in one stable word.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Accept(_) => "raise",
            Self::LeaveOut(_) => "leave_out",
            Self::Add(..) => "add",
            Self::TakeOut(..) => "take_out",
            Self::MaxTokens(_) => "lower",
            Self::Shorten(_) => "shorten",
            Self::DoWithout(_) => "do_without",
            Self::Tier(_) => "set",
        }
    }

    /// The member of the request that it is about; of several that are to be done without the first.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Accept(part) => part.field().unwrap_or("provider.max_price"),
            Self::LeaveOut(field) | Self::Add(field, _) | Self::TakeOut(field, _) => field,
            Self::MaxTokens(_) => "max_tokens",
            Self::Shorten(_) => "messages",
            Self::DoWithout(what) => match what.names().next() {
                Some("media") | None => "messages",
                Some(name) => name,
            },
            Self::Tier(_) => "service_tier",
        }
    }

    /// To what the member is raised, lowered or set, what is added to it or taken out, by how many tokens it is shortened,
    /// what is to be done without; none where it is left out. Prices are in the units of `max_price`.
    pub fn value(&self) -> Option<String> {
        Some(match self {
            Self::Accept(PricePart::Prompt(price) | PricePart::Completion(price)) => per_million(*price),
            Self::Accept(PricePart::Request(price)) => price.to_string().trim_start_matches('$').to_owned(),
            Self::Accept(PricePart::Unit(_, price)) => price.to_usd_per_unit_string(),
            Self::LeaveOut(_) => return None,
            Self::Add(_, word) | Self::TakeOut(_, word) => word.clone(),
            Self::MaxTokens(tokens) | Self::Shorten(tokens) => tokens.to_string(),
            Self::DoWithout(what) => what.to_string(),
            Self::Tier(tier) => (*tier).to_owned(),
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(PricePart::Prompt(price)) => {
                write!(f, "raise `provider.max_price.prompt` to {} USD per million", per_million(*price))
            }
            Self::Accept(PricePart::Completion(price)) => {
                write!(f, "raise `provider.max_price.completion` to {} USD per million", per_million(*price))
            }
            Self::Accept(part) => write!(f, "raise `{}` to {part}", part.field().unwrap_or("max_price")),
            Self::LeaveOut(field) => write!(f, "leave out `{field}`"),
            Self::Add(field, word) => write!(f, "add `{word}` to `{field}`"),
            Self::TakeOut(field, word) => write!(f, "take `{word}` out of `{field}`"),
            Self::MaxTokens(most) => write!(f, "lower `max_tokens` to {most}"),
            Self::Shorten(tokens) => write!(f, "shorten prompt and answer by {tokens} tokens"),
            Self::DoWithout(what) => write!(f, "do without {what}"),
            Self::Tier(tier) => write!(f, "set `service_tier` to `{tier}`"),
        }
    }
}

/// A price as decimal dollars per million tokens, which are micro-dollars per token.
fn per_million(price: PicoUsdPerToken) -> String {
    let full = format!("{}.{:06}", price.0 / 1_000_000, price.0 % 1_000_000);
    full.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What one rule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule.
    pub rule: Rejection,
    /// How many offers it was the first to refuse.
    pub offers: u32,
    /// The smallest change of this rule alone that would admit an offer, and which; none where no change of
    /// it alone would.
    pub smallest: Option<(OfferIndex, Change)>,
}

/// Why nobody can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// In one word.
    pub availability: Availability,
    /// Rule by rule, those that refused most first.
    pub rules: Vec<RuleReport>,
    /// The offer that the fewest changes would admit, and these; none where no changes of the request would.
    pub nearest: Option<(OfferIndex, Vec<Change>)>,
    /// The field's words for what excluded offers, each once, in the order of `rules`.
    pub excluded_by: Vec<&'static str>,
}

/// Diagnoses a failed plan.
pub fn diagnose(snapshot: &MarketSnapshot, error: &PlanError, demand: &Demand<'_>) -> Diagnosis {
    match error {
        PlanError::ModelNotFound => Diagnosis {
            availability: if has_paid_model(snapshot, demand) {
                Availability::FreeVariantEnded
            } else {
                Availability::ModelNotFound
            },
            rules: Vec::new(),
            nearest: None,
            excluded_by: Vec::new(),
        },
        PlanError::NoOffers { rejected } => diagnose_rejected(snapshot, rejected, demand),
    }
}

/// Diagnoses rejections; also those of a plan that was made, where `nearest` then names who was closest
/// among the refused.
pub fn diagnose_rejected(snapshot: &MarketSnapshot, rejected: &Rejections, demand: &Demand<'_>) -> Diagnosis {
    let mut rules: Vec<RuleReport> =
        rejected.counts().map(|(rule, offers)| RuleReport { rule, offers, smallest: None }).collect();
    rules.sort_by_key(|report| std::cmp::Reverse(report.offers));
    let mut nearest: Option<(f64, OfferIndex, Vec<Change>)> = None;
    let mut excluded_by = Vec::new();
    let mut efforts = vec![f64::INFINITY; rules.len()];
    for (index, first) in rejected.iter().take(DIAGNOSED_OFFERS_MAX) {
        let Some(offer) = snapshot.offer(index) else { continue };
        let mut refused = sieve::refusals(snapshot, index, demand);
        if !refused.contains(&first) {
            refused.push(first);
        }
        for word in refused.iter().filter_map(|rule| excluded_word(*rule, offer, demand)) {
            if !excluded_by.contains(&word) {
                excluded_by.push(word);
            }
        }
        let changes: Option<Vec<Vec<(f64, Change)>>> =
            refused.iter().map(|rule| changes(*rule, offer, demand)).collect();
        let Some(changes) = changes else { continue };
        let changes: Vec<(f64, Change)> = changes.into_iter().flatten().collect();
        let effort = changes.iter().map(|(effort, _)| 1.0 + effort).sum::<f64>();
        if let ([rule], [(_, change)]) = (&refused[..], &changes[..]) {
            let report = rules.iter().position(|report| report.rule == *rule);
            if let Some(at) = report.filter(|at| effort < efforts[*at]) {
                efforts[at] = effort;
                rules[at].smallest = Some((index, change.clone()));
            }
        }
        if nearest.as_ref().is_none_or(|(least, ..)| effort < *least) {
            nearest = Some((effort, index, changes.into_iter().map(|(_, change)| change).collect()));
        }
    }
    Diagnosis {
        availability: availability(&rules, &excluded_by),
        rules,
        nearest: nearest.map(|(_, index, changes)| (index, changes)),
        excluded_by,
    }
}

fn has_paid_model(snapshot: &MarketSnapshot, demand: &Demand<'_>) -> bool {
    demand.models().any(|model| model.strip_suffix(FREE).is_some_and(|paid| snapshot.model(paid).is_some()))
}

/// The one word for what refused everybody: what a wait would cure before what a change would, because
/// then somebody serves this very request; then what refused the most.
fn availability(rules: &[RuleReport], excluded_by: &[&'static str]) -> Availability {
    let has = |rule: Rejection| rules.iter().any(|report| report.rule == rule);
    let all = |of: &[Rejection]| rules.iter().all(|report| of.contains(&report.rule));
    if has(Rejection::BreakerOpen) || has(Rejection::RateLimited) {
        return Availability::TemporarilyUnavailable;
    }
    if has(Rejection::AtCapacity) {
        return Availability::CapacityExhausted;
    }
    if all(&[Rejection::UnknownPrice]) {
        return Availability::NoEndpoints;
    }
    if all(&[Rejection::UnknownPrice, Rejection::Operation]) {
        return Availability::WrongEndpoint;
    }
    match excluded_by.first() {
        Some(word) if word.starts_with("data_policy") => Availability::PrivacyRestricted,
        Some(&"data_region") => Availability::RegionRestricted,
        _ => Availability::ConstraintFiltered,
    }
}

/// The field's word for a rule that excluded an offer.
fn excluded_word(rule: Rejection, offer: &Offer, demand: &Demand<'_>) -> Option<&'static str> {
    let by_data = |lacking: DataPolicy| {
        if lacking.contains(DataPolicy::ZDR) { "data_policy:zdr" } else { "data_policy:training" }
    };
    Some(match rule {
        Rejection::NotInOnly | Rejection::Ignored | Rejection::FallbacksOff => "allowed_providers",
        Rejection::DataPolicy => by_data(demand.preferences.data.without(offer.data.closed())),
        Rejection::Region => "data_region",
        Rejection::Quantization => "quantization",
        Rejection::MissingSupport | Rejection::MissingPreferred => "require_parameters",
        Rejection::ContextTooLong | Rejection::MaxTokens => "context_length",
        Rejection::MaxPrice => "max_price",
        Rejection::Policy => match demand.preferences.policy.refuses(offer)? {
            PolicyRule::Data(lacking) => by_data(lacking),
            PolicyRule::Region => "data_region",
            PolicyRule::Quantization => "quantization",
            PolicyRule::MaxPrice(_) => "max_price",
            PolicyRule::Allowed | PolicyRule::Ignored | PolicyRule::Distillable => "allowed_providers",
        },
        _ => return None,
    })
}

/// The changes by which a rule would admit an offer, each with its effort: a share of what was there, so
/// that a price half above the limit is nearer than twice. `None` where no change of the request would.
fn changes(rule: Rejection, offer: &Offer, demand: &Demand<'_>) -> Option<Vec<(f64, Change)>> {
    let wishes = demand.preferences;
    let seller = || offer.seller.to_string();
    let one = |change: Change| Some(vec![(0.0, change)]);
    match rule {
        Rejection::NotInOnly => one(Change::Add("provider.only", seller())),
        Rejection::Ignored => {
            let named = wishes.ignore.iter().filter(|name| crate::preferences::names_offer(name, offer));
            Some(named.map(|n| (0.0, Change::TakeOut("provider.ignore", n.to_string()))).collect())
        }
        Rejection::ServiceTier => one(Change::Tier(offer.tier.as_str())),
        Rejection::DataPolicy => {
            let lacking = wishes.data.without(offer.data.closed());
            let zdr = lacking.contains(DataPolicy::ZDR).then_some("provider.zdr");
            let rest = lacking.without(DataPolicy::ZDR);
            let collection = (!rest.is_empty()).then_some("provider.data_collection");
            let fields = zdr.into_iter().chain(collection);
            Some(fields.map(|field| (0.0, Change::LeaveOut(field))).collect())
        }
        Rejection::NotDistillable => one(Change::LeaveOut("provider.enforce_distillable_text")),
        Rejection::Region => match &offer.region {
            Some(region) => one(Change::Add("provider.regions", region.to_string())),
            None => one(Change::LeaveOut("provider.regions")),
        },
        Rejection::Quantization => {
            one(Change::Add("provider.quantizations", offer.quantization.as_str().to_owned()))
        }
        Rejection::MissingSupport => {
            let lacking = missing(offer, demand);
            let needed = lacking.names().count().saturating_sub(1);
            Some(vec![(needed as f64, Change::DoWithout(lacking))])
        }
        Rejection::MissingPreferred => one(Change::DoWithout(demand.prefers.without(offer.supports))),
        Rejection::ContextTooLong => {
            let over = demand.context_tokens_least() - offer.context_tokens_max;
            let share = over as f64 / demand.context_tokens_least() as f64;
            Some(vec![(share, Change::Shorten(over))])
        }
        Rejection::MaxTokens => {
            let most = offer.completion_tokens_max?;
            let share = 1.0 - most as f64 / demand.answer_tokens() as f64;
            Some(vec![(share, Change::MaxTokens(most))])
        }
        Rejection::MaxPrice => {
            let parts = wishes.max_price.parts_exceeded(offer, offer.prices.as_ref()?);
            Some(parts.map(|part| (share_above(part, demand), Change::Accept(part))).collect())
        }
        Rejection::FallbacksOff if wishes.order.is_empty() => {
            one(Change::LeaveOut("provider.allow_fallbacks"))
        }
        Rejection::FallbacksOff => one(Change::Add("provider.order", seller())),
        Rejection::UnknownPrice
        | Rejection::Operation
        | Rejection::Policy
        | Rejection::AtCapacity
        | Rejection::BreakerOpen
        | Rejection::RateLimited
        | Rejection::AttemptBudget => None,
    }
}

/// By which share of the limit a price is above it.
fn share_above(part: PricePart, demand: &Demand<'_>) -> f64 {
    let max = &demand.preferences.max_price;
    let (asked, limit) = match part {
        PricePart::Prompt(price) => (price.0, max.prompt.map(|max| max.0)),
        PricePart::Completion(price) => (price.0, max.completion.map(|max| max.0)),
        PricePart::Request(price) => (price.0, max.request.map(|max| max.0)),
        PricePart::Unit(unit, price) => {
            let limit = if unit == crate::offer::Unit::Image { max.image } else { max.audio };
            (price.0, limit.map(|max| max.0))
        }
    };
    let limit = limit.unwrap_or(0).max(1);
    (asked.saturating_sub(limit)) as f64 / limit as f64
}

#[cfg(test)]
mod tests;
