//! Keys as a management key administers them, by the same paths as the operator's requests.
//!
//! Whatever is not a live inference key of the caller's own account does not exist here: another account's
//! key, a management key and a deleted one are told apart from none by nobody.

use crate::core::{Core, KeyCreation};
use crate::exchange::Exchange;
use crate::keys::{Key, hash_key, key_text};
use bourse_types::{AccountId, KeyHash, UnixMs};
use bourse_wire::funds::{
    Accounts, AccountsError, FundsError, KEYS_PAGE_MAX, KeyDraft, KeyPage, KeyPatch, KeyRecord, KeyRole,
    KeySecret,
};

/// A key about to be made.
pub(crate) struct Asked {
    pub(crate) role: KeyRole,
    pub(crate) creator: Option<KeyHash>,
    pub(crate) draft: KeyDraft,
}

impl Accounts for Exchange {
    fn create_key(
        &self,
        by: &KeyHash,
        draft: KeyDraft,
        now: UnixMs,
    ) -> Result<(KeyRecord, KeySecret), AccountsError> {
        draft.check(now)?;
        let asked = Asked { role: KeyRole::Inference, creator: Some(*by), draft };
        let (hash, secret) =
            self.make_key(asked, now, |core| Ok::<_, AccountsError>(manager(core, by, now)?))?;
        Ok((self.key_record(&hash, now)?, secret))
    }

    fn list_keys(&self, by: &KeyHash, page: KeyPage, now: UnixMs) -> Result<Vec<KeyRecord>, AccountsError> {
        let core = self.shared.core.lock();
        let account = manager(&core, by, now)?;
        let keys = core.keys.of_account(account).filter(|key| is_shown(key));
        let keys = keys.filter(|key| page.include_disabled || !key.row.is_disabled);
        let keys = keys.skip(page.offset).take(page.limit.min(KEYS_PAGE_MAX));
        Ok(keys.map(|key| key.record(now)).collect())
    }

    fn get_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<KeyRecord, AccountsError> {
        let core = self.shared.core.lock();
        Ok(owned(&core, by, hash, now)?.record(now))
    }

    fn update_key(
        &self,
        by: &KeyHash,
        hash: &KeyHash,
        patch: KeyPatch,
        now: UnixMs,
    ) -> Result<KeyRecord, AccountsError> {
        patch.check(now)?;
        let id = self.house_transfer(now)?;
        self.shared.change(|core| {
            owned(core, by, hash, now)?;
            core.update_key(hash, patch, id, now).map_err(AccountsError::from)
        })?;
        Ok(self.key_record(hash, now)?)
    }

    fn delete_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<(), AccountsError> {
        self.shared.change(|core| {
            owned(core, by, hash, now)?;
            core.revoke_key(hash, now).map_err(AccountsError::from)
        })?;
        self.flush()?;
        Ok(())
    }
}

impl Exchange {
    /// Makes a key on the account that `payer` names.
    pub(crate) fn make_key<E: From<AccountsError>>(
        &self,
        asked: Asked,
        now: UnixMs,
        payer: impl FnOnce(&mut Core) -> Result<AccountId, E>,
    ) -> Result<(KeyHash, KeySecret), E> {
        let random = self.shared.draw().map_err(|error| FundsError::NoRandomness(error.to_string()));
        let random = random.map_err(AccountsError::from)?;
        let id = self.house_transfer(now).map_err(AccountsError::from)?;
        let secret = key_text(&random);
        let hash = hash_key(&secret);
        let Asked { role, creator, draft } = asked;
        let claim = draft.claim;
        self.shared.change(|core| {
            let account = payer(core)?;
            let creation = KeyCreation { hash, account, role, creator, draft };
            core.once(claim.as_ref(), now, |core| core.create_key(creation, id, now)).map_err(E::from)
        })?;
        Ok((hash, KeySecret(secret)))
    }

    pub(crate) fn house_transfer(&self, now: UnixMs) -> Result<bourse_types::TransferId, FundsError> {
        self.shared.house_transfer(now).map_err(|error| FundsError::NoRandomness(error.to_string()))
    }

    /// A key as it is on disk.
    fn key_record(&self, hash: &KeyHash, now: UnixMs) -> Result<KeyRecord, FundsError> {
        self.flush()?;
        let core = self.shared.core.lock();
        core.keys.get(hash).map(|key| key.record(now)).ok_or(FundsError::UnknownKey)
    }
}

/// The account that a management key administers.
pub(crate) fn manager(core: &Core, by: &KeyHash, now: UnixMs) -> Result<AccountId, FundsError> {
    core.running()?;
    let key = core.key(by, now)?;
    if key.row.role == KeyRole::Management { Ok(key.row.account) } else { Err(FundsError::NotManagement) }
}

pub(crate) fn owned<'a>(
    core: &'a Core,
    by: &KeyHash,
    hash: &KeyHash,
    now: UnixMs,
) -> Result<&'a Key, AccountsError> {
    let account = manager(core, by, now)?;
    let key = core.keys.get(hash).filter(|key| key.row.account == account && is_shown(key));
    key.ok_or(AccountsError::NotFound)
}

fn is_shown(key: &Key) -> bool {
    key.row.role == KeyRole::Inference && key.row.revoked.is_none()
}
