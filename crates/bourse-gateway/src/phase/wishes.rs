//! A job in the market's words: what it needs, and which sellers the buyer wants.
//!
//! `service_tier` and a variant of the model's name (`:nitro`, `:floor`, `:exacto`) become a wish for a tier
//! and a sort; a sort that the buyer writes in `provider` goes before the variant's. The variant of the first
//! model counts for all models of a request.

use bourse_market::{
    Cutoffs, DataPolicy, Demand, MaxPrice, Operations, Partition, Policy, Preferences, Quantization,
    QuantizationSet, Sort, Supports, TierWish,
};
use bourse_types::{NanoUsd, PicoUsdPerUnit};
use bourse_wire::dialect::fields::{self, DataCollection, ServiceTier, Variant};
use bourse_wire::dialect::{Api, Job, SortBy};
use bourse_wire::error::ApiError;
use std::sync::Arc;

/// Bytes that stand for a part of a message that is not text, such as an image, in the prompt's bound.
const MEDIA_PART_BYTES: u64 = 8 * 1024;
/// Pico-dollars in one nano-dollar.
const PICO_PER_NANO: u64 = 1_000;

/// What a job asks of a seller of `model`.
pub(crate) fn demand<'a>(job: &'a Job, model: &'a str, preferences: &'a Preferences) -> Demand<'a> {
    let s = &job.sampling;
    let wanted = [
        (job.needs.tools, Supports::TOOLS),
        (job.needs.response_format, Supports::RESPONSE_FORMAT),
        (job.needs.logprobs, Supports::LOGPROBS),
        (job.seed.is_some(), Supports::SEED),
        (!s.logit_bias.is_empty(), Supports::LOGIT_BIAS),
        (s.presence_penalty != 0.0 || s.frequency_penalty != 0.0, Supports::PENALTIES),
        (s.top_k != 0, Supports::TOP_K),
        (s.min_p != 0.0, Supports::MIN_P),
        ((s.repetition_penalty - 1.0).abs() > f32::EPSILON, Supports::REPETITION_PENALTY),
        (job.routing.reasoning.is_some(), Supports::REASONING),
        (job.routing.verbosity.is_some(), Supports::VERBOSITY),
    ];
    let needed = [(job.choices > 1, Supports::CHOICES), (job.needs.media_parts > 0, Supports::MEDIA)];
    let union = |list: &[(bool, Supports)]| {
        list.iter().filter(|(is, _)| *is).fold(Supports::NONE, |set, (_, one)| set.with(*one))
    };
    Demand {
        operation: operation(job.api),
        prompt_bytes: job.prompt_bytes() + u64::from(job.needs.media_parts) * MEDIA_PART_BYTES,
        messages: job.messages_count,
        max_tokens: job.max_tokens.map(u64::from),
        choices: job.choices,
        units_max: job.passed.as_ref().map_or(0, |passed| passed.units_max),
        needs: union(&needed),
        prefers: union(&wanted),
        ..Demand::new(model, preferences)
    }
}

fn operation(api: Api) -> Operations {
    match api {
        Api::Chat | Api::Responses | Api::Messages => Operations::CHAT,
        Api::Text => Operations::TEXT,
        Api::Embeddings => Operations::EMBEDDINGS,
        Api::Rerank => Operations::RERANK,
        Api::Images => Operations::IMAGES,
        Api::Speech => Operations::SPEECH,
        Api::Transcription => Operations::TRANSCRIPTION,
    }
}

/// The buyer's wishes.
pub(crate) fn preferences(job: &Job) -> Result<Preferences, ApiError> {
    let wishes = &job.preferences;
    let (by_variant, tier) = variant(job);
    let sort = wishes.sort.map(|sort| match sort {
        SortBy::Price => Sort::Price,
        SortBy::Throughput => Sort::Throughput,
        SortBy::Latency => Sort::Latency,
        SortBy::Exacto => Sort::Exacto,
    });
    Ok(Preferences {
        order: wishes.order.clone(),
        only: wishes.only.clone(),
        ignore: wishes.ignore.clone(),
        allow_fallbacks: wishes.allow_fallbacks,
        sort: sort.or(by_variant),
        partition: match wishes.partition {
            fields::Partition::Model => Partition::Model,
            fields::Partition::None => Partition::None,
        },
        max_price: max_price(wishes),
        require_parameters: wishes.require_parameters,
        data: data(wishes),
        enforce_distillable: wishes.enforce_distillable_text,
        quantizations: quantizations(&wishes.quantizations)?,
        regions: wishes.regions.iter().map(|word| Arc::from(word.as_str())).collect(),
        min_throughput: cutoffs(wishes.preferred_min_throughput),
        max_latency: cutoffs(wishes.preferred_max_latency),
        tier,
        ..Preferences::default()
    })
}

/// What a policy of an account or a key allows.
pub(crate) fn policy_of(rules: &fields::Preferences) -> Result<Policy, ApiError> {
    let regions: Vec<Arc<str>> = rules.regions.iter().map(|word| Arc::from(word.as_str())).collect();
    Ok(Policy {
        allowed: Some(rules.only.clone()).filter(|names| !names.is_empty()).into_iter().collect(),
        ignored: rules.ignore.clone(),
        max_price: max_price(rules),
        data: data(rules),
        enforce_distillable: rules.enforce_distillable_text,
        quantizations: quantizations(&rules.quantizations)?,
        regions: Some(regions).filter(|words| !words.is_empty()).into_iter().collect(),
    })
}

/// What the model's variant and `service_tier` say about order and tier.
fn variant(job: &Job) -> (Option<Sort>, TierWish) {
    let (sort, tier) = match job.routing.models.first().and_then(|model| model.variant) {
        Some(Variant::Nitro) => (Some(Sort::Throughput), TierWish::AlsoPriority),
        Some(Variant::Floor) => (Some(Sort::Price), TierWish::AlsoFlex),
        Some(Variant::Exacto) => (Some(Sort::Exacto), TierWish::Default),
        Some(Variant::Free | Variant::Static) | None => (None, TierWish::Default),
    };
    match job.routing.service_tier {
        Some(ServiceTier::Priority | ServiceTier::Fast) => (sort, TierWish::Priority),
        Some(ServiceTier::Flex) => (sort, TierWish::Flex),
        Some(ServiceTier::Auto | ServiceTier::Default | ServiceTier::Scale) | None => (sort, tier),
    }
}

fn max_price(wishes: &fields::Preferences) -> MaxPrice {
    MaxPrice {
        prompt: wishes.max_price_prompt,
        completion: wishes.max_price_completion,
        request: wishes.max_price_request,
        image: wishes.max_price_image.map(per_unit),
        audio: wishes.max_price_audio.map(per_unit),
    }
}

fn data(wishes: &fields::Preferences) -> DataPolicy {
    let collection = match wishes.data_collection {
        Some(DataCollection::Deny) => DataPolicy::NO_COLLECTION,
        Some(DataCollection::Allow) | None => DataPolicy::NONE,
    };
    if wishes.zdr { collection.with(DataPolicy::ZDR) } else { collection }
}

fn quantizations(words: &[String]) -> Result<Option<QuantizationSet>, ApiError> {
    let mut set = None;
    for word in words {
        let known = Quantization::parse(word).ok_or_else(|| {
            let all = Quantization::ALL.map(Quantization::as_str).join(", ");
            ApiError::field(
                "provider.quantizations",
                format!("`provider.quantizations` knows these words: {all}"),
            )
        })?;
        set = Some(set.unwrap_or(QuantizationSet::default()).with(known));
    }
    Ok(set)
}

/// Both count in thousandths of the field's unit. What exceeds 32 bits is met by nobody or everybody.
fn cutoffs(wanted: Option<fields::Cutoffs>) -> Cutoffs {
    let wanted = wanted.unwrap_or_default();
    let milli = |cut: Option<u64>| cut.map(|cut| u32::try_from(cut).unwrap_or(u32::MAX));
    Cutoffs { p50: milli(wanted.p50), p75: milli(wanted.p75), p90: milli(wanted.p90), p99: milli(wanted.p99) }
}

fn per_unit(price: NanoUsd) -> PicoUsdPerUnit {
    PicoUsdPerUnit(price.0.saturating_mul(PICO_PER_NANO))
}
