//! Journal records: what a commit group is made of.
//!
//! A group is a sequence of records, each a tag (u8), a length (u32) and that many bytes, so that a
//! reader can skip what it does not need. The records hold everything that replay needs; nothing else
//! is the truth about the past. A group that adds receipts ends with the checkpoint that covers them; an epoch
//! ends its group but for that; the note of a receipt follows it at once, or there is none.

use bourse_ledger::{Batch, CodecError, Event, Limits, Reader, batch_time, decode_batch, encode_batch};
use bourse_types::{
    AccountId, Digest32, DurationMs, KeyHash, NAME_BYTES_MAX, NanoUsd, NodeId, RequestId, SellerName, UnixMs,
};
use bourse_wire::funds::{Attendance, Claim, KeyRole, POLICY_BYTES_MAX, PolicyId, PolicyText, WorkspaceId};
use bourse_wire::liability::{Epoch, SignedEpoch};
use bourse_wire::receipt::Checkpoint;

use crate::keys::{KeyRow, LABEL_BYTES_MAX};
use crate::limits::{Budget, ScopeRow, read_reset};
use crate::names::ACCOUNT_NAME_BYTES_MAX;
use crate::payouts::{PayeeRecord, PayoutRecord};
use crate::suspense::SuspenseRecord;

const TAG_GENESIS: u8 = 1;
const TAG_EVENTS: u8 = 2;
const TAG_NAME: u8 = 3;
const TAG_KEY: u8 = 4;
const TAG_RECEIPT: u8 = 5;
const TAG_CHECKPOINT: u8 = 6;
const TAG_NOTE: u8 = 7;
const TAG_POLICY: u8 = 8;
const TAG_ACCOUNT_POLICY: u8 = 9;
const TAG_EPOCH: u8 = 10;
const TAG_SCOPE: u8 = 11;
const TAG_CLAIM: u8 = 12;
const TAG_SUSPENSE: u8 = 13;
const TAG_PAYEE: u8 = 14;
const TAG_PAYOUT: u8 = 15;
const TAG_METERED: u8 = 16;
const TAG_ATTENDED: u8 = 17;

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
    /// What a request in flight settles as when nobody comes back for it: the canonical bytes of a receipt and its
    /// note.
    Metered { receipt: &'a [u8], note: &'a [u8] },
    /// A node was there.
    Attended(Attendance),
    /// The signed head of the receipts log after everything before.
    Checkpoint(Checkpoint),
    /// What is owed after everything before, signed.
    Epoch(EpochRecord),
    /// A share of a seller waits, or waits no more.
    Suspense(SuspenseRecord),
    /// Where a seller takes money from now on.
    Payee(PayeeRecord),
    /// A payout is planned, or became something.
    Payout(PayoutRecord),
    /// A workspace, or the limits of a key, a workspace or an organisation, from now on.
    Scope(ScopeRow),
    /// A policy that somebody is about to have.
    Policy(PolicyText),
    /// The policy of an account from now on.
    AccountPolicy { account: AccountId, policy: Option<PolicyId> },
    /// A claim that the request just held for was made under; none: what was just done needs no settlement.
    Claim { claim: Claim, request: Option<RequestId>, at: UnixMs },
}

/// An epoch with what its proofs are made from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochRecord {
    pub(crate) signed: SignedEpoch,
    /// The salts follow from it: who has it can try out whose a leaf is.
    pub(crate) seed: [u8; 32],
}

impl std::fmt::Debug for EpochRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochRecord").field("signed", &self.signed).finish_non_exhaustive()
    }
}

/// Iterates over the records of a group.
pub(crate) struct Records<'a> {
    group: &'a [u8],
    at: usize,
    time: UnixMs,
    /// The record before was a receipt, whose note may follow.
    is_after_receipt: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(group: &'a [u8]) -> Self {
        Self { group, at: 0, time: UnixMs(0), is_after_receipt: false }
    }

    /// The next record that is no ledger event; the cheap way through a group for those who only want
    /// receipts.
    pub(crate) fn next_but_events(&mut self) -> Option<Result<Record<'a>, CodecError>> {
        if let Err(error) = self.skip_note() {
            return Some(Err(error));
        }
        while self.group.get(self.at) == Some(&TAG_EVENTS) {
            let time = self.frame().and_then(|(_, _, bytes)| batch_time(bytes));
            match time {
                Ok(time) => self.time = time,
                Err(error) => return Some(Err(error)),
            }
        }
        self.next()
    }

    /// The ledger's time at the last events that [`Records::next_but_events`] passed over.
    pub(crate) fn time(&self) -> UnixMs {
        self.time
    }

    /// The note of the receipt that was just read; empty when there is none.
    pub(crate) fn take_note(&mut self) -> Result<&'a [u8], CodecError> {
        self.is_after_receipt = false;
        if self.group.get(self.at) != Some(&TAG_NOTE) {
            return Ok(&[]);
        }
        self.frame().map(|(_, _, bytes)| bytes)
    }

    /// A note that nobody took belongs to the receipt before it.
    fn skip_note(&mut self) -> Result<(), CodecError> {
        if !self.is_after_receipt {
            return Ok(());
        }
        let taken = self.take_note();
        if taken.is_err() {
            self.at = self.group.len();
        }
        taken.map(|_| ())
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
        if let Err(error) = self.skip_note() {
            return Some(Err(error));
        }
        if self.at >= self.group.len() {
            return None;
        }
        let record = self.frame().and_then(|(tag, offset, bytes)| decode(tag, offset, bytes));
        self.is_after_receipt = matches!(record, Ok(Record::Receipt { .. }));
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
        TAG_KEY => {
            let mut row = read_key(&mut r)?;
            if r.remaining() > 0 {
                row.workspace = read_workspace(&mut r)?;
            }
            Record::Key(row)
        }
        TAG_SCOPE => Record::Scope(ScopeRow::read(&mut r)?),
        TAG_RECEIPT => Record::Receipt { offset, bytes: r.take(bytes.len())? },
        TAG_POLICY => {
            let text = PolicyText::parse(&read_text(&mut r, POLICY_BYTES_MAX)?);
            Record::Policy(text.map_err(|_| CodecError::Inconsistent("a policy is no JSON object"))?)
        }
        TAG_ACCOUNT_POLICY => {
            let account = AccountId(r.u64()?);
            let policy = read_option(&mut r, Reader::array)?.map(|id| PolicyId(Digest32(id)));
            Record::AccountPolicy { account, policy }
        }
        TAG_EPOCH => Record::Epoch(read_epoch(&mut r)?),
        TAG_PAYEE => Record::Payee(PayeeRecord::read(&mut r)?),
        TAG_PAYOUT => Record::Payout(PayoutRecord::read(&mut r)?),
        TAG_SUSPENSE => Record::Suspense(SuspenseRecord::read(&mut r)?),
        TAG_CLAIM => Record::Claim {
            claim: Claim {
                name: Digest32(r.array()?),
                fingerprint: Digest32(r.array()?),
                first: RequestId(r.u128()?),
                kept_for: DurationMs(r.u64()?),
            },
            request: read_option(&mut r, Reader::u128)?.map(RequestId),
            at: UnixMs(r.u64()?),
        },
        TAG_METERED => {
            let receipt_bytes = r.u32()? as usize;
            let receipt = r.take(receipt_bytes)?;
            Record::Metered { receipt, note: r.take(r.remaining())? }
        }
        TAG_ATTENDED => Record::Attended(read_attendance(&mut r)?),
        TAG_NOTE => return Err(CodecError::Inconsistent("a note without its receipt")),
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

/// Its workspace follows where there is one: keys were once written without.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &KeyRow) {
    framed(out, TAG_KEY, |out| {
        write_key(out, key);
        if key.workspace.is_some() {
            write_workspace(out, key);
        }
    });
}

pub(crate) fn put_scope(out: &mut Vec<u8>, row: &ScopeRow) {
    framed(out, TAG_SCOPE, |out| row.write(out));
}

pub(crate) fn write_workspace(out: &mut Vec<u8>, key: &KeyRow) {
    put_option(out, key.workspace.map(|id| id.0.to_le_bytes()));
}

pub(crate) fn read_workspace(r: &mut Reader<'_>) -> Result<Option<WorkspaceId>, CodecError> {
    Ok(read_option(r, Reader::u128)?.map(WorkspaceId))
}

/// Returns where the receipt starts in the group.
pub(crate) fn put_receipt(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let offset = out.len() + HEADER_BYTES;
    framed(out, TAG_RECEIPT, |out| out.extend_from_slice(bytes));
    offset
}

/// Follows its receipt at once; a note that says nothing is no record.
pub(crate) fn put_note(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        framed(out, TAG_NOTE, |out| out.extend_from_slice(bytes));
    }
}

pub(crate) fn put_metered(out: &mut Vec<u8>, receipt: &[u8], note: &[u8]) {
    framed(out, TAG_METERED, |out| {
        out.extend_from_slice(&(receipt.len() as u32).to_le_bytes());
        out.extend_from_slice(receipt);
        out.extend_from_slice(note);
    });
}

pub(crate) fn put_attendance(out: &mut Vec<u8>, attendance: &Attendance) {
    framed(out, TAG_ATTENDED, |out| {
        out.extend_from_slice(&attendance.node.0);
        put_text(out, attendance.seller.as_str());
        out.extend_from_slice(&attendance.from.0.to_le_bytes());
        out.extend_from_slice(&attendance.until.0.to_le_bytes());
        put_option(out, attendance.gpus.map(u32::to_le_bytes));
    });
}

fn read_attendance(r: &mut Reader<'_>) -> Result<Attendance, CodecError> {
    let node = NodeId(r.array()?);
    let seller = SellerName::parse(&read_text(r, NAME_BYTES_MAX)?);
    let seller = seller.map_err(|_| CodecError::Inconsistent("an attendance has no seller"))?;
    let (from, until) = (UnixMs(r.u64()?), UnixMs(r.u64()?));
    Ok(Attendance { node, seller, from, until, gpus: read_option(r, Reader::u32)? })
}

pub(crate) fn put_policy(out: &mut Vec<u8>, text: &str) {
    framed(out, TAG_POLICY, |out| put_text(out, text));
}

pub(crate) fn put_account_policy(out: &mut Vec<u8>, account: AccountId, policy: Option<PolicyId>) {
    framed(out, TAG_ACCOUNT_POLICY, |out| {
        out.extend_from_slice(&account.0.to_le_bytes());
        put_option(out, policy.map(|id| id.0.0));
    });
}

pub(crate) fn put_claim(out: &mut Vec<u8>, claim: &Claim, request: Option<RequestId>, at: UnixMs) {
    framed(out, TAG_CLAIM, |out| {
        out.extend_from_slice(&claim.name.0);
        out.extend_from_slice(&claim.fingerprint.0);
        out.extend_from_slice(&claim.first.0.to_le_bytes());
        out.extend_from_slice(&claim.kept_for.0.to_le_bytes());
        put_option(out, request.map(|request| request.0.to_le_bytes()));
        out.extend_from_slice(&at.0.to_le_bytes());
    });
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

pub(crate) fn put_epoch(out: &mut Vec<u8>, record: &EpochRecord) {
    let SignedEpoch { epoch, exchange, signature } = &record.signed;
    framed(out, TAG_EPOCH, |out| {
        out.extend_from_slice(&epoch.number.to_le_bytes());
        out.extend_from_slice(&epoch.closed_at.0.to_le_bytes());
        out.extend_from_slice(&epoch.root.0);
        out.extend_from_slice(&epoch.total_nano_usd.to_le_bytes());
        out.extend_from_slice(&epoch.count.to_le_bytes());
        out.extend_from_slice(&epoch.previous.0);
        out.extend_from_slice(&exchange.0);
        out.extend_from_slice(signature);
        out.extend_from_slice(&record.seed);
    });
}

pub(crate) fn put_payee(out: &mut Vec<u8>, record: &PayeeRecord) {
    framed(out, TAG_PAYEE, |out| record.write(out));
}

pub(crate) fn put_payout(out: &mut Vec<u8>, record: &PayoutRecord) {
    framed(out, TAG_PAYOUT, |out| record.write(out));
}

pub(crate) fn put_suspense(out: &mut Vec<u8>, record: &SuspenseRecord) {
    framed(out, TAG_SUSPENSE, |out| record.write(out));
}

fn read_epoch(r: &mut Reader<'_>) -> Result<EpochRecord, CodecError> {
    let epoch = Epoch {
        number: r.u64()?,
        closed_at: UnixMs(r.u64()?),
        root: Digest32(r.array()?),
        total_nano_usd: r.u128()?,
        count: r.u64()?,
        previous: Digest32(r.array()?),
    };
    let signed = SignedEpoch { epoch, exchange: Digest32(r.array()?), signature: r.array()? };
    Ok(EpochRecord { signed, seed: r.array()? })
}

pub(crate) fn write_key(out: &mut Vec<u8>, key: &KeyRow) {
    out.extend_from_slice(&key.hash.0);
    out.extend_from_slice(&key.account.0.to_le_bytes());
    out.extend([
        u8::from(key.role == KeyRole::Management),
        u8::from(key.is_disabled),
        key.budget.reset as u8,
        u8::from(key.budget.includes_byok),
    ]);
    let budget = &key.budget;
    let words = [budget.allowance.map(|a| a.0), budget.limit.map(|l| l.0), key.expires.map(|t| t.0)];
    for word in words.into_iter().chain([key.revoked.map(|t| t.0)]) {
        put_option(out, word.map(u64::to_le_bytes));
    }
    put_option(out, key.policy.map(|id| id.0.0));
    put_option(out, key.creator.map(|hash| hash.0));
    for time in [budget.window, key.created, key.updated] {
        out.extend_from_slice(&time.0.to_le_bytes());
    }
    put_text(out, &key.label);
}

pub(crate) fn read_key(r: &mut Reader<'_>) -> Result<KeyRow, CodecError> {
    let hash = KeyHash(r.array()?);
    let account = AccountId(r.u64()?);
    let role = if read_flag(r)? { KeyRole::Management } else { KeyRole::Inference };
    let is_disabled = read_flag(r)?;
    let mut budget = Budget::unset(read_reset(r)?);
    budget.includes_byok = read_flag(r)?;
    budget.allowance = read_option(r, Reader::u64)?.map(AccountId);
    budget.limit = read_option(r, Reader::u64)?.map(NanoUsd);
    let expires = read_option(r, Reader::u64)?.map(UnixMs);
    let revoked = read_option(r, Reader::u64)?.map(UnixMs);
    let policy = read_option(r, Reader::array)?.map(|id| PolicyId(Digest32(id)));
    let creator = read_option(r, Reader::array)?.map(KeyHash);
    budget.window = UnixMs(r.u64()?);
    Ok(KeyRow {
        hash,
        account,
        role,
        is_disabled,
        budget,
        expires,
        revoked,
        policy,
        creator,
        created: UnixMs(r.u64()?),
        updated: UnixMs(r.u64()?),
        label: read_text(r, LABEL_BYTES_MAX)?,
        workspace: None,
    })
}

/// A 0/1 byte, then the value if there is one.
pub(crate) fn put_option<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    out.push(u8::from(value.is_some()));
    out.extend(value.into_iter().flatten());
}

pub(crate) fn read_option<'a, T>(
    r: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, CodecError>,
) -> Result<Option<T>, CodecError> {
    if read_flag(r)? { read(r).map(Some) } else { Ok(None) }
}

pub(crate) fn read_flag(r: &mut Reader<'_>) -> Result<bool, CodecError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        code => Err(CodecError::Code { what: "flag", code }),
    }
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
