//! What accounts and keys allow: their routing policies, read once each.
//!
//! A grant names its policies by content, so what was read stays true for ever and is kept by id, within a bound. A
//! policy that cannot be read is obeyed by refusing: no rule that somebody set is ever dropped.

use crate::phase::admit;
use crate::phase::wishes::policy_of;
use bourse_market::Policy;
use bourse_wire::dialect::fields;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{KeyGrant, PolicyId, Records};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Policies that are kept in each of two generations.
pub(crate) const POLICIES_KEPT_MAX: usize = 1_024;

/// The policies that were read lately.
#[derive(Default)]
pub(crate) struct Policies(Mutex<Generations>);

/// What was used since the last turn, and what was used before. A turn forgets the older.
#[derive(Default)]
struct Generations {
    young: HashMap<PolicyId, Arc<Policy>>,
    old: HashMap<PolicyId, Arc<Policy>>,
}

impl Policies {
    /// What the account and the key allow together; none for most.
    pub(crate) fn of(&self, grant: &KeyGrant, records: &dyn Records) -> Result<Option<Policy>, ApiError> {
        let account = grant.account_policy.map(|id| self.read(id, records)).transpose()?;
        let key = grant.key_policy.map(|id| self.read(id, records)).transpose()?;
        Ok(match (account, key) {
            (Some(account), Some(key)) => Some(Policy::clone(&account).and(&key)),
            (one, two) => one.or(two).map(|policy| Policy::clone(&policy)),
        })
    }

    fn read(&self, id: PolicyId, records: &dyn Records) -> Result<Arc<Policy>, ApiError> {
        if let Some(known) = self.0.lock().get(&id) {
            return Ok(known);
        }
        let text = records.policy(&id).map_err(|error| admit::refusal(&error))?.ok_or_else(changed)?;
        let read =
            fields::policy(&text).and_then(|rules| policy_of(&rules)).map_err(|error| unreadable(&error))?;
        let read = Arc::new(read);
        self.0.lock().put(id, Arc::clone(&read));
        Ok(read)
    }
}

impl Generations {
    fn get(&mut self, id: &PolicyId) -> Option<Arc<Policy>> {
        if let Some(known) = self.young.get(id) {
            return Some(Arc::clone(known));
        }
        let known = self.old.remove(id)?;
        self.put(*id, Arc::clone(&known));
        Some(known)
    }

    fn put(&mut self, id: PolicyId, policy: Arc<Policy>) {
        if self.young.len() >= POLICIES_KEPT_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, policy);
    }
}

/// The policy was replaced between the look at the key and the look at the policy.
fn changed() -> ApiError {
    let message = "the policy of this key has just changed: send the request again";
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::ProviderOverloaded, message) }
}

fn unreadable(error: &ApiError) -> ApiError {
    let message = format!(
        "a policy of this key or its account cannot be obeyed, so nothing may be sent anywhere: {}; set it anew with \
         `bourse key policy`",
        error.message
    );
    ApiError::new(ErrorType::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fakes::FakeFunds;
    use bourse_market::{DataPolicy, Offer, Quantization};
    use bourse_types::{AccountId, Digest32, KeyHash, ModelSlug, PicoUsdPerToken, PriceSchedule, SellerName};
    use bourse_wire::funds::PolicyText;
    use proptest::prelude::*;

    fn grant(account: Option<PolicyId>, key: Option<PolicyId>) -> KeyGrant {
        let grant = KeyGrant::new(KeyHash([1; 32]), AccountId(7));
        KeyGrant { account_policy: account, key_policy: key, ..grant }
    }

    fn kept(funds: &FakeFunds, text: &str) -> PolicyId {
        let text = PolicyText::parse(text).unwrap();
        let id = text.id();
        funds.keep_policy(text);
        id
    }

    #[test]
    fn both_policies_count() {
        let funds = FakeFunds::with(0);
        let account = kept(&funds, r#"{"only":["a","b"],"max_price":{"prompt":2}}"#);
        let key = kept(&funds, r#"{"only":["b","c"],"max_price":{"prompt":1,"completion":3},"zdr":true}"#);
        let policies = Policies::default();
        assert_eq!(policies.of(&grant(None, None), &*funds).unwrap(), None);
        let both = policies.of(&grant(Some(account), Some(key)), &*funds).unwrap().unwrap();
        let names = |list: &[&str]| list.iter().map(|n| SellerName::parse(n).unwrap()).collect::<Vec<_>>();
        assert_eq!(both.allowed, [names(&["a", "b"]), names(&["b", "c"])]);
        assert_eq!(both.max_price.prompt, Some(PicoUsdPerToken(1_000_000)));
        assert_eq!(both.max_price.completion, Some(PicoUsdPerToken(3_000_000)));
        assert!(both.data.contains(DataPolicy::ZDR));
        assert_eq!(policies.of(&grant(None, Some(key)), &*funds).unwrap().unwrap().allowed.len(), 1);
    }

    #[test]
    fn what_cannot_be_obeyed_lets_nothing_through() {
        let funds = FakeFunds::with(0);
        let policies = Policies::default();
        let odd = kept(&funds, r#"{"onl":["a"]}"#);
        let error = policies.of(&grant(Some(odd), None), &*funds).unwrap_err();
        assert_eq!(error.status(), 403);
        assert!(error.message.contains("did you mean `only`?"), "{error}");
        let gone = PolicyId(Digest32([9; 32]));
        let error = policies.of(&grant(None, Some(gone)), &*funds).unwrap_err();
        assert_eq!((error.status(), error.retry_after_s), (503, Some(1)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_used_ones_stay() {
        let mut generations = Generations::default();
        let id = |n: usize| PolicyId(Digest32(std::array::from_fn(|at| n.to_le_bytes()[at % 8])));
        for n in 0..3 * POLICIES_KEPT_MAX {
            generations.put(id(n), Arc::default());
            assert!(generations.get(&id(0)).is_some(), "{n}: used all the time");
            assert!(
                generations.young.len() <= POLICIES_KEPT_MAX && generations.old.len() <= POLICIES_KEPT_MAX
            );
        }
        assert!(generations.get(&id(1)).is_none(), "never used again");
    }

    #[test]
    fn the_words_of_quantizations_are_the_markets() {
        assert_eq!(fields::QUANTIZATION_WORDS, Quantization::ALL.map(Quantization::as_str));
    }

    fn rule() -> impl Strategy<Value = String> {
        let names = prop::sample::subsequence(vec!["\"a\"", "\"b\"", "\"a/eu\"", "\"c\""], 1..3);
        let list =
            |key: &'static str| names.clone().prop_map(move |n| format!(r#""{key}":[{}]"#, n.join(",")));
        prop_oneof![
            list("only"),
            list("ignore"),
            (1u32..9).prop_map(|n| format!(r#""max_price":{{"prompt":{n}}}"#)),
            Just(r#""zdr":true"#.to_owned()),
            Just(r#""data_collection":"deny""#.to_owned()),
            Just(r#""quantizations":["fp8"]"#.to_owned()),
            Just(r#""regions":["eu"]"#.to_owned()),
            Just(r#""enforce_distillable_text":true"#.to_owned()),
        ]
    }

    fn offer() -> impl Strategy<Value = Offer> {
        let seller = prop::sample::select(vec!["a", "b", "a/eu", "c", "d"]);
        (seller, 0u64..9, 0u8..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(seller, price, data, eu, fp8, is_distillable)| {
                let price = PicoUsdPerToken(price * 1_000_000);
                let slug = ModelSlug::parse("x/y").unwrap();
                let seller = SellerName::parse(seller).unwrap();
                let promises =
                    [DataPolicy::NONE, DataPolicy::NO_TRAINING, DataPolicy::NO_COLLECTION, DataPolicy::ZDR];
                Offer {
                    data: promises[usize::from(data)],
                    region: eu.then(|| Arc::from("eu")),
                    quantization: if fp8 { Quantization::Fp8 } else { Quantization::Unknown },
                    is_distillable,
                    ..Offer::new(slug, seller, Some(PriceSchedule::per_token(price, price)), 1_000)
                }
            },
        )
    }

    proptest! {
        #[test]
        fn one_more_policy_never_admits_what_another_refuses(one in rule(), two in rule(), offer in offer()) {
            let read = |text: &str| policy_of(&fields::policy(&format!("{{{text}}}")).unwrap()).unwrap();
            let (one, two) = (read(&one), read(&two));
            let refused = |policy: &Policy| policy.refuses(&offer);
            let both = one.clone().and(&two);
            prop_assert_eq!(refused(&both).is_some(), refused(&one).is_some() || refused(&two).is_some());
        }
    }
}
