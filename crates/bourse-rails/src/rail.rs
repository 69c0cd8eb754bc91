//! What a rail is: a payout, what is known of it, and the five things that can be asked.
//!
//! The id is the whole of exactly-once. It is made before the first try and stands in the exchange's journal; a rail pays
//! an id once, however often it is sent, and tells of it for as long as it may be asked. An error of a rail says only that
//! nothing is known: that a payout was refused and will never be paid is a [`Standing`], because on that word the exchange
//! gives the money back.

use bourse_types::{NanoUsd, PayoutId};
use std::fmt;

/// Longest address of a payee, in bytes.
pub const PAYEE_BYTES_MAX: usize = 256;
/// Longest reference or reason, in bytes.
pub const NOTE_BYTES_MAX: usize = 256;
/// Longest memo, in bytes.
pub const MEMO_BYTES_MAX: usize = 140;
/// Longest name of a rail, in bytes: the exchange's journal takes no longer one.
pub const RAIL_NAME_BYTES_MAX: usize = 32;

/// A text that is no address, reference or memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs 1 to {bytes_max} bytes and no control characters")]
pub struct TextError {
    /// What it was to be.
    pub what: &'static str,
    /// Its bound.
    pub bytes_max: usize,
}

fn text(what: &'static str, text: &str, bytes_max: usize) -> Result<String, TextError> {
    let is_text = !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if is_text { Ok(text.to_owned()) } else { Err(TextError { what, bytes_max }) }
}

/// Where a payee takes money: an account number, an address on a chain, whatever the rail can pay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Payee(String);

impl Payee {
    /// Reads 1 to [`PAYEE_BYTES_MAX`] bytes without control characters.
    pub fn parse(address: &str) -> Result<Self, TextError> {
        text("a payee's address", address, PAYEE_BYTES_MAX).map(Self)
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A rail's reference for a payment, or its reason for none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note(String);

impl Note {
    /// Reads 1 to [`NOTE_BYTES_MAX`] bytes without control characters.
    pub fn parse(note: &str) -> Result<Self, TextError> {
        text("a reference or reason", note, NOTE_BYTES_MAX).map(Self)
    }

    /// What others wrote, made to fit: control characters become spaces, what is too long is cut.
    pub fn of_others(note: &str) -> Self {
        let mut kept = String::new();
        for c in note.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if kept.len() + c.len_utf8() > NOTE_BYTES_MAX {
                break;
            }
            kept.push(c);
        }
        if kept.is_empty() { Self("nothing was said".to_owned()) } else { Self(kept) }
    }

    /// The note as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One payout. Its content never changes under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Stable: the same however often it is sent.
    pub id: PayoutId,
    /// To whom.
    pub payee: Payee,
    /// How much; a multiple of the rail's unit.
    pub amount: NanoUsd,
    /// What the payee reads beside it, at most [`MEMO_BYTES_MAX`] bytes.
    pub memo: String,
}

/// What a rail knows of a payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It never heard of it: it may be sent.
    Unknown,
    /// It was taken and is on its way.
    Pending,
    /// The payee has it.
    Paid {
        /// By which others find the payment.
        reference: Note,
    },
    /// It was not paid and never will be under this id.
    Failed {
        /// Why.
        reason: Note,
    },
}

/// What a person says of a payout that a rail leaves to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was paid.
    Paid {
        /// By which others find the payment.
        reference: Note,
    },
    /// It was not paid and nobody will.
    Failed {
        /// Why.
        reason: Note,
    },
}

impl From<Verdict> for Standing {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Paid { reference } => Self::Paid { reference },
            Verdict::Failed { reason } => Self::Failed { reason },
        }
    }
}

/// What a rail can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Its name in configuration and books, 1 to [`RAIL_NAME_BYTES_MAX`] bytes.
    pub name: &'static str,
    /// The smallest step of an amount, at least 1; the exchange pays multiples and keeps the rest for the next time.
    pub unit: NanoUsd,
    /// Whether a person pays and says so by [`PaymentRail::decide`].
    pub is_by_hand: bool,
}

/// Why a rail did not answer. Never a reason to think that a payout was not paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RailError {
    /// It could not be asked, or its answer was lost. A note, for it may be another's text; see [`RailError::unreachable`].
    #[error("the payment rail did not answer: {0}")]
    Unreachable(Note),
    /// The same id was sent with other content, or decided the other way: a person must look.
    #[error("payout {0} is known to the payment rail with another content or end")]
    Conflict(PayoutId),
    /// It takes nothing more until something ends.
    #[error("the payment rail keeps {0} payouts and takes no further one")]
    Full(usize),
    /// The rail decides itself.
    #[error("the rail `{0}` says itself what became of a payout")]
    NotByHand(&'static str),
    /// It never heard of the payout.
    #[error("payout {0} was not given to the payment rail")]
    NeverSent(PayoutId),
}

impl RailError {
    /// That it could not be asked, with what others say of it made to fit.
    pub fn unreachable(why: impl fmt::Display) -> Self {
        Self::Unreachable(Note::of_others(&why.to_string()))
    }
}

/// A way of paying. Calls block and end within seconds; none is made before the exchange's journal says that it will be.
pub trait PaymentRail: Send + Sync {
    /// What it can do; always the same.
    fn capabilities(&self) -> Capabilities;

    /// Whether it could pay to this address, without asking anybody far away. The text says why not.
    fn check(&self, payee: &Payee) -> Result<(), Note>;

    /// Pays, once for each id: repeating it pays nothing and tells what became of the first.
    fn send(&self, payout: &Payout) -> Result<Standing, RailError>;

    /// What became of a payout.
    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError>;

    /// Takes what a person says. Repeating it changes nothing; contradicting it is a conflict.
    fn decide(&self, id: PayoutId, _verdict: &Verdict) -> Result<Standing, RailError> {
        let Capabilities { name, .. } = self.capabilities();
        debug_assert!(!self.capabilities().is_by_hand, "{id}: who leaves it to people takes their word");
        Err(RailError::NotByHand(name))
    }
}
