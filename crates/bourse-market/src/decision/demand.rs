//! The canonical bytes of a demand, and a demand that owns what it was read from.

use crate::canonical::{Canonical, canonical_enum, canonical_newtype, canonical_struct, put_text};
use crate::demand::{Demand, MaxPrice, Preferences, QuantizationSet, Sort};
use crate::offer::Supports;
use crate::sticky::Warmth;
use std::sync::Arc;

canonical_enum!(Sort { Price = 0, Latency = 1 });
canonical_newtype!(QuantizationSet);
canonical_struct!(MaxPrice { prompt, completion, request });
canonical_struct!(Warmth { offer, tokens });
canonical_struct!(Preferences {
    order,
    only,
    ignore,
    allow_fallbacks,
    sort,
    max_price,
    require_parameters,
    quantizations
});

/// A [`Demand`] that owns its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDemand {
    model: Arc<str>,
    prompt_bytes: u64,
    messages: u32,
    max_tokens: Option<u64>,
    choices: u32,
    needs: Supports,
    prefers: Supports,
    preferences: Preferences,
}

impl RecordedDemand {
    /// What [`plan`](crate::plan()) takes.
    pub fn as_demand(&self) -> Demand<'_> {
        Demand {
            model: &self.model,
            prompt_bytes: self.prompt_bytes,
            messages: self.messages,
            max_tokens: self.max_tokens,
            choices: self.choices,
            needs: self.needs,
            prefers: self.prefers,
            preferences: &self.preferences,
        }
    }
}

canonical_struct!(RecordedDemand {
    model,
    prompt_bytes,
    messages,
    max_tokens,
    choices,
    needs,
    prefers,
    preferences
});

/// The bytes that [`RecordedDemand`] reads, without copying the demand.
pub(super) fn put_demand(demand: &Demand<'_>, out: &mut Vec<u8>) {
    let Demand { model, prompt_bytes, messages, max_tokens, choices, needs, prefers, preferences } = demand;
    put_text(model, out);
    prompt_bytes.put(out);
    messages.put(out);
    max_tokens.put(out);
    choices.put(out);
    needs.put(out);
    prefers.put(out);
    preferences.put(out);
}
