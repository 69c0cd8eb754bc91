//! The bytes of events: fixed little-endian layouts, versioned per batch.
//!
//! A batch is a format version (u8), the ledger's time (u64 ms), a count (u16) and that many events. An
//! event is a tag byte (bit 7: linked) and its fields in the order of their declaration; ids of transfers
//! are u128, accounts, amounts and times u64. Reading never panics and never allocates more than the
//! input is long.

use crate::account::{Account, AccountKind, Amount, BalanceLimit, Unit};
use crate::event::{Event, ReleaseReason, Transfer, TransferKind};
use bourse_types::{AccountId, TransferId, UnixMs};

/// Version of the layouts in this module.
pub const FORMAT_VERSION: u8 = 1;

const LINKED: u8 = 0x80;
const TAG_OPEN: u8 = 1;
const TAG_SINGLE: u8 = 2;
const TAG_PENDING: u8 = 3;
const TAG_RAISE: u8 = 4;
const TAG_POST: u8 = 5;
const TAG_VOID: u8 = 6;
const TAG_RELEASE: u8 = 7;
/// An account of another unit than nano-USD.
const TAG_OPEN_IN: u8 = 8;

/// Why bytes are not what this ledger wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end in the middle of a value.
    #[error("the bytes end too early")]
    Truncated,
    /// A version that this program does not know.
    #[error("format version {0} is not known to this program")]
    Version(u8),
    /// A code outside its table.
    #[error("{what} has no code {code}")]
    Code {
        /// The table.
        what: &'static str,
        /// The code.
        code: u8,
    },
    /// More events than a batch can count.
    #[error("a batch holds at most 65,535 events")]
    TooMany,
    /// A value that contradicts another one.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// Events that were applied at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The ledger's time.
    pub at: UnixMs,
    /// The events, chains unbroken.
    pub events: Vec<Event>,
}

/// Appends a batch to `out`.
pub fn encode_batch(at: UnixMs, events: &[Event], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let count = u16::try_from(events.len()).map_err(|_| CodecError::TooMany)?;
    out.push(FORMAT_VERSION);
    put(out, &at.0.to_le_bytes());
    put(out, &count.to_le_bytes());
    for event in events {
        encode_event(event, out);
    }
    Ok(())
}

/// Reads one batch and advances the reader past it.
pub fn decode_batch(reader: &mut Reader<'_>) -> Result<Batch, CodecError> {
    match reader.u8()? {
        FORMAT_VERSION => {}
        other => return Err(CodecError::Version(other)),
    }
    let at = UnixMs(reader.u64()?);
    let count = usize::from(reader.u16()?);
    let mut events = Vec::with_capacity(count.min(reader.remaining()));
    for _ in 0..count {
        events.push(decode_event(reader)?);
    }
    Ok(Batch { at, events })
}

/// The ledger's time of a batch, without its events.
pub fn batch_time(bytes: &[u8]) -> Result<UnixMs, CodecError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORMAT_VERSION => reader.u64().map(UnixMs),
        other => Err(CodecError::Version(other)),
    }
}

fn encode_event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Open(account) => {
            let is_money = account.unit == Unit::NANO_USD;
            out.push(if is_money { TAG_OPEN } else { TAG_OPEN_IN });
            put(out, &account.id.0.to_le_bytes());
            out.extend([account.kind.code(), account.limit.code()]);
            if !is_money {
                put(out, &account.unit.code().to_le_bytes());
            }
        }
        Event::Transfer(transfer) => encode_transfer(transfer, out),
        Event::Release { pending, reason } => {
            out.push(TAG_RELEASE);
            put(out, &pending.0.to_le_bytes());
            out.push(*reason as u8);
        }
    }
}

fn encode_transfer(transfer: &Transfer, out: &mut Vec<u8>) {
    let linked = if transfer.linked { LINKED } else { 0 };
    let start = |tag: u8, out: &mut Vec<u8>| {
        out.push(tag | linked);
        put(out, &transfer.id.0.to_le_bytes());
    };
    match transfer.kind {
        TransferKind::Single { debit, credit, amount } => {
            start(TAG_SINGLE, out);
            put_words(out, [debit.0, credit.0, amount.0]);
        }
        TransferKind::Pending { debit, credit, amount, expires_at } => {
            start(TAG_PENDING, out);
            put_words(out, [debit.0, credit.0, amount.0, expires_at.0]);
        }
        TransferKind::Raise { pending, to, expires_at } => {
            start(TAG_RAISE, out);
            put(out, &pending.0.to_le_bytes());
            put_words(out, [to.0, expires_at.0]);
        }
        TransferKind::Post { pending, amount } => {
            start(TAG_POST, out);
            put(out, &pending.0.to_le_bytes());
            put(out, &amount.0.to_le_bytes());
        }
        TransferKind::Void { pending } => {
            start(TAG_VOID, out);
            put(out, &pending.0.to_le_bytes());
        }
    }
}

fn decode_event(reader: &mut Reader<'_>) -> Result<Event, CodecError> {
    let byte = reader.u8()?;
    let (tag, linked) = (byte & !LINKED, byte & LINKED != 0);
    match tag {
        TAG_OPEN if !linked => Ok(Event::Open(decode_account(reader)?)),
        TAG_OPEN_IN if !linked => {
            let account = decode_account(reader)?;
            Ok(Event::Open(Account { unit: decode_unit(reader)?, ..account }))
        }
        TAG_RELEASE if !linked => {
            let pending = TransferId(reader.u128()?);
            let reason = match reader.u8()? {
                0 => ReleaseReason::Expired,
                1 => ReleaseReason::Orphaned,
                code => return Err(CodecError::Code { what: "release reason", code }),
            };
            Ok(Event::Release { pending, reason })
        }
        TAG_SINGLE..=TAG_VOID => {
            let id = TransferId(reader.u128()?);
            Ok(Event::Transfer(Transfer { id, linked, kind: decode_kind(tag, reader)? }))
        }
        _ => Err(CodecError::Code { what: "event", code: byte }),
    }
}

fn decode_kind(tag: u8, reader: &mut Reader<'_>) -> Result<TransferKind, CodecError> {
    Ok(match tag {
        TAG_SINGLE => TransferKind::Single {
            debit: AccountId(reader.u64()?),
            credit: AccountId(reader.u64()?),
            amount: Amount(reader.u64()?),
        },
        TAG_PENDING => TransferKind::Pending {
            debit: AccountId(reader.u64()?),
            credit: AccountId(reader.u64()?),
            amount: Amount(reader.u64()?),
            expires_at: UnixMs(reader.u64()?),
        },
        TAG_RAISE => TransferKind::Raise {
            pending: TransferId(reader.u128()?),
            to: Amount(reader.u64()?),
            expires_at: UnixMs(reader.u64()?),
        },
        TAG_POST => TransferKind::Post { pending: TransferId(reader.u128()?), amount: Amount(reader.u64()?) },
        TAG_VOID => TransferKind::Void { pending: TransferId(reader.u128()?) },
        code => return Err(CodecError::Code { what: "transfer", code }),
    })
}

/// An account without its unit.
pub(crate) fn decode_account(reader: &mut Reader<'_>) -> Result<Account, CodecError> {
    let id = AccountId(reader.u64()?);
    let code = reader.u8()?;
    let kind = AccountKind::from_code(code).ok_or(CodecError::Code { what: "account kind", code })?;
    let code = reader.u8()?;
    let limit = BalanceLimit::from_code(code).ok_or(CodecError::Code { what: "balance limit", code })?;
    Ok(Account { id, kind, limit, unit: Unit::NANO_USD })
}

pub(crate) fn decode_unit(reader: &mut Reader<'_>) -> Result<Unit, CodecError> {
    Unit::from_code(reader.u16()?).ok_or(CodecError::Inconsistent("an account counts an unknown unit"))
}

fn put_words<const N: usize>(out: &mut Vec<u8>, words: [u64; N]) {
    for word in words {
        put(out, &word.to_le_bytes());
    }
}

pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Takes fixed little-endian values from the front of a slice; never panics.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(CodecError::Truncated)?;
        self.bytes = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(CodecError::Truncated)?;
        self.bytes = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, CodecError> {
        self.array().map(u128::from_le_bytes)
    }
}
