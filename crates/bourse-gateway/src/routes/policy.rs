//! The policies that bind a key: those of its account and its own, as one.
//!
//! A policy reads as the `provider` object of a request. Its hard rules count (`only`, `ignore`, `max_price`, `zdr`,
//! `data_collection`, `enforce_distillable_text`, `quantizations`, `regions`); an order is for a request to say.

use crate::phase::admit;
use crate::phase::wishes::preferences;
use bourse_market::Policy;
use bourse_wire::dialect::{Api, front};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{KeyGrant, PolicyId, Records};
use bytes::Bytes;

/// Reads the policies that a grant names. One that cannot be read lets nothing through.
pub(crate) fn policy_of(grant: &KeyGrant, records: &dyn Records) -> Result<Policy, ApiError> {
    let ids = [grant.account_policy, grant.key_policy];
    ids.into_iter().flatten().try_fold(Policy::default(), |both, id| Ok(both.and(&read(id, records)?)))
}

fn read(id: PolicyId, records: &dyn Records) -> Result<Policy, ApiError> {
    let text = records.policy(&id).map_err(|error| admit::refusal(&error))?;
    let text = text.ok_or_else(|| {
        ApiError::new(ErrorType::RateLimitExceeded, "the key's policy has just changed: ask again")
    })?;
    // The smallest request that carries it: policies and requests are read by one reader.
    let body =
        format!(r#"{{"model":"any/model","messages":[{{"role":"user","content":"x"}}],"provider":{text}}}"#);
    let job = front::parse(Api::Chat, Bytes::from(body)).map_err(|error| unreadable(&error))?;
    let rules = preferences(&job).map_err(|error| unreadable(&error))?;
    Ok(Policy {
        allowed: if rules.only.is_empty() { Vec::new() } else { vec![rules.only] },
        ignored: rules.ignore,
        max_price: rules.max_price,
        data: rules.data,
        enforce_distillable: rules.enforce_distillable,
        quantizations: rules.quantizations,
        regions: if rules.regions.is_empty() { Vec::new() } else { vec![rules.regions] },
    })
}

fn unreadable(error: &ApiError) -> ApiError {
    let message = format!("a policy of this key cannot be obeyed, so it leaves nothing: {}", error.message);
    ApiError::new(ErrorType::PermissionDenied, message)
}
