//! What an offer declares, in the field's words. Everything that the catalogue says about one offer alone stands here.

use bourse_market::{DataPolicy, Offer, Operations, Quantization, ServiceTier, Supports, Unit};
use bourse_wire::api::{Pricing, ToolChoices};
use bourse_wire::dialect::push_usd;

/// Parameters that every offer of conversations or completions supports.
const PARAMETERS_OF_ALL: [&str; 5] = ["max_tokens", "temperature", "top_p", "stop", "stream"];
/// A price that is not known.
const UNKNOWN: &str = "-1";

/// The author of a model: the first part of its slug.
pub(super) fn author(slug: &str) -> &str {
    slug.split_once('/').map_or("unknown", |(author, _)| author)
}

/// What goes in, in the field's words.
pub(super) fn input_modalities(offer: &Offer) -> impl Iterator<Item = &'static str> {
    let reads = offer.operations != Operations::TRANSCRIPTION;
    let sees = offer.supports.contains(Supports::MEDIA) && offer.operations.contains(Operations::CHAT);
    let hears = offer.operations.contains(Operations::TRANSCRIPTION);
    let words = [(reads, "text"), (sees, "image"), (hears, "audio")];
    words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word)
}

/// What comes out, in the field's words.
pub(super) fn output_modalities(offer: &Offer) -> impl Iterator<Item = &'static str> {
    let operations = offer.operations;
    let words = [
        (Operations::CHAT, "text"),
        (Operations::TEXT, "text"),
        (Operations::EMBEDDINGS, "embeddings"),
        (Operations::RERANK, "rerank"),
        (Operations::IMAGES, "image"),
        (Operations::SPEECH, "speech"),
        (Operations::TRANSCRIPTION, "transcription"),
    ];
    words.into_iter().filter(move |(one, _)| operations.contains(*one)).map(|(_, word)| word)
}

/// Whether its seller promises to keep nothing.
pub(super) fn is_zdr(offer: &Offer) -> bool {
    offer.data.contains(DataPolicy::ZDR)
}

/// Whether the model's author allows training on its answers.
pub(super) fn is_distillable(offer: &Offer) -> bool {
    offer.is_distillable
}

/// `priority` or `flex`; none for the ordinary service.
pub(super) fn service_tier(offer: &Offer) -> Option<String> {
    (offer.tier != ServiceTier::Default).then(|| offer.tier.as_str().to_owned())
}

/// Whether it is in a region or in a part of it: `us` is met by `us-east5`.
pub(super) fn is_in(offer: &Offer, region: &str) -> bool {
    offer.region.as_deref().is_some_and(|at| {
        let beginning = at.get(..region.len()).filter(|text| text.eq_ignore_ascii_case(region));
        beginning.is_some() && at[region.len()..].chars().next().is_none_or(|c| !c.is_ascii_alphanumeric())
    })
}

/// How its weights are stored; none where the seller does not say.
pub(super) fn quantization(offer: &Offer) -> Option<String> {
    (offer.quantization != Quantization::Unknown).then(|| offer.quantization.as_str().to_owned())
}

/// Whether cached prompt tokens cost less without asking.
pub(super) fn caches_implicitly(offer: &Offer) -> bool {
    offer.prices.is_some_and(|prices| prices.cached_prompt < prices.prompt)
}

/// Which forms of `tool_choice` it takes: who takes tools takes all.
pub(super) fn tool_choices(offer: &Offer) -> ToolChoices {
    let takes = offer.supports.contains(Supports::TOOLS);
    ToolChoices { auto: takes, none: takes, required: takes, function: takes }
}

/// What may be sent to an offer, as parameter names; some of what it supports stands for two. Endpoints that pass through
/// take what their seller takes, which nobody lists.
pub(super) fn parameters(supports: Supports, operations: Operations) -> Vec<&'static str> {
    if !operations.contains(Operations::CHAT) && !operations.contains(Operations::TEXT) {
        return Vec::new();
    }
    let mut names = PARAMETERS_OF_ALL.to_vec();
    for one in supports.members() {
        match one {
            Supports::TOOLS => names.extend(["tools", "tool_choice"]),
            Supports::LOGPROBS => names.extend(["logprobs", "top_logprobs"]),
            Supports::PENALTIES => names.extend(["presence_penalty", "frequency_penalty"]),
            Supports::REASONING => names.extend(["reasoning", "reasoning_effort"]),
            Supports::HIDDEN_REASONING | Supports::MEDIA | Supports::REASONING_REPLAY => {}
            other => names.extend(other.names()),
        }
    }
    names
}

/// Prices of an offer as the field publishes them. Those that are not known are `-1`, as for prices that depend.
pub(crate) fn pricing(offer: Option<&Offer>) -> Pricing {
    let Some((offer, prices)) = offer.and_then(|offer| Some((offer, offer.prices?))) else {
        let unknown = || UNKNOWN.to_owned();
        return Pricing {
            prompt: unknown(),
            completion: unknown(),
            request: unknown(),
            input_cache_read: unknown(),
            input_cache_write: unknown(),
            ..Pricing::default()
        };
    };
    let mut request = Vec::new();
    push_usd(&mut request, prices.request);
    let per = |unit: Unit| (offer.unit == Some(unit)).then(|| prices.unit.to_usd_per_unit_string());
    Pricing {
        prompt: prices.prompt.to_usd_per_token_string(),
        completion: prices.completion.to_usd_per_token_string(),
        request: String::from_utf8_lossy(&request).into_owned(),
        input_cache_read: prices.cached_prompt.to_usd_per_token_string(),
        input_cache_write: prices.cache_write.to_usd_per_token_string(),
        image_output: per(Unit::Image),
        audio: per(Unit::Second),
        character: per(Unit::Character),
        search: per(Unit::Search),
    }
}
