//! Buyers' own keys at sellers (*BYOK*): whose they are, when they serve, and in which order.
//!
//! Prioritised keys are tried before what the market resells, fallback keys after it, whatever order the buyer wants
//! among sellers; a key that is always used forbids the market's own. Every other rule of the request and of the
//! policies holds for own keys, too. A seller that served with an own key bills the buyer, so the market charges its
//! fee alone. Each key is a provider of its own with its own connections, so that none can ever carry another's.

use crate::config::{ByokKey, ByokMode, GatewayConfig, Pattern, ProviderConfig};
use crate::provider::{Provider, ProviderError};
use crate::upstream::Pools;
use bourse_market::{Offer, Preferences};
use bourse_types::{AccountId, KeyHash, SellerName};
use bourse_wire::dialect::Job;
use bourse_wire::funds::KeyGrant;
use std::collections::HashMap;
use std::sync::Arc;

/// Own keys that may serve one request, at most.
pub const OWN_KEYS_MAX: usize = 16;

/// One own key.
pub(crate) struct OwnKey {
    pub(crate) provider: Arc<Provider>,
    pub(crate) mode: ByokMode,
    seller: SellerName,
    models: Vec<Pattern>,
    keys: Vec<KeyHash>,
    users: Vec<String>,
}

/// All own keys, by the account that they are of.
#[derive(Default)]
pub(crate) struct OwnKeys(HashMap<AccountId, Vec<Arc<OwnKey>>>);

impl OwnKeys {
    pub(crate) fn new(config: &GatewayConfig, pools: &mut Pools) -> Result<Self, ProviderError> {
        let mut all: HashMap<AccountId, Vec<Arc<OwnKey>>> = HashMap::new();
        for own in &config.byok {
            let house = config.providers.iter().find(|provider| provider.name == own.provider);
            let Some(house) = house else { return Err(ProviderError::NoSuch(own.provider.clone())) };
            let ByokKey { account, key, mode, models, keys, users, .. } = own.clone();
            let theirs = ProviderConfig { api_key: Some(key), models: Vec::new(), ..house.clone() };
            let provider = Arc::new(Provider::new(&theirs, pools)?);
            let seller = own.provider.clone();
            all.entry(account).or_default().push(Arc::new(OwnKey {
                provider,
                mode,
                seller,
                models,
                keys,
                users,
            }));
        }
        Ok(Self(all))
    }

    /// The keys that may serve a request; none for most.
    pub(crate) fn of(&self, grant: &KeyGrant, job: &Job) -> Vec<Arc<OwnKey>> {
        let Some(own) = self.0.get(&grant.account) else { return Vec::new() };
        let user = job.routing.user.as_deref();
        let models = || std::iter::once(&job.model).chain(&job.fallbacks);
        let serves = |own: &&Arc<OwnKey>| {
            (own.keys.is_empty() || own.keys.contains(&grant.key))
                && (own.users.is_empty() || user.is_some_and(|user| own.users.iter().any(|u| u == user)))
                && models().any(|model| own.takes(model.as_str()))
        };
        own.iter().filter(serves).take(OWN_KEYS_MAX).cloned().collect()
    }
}

impl OwnKey {
    /// Whether it serves an offer.
    pub(crate) fn serves(&self, offer: &Offer) -> bool {
        let (name, seller) = (self.seller.as_str(), offer.seller.as_str());
        let is_of = seller.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_of && self.takes(offer.model.as_str())
    }

    fn takes(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.part_of(model).is_some())
    }
}

/// The wishes under which own keys are planned: those of the request, among the keys' sellers alone, in no order.
pub(crate) fn wishes(preferences: &Preferences, own: &[Arc<OwnKey>]) -> Preferences {
    let mut wishes = preferences.clone();
    wishes.order = Vec::new();
    wishes.allow_fallbacks = true;
    wishes.policy.allowed.push(own.iter().map(|own| own.seller.clone()).collect());
    wishes
}
