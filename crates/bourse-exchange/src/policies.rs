//! Routing policies as the books keep them: texts under the names of their content, and who has which.
//!
//! A text is kept as long as an account or a key has it. It enters the journal once before its first owner
//! does; replay meets the same order.

use bourse_ledger::CodecError;
use bourse_types::AccountId;
use bourse_wire::funds::{FundsError, PolicyId, PolicyText};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Different policies in one market, at most: 64 MiB of text.
pub const POLICIES_MAX: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    text: Arc<str>,
    owners: u32,
}

/// All policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Policies {
    texts: BTreeMap<PolicyId, Kept>,
    accounts: BTreeMap<AccountId, PolicyId>,
}

impl Policies {
    pub(crate) fn text(&self, id: &PolicyId) -> Option<Arc<str>> {
        self.texts.get(id).map(|kept| Arc::clone(&kept.text))
    }

    pub(crate) fn of_account(&self, account: AccountId) -> Option<PolicyId> {
        self.accounts.get(&account).copied()
    }

    /// Whether one more text has room.
    pub(crate) fn room_for(&self, id: &PolicyId) -> Result<(), FundsError> {
        if self.texts.len() >= POLICIES_MAX && !self.texts.contains_key(id) {
            return Err(FundsError::TooMany("policies"));
        }
        Ok(())
    }

    pub(crate) fn is_known(&self, id: &PolicyId) -> bool {
        self.texts.contains_key(id)
    }

    /// Keeps a text that nobody has yet.
    pub(crate) fn put(&mut self, text: PolicyText) {
        let id = text.id();
        self.texts.entry(id).or_insert_with(|| Kept { text: text.into_text(), owners: 0 });
    }

    /// One owner has `new` instead of `old`.
    pub(crate) fn change(&mut self, old: Option<PolicyId>, new: Option<PolicyId>) -> Result<(), CodecError> {
        if let Some(new) = new {
            let unknown = CodecError::Inconsistent("a policy is named before its text");
            self.texts.get_mut(&new).ok_or(unknown)?.owners += 1;
        }
        if let Some(old) = old
            && let Some(kept) = self.texts.get_mut(&old)
        {
            kept.owners = kept.owners.saturating_sub(1);
            if kept.owners == 0 {
                self.texts.remove(&old);
            }
        }
        Ok(())
    }

    pub(crate) fn set_account(
        &mut self,
        account: AccountId,
        new: Option<PolicyId>,
    ) -> Result<(), CodecError> {
        self.change(self.of_account(account), new)?;
        match new {
            Some(new) => self.accounts.insert(account, new),
            None => self.accounts.remove(&account),
        };
        Ok(())
    }

    /// Every text, by id.
    pub(crate) fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.texts.values().map(|kept| &*kept.text)
    }

    /// Accounts that have one.
    pub(crate) fn accounts(&self) -> impl ExactSizeIterator<Item = (AccountId, PolicyId)> + '_ {
        self.accounts.iter().map(|(account, id)| (*account, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> PolicyText {
        PolicyText::parse(&format!(r#"{{"n":{n}}}"#)).unwrap()
    }

    #[test]
    fn a_text_is_kept_as_long_as_somebody_has_it() {
        let mut policies = Policies::default();
        let (a, b) = (text(1).id(), text(2).id());
        assert!(policies.change(None, Some(a)).is_err(), "named before its text");
        policies.put(text(1));
        policies.set_account(AccountId(7), Some(a)).unwrap();
        policies.change(None, Some(a)).unwrap();
        policies.put(text(2));
        policies.set_account(AccountId(7), Some(b)).unwrap();
        assert!(policies.is_known(&a) && policies.of_account(AccountId(7)) == Some(b));
        policies.change(Some(a), None).unwrap();
        assert!(!policies.is_known(&a) && policies.text(&b).as_deref() == Some(r#"{"n":2}"#));
        policies.set_account(AccountId(7), Some(b)).unwrap();
        assert!(policies.is_known(&b), "setting the same again keeps it");
    }

    #[test]
    fn texts_are_bounded() {
        let mut policies = Policies::default();
        for n in 0..POLICIES_MAX {
            assert_eq!(policies.room_for(&text(n).id()), Ok(()));
            policies.put(text(n));
        }
        assert_eq!(policies.room_for(&text(0).id()), Ok(()), "one that is known needs no room");
        let past = policies.room_for(&text(POLICIES_MAX).id());
        assert_eq!(past, Err(FundsError::TooMany("policies")));
    }
}
