//! Live model lists: sellers that publish what they have are asked again and again.
//!
//! A list becomes offers by the operator's rules; a new book is swapped in when they changed. A model whose price is
//! known neither from a rule nor from the list stays visible and is never routed to. A list that cannot be fetched or
//! read changes nothing: the last good one stays, a warning says so once, and the next try comes sooner than usual at
//! first and then ever later. Times are jittered, so that markets that started together do not ask together.

use crate::config::{FollowedList, LiveRule, ProviderModel};
use crate::deadline;
use crate::gateway::{Gateway, Shared};
use crate::provider::Provider;
use bourse_market::{Free, Quantization, Supports};
use bourse_types::{ModelSlug, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule};
use bourse_wire::dialect::Api;
use bourse_wire::dialect::grammar::Shape;
use bourse_wire::dialect::lists::{self, Listed, ModelList};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Largest list that is taken.
pub const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest wait for a whole list.
pub const LIST_WITHIN: Duration = Duration::from_secs(30);
/// The first wait after a list could not be had; each further one is twice as long, up to the usual one.
pub const RETRY_FIRST: Duration = Duration::from_secs(15);
/// Parts of the time that jitter may add or take.
const JITTER_SHARE: u32 = 10;
/// Basis points of the whole.
const BPS: u128 = 10_000;

/// A seller whose list is followed.
pub(crate) struct Live {
    pub(crate) provider: Arc<Provider>,
    pub(crate) list: FollowedList,
}

impl Gateway {
    /// Follows the lists of all sellers that publish one, until `stop` completes. Dropping the future stops, too.
    pub async fn keep_lists(self, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        for place in 0..self.0.market.lives.len() {
            let shared = Arc::clone(&self.0);
            tasks.spawn(async move { keep(&shared, place).await });
        }
        tokio::select! {
            () = stop => {}
            () = async { while tasks.join_next().await.is_some() {} } => {}
        }
    }
}

/// Follows one list.
async fn keep(shared: &Shared, place: usize) {
    let Some(live) = shared.market.lives.get(place) else { return };
    let mut failures = 0u32;
    loop {
        let wait = match refresh(shared, place, live).await {
            Ok(()) => {
                failures = 0;
                live.list.every
            }
            Err(why) => {
                if failures == 0 {
                    tracing::warn!(seller = %live.list.provider, %why, "a model list could not be had: the last good one stays");
                }
                failures = failures.saturating_add(1);
                RETRY_FIRST.saturating_mul(1 << (failures - 1).min(16)).min(live.list.every)
            }
        };
        sleep(jittered(wait, shared.ports.entropy.draw())).await;
    }
}

/// The same span, a tenth more or less.
fn jittered(span: Duration, random: [u8; 32]) -> Duration {
    let share = u32::from(u16::from_le_bytes([random[0], random[1]]));
    let tenth = span / JITTER_SHARE;
    span.saturating_sub(tenth) + 2 * tenth * share / u32::from(u16::MAX)
}

async fn refresh(shared: &Shared, place: usize, live: &Live) -> Result<(), String> {
    let list = deadline::within(LIST_WITHIN, fetch(shared, &live.provider)).await;
    let list = list.ok_or_else(|| format!("nothing whole came within {LIST_WITHIN:?}"))??;
    if list.is_partial || list.skipped > 0 {
        tracing::debug!(seller = %live.list.provider, list.skipped, list.is_partial, "a model list is not whole");
    }
    let mut unnamed = 0;
    let models: Vec<ProviderModel> =
        list.models.iter().filter_map(|listed| offered(&live.list.rules, listed, &mut unnamed)).collect();
    let unpriced = models.iter().filter(|model| model.prices.is_none()).count();
    let offers = models.len();
    let changed = shared.market.set_listed(place, &models).map_err(|error| error.to_string())?;
    if changed {
        tracing::info!(seller = %live.list.provider, offers, unpriced, unnamed, "a model list was taken in");
    }
    Ok(())
}

async fn fetch(shared: &Shared, provider: &Provider) -> Result<ModelList, String> {
    let shape = provider.adapter.shape(Api::Chat).unwrap_or(Shape::Chat);
    let connect_within = shared.config.timeouts.connect;
    let got = provider.get(&*shared.ports.connect, connect_within, lists::path(shape)).await;
    let (head, mut exchange) = got.map_err(|error| error.to_string())?;
    if !head.status.is_success() {
        return Err(format!("it answered {}", head.status.as_u16()));
    }
    let body = exchange.collect(LIST_BYTES_MAX, LIST_WITHIN).await.map_err(|error| error.to_string())?;
    lists::read(shape, &body).map_err(|error| error.to_string())
}

/// What the first rule that means a listed model makes of it; none when none does, or when it gives no usable name.
fn offered(rules: &[LiveRule], listed: &Listed, unnamed: &mut usize) -> Option<ProviderModel> {
    let (rule, part) = rules.iter().find_map(|rule| Some((rule, rule.names.part_of(&listed.id)?)))?;
    if rule.except.iter().any(|pattern| pattern.part_of(&listed.id).is_some()) {
        return None;
    }
    let Ok(model) = ModelSlug::parse(&rule.slug.with(part)) else {
        *unnamed += 1;
        return None;
    };
    let template = &rule.template;
    let prices = template.prices.or_else(|| marked_up(listed.prices?, rule.markup_bps));
    let quantization = listed.quantization.and_then(Quantization::parse).unwrap_or_default();
    let context = listed.context_tokens.filter(|_| !rule.has_context).unwrap_or(template.context_tokens_max);
    let is_known = template.quantization != Quantization::Unknown;
    Some(ProviderModel {
        model,
        upstream_id: Arc::from(listed.id.as_str()),
        prices,
        context_tokens_max: context,
        completion_tokens_max: template.completion_tokens_max.or(listed.completion_tokens),
        supports: if rule.has_supports { template.supports } else { supports(template.supports, listed) },
        quantization: if is_known { template.quantization } else { quantization },
        free: match template.free {
            Free::No if listed.id.ends_with(":free") && prices.is_some_and(|p| p == FREE) => Free::Unvalued,
            free => free,
        },
        ..template.clone()
    })
}

const FREE: PriceSchedule = PriceSchedule::per_token(PicoUsdPerToken(0), PicoUsdPerToken(0));

/// The list's prices with the operator's share, rounded up; none when one does not fit.
fn marked_up(prices: PriceSchedule, bps: u32) -> Option<PriceSchedule> {
    let up = |price: u64| u64::try_from((u128::from(price) * (BPS + u128::from(bps))).div_ceil(BPS)).ok();
    let token = |price: PicoUsdPerToken| up(price.0).map(PicoUsdPerToken);
    Some(PriceSchedule {
        prompt: token(prices.prompt)?,
        cached_prompt: token(prices.cached_prompt)?,
        cache_write: token(prices.cache_write)?,
        completion: token(prices.completion)?,
        request: NanoUsd(up(prices.request.0)?),
        unit: PicoUsdPerUnit(up(prices.unit.0)?),
    })
}

/// What a listed model can do: what the list says, else what the kind usually can.
fn supports(usual: Supports, listed: &Listed) -> Supports {
    let mut set = usual;
    if let Some(words) = &listed.parameters {
        let of = |word: &str| match word {
            "presence_penalty" | "frequency_penalty" => Supports::PENALTIES,
            // Who reasons bills thoughts that are not shown in full.
            "reasoning" => Supports::REASONING.with(Supports::HIDDEN_REASONING),
            "hidden_reasoning" | "media" | "reasoning_replay" => Supports::NONE,
            word => {
                Supports::ALL.members().find(|one| one.names().any(|name| name == word)).unwrap_or_default()
            }
        };
        let listed = words.iter().fold(Supports::NONE, |set, word| set.with(of(word)));
        // No list tells of these.
        let untold = [Supports::MEDIA, Supports::REASONING_REPLAY].into_iter();
        set = untold.filter(|one| usual.contains(*one)).fold(listed, Supports::with);
    }
    match listed.takes_media {
        Some(true) => set.with(Supports::MEDIA),
        Some(false) => set.without(Supports::MEDIA),
        None => set,
    }
}

#[cfg(test)]
mod tests;
