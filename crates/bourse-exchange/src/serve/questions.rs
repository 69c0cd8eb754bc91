//! What a gateway asks off the hot path: looked up by other threads, answered in parts.
//!
//! A lookup may read a database or wait for the disk, and its answer may have megabytes. So at most [`AT_ONCE`] of a
//! gateway's questions are looked up or told at a time, the others wait in their order, and each turn of the connection
//! adds one part at most: between two parts holds and settlements have theirs. Answers take turns, so a short one does
//! not wait for the end of a long one.

use crate::exchange::Exchange;
use bourse_wire::funds::port::{
    ANSWER_BYTES_MAX, Answer, KeptPart, PART_BYTES_MAX, QUESTIONS_MAX, Question, Reply,
};
use bourse_wire::funds::{
    Accounts as _, AccountsError, FundsError, Outcome, Outcomes as _, PolicyText, Records as _,
    Workspaces as _,
};
use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

/// Questions of one gateway whose answers are looked up or told at a time: that many answers are in memory.
const AT_ONCE: usize = 4;

/// The questions of one gateway.
pub(super) struct Questions {
    exchange: Arc<Exchange>,
    waiting: VecDeque<(u64, Question)>,
    running: JoinSet<(u64, Vec<u8>, bool)>,
    answers: VecDeque<Telling>,
}

/// An answer that is being told.
struct Telling {
    call: u64,
    bytes: Vec<u8>,
    /// Parts that were told.
    told: usize,
}

impl Questions {
    pub(super) fn new(exchange: &Arc<Exchange>) -> Self {
        Self {
            exchange: Arc::clone(exchange),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            answers: VecDeque::new(),
        }
    }

    /// Takes a question; gives back why it is not taken.
    pub(super) fn ask(&mut self, call: u64, question: Question) -> Option<FundsError> {
        if self.waiting.len() + self.running.len() + self.answers.len() >= QUESTIONS_MAX {
            return Some(FundsError::TooMany("questions at once"));
        }
        self.waiting.push_back((call, question));
        self.begin();
        None
    }

    fn begin(&mut self) {
        while self.running.len() + self.answers.len() < AT_ONCE
            && let Some((call, question)) = self.waiting.pop_front()
        {
            let exchange = Arc::clone(&self.exchange);
            self.running.spawn_blocking(move || {
                let (bytes, is_fine) = answer_of(&exchange, question);
                (call, bytes, is_fine)
            });
        }
    }

    /// Completes when there is something to tell; false when the exchange had no answer but about itself. Cancel safe.
    pub(super) async fn answered(&mut self) -> bool {
        if self.answers.is_empty() {
            match self.running.join_next().await {
                Some(done) => self.take(done),
                None => pending().await,
            }
        } else {
            // Those that are ready meanwhile have their turns, too.
            self.running.try_join_next().is_none_or(|done| self.take(done))
        }
    }

    fn take(&mut self, done: Result<(u64, Vec<u8>, bool), JoinError>) -> bool {
        match done {
            Ok((call, bytes, is_fine)) => {
                self.answers.push_back(Telling { call, bytes, told: 0 });
                is_fine
            }
            Err(error) => {
                // Its caller waits no longer than it likes.
                tracing::error!(%error, "a question of a gateway was not answered");
                self.begin();
                true
            }
        }
    }

    /// The next part to be told.
    pub(super) fn next_part(&mut self) -> Option<(u64, Reply)> {
        let mut telling = self.answers.pop_front()?;
        let call = telling.call;
        let part = part_of(&telling.bytes, telling.told)?;
        telling.told += 1;
        if matches!(part, Reply::Part { is_last: true, .. }) {
            self.begin();
        } else {
            self.answers.push_back(telling);
        }
        Some((call, part))
    }
}

/// The bytes of an answer, and whether the exchange had more to say than that it cannot answer.
pub(super) fn answer_of(exchange: &Exchange, question: Question) -> (Vec<u8>, bool) {
    let answer = look_up(exchange, question).unwrap_or_else(Answer::Refused);
    let is_fine = !matches!(
        answer,
        Answer::Refused(AccountsError::Funds(FundsError::Journal(_) | FundsError::Closing))
    );
    (bounded(answer.to_bytes()), is_fine)
}

/// The parts in which an answer is told, by their number from 0 on; none beyond the last.
pub(super) fn part_of(answer: &[u8], n: usize) -> Option<Reply> {
    let bytes = answer.chunks(PART_BYTES_MAX).nth(n)?.to_vec();
    Some(Reply::Part { bytes, is_last: n + 1 == answer.len().div_ceil(PART_BYTES_MAX) })
}

fn bounded(answer: Vec<u8>) -> Vec<u8> {
    if answer.len() <= ANSWER_BYTES_MAX {
        return answer;
    }
    Answer::Refused(FundsError::TooMany("bytes in one answer").into()).to_bytes()
}

fn look_up(exchange: &Exchange, question: Question) -> Result<Answer, AccountsError> {
    Ok(match question {
        Question::Receipt(request) => Answer::Receipt(exchange.receipt(request)?.map(Box::new)),
        Question::Generation(request) => Answer::Generation(exchange.generation(request)?.map(Box::new)),
        Question::KeyStatus { key, now } => Answer::KeyStatus(Box::new(exchange.key_status(&key, now)?)),
        Question::Activity { account, query, now } => {
            Answer::Activity(exchange.activity(account, &query, now)?)
        }
        Question::Figures { day, now } => Answer::Figures(exchange.figures(day, now)?),
        Question::Policy(id) => {
            let text = exchange.policy(&id)?.map(|text| PolicyText::parse(&text)).transpose();
            Answer::Policy(text.map_err(|error| FundsError::Journal(error.to_string()))?)
        }
        Question::Checkpoint => Answer::Checkpoint(exchange.checkpoint()?),
        Question::Consistency(from) => Answer::Consistency(exchange.consistency(from)?),
        Question::CreateKey { by, draft, now } => {
            let (key, secret) = exchange.create_key(&by, draft, now)?;
            Answer::Created(Box::new(key), secret)
        }
        Question::ListKeys { by, page, now } => Answer::Keys(exchange.list_keys(&by, page, now)?),
        Question::GetKey { by, hash, now } => Answer::Key(Box::new(exchange.get_key(&by, &hash, now)?)),
        Question::UpdateKey { by, hash, patch, now } => {
            Answer::Key(Box::new(exchange.update_key(&by, &hash, patch, now)?))
        }
        Question::DeleteKey { by, hash, now } => {
            exchange.delete_key(&by, &hash, now)?;
            Answer::Deleted
        }
        Question::Account(name) => Answer::Account(exchange.account(&name)),
        Question::CreateWorkspace { by, draft, now } => {
            Answer::Workspace(Box::new(exchange.create_workspace(&by, draft, now)?))
        }
        Question::ListWorkspaces { by, offset, now } => {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            Answer::Workspaces(exchange.list_workspaces(&by, offset, now)?)
        }
        Question::Limits { by, of, now } => Answer::Limits(Box::new(exchange.limits(&by, &of, now)?)),
        Question::SetLimits { by, of, patch, now } => {
            Answer::Limits(Box::new(exchange.set_limits(&by, &of, patch, now)?))
        }
        Question::Claimed { claim, now } => {
            exchange.claimed(&claim, now)?;
            Answer::Claimed
        }
        Question::Keep(KeptPart { name, request, now, part: sealed, .. }) => {
            exchange.shared.answers.keep_now(Outcome { name, request, sealed, now })?;
            Answer::Kept
        }
        Question::Outcome { name, request } => {
            Answer::Outcome(exchange.shared.answers.find_now(name, request)?)
        }
    })
}
