//! Claims and sealed answers, from afar.
//!
//! An answer is longer than a frame, so it goes out in parts, the next one when the one before was taken, and one answer after the
//! other: the exchange puts together one for each gateway. It blocks a thread for that, which is not the caller's. Limit:
//! [`KEEPS_MAX`] answers that wait or are on their way; those beyond are not kept, as all that fail here: an answer that
//! is not kept leaves a claim that names its receipt, so nothing is charged twice.

use super::RemoteFunds;
use super::records::funds;
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::funds::port::{Answer, KEEP_PART_BYTES_MAX, KeptPart, Question};
use bourse_wire::funds::{BoxFuture, Claim, FundsError, Outcome, Outcomes, SEALED_BYTES_MAX};
use bytes::Bytes;
use std::future::ready;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Answers that wait to be kept or are on their way, at most; together they have at most 130 MiB.
pub const KEEPS_MAX: usize = 32;

impl Outcomes for RemoteFunds {
    fn claimed(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError> {
        match self.ask(Question::Claimed { claim: *claim, now }).map_err(funds)? {
            Answer::Claimed => Ok(()),
            _ => Err(FundsError::Away),
        }
    }

    fn keep(&self, outcome: Outcome) -> BoxFuture<'static, Result<(), FundsError>> {
        // Whoever waits or sends has a clone, this one first: two that come at once may both be refused, never both let in.
        let keeping = Arc::clone(&self.keeping);
        let are_too_many = Arc::strong_count(&keeping) > KEEPS_MAX + 1;
        if outcome.sealed.len() > SEALED_BYTES_MAX || are_too_many {
            return Box::pin(ready(Err(FundsError::TooMany("bytes of answers"))));
        }
        if let Some(carried) = self.carried() {
            let ask = |question| self.shared.ask(question, self.call_within, Some(carried)).map_err(funds);
            return Box::pin(ready(send(&outcome, ask)));
        }
        let (shared, within) = (Arc::clone(&self.shared), self.call_within);
        let sent = spawn_blocking(move || {
            let _turn = keeping.lock();
            send(&outcome, |question| shared.ask(question, within, None).map_err(funds))
        });
        Box::pin(async move { sent.await.unwrap_or(Err(FundsError::Closing)) })
    }

    fn outcome(
        &self,
        name: Digest32,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Option<Bytes>, FundsError>> {
        let question = Question::Outcome { name, request };
        let found = |answer| match answer {
            Answer::Outcome(sealed) => Ok(sealed),
            _ => Err(FundsError::Away),
        };
        if self.carried().is_some() {
            return Box::pin(ready(self.ask(question).map_err(funds).and_then(found)));
        }
        let (shared, within) = (Arc::clone(&self.shared), self.call_within);
        let asked = spawn_blocking(move || shared.ask(question, within, None).map_err(funds).and_then(found));
        Box::pin(async move { asked.await.unwrap_or(Err(FundsError::Closing)) })
    }
}

/// Sends an answer in parts.
fn send(
    outcome: &Outcome,
    mut ask: impl FnMut(Question) -> Result<Answer, FundsError>,
) -> Result<(), FundsError> {
    let Outcome { name, request, sealed, now } = outcome;
    let mut at = 0;
    loop {
        let part = sealed.slice(at..sealed.len().min(at + KEEP_PART_BYTES_MAX));
        let (len, sent) = (sealed.len() as u32, part.len());
        let part = KeptPart { name: *name, request: *request, now: *now, len, at: at as u32, part };
        match ask(Question::Keep(part))? {
            Answer::Kept => at += sent,
            _ => return Err(FundsError::Away),
        }
        if at >= sealed.len() {
            return Ok(());
        }
    }
}
