//! The funds port: what a gateway asks of the exchange, and the only way it touches money.
//!
//! A gateway holds the worst case so far, extends the hold while it streams, and settles exactly once
//! per request; a settlement of zero gives everything back. All calls are keyed by the request's id, so
//! repeating one is harmless. The calls are synchronous and short (memory only); waiting for the disk
//! is a separate call on the ticket that a settlement returns. In one process the exchange answers
//! directly; between machines the same messages travel as the frames of [`port`].
//!
//! Beside it stand [`Records`] for whoever asks about the past, [`Accounts`] for those who administer keys and
//! [`Workspaces`] for those who set limits.
//! When the buyer's own key at a seller serves (*BYOK*), the seller bills the buyer outside the books: the list
//! price is never posted, the charge is the market's fee on it, and the list price is counted apart.

use crate::receipt::{Receipt, ReceiptDocument};
use bourse_types::{
    AccountId, Digest32, DurationMs, Fault, KeyHash, NanoUsd, RequestId, Retry, UnixMs, UtcDay,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

mod accounts;
mod activity;
mod attendance;
mod claim;
mod limits;
mod note;
mod policy;
pub mod port;
pub use accounts::{
    Accounts, AccountsError, Change, KEY_NAME_BYTES_MAX, KEYS_PAGE_MAX, KeyDraft, KeyPage, KeyPatch,
    KeyRecord, KeyRole, KeySecret, LimitReset, Rule, SpendWindows,
};
pub use activity::{
    ACTIVITY_DAYS, ACTIVITY_OTHER, ACTIVITY_ROWS_PER_DAY_MAX, ActivityQuery, ActivityRow, ActivitySums,
};
pub use attendance::{ATTENDED_MS_MAX, Attendance, GPUS_MAX};
pub use claim::{CLAIM_AGE_MAX, Claim, IDEMPOTENCY_KEY_BYTES_MAX, Outcome, Outcomes, SEALED_BYTES_MAX};
pub use limits::{
    BUDGETS_MAX, BudgetStatus, DEFAULT_WORKSPACE, LimitsPatch, RATE_REQUESTS_MAX, RATE_TOKENS_MAX,
    RATE_WINDOW, RateStatus, RateUnit, Scope, ScopeName, ScopeRecord, WORKSPACE_NAME_BYTES_MAX,
    WORKSPACE_SLUG_BYTES_MAX, WORKSPACES_MAX, WORKSPACES_PAGE_MAX, WorkspaceDraft, WorkspaceId,
    WorkspaceRecord, Workspaces,
};
pub use note::{
    GIFT_NOTE_VERSION, GenerationNote, NOTE_BYTES_MAX, NOTE_TEXT_BYTES_MAX, NOTE_VERSION, NoteText,
    ProviderResponse,
};
pub use policy::{POLICY_BYTES_MAX, PolicyError, PolicyId, PolicyText};

/// A future that the port returns: boxed, so that the port can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a valid key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGrant {
    /// SHA-256 of the key.
    pub key: KeyHash,
    /// The customer account that pays.
    pub account: AccountId,
    /// The key's name in receipts; see [`Receipt::digest_of_key`].
    pub key_digest: Digest32,
    /// The account's name in receipts; see [`Receipt::digest_of_account`].
    pub account_digest: Digest32,
    /// What the key is for: a hold under a management key is refused.
    pub role: KeyRole,
    /// The routing policy of the account; see [`Records::policy`].
    pub account_policy: Option<PolicyId>,
    /// The routing policy of the key, which can only tighten the account's.
    pub key_policy: Option<PolicyId>,
}

impl KeyGrant {
    /// The grant of an inference key without policies. Whoever keeps keys keeps the digests too, and grants
    /// them unhashed.
    pub fn new(key: KeyHash, account: AccountId) -> Self {
        let (key_digest, account_digest) =
            (Receipt::digest_of_key(&key), Receipt::digest_of_account(account));
        let role = KeyRole::Inference;
        Self { key, account, key_digest, account_digest, role, account_policy: None, key_policy: None }
    }
}

/// Reserves money before anything is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldRequest {
    /// The request, and the base of every transfer id.
    pub request: RequestId,
    /// Who pays.
    pub grant: KeyGrant,
    /// Upper bound of the cost so far: of the charge, which is a fee where the buyer's own key may serve.
    pub amount: NanoUsd,
    /// Upper bound so far of what the buyer's own sellers bill it. Holds no money; counts towards a key's
    /// limit that includes it. Zero where no own key may serve.
    pub byok: NanoUsd,
    /// Upper bound so far of the tokens of the prompt and of what may be generated, which count towards rates with the
    /// request itself. None: it goes on with a request that was let in before, and counts towards none.
    pub tokens: Option<u64>,
    /// When an abandoned hold gives itself back.
    pub expires: UnixMs,
    /// The caller's clock.
    pub now: UnixMs,
    /// What keeps a request that is sent twice from being charged twice, where its buyer asked for that.
    pub claim: Option<Claim>,
}

/// Adds to a hold in mid-stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldExtension {
    /// The request.
    pub request: RequestId,
    /// 1 for the first extension, then 2, 3 …: repeating a number repeats the outcome.
    pub step: u16,
    /// What to add.
    pub amount: NanoUsd,
    /// What to add to [`HoldRequest::byok`].
    pub byok: NanoUsd,
    /// What to add to [`HoldRequest::tokens`]. No extension is refused for a rate: what has begun may go on, and takes
    /// what is left of it.
    pub tokens: u64,
    /// The caller's clock.
    pub now: UnixMs,
}

/// Completed days of which public figures are told.
pub const FIGURES_DAYS: u32 = 31;
/// Most bytes of the public figures of a day.
pub const FIGURES_BYTES_MAX: usize = 1024 * 1024;

/// Most extensions of one hold: far more than an answer of a million tokens needs.
pub const HOLD_EXTENSIONS_MAX: u16 = 4_096;

/// Whose key at the seller served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Billing {
    /// The market's: the seller is paid from the charge.
    #[default]
    Credits,
    /// The buyer's own: `receipt.charge` is the list price as metered, and the exchange replaces it by its
    /// fee on it before the receipt is written.
    Byok,
}

/// Ends a request: posts the charge, gives the rest back, logs the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The whole record. `receipt.fee` is filled in by the exchange.
    pub receipt: Receipt,
    /// What the generation record shows beside it.
    pub note: GenerationNote,
    /// Whose key served.
    pub billing: Billing,
    /// The caller's clock.
    pub now: UnixMs,
}

impl Settlement {
    /// Of a request that the market's key served, without a note.
    pub fn new(receipt: Receipt, now: UnixMs) -> Self {
        Self { receipt, note: GenerationNote::default(), billing: Billing::Credits, now }
    }
}

/// A position in the journal: durable once the group that holds it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitTicket(pub u64);

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What the buyer paid: with [`Billing::Byok`] the fee.
    pub cost: NanoUsd,
    /// When it is safe on disk.
    pub ticket: CommitTicket,
}

/// State of a key and its account, for `/key` and `/credits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key.
    pub key: KeyRecord,
    /// Held by requests in flight of this key's account.
    pub held: NanoUsd,
    /// Every budget that a hold under this key draws on: the key's, its workspace's, its organisation's.
    pub budgets: Vec<BudgetStatus>,
    /// Every rate that a request under this key counts towards.
    pub rates: Vec<RateStatus>,
    /// Everything ever credited to the account.
    pub account_credited: NanoUsd,
    /// Everything the account ever spent.
    pub account_spent: NanoUsd,
    /// What the account can still spend.
    pub account_available: NanoUsd,
}

/// A settled request as its generation record shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The receipt.
    pub receipt: Receipt,
    /// What stands beside it.
    pub note: GenerationNote,
}

/// Why the exchange refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FundsError {
    /// No such key.
    #[error("no such API key")]
    UnknownKey,
    /// The key was revoked.
    #[error("this API key was revoked")]
    RevokedKey,
    /// The key is switched off.
    #[error("this API key is disabled")]
    DisabledKey,
    /// The key's time is over.
    #[error("this API key has expired")]
    ExpiredKey,
    /// A management key was used to buy.
    #[error("a management key administers keys and cannot buy")]
    ManagementKey,
    /// An inference key was used to administer.
    #[error("this call needs a management key")]
    NotManagement,
    /// The account cannot cover the amount.
    #[error("the account has {available} available and this request needs {needed}")]
    InsufficientFunds {
        /// What the account can spend.
        available: NanoUsd,
        /// What was asked.
        needed: NanoUsd,
        /// Held by requests in flight of the account.
        held: NanoUsd,
    },
    /// A budget of the key, of its workspace or of its organisation cannot cover the amount.
    #[error(
        "the {} has {} of its {}limit left and this request needs {needed}",
        budget.scope.as_str(), budget.left, interval(budget.reset)
    )]
    OverBudget {
        /// Which, as it stands.
        budget: Box<BudgetStatus>,
        /// What was asked.
        needed: NanoUsd,
    },
    /// A rate of the key, of its workspace or of its organisation is used up.
    #[error(
        "the {} may ask for {} {} in a minute, has {} left and this request needs {needed}",
        rate.scope.as_str(), rate.limit, rate.unit.as_str(), rate.left
    )]
    RateLimited {
        /// Which, as it stands.
        rate: Box<RateStatus>,
        /// What was asked.
        needed: u64,
        /// When enough is free again for this request, if nothing else takes it; none: it is more than the limit.
        retry_after: Option<DurationMs>,
    },
    /// The settlement is dearer than the hold: a bug in the caller, refused so that nobody overspends.
    /// Its text is logged with the request, so it tells no amount.
    #[error("the charge exceeds the hold")]
    ExceedsHold {
        /// What was asked.
        charge: NanoUsd,
        /// What is held.
        held: NanoUsd,
    },
    /// No hold for this request (never made, expired or settled with another outcome).
    #[error("there is no open hold for this request")]
    NoHold,
    /// The same request was made before with other content.
    #[error("this request id was used before with other content")]
    Conflict,
    /// The same claim was made for another request.
    #[error("this idempotency key was used for another request")]
    ClaimTaken,
    /// The first request under the same claim is open.
    #[error("the first request under this idempotency key is being answered")]
    ClaimOpen,
    /// The same claim was made before and led to something: to the charge of that request, mostly.
    #[error("this was done before under its idempotency key, as `{0}`")]
    ClaimPaid(RequestId),
    /// Too many holds are open, or too many extensions were asked.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The journal failed; nothing more is accepted until the operator looks.
    #[error(
        "the journal cannot be written: {0}; the market has to be started again when its store can be written"
    )]
    Journal(String),
    /// The system gave no randomness for a new key or id.
    #[error("{0}")]
    NoRandomness(String),
    /// The exchange is closing.
    #[error("the exchange is closing")]
    Closing,
    /// The exchange is on another machine and did not answer in time. Whether the call took effect is not known; it is
    /// repeated under the same id without harm.
    #[error("the exchange does not answer")]
    Away,
}

impl FundsError {
    /// At whose door the failure lies.
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownKey
            | Self::RevokedKey
            | Self::DisabledKey
            | Self::ExpiredKey
            | Self::ManagementKey
            | Self::NotManagement
            | Self::InsufficientFunds { .. }
            | Self::OverBudget { .. }
            | Self::RateLimited { .. }
            | Self::Conflict
            | Self::ClaimTaken
            | Self::ClaimOpen
            | Self::ClaimPaid(_) => Fault::Buyer,
            _ => Fault::Bourse,
        }
    }

    /// Whether a settlement that failed so may still come into the books, or has: nobody answers for it. What is told of
    /// it must then say what it costs at most.
    pub fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Away | Self::Closing | Self::Journal(_))
    }

    /// Whether the same call can succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::TooMany(_) | Self::Closing | Self::Away | Self::ClaimOpen => Retry::AfterMs(1_000),
            Self::RateLimited { retry_after: Some(span), .. } => Retry::AfterMs(span.0),
            _ => Retry::Never,
        }
    }
}

/// `daily ` before a word; nothing for what never begins anew.
fn interval(reset: LimitReset) -> String {
    if reset == LimitReset::Never { String::new() } else { format!("{} ", reset.as_str()) }
}

/// The port itself. Implemented by the exchange and, in tests, by fakes.
pub trait Funds: Send + Sync + 'static {
    /// Looks a key up. Unknown, revoked, disabled and expired ones are told apart.
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError>;
    /// Reserves the first bound. Repeating it with equal content succeeds without effect while the hold is open; once it
    /// is settled or released, nothing is held and the answer is [`FundsError::NoHold`]. Under a [`Claim`] that another
    /// request has, nothing is held either.
    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError>;
    /// Adds to the hold.
    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError>;
    /// The fee that a settlement with [`Billing::Byok`] of that list price would be charged now: what a whole answer
    /// tells before it is settled. None: nobody knows before the settlement.
    fn byok_fee(&self, grant: &KeyGrant, list: NanoUsd, now: UnixMs) -> Option<NanoUsd> {
        let _ = (grant, list, now);
        None
    }
    /// Says what the request would settle as if it ended now; the last word counts. When nobody settles the request
    /// before its hold's time is over, it is settled so. Goes to disk soon, but nothing waits for it: losing one costs
    /// no more than what passed since the one before. A port without a memory of its own lets it go.
    fn metered(&self, so_far: Settlement) -> Result<(), FundsError> {
        let _ = so_far;
        Ok(())
    }
    /// Notes that a node was there. Nothing waits for it, and it moves no money. [`FundsError::Away`]: nobody was told, so
    /// that the next one may begin where this one did. A port without a memory of its own lets it go.
    fn attended(&self, attendance: Attendance, now: UnixMs) -> Result<(), FundsError> {
        let _ = (attendance, now);
        Ok(())
    }
    /// Posts, gives back and logs in one step. Repeating it returns the first outcome.
    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError>;
    /// Completes when the ticket's group is on disk. When a ticket is durable, so is every smaller one that is not
    /// [lost](Funds::lost).
    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>>;
    /// Why a settlement that was answered did not come into the books after all. Only between machines can one be
    /// answered by an exchange that dies, and be refused by the next.
    fn lost(&self, ticket: CommitTicket) -> Option<FundsError> {
        let _ = ticket;
        None
    }
}

/// What can be looked up about the past. Off the hot path.
pub trait Records: Send + Sync + 'static {
    /// The receipt of a request, with its proofs. `Ok(None)`: no such receipt.
    fn receipt(&self, request: RequestId) -> Result<Option<ReceiptDocument>, FundsError>;
    /// The receipt and the note of a request, without proofs. `Ok(None)`: no such receipt.
    fn generation(&self, request: RequestId) -> Result<Option<Generation>, FundsError>;
    /// State of a key.
    fn key_status(&self, key: &KeyHash, now: UnixMs) -> Result<KeyStatus, FundsError>;
    /// What the account used on completed days, by day, then model, then seller. At most
    /// [`ACTIVITY_DAYS`] days of [`ACTIVITY_ROWS_PER_DAY_MAX`] rows and one.
    fn activity(
        &self,
        account: AccountId,
        query: &ActivityQuery,
        now: UnixMs,
    ) -> Result<Vec<ActivityRow>, FundsError>;
    /// The market's public figures of a completed day as JSON, see [`MarketFigures`](crate::api::MarketFigures), of at most
    /// [`FIGURES_BYTES_MAX`] bytes. `Ok(None)`: the day is not complete, or is none of the last [`FIGURES_DAYS`].
    /// [`FundsError::TooMany`]: they are being made.
    fn figures(&self, day: UtcDay, now: UnixMs) -> Result<Option<Arc<str>>, FundsError>;
    /// The text of a policy that a grant names. `Ok(None)`: nobody has it any more, so the grant is of
    /// yesterday; authenticate again.
    fn policy(&self, id: &PolicyId) -> Result<Option<Arc<str>>, FundsError>;
    /// The newest signed checkpoint of the receipts log.
    fn checkpoint(&self) -> Result<crate::receipt::Checkpoint, FundsError>;
    /// Proof that the log of `from` receipts is a prefix of the newest one: the consistency path.
    fn consistency(&self, from: u64) -> Result<Vec<bourse_types::Digest32>, FundsError>;
}
