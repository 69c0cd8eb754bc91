//! Why no offer could serve a request, for programs: which rule removed how many offers, and the smallest
//! relaxation that would match.
//!
//! The members are the field's (`error.availability`, which comes on top of what an error is anyway: its status, type and
//! message are chosen elsewhere); ours in addition are `offers`, the counts in `exclusions`, and what to change in a form
//! that a program can carry out. Source: reference, router §1.12.

use crate::json::{push_string, push_u64};

/// Most models, sellers, rules or changes listed in one availability object.
pub const AVAILABILITY_ITEMS_MAX: usize = 32;

/// The stable word for why nothing is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AvailabilityCode {
    /// Nobody has ever heard of the model.
    ModelNotFound,
    /// The model exists, but not at this endpoint.
    WrongEndpoint,
    /// The model is known and nobody offers it.
    NoEndpoints,
    /// The model is gone for good.
    ModelDeprecated,
    /// Sellers list the model and refuse it.
    ModelUnavailableUpstream,
    /// Only offers that break a privacy rule are left.
    PrivacyRestricted,
    /// The buyer's own rules leave no offer.
    ConstraintFiltered,
    /// The free variant has ended.
    FreeVariantEnded,
    /// Every seller is at its limit.
    CapacityExhausted,
    /// Every seller is away.
    TemporarilyUnavailable,
    /// The buyer's region may not have the model.
    RegionRestricted,
}

impl AvailabilityCode {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ModelNotFound,
        Self::WrongEndpoint,
        Self::NoEndpoints,
        Self::ModelDeprecated,
        Self::ModelUnavailableUpstream,
        Self::PrivacyRestricted,
        Self::ConstraintFiltered,
        Self::FreeVariantEnded,
        Self::CapacityExhausted,
        Self::TemporarilyUnavailable,
        Self::RegionRestricted,
    ];

    /// The field's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelNotFound => "model_not_found",
            Self::WrongEndpoint => "wrong_endpoint",
            Self::NoEndpoints => "no_endpoints",
            Self::ModelDeprecated => "model_deprecated",
            Self::ModelUnavailableUpstream => "model_unavailable_upstream",
            Self::PrivacyRestricted => "privacy_restricted",
            Self::ConstraintFiltered => "constraint_filtered",
            Self::FreeVariantEnded => "free_variant_ended",
            Self::CapacityExhausted => "capacity_exhausted",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::RegionRestricted => "region_restricted",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::CapacityExhausted | Self::TemporarilyUnavailable)
    }
}

/// One change of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is done: `raise`, `lower`, `set`, `add`, `take_out`, `leave_out`, `shorten` or `do_without`.
    pub action: &'static str,
    /// The member of the request.
    pub field: String,
    /// To what it is raised, what is added, and so on; none where the action says it all.
    pub value: Option<String>,
    /// The same in words.
    pub detail: String,
}

/// What would let one offer in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relaxation {
    /// Who could then serve.
    pub provider: String,
    /// Which model, where there are several.
    pub model: String,
    /// All of them are needed.
    pub changes: Vec<Change>,
}

/// A rule that removed offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The code of the rule, as plans have it.
    pub rule: &'static str,
    /// How many offers it removed.
    pub offers: u32,
    /// The smallest change of this rule alone that would let an offer in, where there is one.
    pub smallest_relaxation: Option<Relaxation>,
}

/// Why nothing is available. Lists longer than [`AVAILABILITY_ITEMS_MAX`] are written up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// The stable word.
    pub code: AvailabilityCode,
    /// Models asked for, in order.
    pub requested_models: Vec<String>,
    /// Sellers whose offers were looked at.
    pub affected_providers: Vec<String>,
    /// Models to ask for instead, where some are known.
    pub fallback_models: Vec<String>,
    /// The field's words for what removed offers.
    pub excluded_by: Vec<&'static str>,
    /// Offers of the models asked for.
    pub offers: u32,
    /// Rules that removed them, those that removed most first.
    pub exclusions: Vec<Exclusion>,
    /// The offer that the fewest changes would let in, and these; none where no change of the request would.
    pub smallest_relaxation: Option<Relaxation>,
}

impl Availability {
    /// Without any list.
    pub fn new(code: AvailabilityCode) -> Self {
        Self {
            code,
            requested_models: Vec::new(),
            affected_providers: Vec::new(),
            fallback_models: Vec::new(),
            excluded_by: Vec::new(),
            offers: 0,
            exclusions: Vec::new(),
            smallest_relaxation: None,
        }
    }

    /// Appends the object.
    pub(super) fn push(&self, out: &mut Vec<u8>, retry_after_s: Option<u64>) {
        out.extend_from_slice(b"{\"code\":");
        push_string(out, self.code.as_str());
        out.extend_from_slice(b",\"retryable\":");
        out.extend_from_slice(if self.code.is_retryable() { b"true" } else { b"false" });
        out.extend_from_slice(b",\"retry_after\":");
        match retry_after_s {
            Some(seconds) => push_u64(out, seconds),
            None => out.extend_from_slice(b"null"),
        }
        push_list(out, "requested_models", self.requested_models.iter().map(String::as_str));
        push_list(out, "affected_providers", self.affected_providers.iter().map(String::as_str));
        if !self.fallback_models.is_empty() {
            push_list(out, "fallback_models", self.fallback_models.iter().map(String::as_str));
        }
        push_list(out, "excluded_by", self.excluded_by.iter().copied());
        if let Some(Relaxation { changes, .. }) = &self.smallest_relaxation {
            push_constraint(changes, out);
        }
        out.extend_from_slice(b",\"offers\":");
        push_u64(out, u64::from(self.offers));
        out.extend_from_slice(b",\"exclusions\":[");
        for (n, exclusion) in self.exclusions.iter().take(AVAILABILITY_ITEMS_MAX).enumerate() {
            out.extend_from_slice(if n > 0 { b",{\"rule\":" } else { b"{\"rule\":" });
            push_string(out, exclusion.rule);
            out.extend_from_slice(b",\"offers\":");
            push_u64(out, u64::from(exclusion.offers));
            push_relaxation(exclusion.smallest_relaxation.as_ref(), out);
            out.push(b'}');
        }
        out.push(b']');
        push_relaxation(self.smallest_relaxation.as_ref(), out);
        out.push(b'}');
    }
}

/// The field's member for the first of the changes: the others are in its words.
fn push_constraint(changes: &[Change], out: &mut Vec<u8>) {
    let Some(first) = changes.first() else { return };
    let details: Vec<&str> =
        changes.iter().take(AVAILABILITY_ITEMS_MAX).map(|change| change.detail.as_str()).collect();
    out.extend_from_slice(b",\"constraint\":{\"field\":");
    push_string(out, &first.field);
    out.extend_from_slice(b",\"detail\":");
    push_string(out, &details.join(", "));
    out.push(b'}');
}

fn push_relaxation(of: Option<&Relaxation>, out: &mut Vec<u8>) {
    let Some(Relaxation { provider, model, changes }) = of else { return };
    out.extend_from_slice(b",\"smallest_relaxation\":{\"provider\":");
    push_string(out, provider);
    out.extend_from_slice(b",\"model\":");
    push_string(out, model);
    out.extend_from_slice(b",\"changes\":[");
    for (n, change) in changes.iter().take(AVAILABILITY_ITEMS_MAX).enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"action\":" } else { b"{\"action\":" });
        push_string(out, change.action);
        out.extend_from_slice(b",\"field\":");
        push_string(out, &change.field);
        if let Some(value) = &change.value {
            out.extend_from_slice(b",\"value\":");
            push_string(out, value);
        }
        out.extend_from_slice(b",\"detail\":");
        push_string(out, &change.detail);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

fn push_list<'a>(out: &mut Vec<u8>, key: &str, items: impl Iterator<Item = &'a str>) {
    out.push(b',');
    push_string(out, key);
    out.extend_from_slice(b":[");
    for (n, item) in items.take(AVAILABILITY_ITEMS_MAX).enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push_string(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ApiError, ErrorType};

    fn raise(value: &str) -> Change {
        let field = "provider.max_price.prompt".to_owned();
        Change { action: "raise", field, value: Some(value.into()), detail: format!("raise it to {value}") }
    }

    fn relaxation(changes: Vec<Change>) -> Relaxation {
        Relaxation { provider: "one".into(), model: "a/b".into(), changes }
    }

    #[test]
    fn availability_is_golden() {
        let leave = Change {
            action: "leave_out",
            field: "provider.zdr".into(),
            value: None,
            detail: "leave out \"zdr\"".into(),
        };
        let availability = Availability {
            requested_models: vec!["a/b".into()],
            affected_providers: vec!["one".into(), "two".into()],
            excluded_by: vec!["max_price", "data_policy:zdr"],
            offers: 3,
            exclusions: vec![
                Exclusion {
                    rule: "max_price",
                    offers: 2,
                    smallest_relaxation: Some(relaxation(vec![raise("0.2")])),
                },
                Exclusion { rule: "data_policy", offers: 1, smallest_relaxation: None },
            ],
            smallest_relaxation: Some(relaxation(vec![raise("0.2"), leave])),
            ..Availability::new(AvailabilityCode::ConstraintFiltered)
        };
        let error = ApiError::new(ErrorType::NotFound, "no offer is left").with_availability(availability);
        let raised = r#"{"action":"raise","field":"provider.max_price.prompt","value":"0.2","detail":"raise it to 0.2"}"#;
        let left = r#"{"action":"leave_out","field":"provider.zdr","detail":"leave out \"zdr\""}"#;
        let want = [
            r#"{"error":{"code":404,"message":"no offer is left","type":"not_found_error","param":null,"metadata":{"error_type":"not_found"},"#,
            r#""availability":{"code":"constraint_filtered","retryable":false,"retry_after":null,"requested_models":["a/b"],"#,
            r#""affected_providers":["one","two"],"excluded_by":["max_price","data_policy:zdr"],"#,
            r#""constraint":{"field":"provider.max_price.prompt","detail":"raise it to 0.2, leave out \"zdr\""},"offers":3,"#,
            r#""exclusions":[{"rule":"max_price","offers":2,"smallest_relaxation":{"provider":"one","model":"a/b","changes":["#,
            raised,
            r#"]}},{"rule":"data_policy","offers":1}],"smallest_relaxation":{"provider":"one","model":"a/b","changes":["#,
            &format!("{raised},{left}"),
            "]}}}}",
        ];
        assert_eq!(String::from_utf8(error.to_json()).unwrap(), want.concat());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let paid = Availability {
            fallback_models: vec!["a/b".into()],
            ..Availability::new(AvailabilityCode::FreeVariantEnded)
        };
        let mut out = Vec::new();
        paid.push(&mut out, Some(3));
        let want = r#"{"code":"free_variant_ended","retryable":false,"retry_after":3,"requested_models":[],"affected_providers":[],"fallback_models":["a/b"],"excluded_by":[],"offers":0,"exclusions":[]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn codes_are_told_apart_and_say_whether_to_wait() {
        let mut words: Vec<&str> = AvailabilityCode::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), AvailabilityCode::ALL.len());
        let waits = AvailabilityCode::ALL.iter().filter(|code| code.is_retryable());
        let waits: Vec<&str> = waits.map(|code| code.as_str()).collect();
        assert_eq!(waits, ["capacity_exhausted", "temporarily_unavailable"]);
    }

    #[test]
    fn lists_are_bounded() {
        for (given, want) in [(AVAILABILITY_ITEMS_MAX, 32), (AVAILABILITY_ITEMS_MAX + 1, 32)] {
            let some = relaxation(vec![raise("1"); given]);
            let one = Exclusion { rule: "r", offers: 1, smallest_relaxation: Some(some.clone()) };
            let availability = Availability {
                requested_models: vec!["m".into(); given],
                affected_providers: vec!["p".into(); given],
                fallback_models: vec!["m".into(); given],
                excluded_by: vec!["r"; given],
                exclusions: vec![one; given],
                smallest_relaxation: Some(some),
                ..Availability::new(AvailabilityCode::NoEndpoints)
            };
            let mut out = Vec::new();
            availability.push(&mut out, None);
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let len = |list: &serde_json::Value| list.as_array().unwrap().len();
            for list in
                ["requested_models", "affected_providers", "fallback_models", "excluded_by", "exclusions"]
            {
                assert_eq!(len(&json[list]), want, "{list}");
            }
            assert_eq!(len(&json["smallest_relaxation"]["changes"]), want);
            assert_eq!(len(&json["exclusions"][0]["smallest_relaxation"]["changes"]), want);
            let detail = json["constraint"]["detail"].as_str().unwrap();
            assert_eq!(detail.matches("raise").count(), want);
        }
    }
}
