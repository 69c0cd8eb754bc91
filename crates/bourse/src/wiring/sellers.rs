//! From `[[provider]]` to offers: names, prices, promises and capabilities, each parsed once.

mod free;

pub(super) use free::of_node;

use super::{WiringError, key, not_zero, word};
use crate::config::{self, Environment, ProviderModelSection, ProviderSection};
use bourse_exchange::SELLER_PREFIX;
use bourse_gateway::adapter::{ProviderAdapter, adapter_of_kind, kinds};
use bourse_gateway::{FollowedList, LIST_EVERY_DEFAULT, LiveRule, Pattern, ProviderConfig, ProviderModel};
use bourse_market::{DataPolicy, Operations, Quantization, ServiceTier, Supports, Unit};
use bourse_types::{
    ModelSlug, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, SellerName, SlugError,
};
use bourse_wire::dialect::Api;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Models of one provider, at most.
pub const MODELS_MAX: usize = 4_096;
/// Most minutes between two looks at a list: a day.
pub const LIST_MINUTES_MAX: u64 = 1_440;
/// The largest markup on a list's prices: ten times as much again.
pub const MARKUP_BPS_MAX: u32 = 100_000;
/// Requests whose answers are generated token by token.
const GENERATING: Operations = Operations::CHAT.with(Operations::TEXT);

/// The name of a provider: no key, which is not shown, and no account's name, by which a seller is paid.
fn name(text: &str) -> Result<SellerName, WiringError> {
    if text.starts_with(SELLER_PREFIX) {
        let why = format!("`{SELLER_PREFIX}` begins the names of sellers' accounts");
        return Err(WiringError::Unusable { field: format!("provider name `{text}`"), why });
    }
    SellerName::parse(text).map_err(|source| {
        let field = match source {
            SlugError::Secret => "provider name (not shown: it looks like a key)".to_owned(),
            _ => format!("provider name `{text}`"),
        };
        WiringError::Name { field, source }
    })
}

/// One provider with its offers, and its list where that is followed.
pub(super) fn provider(
    section: &ProviderSection,
    environment: &Environment,
) -> Result<(ProviderConfig, Option<FollowedList>), WiringError> {
    let place = format!("provider `{}`", section.name);
    let name = name(&section.name)?;
    let adapter = adapter_of_kind(&section.kind).ok_or_else(|| WiringError::Kind {
        provider: section.name.clone(),
        kind: section.kind.clone(),
        known: kinds().map(|kind| kind.word).collect::<Vec<_>>().join(", "),
    })?;
    let base_url = section.base_url.clone().or_else(|| adapter.kind().base_url.map(str::to_owned));
    let base_url =
        base_url.ok_or_else(|| WiringError::Missing { field: format!("{place}: base_url"), when: "" })?;
    let secret =
        key::read(&place, section.api_key_env.as_deref(), section.api_key_file.as_deref(), environment)?;
    if section.model.len() > MODELS_MAX {
        let (value, max) = (section.model.len() as u64, MODELS_MAX as u64);
        return Err(WiringError::TooLarge { field: "the number of models of one provider", value, max });
    }
    let house = House { name: &name, adapter, section, place: &place };
    let mut offers = BTreeSet::new();
    let mut models = Vec::with_capacity(section.model.len());
    let mut rules = Vec::new();
    for model in &section.model {
        if model.id.contains('*') {
            rules.push(house.rule(model)?);
            continue;
        }
        for (name, is) in [("except", model.except.is_some()), ("markup_bps", model.markup_bps.is_some())] {
            if is {
                let field = format!("{place}: model `{}`.{name}", model.id);
                return Err(WiringError::Unusable {
                    field,
                    why: "only names with a * follow a list".to_owned(),
                });
            }
        }
        let model = house.model(model)?;
        if !offers.insert((model.model.clone(), model.seller.clone())) {
            let seller = model.seller.as_ref().unwrap_or(&name).clone();
            return Err(WiringError::OfferTwice { seller, model: model.model });
        }
        models.push(model);
    }
    let minutes = section.list_minutes.map_or(LIST_EVERY_DEFAULT.as_secs() / 60, u64::from);
    if !(1..=LIST_MINUTES_MAX).contains(&minutes) {
        let why = format!("it is a number of minutes from 1 to {LIST_MINUTES_MAX}");
        return Err(WiringError::Unusable { field: format!("{place}: list_minutes"), why });
    }
    let list = FollowedList { provider: name.clone(), rules, every: Duration::from_secs(60 * minutes) };
    let kind = section.kind.clone();
    let provider = ProviderConfig { name, kind, base_url, api_key: secret, gathers: section.gathers, models };
    Ok((provider, Some(list).filter(|list| !list.rules.is_empty())))
}

/// A provider while its models are read.
struct House<'a> {
    name: &'a SellerName,
    adapter: &'static dyn ProviderAdapter,
    section: &'a ProviderSection,
    place: &'a str,
}

impl House<'_> {
    /// A rule about the models that the provider lists.
    fn rule(&self, section: &ProviderModelSection) -> Result<LiveRule, WiringError> {
        let place = format!("{}: model `{}`", self.place, section.id);
        let pattern = |name: &str, text: &str| {
            let unusable = || WiringError::Unusable {
                field: format!("{place}.{name} `{text}`"),
                why: "a name has one * at most".to_owned(),
            };
            Pattern::parse(text).ok_or_else(unusable)
        };
        let slug = pattern("id", &section.id)?;
        let names = pattern("upstream_id", section.upstream_id.as_deref().unwrap_or("*"))?;
        if !names.is_open() {
            let why = "one model has one slug: write a * here, or none in the slug".to_owned();
            return Err(WiringError::Unusable { field: format!("{place}.upstream_id"), why });
        }
        let except = section.except.iter().flatten();
        let except = except.map(|text| pattern("except", text)).collect::<Result<_, _>>()?;
        let markup_bps = section.markup_bps.unwrap_or(0);
        if markup_bps > MARKUP_BPS_MAX {
            let (value, max) = (markup_bps.into(), MARKUP_BPS_MAX.into());
            return Err(WiringError::TooLarge { field: "a model's markup_bps", value, max });
        }
        // The template's own names are never used; each offer has its own.
        let named = ProviderModelSection { id: section.id.replace('*', "any"), ..section.clone() };
        let template = self.model(&named)?;
        if template.prices.is_some() && section.markup_bps.is_some() {
            let why = "the rule has prices of its own, so the list's are not used: keep one".to_owned();
            return Err(WiringError::Unusable { field: format!("{place}.markup_bps"), why });
        }
        Ok(LiveRule {
            names,
            except,
            slug,
            template,
            markup_bps,
            has_context: section.context_tokens.is_some(),
            has_supports: section.supports.is_some() || self.section.supports.is_some(),
        })
    }

    fn model(&self, section: &ProviderModelSection) -> Result<ProviderModel, WiringError> {
        let slug = ModelSlug::parse(&section.id).map_err(|source| WiringError::Name {
            field: format!("{}: model id `{}`", self.place, section.id),
            source,
        })?;
        let place = format!("{}: model `{}`", self.place, section.id);
        let tier = match section.tier.as_deref() {
            None => ServiceTier::Default,
            Some(text) => word(&place, "tier", text, &TIERS, ServiceTier::as_str)?,
        };
        let operations = self.operations(&place, section.operations.as_deref())?;
        let unit = unit(&place, section, operations)?;
        let upstream_id = section.upstream_id.as_deref().unwrap_or(&section.id);
        let region = section.region.as_ref().or(self.section.region.as_ref());
        let quantization = match section.quantization.as_deref() {
            None => Quantization::Unknown,
            Some(text) => word(&place, "quantization", text, &Quantization::ALL, Quantization::as_str)?,
        };
        for (name, value) in [
            ("context_tokens", section.context_tokens),
            ("completion_tokens", section.completion_tokens),
            ("capacity", section.capacity),
        ] {
            not_zero(format!("{place}: {name}"), value.map_or(1, u64::from))?;
        }
        let mut model = ProviderModel::new(slug, upstream_id, PriceSchedule::per_token(ZERO, ZERO));
        if let Some(tokens) = section.context_tokens {
            model.context_tokens_max = tokens.into();
        }
        Ok(ProviderModel {
            seller: self.seller(&place, section.variant.as_deref(), tier)?,
            prices: prices(&place, section, operations, unit)?,
            completion_tokens_max: section.completion_tokens.map(u64::from),
            supports: self.supports(&place, section.supports.as_deref())?,
            capacity: section.capacity,
            quantization,
            region: region.map(|region| Arc::from(region.as_str())),
            operations,
            tier,
            tier_word: Some(tier.as_str())
                .filter(|_| self.adapter.kind().takes_tier && tier != ServiceTier::Default),
            data: self.data(&place, section)?,
            unit,
            is_distillable: section.is_distillable.unwrap_or(false),
            free: free::of_model(&place, section)?,
            ..model
        })
    }

    /// The seller's whole name, where something tells it from the provider's.
    fn seller(
        &self,
        place: &str,
        variant: Option<&str>,
        tier: ServiceTier,
    ) -> Result<Option<SellerName>, WiringError> {
        let by_tier = Some(tier.as_str()).filter(|_| tier != ServiceTier::Default);
        let Some(variant) = variant.or(by_tier) else { return Ok(None) };
        let named = |source| WiringError::Name { field: format!("{place}.variant `{variant}`"), source };
        // Parsed alone, too: an empty one would hide behind the slash.
        SellerName::parse(variant).map_err(named)?;
        SellerName::parse(&format!("{}/{variant}", self.name)).map(Some).map_err(named)
    }

    fn operations(&self, place: &str, words: Option<&[String]>) -> Result<Operations, WiringError> {
        let Some(words) = words else { return Ok(self.adapter.kind().operations) };
        let all: Vec<Operations> = Operations::ALL.members().collect();
        let mut set = Operations::NONE;
        for text in words {
            let one = word(place, "operations", text, &all, |one| one.names().next().unwrap_or_default())?;
            let speaks = self.adapter.shape(api(one)).is_some();
            if !speaks {
                let (provider, kind) = (self.name.as_str().to_owned(), self.adapter.kind().word);
                return Err(WiringError::Unspoken { provider, kind, operation: text.clone() });
            }
            set = set.with(one);
        }
        if set.is_empty() {
            return Err(WiringError::Missing { field: format!("{place}.operations"), when: "" });
        }
        Ok(set)
    }

    /// The model's own list, else the provider's, else what the kind usually can.
    fn supports(&self, place: &str, words: Option<&[String]>) -> Result<Supports, WiringError> {
        let house = match &self.section.supports {
            Some(words) => changed(self.place, self.adapter.kind().supports, words)?,
            None => self.adapter.kind().supports,
        };
        words.map_or(Ok(house), |words| changed(place, house, words))
    }

    /// What is promised: only what is said.
    fn data(&self, place: &str, section: &ProviderModelSection) -> Result<DataPolicy, WiringError> {
        let retains = section.retains_prompts.or(self.section.retains_prompts);
        let trains = section.trains_on_prompts.or(self.section.trains_on_prompts);
        let zdr = section.zdr.or(self.section.zdr) == Some(true);
        if zdr && (retains == Some(true) || trains == Some(true)) {
            return Err(WiringError::Contradiction { place: place.to_owned() });
        }
        let promised = [
            (retains == Some(false), DataPolicy::NO_RETENTION),
            (trains == Some(false), DataPolicy::NO_TRAINING),
            (zdr, DataPolicy::ZDR),
        ];
        let given = promised.into_iter().filter(|(is, _)| *is);
        Ok(given.fold(DataPolicy::NONE, |set, (_, one)| set.with(one)).closed())
    }
}

const ZERO: PicoUsdPerToken = PicoUsdPerToken(0);
const TIERS: [ServiceTier; 3] = [ServiceTier::Default, ServiceTier::Priority, ServiceTier::Flex];
const UNITS: [Unit; 4] = [Unit::Image, Unit::Second, Unit::Character, Unit::Search];

/// The front that a kind of request comes through.
fn api(operation: Operations) -> Api {
    let fronts = [
        (Operations::TEXT, Api::Text),
        (Operations::EMBEDDINGS, Api::Embeddings),
        (Operations::RERANK, Api::Rerank),
        (Operations::IMAGES, Api::Images),
        (Operations::SPEECH, Api::Speech),
        (Operations::TRANSCRIPTION, Api::Transcription),
    ];
    fronts.into_iter().find(|(one, _)| *one == operation).map_or(Api::Chat, |(_, api)| api)
}

/// A list of names, or what names with `+` and `-` make of `usual`.
fn changed(place: &str, usual: Supports, words: &[String]) -> Result<Supports, WiringError> {
    let all: Vec<Supports> = Supports::ALL.members().collect();
    let one = |text: &str| word(place, "supports", text, &all, |one| one.names().next().unwrap_or_default());
    let is_change = |text: &&String| text.starts_with(['+', '-']);
    if words.iter().any(|text| is_change(&text)) && !words.iter().all(|text| is_change(&text)) {
        return Err(WiringError::MixedList { field: format!("{place}.supports") });
    }
    let mut set = if words.first().as_ref().is_some_and(is_change) { usual } else { Supports::NONE };
    for text in words {
        set = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => set.with(one(more)?),
            (_, Some(less)) => set.without(one(less)?),
            _ => set.with(one(text)?),
        };
    }
    Ok(set)
}

/// What one unit is: as written, or what goes without saying for the one kind of request that it serves.
fn unit(
    place: &str,
    section: &ProviderModelSection,
    operations: Operations,
) -> Result<Option<Unit>, WiringError> {
    if section.price_unit.is_none() {
        return match section.unit {
            Some(_) => Err(WiringError::Missing {
                field: format!("{place}.price_unit"),
                when: ", as it names a unit",
            }),
            None => Ok(None),
        };
    }
    if let Some(text) = section.unit.as_deref() {
        return word(place, "unit", text, &UNITS, Unit::as_str).map(Some);
    }
    let usual = [
        (Operations::IMAGES, Unit::Image),
        (Operations::SPEECH, Unit::Character),
        (Operations::TRANSCRIPTION, Unit::Second),
        (Operations::RERANK, Unit::Search),
    ];
    let found = usual.into_iter().find(|(one, _)| *one == operations).map(|(_, unit)| unit);
    let missing =
        || WiringError::Missing { field: format!("{place}.unit"), when: ", as it has a price_unit" };
    found.map(Some).ok_or_else(missing)
}

/// What is asked; none when nothing is said, and then nobody is sent there. What only generation needs may be left
/// out where nothing is generated.
fn prices(
    place: &str,
    section: &ProviderModelSection,
    operations: Operations,
    unit: Option<Unit>,
) -> Result<Option<PriceSchedule>, WiringError> {
    let field = |name: &str| format!("{place}.{name}");
    let token = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| config::price(&field(name), text)).transpose()
    };
    let prompt = token("price_prompt", &section.price_prompt)?;
    let completion = token("price_completion", &section.price_completion)?;
    let cached = token("price_cached", &section.price_cached)?;
    let cache_write = token("price_cache_write", &section.price_cache_write)?;
    let request = section.price_request.as_deref();
    let request = request.map(|text| config::amount(&field("price_request"), text)).transpose()?;
    let per_unit = section.price_unit.as_deref();
    let per_unit = per_unit.map(|text| config::price(&field("price_unit"), text)).transpose()?;
    let is_free = section.free == Some(true);
    let named = [prompt, completion, cached, cache_write, per_unit];
    if is_free
        && (named.into_iter().flatten().any(|price| price != ZERO)
            || request.is_some_and(|r| r != NanoUsd::ZERO))
    {
        return Err(WiringError::FreeAndPriced { place: place.to_owned() });
    }
    if !is_free && request.is_none() && named.iter().all(Option::is_none) {
        return Ok(None);
    }
    let generates = !GENERATING.without(operations).contains(GENERATING);
    let may_lack_prompt = is_free || !generates && (unit.is_some() || request.is_some());
    let needed = |name: &str, price: Option<PicoUsdPerToken>, may_lack: bool| match price {
        Some(price) => Ok(price),
        None if may_lack => Ok(ZERO),
        None => Err(WiringError::Missing { field: field(name), when: ", as other prices are known" }),
    };
    let prompt = needed("price_prompt", prompt, may_lack_prompt)?;
    let completion = needed("price_completion", completion, is_free || !generates)?;
    Ok(Some(PriceSchedule {
        cached_prompt: cached.unwrap_or(prompt),
        cache_write: cache_write.unwrap_or(prompt),
        request: request.unwrap_or(NanoUsd::ZERO),
        unit: PicoUsdPerUnit(per_unit.map_or(0, |price| price.0)),
        ..PriceSchedule::per_token(prompt, completion)
    }))
}

#[cfg(test)]
mod tests;
