//! Events: what can happen to a ledger, and what came of it.
//!
//! An event is a request to move money, open an account or let a hold go. Only events that changed the
//! state belong into a journal; a refusal changes nothing and is not remembered, so a refused id may be
//! tried again (a hold refused for want of money succeeds after a top-up).

use crate::account::{Account, Amount};
use crate::hash::Fingerprint;
use bourse_types::{AccountId, Fault, TransferId, UnixMs};

/// One thing that happens to a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Opens an account. Opening the same account again is fine.
    Open(Account),
    /// Moves, holds or settles money.
    Transfer(Transfer),
    /// Lets a hold go without an order of its owner.
    Release {
        /// The hold.
        pending: TransferId,
        /// Why it may go.
        reason: ReleaseReason,
    },
}

/// Why a hold is let go without an order of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// Its time is over; refused before.
    Expired,
    /// Its owner is gone, such as after a restart.
    Orphaned,
}

/// One transfer of a chain. The id of a chain's first transfer is the idempotency key of the whole chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Made by the client before its first try; carries a time, see [`TransferId::time`].
    pub id: TransferId,
    /// True when the next event belongs to the same chain. All of a chain happens, or nothing.
    pub linked: bool,
    /// What it does.
    pub kind: TransferKind,
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// Moves money at once.
    Single {
        /// Account that pays.
        debit: AccountId,
        /// Account that receives.
        credit: AccountId,
        /// How much; may be zero.
        amount: Amount,
    },
    /// Holds money until it is posted, voided or out of time.
    Pending {
        /// Account that will pay.
        debit: AccountId,
        /// Account that will receive.
        credit: AccountId,
        /// How much at most; may be zero.
        amount: Amount,
        /// When it may be released by [`ReleaseReason::Expired`].
        expires_at: UnixMs,
    },
    /// Raises a hold to a new total and lengthens its time. Repeating it changes nothing, hence its id
    /// is not remembered.
    Raise {
        /// The hold.
        pending: TransferId,
        /// The new total, not the difference; a lower one leaves the amount as it is.
        to: Amount,
        /// When it may be released; an earlier time than before leaves the time as it is.
        expires_at: UnixMs,
    },
    /// Settles a hold: moves `amount` and lets the rest go.
    Post {
        /// The hold.
        pending: TransferId,
        /// How much; at most what is held.
        amount: Amount,
    },
    /// Lets a hold go.
    Void {
        /// The hold.
        pending: TransferId,
    },
}

/// How an event took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It changed the state just now.
    Done,
    /// It had taken effect before, with the same content; nothing changed.
    Exists,
}

/// What came of one event.
pub type Outcome = Result<Applied, Refusal>;

/// A chain that was refused: the position of the event that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {at} of the chain: {why}")]
pub struct ChainRefusal {
    /// Index within the chain.
    pub at: usize,
    /// Why.
    pub why: Refusal,
}

/// Why an event changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another event of its chain was refused.
    #[error("another transfer of the chain was refused")]
    Linked,
    /// The last event claims to be linked to a next one.
    #[error("the chain is not closed")]
    ChainOpen,
    /// More events in one chain than the ledger takes.
    #[error("a chain has at most {max} events")]
    ChainTooLong {
        /// The bound.
        max: usize,
    },
    /// Only transfers can be linked.
    #[error("only transfers can be linked")]
    NotLinkable,
    /// The id was used before with other content.
    #[error("the id was used before for something else")]
    IdReused,
    /// The id is older than what the ledger remembers, so it cannot tell whether it was used.
    #[error("the id is older than the ledger remembers")]
    IdTooOld,
    /// The id carries a time too far ahead.
    #[error("the id carries a time in the future")]
    IdAhead,
    /// No such account.
    #[error("account {0:?} does not exist")]
    AccountUnknown(AccountId),
    /// The account exists with another kind or limit.
    #[error("account {0:?} exists with other properties")]
    AccountDiffers(AccountId),
    /// The two sides count different things.
    #[error("accounts {debit:?} and {credit:?} count different units")]
    UnitsDiffer {
        /// The account that would pay.
        debit: AccountId,
        /// The account that would receive.
        credit: AccountId,
    },
    /// Both sides are the same account.
    #[error("a transfer needs two accounts")]
    SameAccount,
    /// The account cannot cover the amount.
    #[error("account {account:?} has {available} available, {} are needed", .needed.0)]
    ExceedsBalance {
        /// The account whose limit would break.
        account: AccountId,
        /// What it has.
        available: u128,
        /// What the transfer needs.
        needed: Amount,
    },
    /// No such hold, or it is settled, voided or released.
    #[error("the hold does not exist or is settled")]
    PendingUnknown,
    /// A hold of this id is open.
    #[error("a hold of this id is open")]
    PendingOpen,
    /// More than what is held.
    #[error("{asked:?} asked of a hold of {held:?}")]
    ExceedsPending {
        /// What is held.
        held: Amount,
        /// What was asked.
        asked: Amount,
    },
    /// The hold still has time.
    #[error("the hold has not expired")]
    NotExpired,
    /// A sum would not fit; out of reach of real money.
    #[error("a balance overflows")]
    Overflow,
    /// The ledger has as many accounts as it takes.
    #[error("the ledger has its maximum of {max} accounts")]
    AccountsFull {
        /// The bound.
        max: usize,
    },
    /// The ledger has as many open holds as it takes.
    #[error("the ledger has its maximum of {max} open holds")]
    PendingsFull {
        /// The bound.
        max: usize,
    },
}

impl Refusal {
    /// At whose door the refusal lies: only a lack of money is the buyer's.
    pub fn fault(self) -> Fault {
        match self {
            Self::ExceedsBalance { .. } => Fault::Buyer,
            _ => Fault::Bourse,
        }
    }
}

impl Event {
    /// True when the next event belongs to the same chain.
    pub fn is_linked(&self) -> bool {
        matches!(self, Self::Transfer(t) if t.linked)
    }

    fn mix(&self, print: &mut Fingerprint) {
        match self {
            Self::Open(a) => {
                print.word(
                    1 | u64::from(a.kind.code()) << 8
                        | u64::from(a.limit.code()) << 16
                        | u64::from(a.unit.code()) << 24,
                );
                print.word(a.id.0);
            }
            Self::Release { pending, reason } => {
                print.word(2 | (*reason as u64) << 8);
                print.wide(pending.0);
            }
            Self::Transfer(t) => t.mix(print),
        }
    }
}

impl Transfer {
    fn mix(&self, print: &mut Fingerprint) {
        print.wide(self.id.0);
        match self.kind {
            TransferKind::Single { debit, credit, amount } => {
                print.words([3, debit.0, credit.0, amount.0]);
            }
            TransferKind::Pending { debit, credit, amount, expires_at } => {
                print.words([4, debit.0, credit.0, amount.0, expires_at.0]);
            }
            TransferKind::Raise { pending, to, expires_at } => {
                print.wide(pending.0);
                print.words([5, to.0, expires_at.0]);
            }
            TransferKind::Post { pending, amount } => {
                print.wide(pending.0);
                print.words([6, amount.0]);
            }
            TransferKind::Void { pending } => {
                print.wide(pending.0);
                print.word(7);
            }
        }
    }
}

/// Tells two chains with the same id apart.
pub(crate) fn fingerprint(chain: &[Event]) -> u64 {
    let mut print = Fingerprint::new();
    print.word(chain.len() as u64);
    for event in chain {
        event.mix(&mut print);
    }
    print.finish()
}
