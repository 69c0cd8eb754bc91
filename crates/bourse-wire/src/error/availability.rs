//! Why no offer could serve a request, for programs: which rule removed how many offers, and the smallest
//! relaxation that would match.
//!
//! The members are the field's (`error.availability`); ours in addition are the counts in `exclusions`.
//! Source: reference, router §1.12.

use super::ErrorType;
use crate::json::{push_string, push_u64};

/// Most models, sellers or rules listed in one availability object.
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

    /// The error that goes with it, and so the status.
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::WrongEndpoint => ErrorType::InvalidRequest,
            Self::CapacityExhausted => ErrorType::RateLimitExceeded,
            Self::TemporarilyUnavailable => ErrorType::ProviderOverloaded,
            Self::RegionRestricted => ErrorType::PermissionDenied,
            _ => ErrorType::NotFound,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::CapacityExhausted | Self::TemporarilyUnavailable)
    }
}

/// A rule that removed offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The field's word for the rule: `max_price`, `context_length`, `data_policy:zdr`, `quantization`, …
    pub rule: String,
    /// How many offers it removed.
    pub offers: u32,
}

/// What would have to be relaxed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// The field of the request.
    pub field: String,
    /// The smallest relaxation that would match, in words.
    pub detail: String,
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
    /// Models that would serve the same request.
    pub fallback_models: Vec<String>,
    /// Rules that removed offers.
    pub exclusions: Vec<Exclusion>,
    /// What to relax.
    pub constraint: Option<Constraint>,
}

impl Availability {
    /// Without any list.
    pub fn new(code: AvailabilityCode) -> Self {
        Self {
            code,
            requested_models: Vec::new(),
            affected_providers: Vec::new(),
            fallback_models: Vec::new(),
            exclusions: Vec::new(),
            constraint: None,
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
        push_list(out, "fallback_models", self.fallback_models.iter().map(String::as_str));
        push_list(out, "excluded_by", self.exclusions.iter().map(|e| e.rule.as_str()));
        out.extend_from_slice(b",\"exclusions\":[");
        for (n, exclusion) in self.exclusions.iter().take(AVAILABILITY_ITEMS_MAX).enumerate() {
            out.extend_from_slice(if n > 0 { b",{\"rule\":" } else { b"{\"rule\":" });
            push_string(out, &exclusion.rule);
            out.extend_from_slice(b",\"offers\":");
            push_u64(out, u64::from(exclusion.offers));
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"constraint\":");
        match &self.constraint {
            Some(Constraint { field, detail }) => {
                out.extend_from_slice(b"{\"field\":");
                push_string(out, field);
                out.extend_from_slice(b",\"detail\":");
                push_string(out, detail);
                out.push(b'}');
            }
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
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
    use crate::error::ApiError;

    #[test]
    fn availability_is_golden() {
        let availability = Availability {
            requested_models: vec!["a/b".into()],
            affected_providers: vec!["one".into(), "two".into()],
            exclusions: vec![Exclusion { rule: "max_price".into(), offers: 2 }],
            constraint: Some(Constraint {
                field: "provider.max_price.prompt".into(),
                detail: "0.20 or more".into(),
            }),
            ..Availability::new(AvailabilityCode::ConstraintFiltered)
        };
        let error = ApiError::unavailable(availability, "no offer is left");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"error":{"code":404,"message":"no offer is left","type":"not_found_error","param":null,"metadata":{"error_type":"not_found"},"availability":{"code":"constraint_filtered","retryable":false,"retry_after":null,"requested_models":["a/b"],"affected_providers":["one","two"],"fallback_models":[],"excluded_by":["max_price"],"exclusions":[{"rule":"max_price","offers":2}],"constraint":{"field":"provider.max_price.prompt","detail":"0.20 or more"}}}}"#
        );
    }

    #[test]
    fn codes_have_the_fields_status() {
        let status = |code: AvailabilityCode| code.error_type().status();
        let all: Vec<_> = AvailabilityCode::ALL.map(|c| (c.as_str(), status(c), c.is_retryable())).into();
        assert_eq!(all.iter().filter(|(_, status, _)| *status == 404).count(), 7);
        for (word, want, retryable) in [
            ("wrong_endpoint", 400, false),
            ("capacity_exhausted", 429, true),
            ("temporarily_unavailable", 503, true),
            ("region_restricted", 403, false),
        ] {
            assert!(all.contains(&(word, want, retryable)), "{word}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        for (given, want) in [(AVAILABILITY_ITEMS_MAX, 32), (AVAILABILITY_ITEMS_MAX + 1, 32)] {
            let mut availability = Availability::new(AvailabilityCode::NoEndpoints);
            availability.affected_providers = vec!["p".into(); given];
            availability.exclusions = vec![Exclusion { rule: "r".into(), offers: 1 }; given];
            let mut out = Vec::new();
            availability.push(&mut out, Some(3));
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            for list in ["affected_providers", "excluded_by", "exclusions"] {
                assert_eq!(json[list].as_array().unwrap().len(), want);
            }
            assert_eq!(json["retry_after"], 3);
        }
    }
}
