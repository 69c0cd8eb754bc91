//! The past, and keys as their owners administer them, from afar.
//!
//! A question shares the connection with holds and settlements and never stands in their way: the exchange answers it
//! from other threads, in parts that leave between theirs, and at most
//! [`QUESTIONS_MAX`](bourse_wire::funds::port::QUESTIONS_MAX) are under way, then callers are told so at once. A question
//! that only looks is asked again when the connection breaks. One that changes keys is sent once; when the connection
//! breaks after that, its caller is told [`FundsError::Away`] and has to look whether the change was made.
//!
//! The text of a policy is known by its content, so one that was read is kept, checked against its name, and never asked
//! for again; beyond [`POLICIES_KEPT_MAX`] all are forgotten and read anew.

use super::courier::Carried;
use super::state::{About, Told};
use super::{RemoteFunds, Shared};
use bourse_types::{AccountId, Digest32, KeyHash, RequestId, UnixMs, UtcDay};
use bourse_wire::funds::port::{Answer, Question, Request};
use bourse_wire::funds::{
    Accounts, AccountsError, ActivityQuery, ActivityRow, FundsError, Generation, KeyDraft, KeyPage, KeyPatch,
    KeyRecord, KeySecret, KeyStatus, PolicyId, Records,
};
use bourse_wire::receipt::{Checkpoint, ReceiptDocument};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Texts of policies that are kept; all of them together have at most 16 MiB.
pub const POLICIES_KEPT_MAX: usize = 1_024;

/// The policies that were read.
#[derive(Default)]
pub(super) struct Policies(Mutex<HashMap<PolicyId, Arc<str>>>);

impl Policies {
    fn get(&self, id: &PolicyId) -> Option<Arc<str>> {
        self.0.lock().get(id).cloned()
    }

    fn put(&self, id: PolicyId, text: Arc<str>) {
        let mut kept = self.0.lock();
        if kept.len() >= POLICIES_KEPT_MAX {
            kept.clear();
        }
        kept.insert(id, text);
    }
}

impl RemoteFunds {
    /// The account of that name, if the books have one.
    pub fn account(&self, name: &str) -> Result<Option<AccountId>, FundsError> {
        match self.ask(Question::Account(name.to_owned())).map_err(funds)? {
            Answer::Account(account) => Ok(account),
            _ => Err(FundsError::Away),
        }
    }

    /// An answer of another kind, or one that cannot be read, is no answer.
    pub(super) fn ask(&self, question: Question) -> Result<Answer, AccountsError> {
        self.shared.ask(question, self.call_within, self.carried())
    }

    fn ask_for_key(&self, question: Question) -> Result<KeyRecord, AccountsError> {
        match self.ask(question)? {
            Answer::Key(key) => Ok(*key),
            _ => Err(FundsError::Away.into()),
        }
    }
}

impl Shared {
    /// Asks, dated by the exchange's clock.
    pub(super) fn ask(
        &self,
        mut question: Question,
        within: Duration,
        carried: Option<&Carried>,
    ) -> Result<Answer, AccountsError> {
        if let Some(now) = question.clock() {
            *now = self.state.lock().dated(*now);
        }
        let about = if question.is_change() { About::Change } else { About::Question };
        let Told::Answer(bytes) = self.call(&Request::Ask(Box::new(question)), about, within, carried)?
        else {
            return Err(FundsError::Away.into());
        };
        match Answer::from_bytes(&bytes) {
            Ok(Answer::Refused(error)) => Err(error),
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::error!(%error, "an answer of the exchange cannot be read");
                Err(FundsError::Away.into())
            }
        }
    }
}

/// Questions about the past are refused in the words of the port alone.
pub(super) fn funds(error: AccountsError) -> FundsError {
    match error {
        AccountsError::Funds(error) => error,
        AccountsError::NotFound
        | AccountsError::NoWorkspace
        | AccountsError::Operators
        | AccountsError::Invalid { .. } => FundsError::Away,
    }
}

impl Records for RemoteFunds {
    fn receipt(&self, request: RequestId) -> Result<Option<ReceiptDocument>, FundsError> {
        match self.ask(Question::Receipt(request)).map_err(funds)? {
            Answer::Receipt(document) => Ok(document.map(|document| *document)),
            _ => Err(FundsError::Away),
        }
    }

    fn generation(&self, request: RequestId) -> Result<Option<Generation>, FundsError> {
        match self.ask(Question::Generation(request)).map_err(funds)? {
            Answer::Generation(generation) => Ok(generation.map(|generation| *generation)),
            _ => Err(FundsError::Away),
        }
    }

    fn key_status(&self, key: &KeyHash, now: UnixMs) -> Result<KeyStatus, FundsError> {
        match self.ask(Question::KeyStatus { key: *key, now }).map_err(funds)? {
            Answer::KeyStatus(status) => Ok(*status),
            _ => Err(FundsError::Away),
        }
    }

    fn activity(
        &self,
        account: AccountId,
        query: &ActivityQuery,
        now: UnixMs,
    ) -> Result<Vec<ActivityRow>, FundsError> {
        match self.ask(Question::Activity { account, query: *query, now }).map_err(funds)? {
            Answer::Activity(rows) => Ok(rows),
            _ => Err(FundsError::Away),
        }
    }

    fn figures(&self, day: UtcDay, now: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        match self.ask(Question::Figures { day, now }).map_err(funds)? {
            Answer::Figures(figures) => Ok(figures),
            _ => Err(FundsError::Away),
        }
    }

    fn policy(&self, id: &PolicyId) -> Result<Option<Arc<str>>, FundsError> {
        if let Some(known) = self.policies.get(id) {
            return Ok(Some(known));
        }
        match self.ask(Question::Policy(*id)).map_err(funds)? {
            Answer::Policy(None) => Ok(None),
            // Rules of another name than the grant's bind nobody.
            Answer::Policy(Some(text)) if text.id() == *id => {
                let text = text.into_text();
                self.policies.put(*id, Arc::clone(&text));
                Ok(Some(text))
            }
            _ => Err(FundsError::Away),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        match self.ask(Question::Checkpoint).map_err(funds)? {
            Answer::Checkpoint(checkpoint) => Ok(checkpoint),
            _ => Err(FundsError::Away),
        }
    }

    fn consistency(&self, from: u64) -> Result<Vec<Digest32>, FundsError> {
        match self.ask(Question::Consistency(from)).map_err(funds)? {
            Answer::Consistency(path) => Ok(path),
            _ => Err(FundsError::Away),
        }
    }
}

impl Accounts for RemoteFunds {
    fn create_key(
        &self,
        by: &KeyHash,
        draft: KeyDraft,
        now: UnixMs,
    ) -> Result<(KeyRecord, KeySecret), AccountsError> {
        match self.ask(Question::CreateKey { by: *by, draft, now })? {
            Answer::Created(key, secret) => Ok((*key, secret)),
            _ => Err(FundsError::Away.into()),
        }
    }

    fn list_keys(&self, by: &KeyHash, page: KeyPage, now: UnixMs) -> Result<Vec<KeyRecord>, AccountsError> {
        match self.ask(Question::ListKeys { by: *by, page, now })? {
            Answer::Keys(keys) => Ok(keys),
            _ => Err(FundsError::Away.into()),
        }
    }

    fn get_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<KeyRecord, AccountsError> {
        self.ask_for_key(Question::GetKey { by: *by, hash: *hash, now })
    }

    fn update_key(
        &self,
        by: &KeyHash,
        hash: &KeyHash,
        patch: KeyPatch,
        now: UnixMs,
    ) -> Result<KeyRecord, AccountsError> {
        self.ask_for_key(Question::UpdateKey { by: *by, hash: *hash, patch, now })
    }

    fn delete_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<(), AccountsError> {
        match self.ask(Question::DeleteKey { by: *by, hash: *hash, now })? {
            Answer::Deleted => Ok(()),
            _ => Err(FundsError::Away.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_are_kept_have_their_number() {
        let policies = Policies::default();
        let id = |n: usize| PolicyId(Digest32(std::array::from_fn(|at| n.to_le_bytes()[at % 8])));
        (0..POLICIES_KEPT_MAX).for_each(|n| policies.put(id(n), Arc::from("{}")));
        assert!(policies.get(&id(0)).is_some());
        policies.put(id(POLICIES_KEPT_MAX), Arc::from("{}"));
        assert_eq!(policies.0.lock().len(), 1, "one too many, and all are read anew");
    }
}
