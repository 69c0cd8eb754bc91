//! Journal records: what a commit group is made of.
//!
//! A group is a sequence of records, each a tag (u8), a length (u32) and that many bytes, so that a
//! reader can skip what it does not need. The records hold everything that replay needs; nothing else
//! is the truth about the past. A group that adds receipts ends with the checkpoint that covers them.

use bourse_ledger::{Batch, CodecError, Event, Limits, Reader, decode_batch, encode_batch};
use bourse_types::{AccountId, Digest32, KeyHash, NanoUsd, UnixMs};
use bourse_wire::receipt::Checkpoint;

use crate::keys::{KeyRow, LABEL_BYTES_MAX};
use crate::names::ACCOUNT_NAME_BYTES_MAX;

const TAG_GENESIS: u8 = 1;
const TAG_EVENTS: u8 = 2;
const TAG_NAME: u8 = 3;
const TAG_KEY: u8 = 4;
const TAG_RECEIPT: u8 = 5;
const TAG_CHECKPOINT: u8 = 6;

/// Bytes of a record's tag and length.
const HEADER_BYTES: usize = 5;

/// One record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The first record of a journal: whose it is and which bounds its replay needs.
    Genesis { exchange: Digest32, limits: Limits },
    /// Ledger events that were applied.
    Events(Batch),
    /// What an account is called.
    Name { account: AccountId, name: String },
    /// A key as it is from now on.
    Key(KeyRow),
    /// The canonical bytes of a receipt, and where they start in the group.
    Receipt { offset: usize, bytes: &'a [u8] },
    /// The signed head of the receipts log after everything before.
    Checkpoint(Checkpoint),
}

/// Iterates over the records of a group.
pub(crate) struct Records<'a> {
    group: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(group: &'a [u8]) -> Self {
        Self { group, at: 0 }
    }

    /// The next record that is no ledger event; the cheap way through a group for those who only want
    /// receipts.
    pub(crate) fn next_but_events(&mut self) -> Option<Result<Record<'a>, CodecError>> {
        while self.group.get(self.at) == Some(&TAG_EVENTS) {
            if let Err(error) = self.frame() {
                return Some(Err(error));
            }
        }
        self.next()
    }

    fn frame(&mut self) -> Result<(u8, usize, &'a [u8]), CodecError> {
        let mut reader = Reader::new(&self.group[self.at..]);
        let tag = reader.u8()?;
        let len = reader.u32()? as usize;
        let bytes = reader.take(len)?;
        let offset = self.at + HEADER_BYTES;
        self.at = offset + len;
        Ok((tag, offset, bytes))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.group.len() {
            return None;
        }
        let record = self.frame().and_then(|(tag, offset, bytes)| decode(tag, offset, bytes));
        if record.is_err() {
            self.at = self.group.len();
        }
        Some(record)
    }
}

fn decode(tag: u8, offset: usize, bytes: &[u8]) -> Result<Record<'_>, CodecError> {
    let mut r = Reader::new(bytes);
    let record = match tag {
        TAG_GENESIS => Record::Genesis {
            exchange: Digest32(r.array()?),
            limits: Limits {
                accounts_max: r.u64()? as usize,
                pendings_max: r.u64()? as usize,
                known_ids_max: r.u64()? as usize,
            },
        },
        TAG_EVENTS => Record::Events(decode_batch(&mut r)?),
        TAG_NAME => {
            Record::Name { account: AccountId(r.u64()?), name: read_text(&mut r, ACCOUNT_NAME_BYTES_MAX)? }
        }
        TAG_KEY => Record::Key(read_key(&mut r)?),
        TAG_RECEIPT => Record::Receipt { offset, bytes: r.take(bytes.len())? },
        TAG_CHECKPOINT => Record::Checkpoint(Checkpoint {
            size: r.u64()?,
            root: Digest32(r.array()?),
            time: UnixMs(r.u64()?),
            exchange: Digest32(r.array()?),
            signature: r.array()?,
        }),
        code => return Err(CodecError::Code { what: "record", code }),
    };
    match r.remaining() {
        0 => Ok(record),
        _ => Err(CodecError::Inconsistent("bytes follow the last field of a record")),
    }
}

pub(crate) fn put_genesis(out: &mut Vec<u8>, exchange: &Digest32, limits: &Limits) {
    framed(out, TAG_GENESIS, |out| {
        out.extend_from_slice(&exchange.0);
        for word in [limits.accounts_max, limits.pendings_max, limits.known_ids_max] {
            out.extend_from_slice(&(word as u64).to_le_bytes());
        }
    });
}

pub(crate) fn put_events(out: &mut Vec<u8>, at: UnixMs, events: &[Event]) {
    framed(out, TAG_EVENTS, |out| {
        encode_batch(at, events, out).expect("a chain is far shorter than a batch may be");
    });
}

pub(crate) fn put_name(out: &mut Vec<u8>, account: AccountId, name: &str) {
    framed(out, TAG_NAME, |out| {
        out.extend_from_slice(&account.0.to_le_bytes());
        put_text(out, name);
    });
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: &KeyRow) {
    framed(out, TAG_KEY, |out| write_key(out, key));
}

/// Returns where the receipt starts in the group.
pub(crate) fn put_receipt(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let offset = out.len() + HEADER_BYTES;
    framed(out, TAG_RECEIPT, |out| out.extend_from_slice(bytes));
    offset
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    framed(out, TAG_CHECKPOINT, |out| {
        out.extend_from_slice(&checkpoint.size.to_le_bytes());
        out.extend_from_slice(&checkpoint.root.0);
        out.extend_from_slice(&checkpoint.time.0.to_le_bytes());
        out.extend_from_slice(&checkpoint.exchange.0);
        out.extend_from_slice(&checkpoint.signature);
    });
}

pub(crate) fn write_key(out: &mut Vec<u8>, key: &KeyRow) {
    out.extend_from_slice(&key.hash.0);
    out.extend_from_slice(&key.account.0.to_le_bytes());
    for option in [key.allowance.map(|a| a.0), key.limit.map(|l| l.0), key.revoked.map(|t| t.0)] {
        out.push(u8::from(option.is_some()));
        out.extend_from_slice(&option.unwrap_or_default().to_le_bytes());
    }
    out.extend_from_slice(&key.created.0.to_le_bytes());
    put_text(out, &key.label);
}

pub(crate) fn read_key(r: &mut Reader<'_>) -> Result<KeyRow, CodecError> {
    let hash = KeyHash(r.array()?);
    let account = AccountId(r.u64()?);
    let mut options = [None; 3];
    for option in &mut options {
        let present = r.u8()? != 0;
        let value = r.u64()?;
        *option = present.then_some(value);
    }
    let [allowance, limit, revoked] = options;
    let created = UnixMs(r.u64()?);
    let label = read_text(r, LABEL_BYTES_MAX)?;
    Ok(KeyRow {
        hash,
        account,
        allowance: allowance.map(AccountId),
        limit: limit.map(NanoUsd),
        revoked: revoked.map(UnixMs),
        created,
        label,
    })
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn read_text(r: &mut Reader<'_>, bytes_max: usize) -> Result<String, CodecError> {
    let len = usize::from(r.u16()?);
    if len > bytes_max {
        return Err(CodecError::Inconsistent("a text is longer than its bound"));
    }
    let text = std::str::from_utf8(r.take(len)?);
    text.map(str::to_owned).map_err(|_| CodecError::Inconsistent("a text is not UTF-8"))
}

fn framed(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    let start = out.len();
    write(out);
    let len = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&len.to_le_bytes());
}
