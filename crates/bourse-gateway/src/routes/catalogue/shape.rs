//! Offers as the catalogue shows them.

use super::declared::{self, author};
use crate::market::Fare;
use bourse_market::{Offer, Operations, Percentiles, ServiceTier, Supports};
use bourse_types::{PriceSchedule, UnixMs};
use bourse_wire::api::{
    self, AliasTarget, Architecture, Endpoint, Lifecycle, Model, ModelEndpoints, ModelKind, ModelLinks,
    Provider, TopProvider,
};
use std::collections::BTreeSet;

/// Nobody records when a model was made.
const CREATED: UnixMs = UnixMs(0);

/// The offer of the ordinary service that asks least for a token of each kind; of any service where none is ordinary.
pub(super) fn cheapest<'a>(offers: &[&'a Offer]) -> Option<&'a Offer> {
    let priced = offers.iter().filter_map(|offer| Some((*offer, offer.prices?)));
    let asked = |(offer, p): &(&Offer, PriceSchedule)| {
        let tokens = u128::from(p.prompt.0) + u128::from(p.completion.0);
        (offer.tier != ServiceTier::Default, tokens, p.unit, p.request)
    };
    priced.min_by_key(asked).map(|(offer, _)| offer)
}

/// Longest context of any offer, in tokens.
pub(super) fn context(offers: &[&Offer]) -> Option<u64> {
    offers.iter().map(|offer| offer.context_tokens_max).max()
}

/// Everything that any offer supports.
pub(super) fn supports(offers: &[&Offer]) -> Supports {
    offers.iter().fold(Supports::NONE, |set, offer| set.with(offer.supports))
}

/// Everything that any offer serves.
fn operations(offers: &[&Offer]) -> Operations {
    offers.iter().fold(Operations::NONE, |set, offer| set.with(offer.operations))
}

/// What goes into any offer, in the order of words.
pub(super) fn inputs(offers: &[&Offer]) -> BTreeSet<&'static str> {
    offers.iter().flat_map(|offer| declared::input_modalities(offer)).collect()
}

/// What comes out of any offer, in the order of words.
pub(super) fn outputs(offers: &[&Offer]) -> BTreeSet<&'static str> {
    offers.iter().flat_map(|offer| declared::output_modalities(offer)).collect()
}

/// One model under its slug or an alias: what its cheapest priced offer asks, and the widest limits of any.
pub(super) fn model((id, slug): (&str, &str), offers: &[&Offer]) -> Model {
    let context = context(offers);
    let completion = offers.iter().map(|o| o.completion_tokens_max.unwrap_or(o.context_tokens_max)).max();
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Model {
        id: id.to_owned(),
        canonical_slug: slug.to_owned(),
        alias_target: (id != slug).then(|| AliasTarget { name: slug.to_owned(), slug: slug.to_owned() }),
        name: id.to_owned(),
        display_name: id.to_owned(),
        object: "model",
        kind: ModelKind::Model,
        owned_by: author(slug).to_owned(),
        created: CREATED.0 / 1_000,
        created_at: CREATED.to_iso_string(),
        lifecycle: Lifecycle::Active,
        description: String::new(),
        context_length: context,
        architecture: architecture(offers),
        pricing: declared::pricing(cheapest(offers)),
        top_provider: TopProvider {
            context_length: context,
            max_completion_tokens: completion,
            is_moderated: false,
        },
        per_request_limits: None,
        supported_parameters: owned(declared::parameters(supports(offers), operations(offers))),
        default_parameters: None,
        supported_voices: None,
        links: ModelLinks { details: format!("/api/v1/models/{slug}/endpoints") },
    }
}

fn architecture(offers: &[&Offer]) -> Architecture {
    let owned = |words: BTreeSet<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
    // Text goes before pictures and sound, as the field writes it.
    let mut input_modalities = owned(inputs(offers));
    input_modalities.sort_by_key(|word| word != "text");
    let output_modalities = owned(outputs(offers));
    Architecture {
        modality: Some(format!("{}->{}", input_modalities.join("+"), output_modalities.join("+"))),
        input_modalities,
        output_modalities,
        tokenizer: "Other".to_owned(),
        instruct_type: None,
    }
}

/// A model with its offers.
pub(super) fn with_endpoints(slug: &str, offers: &[&Offer], endpoints: Vec<Endpoint>) -> ModelEndpoints {
    ModelEndpoints {
        id: slug.to_owned(),
        name: slug.to_owned(),
        description: String::new(),
        created: CREATED.0 / 1_000,
        architecture: architecture(offers),
        endpoints,
    }
}

/// One offer, and how it fares.
pub(super) fn endpoint(offer: &Offer, fare: &Fare) -> Endpoint {
    let [uptime_last_5m, uptime_last_30m, uptime_last_1d] = fare.uptime.map(|share| share.map(|s| s * 100.0));
    let (model, seller) = (offer.model.as_str().to_owned(), offer.seller.as_str().to_owned());
    Endpoint {
        name: format!("{seller} | {model}"),
        model_id: model.clone(),
        model_name: model,
        provider_name: seller.clone(),
        tag: seller,
        context_length: offer.context_tokens_max,
        max_completion_tokens: offer.completion_tokens_max,
        max_prompt_tokens: None,
        quantization: declared::quantization(offer),
        pricing: declared::pricing(Some(offer)),
        supported_parameters: declared::parameters(offer.supports, offer.operations)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        supports_implicit_caching: declared::caches_implicitly(offer),
        supports_tool_choice: declared::tool_choices(offer),
        native_tools: serde_json::Map::new(),
        service_tier: declared::service_tier(offer),
        supports_diarization: false,
        region: offer.region.as_deref().map(str::to_owned),
        status: match (offer.prices.is_some(), fare.is_resting) {
            (false, _) => -1,
            (true, true) => -2,
            (true, false) => 0,
        },
        uptime_last_5m,
        uptime_last_30m,
        uptime_last_1d,
        latency_last_30m: fare.ttft_ms.map(percentiles),
        throughput_last_30m: fare.tokens_per_s.map(percentiles),
    }
}

fn percentiles(of: Percentiles) -> api::Percentiles {
    api::Percentiles { p50: of.p50, p75: of.p75, p90: of.p90, p99: of.p99 }
}

/// A seller, of which only its name is known.
pub(super) fn provider(name: &str) -> Provider {
    Provider {
        name: name.to_owned(),
        slug: name.to_owned(),
        privacy_policy_url: None,
        terms_of_service_url: None,
        status_page_url: None,
        headquarters: None,
        datacenters: None,
    }
}
