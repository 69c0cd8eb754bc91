//! The bodies of the frames.

use super::{ERROR_TEXT_BYTES_MAX, Message, PART_BYTES_MAX, Question, Reply, Request};
use crate::canonical::{CanonicalError, Reader, Writer};
use crate::funds::{
    Attendance, Billing, BudgetStatus, Claim, CommitTicket, FundsError, GenerationNote, HoldExtension,
    HoldRequest, KeyGrant, KeyRole, LimitReset, NOTE_BYTES_MAX, PolicyId, RateStatus, RateUnit, Scope,
    Settled, Settlement,
};
use crate::receipt::Receipt;
use bourse_types::{
    AccountId, Digest32, DurationMs, KeyHash, NanoUsd, NodeId, RequestId, SellerName, UnixMs,
};
use bytes::Bytes;

/// Of what there can be too many. Another word becomes the last of these.
pub(super) const TOO_MANY: [&str; 19] = [
    "bytes wait for the disk",
    "open holds",
    "requests since this one arrived",
    "accounts",
    "extensions of one hold",
    "nano-USD in one hold",
    "keys",
    "keys of one account",
    "policies",
    "workspaces",
    "bytes in one frame",
    "requests under idempotency keys",
    "bytes of answers",
    "bytes in one answer",
    "questions at once",
    "hours until a hold ends",
    "groups of the journal to read at once",
    "bytes of figures",
    "things at the exchange",
];

impl Message for Request {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Authenticate { .. } => 2,
            Self::Hold(_) => 3,
            Self::Extend(_) => 4,
            Self::ByokFee { .. } => 5,
            Self::Settle(_) => 6,
            Self::Durable(_) => 7,
            Self::Metered(_) => 8,
            Self::Ask(_) => 9,
            Self::Attended { .. } => 10,
        }
    }

    fn put(&self, w: &mut Writer) {
        match self {
            Self::Hello { version, nonce, proof } => {
                w.u8(*version);
                w.fixed(nonce);
                w.fixed(proof);
            }
            Self::Authenticate { key, now } => {
                w.fixed(&key.0);
                w.u64(now.0);
            }
            Self::Hold(hold) => {
                w.u128(hold.request.0);
                put_grant(w, &hold.grant);
                for n in [hold.amount.0, hold.byok.0, hold.expires.0, hold.now.0] {
                    w.u64(n);
                }
                w.option(hold.claim.as_ref(), put_claim);
                w.option(hold.tokens, Writer::u64);
            }
            Self::Extend(more) => {
                w.u128(more.request.0);
                w.u32(u32::from(more.step));
                for n in [more.amount.0, more.byok.0, more.tokens, more.now.0] {
                    w.u64(n);
                }
            }
            Self::ByokFee { grant, list, now } => {
                put_grant(w, grant);
                w.u64(list.0);
                w.u64(now.0);
            }
            Self::Settle(settlement) | Self::Metered(settlement) => put_settlement(w, settlement),
            Self::Ask(question) => question.put(w),
            Self::Attended { attendance, now } => put_attendance(w, attendance, *now),
            Self::Durable(ticket) => w.u64(ticket.0),
        }
    }

    fn read(kind: u8, r: &mut Reader<'_>) -> Result<Self, CanonicalError> {
        Ok(match kind {
            1 => Self::Hello { version: r.u8()?, nonce: r.array()?, proof: r.array()? },
            2 => Self::Authenticate { key: KeyHash(r.array()?), now: UnixMs(r.u64()?) },
            3 => Self::Hold(HoldRequest {
                request: RequestId(r.u128()?),
                grant: read_grant(r)?,
                amount: NanoUsd(r.u64()?),
                byok: NanoUsd(r.u64()?),
                expires: UnixMs(r.u64()?),
                now: UnixMs(r.u64()?),
                claim: r.option(read_claim)?,
                tokens: r.option(Reader::u64)?,
            }),
            4 => Self::Extend(HoldExtension {
                request: RequestId(r.u128()?),
                step: u16::try_from(r.u32()?).map_err(|_| CanonicalError::Value("step"))?,
                amount: NanoUsd(r.u64()?),
                byok: NanoUsd(r.u64()?),
                tokens: r.u64()?,
                now: UnixMs(r.u64()?),
            }),
            5 => Self::ByokFee { grant: read_grant(r)?, list: NanoUsd(r.u64()?), now: UnixMs(r.u64()?) },
            6 => Self::Settle(Box::new(read_settlement(r)?)),
            7 => Self::Durable(CommitTicket(r.u64()?)),
            8 => Self::Metered(Box::new(read_settlement(r)?)),
            9 => Self::Ask(Box::new(Question::read(r)?)),
            10 => {
                let (attendance, now) = read_attendance(r)?;
                Self::Attended { attendance, now }
            }
            _ => return Err(CanonicalError::Value("kind")),
        })
    }
}

impl Message for Reply {
    fn kind(&self) -> u8 {
        match self {
            Self::Challenge(_) => 1,
            Self::Welcome { .. } => 2,
            Self::Granted(_) => 3,
            Self::Done => 4,
            Self::Fee(_) => 5,
            Self::Settled(_) => 6,
            Self::Durable(_) => 7,
            Self::Refused(_) => 8,
            Self::Part { .. } => 9,
        }
    }

    fn put(&self, w: &mut Writer) {
        match self {
            Self::Challenge(challenge) => w.fixed(challenge),
            Self::Welcome { incarnation, proof, wall } => {
                w.u128(*incarnation);
                w.fixed(proof);
                w.u64(wall.0);
            }
            Self::Granted(grant) => put_grant(w, grant),
            Self::Done => {}
            Self::Fee(fee) => w.option(*fee, |w, fee| w.u64(fee.0)),
            Self::Settled(settled) => {
                w.u64(settled.cost.0);
                w.u64(settled.ticket.0);
            }
            Self::Durable(ticket) => w.u64(ticket.0),
            Self::Refused(error) => put_error(w, error),
            Self::Part { bytes, is_last } => {
                w.u8(u8::from(*is_last));
                w.u32(bytes.len() as u32);
                w.fixed(bytes);
            }
        }
    }

    fn read(kind: u8, r: &mut Reader<'_>) -> Result<Self, CanonicalError> {
        Ok(match kind {
            1 => Self::Challenge(r.array()?),
            2 => Self::Welcome { incarnation: r.u128()?, proof: r.array()?, wall: UnixMs(r.u64()?) },
            3 => Self::Granted(read_grant(r)?),
            4 => Self::Done,
            5 => Self::Fee(r.option(Reader::u64)?.map(NanoUsd)),
            6 => Self::Settled(Settled { cost: NanoUsd(r.u64()?), ticket: CommitTicket(r.u64()?) }),
            7 => Self::Durable(CommitTicket(r.u64()?)),
            8 => Self::Refused(read_error(r)?),
            9 => {
                let is_last = read_flag(r)?;
                let len = r.u32()? as usize;
                if len > PART_BYTES_MAX {
                    return Err(CanonicalError::Long(len));
                }
                Self::Part { bytes: r.fixed(len)?.to_vec(), is_last }
            }
            _ => return Err(CanonicalError::Value("kind")),
        })
    }
}

fn put_grant(w: &mut Writer, grant: &KeyGrant) {
    w.fixed(&grant.key.0);
    w.u64(grant.account.0);
    w.fixed(&grant.key_digest.0);
    w.fixed(&grant.account_digest.0);
    put_role(w, grant.role);
    for policy in [grant.account_policy, grant.key_policy] {
        put_policy_id(w, policy);
    }
}

pub(super) fn put_role(w: &mut Writer, role: KeyRole) {
    w.u8(match role {
        KeyRole::Inference => 0,
        KeyRole::Management => 1,
    });
}

pub(super) fn read_role(r: &mut Reader<'_>) -> Result<KeyRole, CanonicalError> {
    match r.u8()? {
        0 => Ok(KeyRole::Inference),
        1 => Ok(KeyRole::Management),
        _ => Err(CanonicalError::Value("role")),
    }
}

pub(super) fn put_policy_id(w: &mut Writer, policy: Option<PolicyId>) {
    w.option(policy, |w, id| w.fixed(&id.0.0));
}

pub(super) fn read_policy_id(r: &mut Reader<'_>) -> Result<Option<PolicyId>, CanonicalError> {
    r.option(|r| r.array().map(|id| PolicyId(Digest32(id))))
}

pub(super) fn read_flag(r: &mut Reader<'_>) -> Result<bool, CanonicalError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CanonicalError::Value("flag")),
    }
}

fn read_grant(r: &mut Reader<'_>) -> Result<KeyGrant, CanonicalError> {
    Ok(KeyGrant {
        key: KeyHash(r.array()?),
        account: AccountId(r.u64()?),
        key_digest: Digest32(r.array()?),
        account_digest: Digest32(r.array()?),
        role: read_role(r)?,
        account_policy: read_policy_id(r)?,
        key_policy: read_policy_id(r)?,
    })
}

pub(super) fn put_claim(w: &mut Writer, claim: &Claim) {
    w.fixed(&claim.name.0);
    w.fixed(&claim.fingerprint.0);
    w.u128(claim.first.0);
    w.u64(claim.kept_for.0);
}

pub(super) fn read_claim(r: &mut Reader<'_>) -> Result<Claim, CanonicalError> {
    Ok(Claim {
        name: Digest32(r.array()?),
        fingerprint: Digest32(r.array()?),
        first: RequestId(r.u128()?),
        kept_for: DurationMs(r.u64()?),
    })
}

fn put_settlement(w: &mut Writer, settlement: &Settlement) {
    w.u8(match settlement.billing {
        Billing::Credits => 0,
        Billing::Byok => 1,
    });
    w.u64(settlement.now.0);
    put_receipt(w, &settlement.receipt);
    put_note(w, &settlement.note);
}

pub(super) fn put_receipt(w: &mut Writer, receipt: &Receipt) {
    let bytes = receipt.canonical_bytes();
    w.u32(bytes.len() as u32);
    w.fixed(&bytes);
}

/// Within a frame or an answer, which are bounded.
pub(super) fn read_receipt(r: &mut Reader<'_>) -> Result<Receipt, CanonicalError> {
    let len = r.u32()? as usize;
    Receipt::from_canonical_bytes(r.fixed(len)?)
}

fn put_attendance(w: &mut Writer, attendance: &Attendance, now: UnixMs) {
    let Attendance { node, seller, from, until, gpus } = attendance;
    w.fixed(&node.0);
    w.text(seller.as_str());
    w.u64(from.0);
    w.u64(until.0);
    w.option(*gpus, Writer::u32);
    w.u64(now.0);
}

fn read_attendance(r: &mut Reader<'_>) -> Result<(Attendance, UnixMs), CanonicalError> {
    let attendance = Attendance {
        node: NodeId(r.array()?),
        seller: SellerName::parse(r.text()?).map_err(|_| CanonicalError::Value("seller"))?,
        from: UnixMs(r.u64()?),
        until: UnixMs(r.u64()?),
        gpus: r.option(Reader::u32)?,
    };
    Ok((attendance, UnixMs(r.u64()?)))
}

pub(super) fn put_note(w: &mut Writer, note: &GenerationNote) {
    let mut bytes = Vec::new();
    note.write(&mut bytes);
    w.u32(bytes.len() as u32);
    w.fixed(&bytes);
}

pub(super) fn read_note(r: &mut Reader<'_>) -> Result<GenerationNote, CanonicalError> {
    let len = r.u32()? as usize;
    if len > NOTE_BYTES_MAX {
        return Err(CanonicalError::Long(len));
    }
    GenerationNote::read(r.fixed(len)?)
}

fn read_settlement(r: &mut Reader<'_>) -> Result<Settlement, CanonicalError> {
    let billing = match r.u8()? {
        0 => Billing::Credits,
        1 => Billing::Byok,
        _ => return Err(CanonicalError::Value("billing")),
    };
    let now = UnixMs(r.u64()?);
    Ok(Settlement { receipt: read_receipt(r)?, note: read_note(r)?, billing, now })
}

pub(super) fn put_error(w: &mut Writer, error: &FundsError) {
    let mut amounts = |kind: u8, all: &[NanoUsd]| {
        w.u8(kind);
        for amount in all {
            w.u64(amount.0);
        }
    };
    match error {
        FundsError::InsufficientFunds { available, needed, held } => {
            amounts(7, &[*available, *needed, *held]);
        }
        FundsError::OverBudget { budget, needed } => {
            amounts(8, &[*needed]);
            put_budget(w, budget);
        }
        FundsError::RateLimited { rate, needed, retry_after } => {
            w.u8(17);
            w.u64(*needed);
            w.option(*retry_after, |w, span| w.u64(span.0));
            put_rate(w, rate);
        }
        FundsError::ExceedsHold { charge, held } => amounts(9, &[*charge, *held]),
        FundsError::UnknownKey => w.u8(1),
        FundsError::RevokedKey => w.u8(2),
        FundsError::DisabledKey => w.u8(3),
        FundsError::ExpiredKey => w.u8(4),
        FundsError::ManagementKey => w.u8(5),
        FundsError::NotManagement => w.u8(6),
        FundsError::NoHold => w.u8(10),
        FundsError::Conflict => w.u8(11),
        FundsError::TooMany(what) => {
            let place = TOO_MANY.iter().position(|known| known == what).unwrap_or(TOO_MANY.len() - 1);
            w.u8(12);
            w.u8(place as u8);
        }
        FundsError::Journal(why) => put_text(w, 13, why),
        FundsError::NoRandomness(why) => put_text(w, 14, why),
        FundsError::Closing => w.u8(15),
        FundsError::Away => w.u8(16),
        FundsError::ClaimTaken => w.u8(20),
        FundsError::ClaimOpen => w.u8(21),
        FundsError::ClaimPaid(request) => {
            w.u8(22);
            w.u128(request.0);
        }
    }
}

fn put_text(w: &mut Writer, kind: u8, text: &str) {
    w.u8(kind);
    w.text(&text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX.min(text.len()))]);
}

pub(super) fn read_error(r: &mut Reader<'_>) -> Result<FundsError, CanonicalError> {
    let amount = |r: &mut Reader<'_>| r.u64().map(NanoUsd);
    Ok(match r.u8()? {
        1 => FundsError::UnknownKey,
        2 => FundsError::RevokedKey,
        3 => FundsError::DisabledKey,
        4 => FundsError::ExpiredKey,
        5 => FundsError::ManagementKey,
        6 => FundsError::NotManagement,
        7 => FundsError::InsufficientFunds { available: amount(r)?, needed: amount(r)?, held: amount(r)? },
        8 => {
            let needed = amount(r)?;
            FundsError::OverBudget { budget: Box::new(read_budget(r)?), needed }
        }
        9 => FundsError::ExceedsHold { charge: amount(r)?, held: amount(r)? },
        10 => FundsError::NoHold,
        11 => FundsError::Conflict,
        12 => {
            let what = TOO_MANY.get(usize::from(r.u8()?));
            FundsError::TooMany(what.ok_or(CanonicalError::Value("too many"))?)
        }
        13 => FundsError::Journal(read_text(r)?),
        14 => FundsError::NoRandomness(read_text(r)?),
        15 => FundsError::Closing,
        16 => FundsError::Away,
        20 => FundsError::ClaimTaken,
        21 => FundsError::ClaimOpen,
        22 => FundsError::ClaimPaid(RequestId(r.u128()?)),
        17 => {
            let (needed, retry_after) = (r.u64()?, r.option(Reader::u64)?.map(DurationMs));
            FundsError::RateLimited { rate: Box::new(read_rate(r)?), needed, retry_after }
        }
        _ => return Err(CanonicalError::Value("error")),
    })
}

pub(super) fn put_budget(w: &mut Writer, budget: &BudgetStatus) {
    let BudgetStatus { scope, reset, limit, includes_byok, spent, held, left, resets_at } = budget;
    for code in [*scope as u8, *reset as u8, u8::from(*includes_byok)] {
        w.u8(code);
    }
    for amount in [limit, spent, held, left] {
        w.u64(amount.0);
    }
    w.option(*resets_at, |w, at| w.u64(at.0));
}

pub(super) fn read_budget(r: &mut Reader<'_>) -> Result<BudgetStatus, CanonicalError> {
    Ok(BudgetStatus {
        scope: of_code(&Scope::ALL, r.u8()?, "scope")?,
        reset: of_code(&LimitReset::ALL, r.u8()?, "reset")?,
        includes_byok: read_flag(r)?,
        limit: NanoUsd(r.u64()?),
        spent: NanoUsd(r.u64()?),
        held: NanoUsd(r.u64()?),
        left: NanoUsd(r.u64()?),
        resets_at: r.option(Reader::u64)?.map(UnixMs),
    })
}

pub(super) fn put_rate(w: &mut Writer, rate: &RateStatus) {
    let RateStatus { scope, unit, limit, used, left, resets_at } = rate;
    w.u8(*scope as u8);
    w.u8(*unit as u8);
    for n in [limit, used, left] {
        w.u64(*n);
    }
    w.option(*resets_at, |w, at| w.u64(at.0));
}

pub(super) fn read_rate(r: &mut Reader<'_>) -> Result<RateStatus, CanonicalError> {
    Ok(RateStatus {
        scope: of_code(&Scope::ALL, r.u8()?, "scope")?,
        unit: of_code(&RateUnit::ALL, r.u8()?, "unit")?,
        limit: r.u64()?,
        used: r.u64()?,
        left: r.u64()?,
        resets_at: r.option(Reader::u64)?.map(UnixMs),
    })
}

/// Bytes behind their number.
pub(super) fn put_bytes(w: &mut Writer, bytes: &[u8]) {
    w.u32(bytes.len() as u32);
    w.fixed(bytes);
}

/// At most so many.
pub(super) fn read_bytes(r: &mut Reader<'_>, max: usize) -> Result<Bytes, CanonicalError> {
    let len = r.u32()? as usize;
    if len > max {
        return Err(CanonicalError::Long(len));
    }
    r.fixed(len).map(Bytes::copy_from_slice)
}

/// One of a closed list by its place.
fn of_code<T: Copy>(all: &[T], code: u8, what: &'static str) -> Result<T, CanonicalError> {
    all.get(usize::from(code)).copied().ok_or(CanonicalError::Value(what))
}

fn read_text(r: &mut Reader<'_>) -> Result<String, CanonicalError> {
    let text = r.text()?;
    if text.len() > ERROR_TEXT_BYTES_MAX {
        return Err(CanonicalError::Long(text.len()));
    }
    Ok(text.to_owned())
}
