//! What a free offer would cost: its list prices, and who gives it.

use super::super::{WiringError, word};
use super::ZERO;
use crate::config::{self, ProviderModelSection};
use bourse_market::Free;
use bourse_types::{Giver, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule};

/// Whether a model of a provider is free, and at which list price.
pub(super) fn of_model(place: &str, section: &ProviderModelSection) -> Result<Free, WiringError> {
    let field = |name: &str| format!("{place}.{name}");
    let price = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| config::price(&field(name), text)).transpose()
    };
    let prompt = price("list_price_prompt", &section.list_price_prompt)?;
    let completion = price("list_price_completion", &section.list_price_completion)?;
    let unit = price("list_price_unit", &section.list_price_unit)?;
    let request = section.list_price_request.as_deref();
    let request = request.map(|text| config::amount(&field("list_price_request"), text)).transpose()?;
    let giver = section.given_by.as_deref();
    let giver = giver.map(|text| word(place, "given_by", text, &Giver::ALL, Giver::as_str)).transpose()?;
    let is_listed = [prompt, completion, unit].iter().any(Option::is_some) || request.is_some();
    if section.free != Some(true) {
        let why = "list prices and `given_by` belong to what is free: say `free = true`, or remove them";
        if is_listed || giver.is_some() {
            return Err(WiringError::Unusable { field: place.to_owned(), why: why.to_owned() });
        }
        return Ok(Free::No);
    }
    if !is_listed {
        let missing = |_| WiringError::Missing {
            field: field("list_price_prompt"),
            when: ", as `given_by` says who bears the list price",
        };
        return giver.map_or(Ok(Free::Unvalued), |giver| Err(missing(giver)));
    }
    let list = PriceSchedule {
        request: request.unwrap_or(NanoUsd::ZERO),
        unit: PicoUsdPerUnit(unit.map_or(0, |price| price.0)),
        ..both(place, prompt, completion, unit.is_some() || request.is_some())?
    };
    listed(place, list, giver.unwrap_or(Giver::Seller))
}

/// Whether the local node is free, and at which list price. Empty texts are none.
pub(crate) fn of_node(prices: &PriceSchedule, prompt: &str, completion: &str) -> Result<Free, WiringError> {
    let price = |name: &str, text: &str| {
        let text = Some(text).filter(|text| !text.is_empty());
        text.map(|text| config::price(&format!("node.{name}"), text)).transpose()
    };
    let list = (price("list_price_prompt", prompt)?, price("list_price_completion", completion)?);
    let is_free = *prices == PriceSchedule::per_token(ZERO, ZERO);
    match list {
        (None, None) if is_free => Ok(Free::Unvalued),
        (None, None) => Ok(Free::No),
        _ if !is_free => {
            let why = "list prices belong to what is free, and the node asks a price".to_owned();
            Err(WiringError::Unusable { field: "node.list_price_prompt".to_owned(), why })
        }
        (prompt, completion) => listed("node", both("node", prompt, completion, false)?, Giver::Seller),
    }
}

/// Both prices by the token; neither where something else has one.
fn both(
    place: &str,
    prompt: Option<PicoUsdPerToken>,
    completion: Option<PicoUsdPerToken>,
    may_lack: bool,
) -> Result<PriceSchedule, WiringError> {
    let missing = |name: &str| WiringError::Missing {
        field: format!("{place}.{name}"),
        when: ", as other list prices are known",
    };
    match (prompt, completion) {
        (None, None) if may_lack => Ok(PriceSchedule::per_token(ZERO, ZERO)),
        (Some(prompt), Some(completion)) => Ok(PriceSchedule::per_token(prompt, completion)),
        (None, _) => Err(missing("list_price_prompt")),
        (_, None) => Err(missing("list_price_completion")),
    }
}

/// A list price of nothing is none: what is worth nothing needs no word, and what nobody knows is not nothing.
fn listed(place: &str, list: PriceSchedule, giver: Giver) -> Result<Free, WiringError> {
    if list == PriceSchedule::per_token(ZERO, ZERO) {
        let why =
            "a list price of nothing says nothing: write what the same costs elsewhere, or leave it out";
        return Err(WiringError::Unusable { field: place.to_owned(), why: why.to_owned() });
    }
    Ok(Free::Listed { list, giver })
}
