//! The canonical bytes of a demand, and a demand that owns what it was read from.

use crate::canonical::{Canonical, canonical_enum, canonical_newtype, canonical_struct, put_list, put_text};
use crate::demand::Demand;
use crate::effective::Saving;
use crate::offer::{Operations, Supports};
use crate::preferences::{
    Cutoffs, MaxPrice, Partition, Policy, Preferences, QuantizationSet, Sort, TierWish,
};
use crate::sticky::Warmth;
use bourse_types::ModelSlug;
use std::sync::Arc;

canonical_enum!(Sort { Price = 0, Throughput = 1, Latency = 2, Exacto = 3 });
canonical_enum!(Partition { Model = 0, None = 1 });
canonical_enum!(TierWish { Default = 0, Priority = 1, Flex = 2, AlsoPriority = 3, AlsoFlex = 4 });
canonical_newtype!(QuantizationSet);
canonical_struct!(MaxPrice { prompt, completion, request, image, audio });
canonical_struct!(Cutoffs { p50, p75, p90, p99 });
canonical_enum!(Saving { Price = 0, Work = 1 });
canonical_struct!(Warmth { offer, tokens, saving });
canonical_struct!(Preferences {
    order,
    only,
    ignore,
    allow_fallbacks,
    sort,
    partition,
    max_price,
    require_parameters,
    data,
    enforce_distillable,
    quantizations,
    regions,
    min_throughput,
    max_latency,
    tier,
    policy
});
canonical_struct!(Policy { allowed, ignored, max_price, data, enforce_distillable, quantizations, regions });

/// A [`Demand`] that owns its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDemand {
    model: Arc<str>,
    fallbacks: Vec<ModelSlug>,
    operation: Operations,
    prompt_bytes: u64,
    messages: u32,
    max_tokens: Option<u64>,
    choices: u32,
    units_max: u64,
    needs: Supports,
    prefers: Supports,
    preferences: Preferences,
    warmth: Vec<Warmth>,
}

impl RecordedDemand {
    /// What [`plan`](crate::plan()) takes.
    pub fn as_demand(&self) -> Demand<'_> {
        Demand {
            model: &self.model,
            fallbacks: &self.fallbacks,
            operation: self.operation,
            prompt_bytes: self.prompt_bytes,
            messages: self.messages,
            prompt_tokens_max: None,
            max_tokens: self.max_tokens,
            choices: self.choices,
            units_max: self.units_max,
            needs: self.needs,
            prefers: self.prefers,
            preferences: &self.preferences,
            warmth: &self.warmth,
        }
    }
}

canonical_struct!(RecordedDemand {
    model,
    fallbacks,
    operation,
    prompt_bytes,
    messages,
    max_tokens,
    choices,
    units_max,
    needs,
    prefers,
    preferences,
    warmth
});

/// The bytes that [`RecordedDemand`] reads, without copying the demand.
pub(super) fn put_demand(demand: &Demand<'_>, out: &mut Vec<u8>) {
    let Demand {
        model,
        fallbacks,
        operation,
        prompt_bytes,
        messages,
        // No plan looks at it.
        prompt_tokens_max: _,
        max_tokens,
        choices,
        units_max,
        needs,
        prefers,
        preferences,
        warmth,
    } = demand;
    put_text(model, out);
    put_list(fallbacks, out);
    operation.put(out);
    prompt_bytes.put(out);
    messages.put(out);
    max_tokens.put(out);
    choices.put(out);
    units_max.put(out);
    needs.put(out);
    prefers.put(out);
    preferences.put(out);
    put_list(warmth, out);
}
