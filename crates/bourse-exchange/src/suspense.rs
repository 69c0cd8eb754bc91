//! Shares of sellers in suspense: what a claim beyond the market's own count is worth, until a person decides whose it is.
//!
//! A settlement whose receipt [is suspended](bourse_wire::receipt::Receipt::is_suspended) puts the seller's share into the
//! account `suspense` instead of the seller's own, in the same chain, and the journal gets the evidence beside it: who,
//! how much, claimed, recounted, with which tokenizer. The operator gives a share to the seller or back to the buyer; that
//! is one more transfer, and a record that closes the case. So the balance of `suspense` is always the sum of the open
//! cases, which `bourse ledger check` holds against each other.
//!
//! Limit: [`CASES_MAX`] open cases. With more, a settlement that would open another is refused and its hold gives itself
//! back: the buyer pays nothing, and the market bears the answer rather than pay a claim that nobody looked at.

use crate::open::{OpenError, REPLAY_GROUPS};
use crate::record::{Record, Records, put_text, read_text};
use bourse_ledger::{CodecError, Journal, Position, Reader};
use bourse_types::{AccountId, Digest32, NanoUsd, RequestId, SellerName, TokenCount, UnixMs, Usage};
use bourse_wire::receipt::{Receipt, Recount};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most open cases.
pub const CASES_MAX: usize = 65_536;
/// Longest name of a seller, in bytes.
const SELLER_BYTES_MAX: usize = 128;
/// What a record of suspense is: a case, or the end of one.
const OPENED: u8 = 0;
const RESOLVED: u8 = 1;

/// Whose a share is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Party {
    /// The claim was right.
    Seller = 0,
    /// It was not.
    Buyer = 1,
}

impl Party {
    const ALL: [Self; 2] = [Self::Seller, Self::Buyer];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        ["seller", "buyer"][self as usize]
    }
}

/// An open case, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// Whose money it was.
    pub(crate) customer: AccountId,
    /// Who claimed it.
    pub(crate) seller: SellerName,
    /// The seller's share.
    pub(crate) amount: NanoUsd,
    /// When it was settled.
    pub(crate) at: UnixMs,
    pub(crate) claimed: Usage,
    pub(crate) recount: Recount,
}

impl Case {
    /// The case of a suspended receipt; none where nothing is claimed beyond the count.
    pub(crate) fn of(receipt: &Receipt, customer: AccountId, amount: NanoUsd, at: UnixMs) -> Option<Self> {
        let (claimed, recount) = receipt.usage_claimed.zip(receipt.recount)?;
        let seller = receipt.seller.clone()?;
        receipt.is_suspended().then_some(Self { customer, seller, amount, at, claimed, recount })
    }
}

/// What the journal says of suspense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SuspenseRecord {
    Opened { request: RequestId, case: Case },
    Resolved { request: RequestId, to: Party },
}

impl SuspenseRecord {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opened { request, case } => {
                out.push(OPENED);
                out.extend_from_slice(&request.0.to_le_bytes());
                write_case(out, case);
            }
            Self::Resolved { request, to } => {
                out.push(RESOLVED);
                out.extend_from_slice(&request.0.to_le_bytes());
                out.push(*to as u8);
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let code = r.u8()?;
        let request = RequestId(r.u128()?);
        match code {
            OPENED => Ok(Self::Opened { request, case: read_case(r)? }),
            RESOLVED => {
                let code = r.u8()?;
                let to = Party::ALL.get(usize::from(code)).copied();
                Ok(Self::Resolved { request, to: to.ok_or(CodecError::Code { what: "party", code })? })
            }
            code => Err(CodecError::Code { what: "record of suspense", code }),
        }
    }
}

fn write_case(out: &mut Vec<u8>, case: &Case) {
    out.extend_from_slice(&case.customer.0.to_le_bytes());
    put_text(out, case.seller.as_str());
    let Usage { prompt, cached_prompt, cache_write, completion, units } = case.claimed;
    let recount = &case.recount;
    for word in [case.amount.0, case.at.0, prompt.0, cached_prompt.0, cache_write.0, completion.0, units] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&recount.tokenizer.0);
    for (counted, allowed) in
        [(recount.prompt, recount.prompt_allowed), (recount.completion, recount.completion_allowed)]
    {
        crate::record::put_option(out, counted.map(|tokens| tokens.0.to_le_bytes()));
        out.extend_from_slice(&allowed.0.to_le_bytes());
    }
}

fn read_case(r: &mut Reader<'_>) -> Result<Case, CodecError> {
    let customer = AccountId(r.u64()?);
    let seller = SellerName::parse(&read_text(r, SELLER_BYTES_MAX)?);
    let seller = seller.map_err(|_| CodecError::Inconsistent("a case in suspense has no seller"))?;
    let (amount, at) = (NanoUsd(r.u64()?), UnixMs(r.u64()?));
    let claimed = Usage {
        prompt: TokenCount(r.u64()?),
        cached_prompt: TokenCount(r.u64()?),
        cache_write: TokenCount(r.u64()?),
        completion: TokenCount(r.u64()?),
        units: r.u64()?,
    };
    let tokenizer = Digest32(r.array()?);
    let mut part = || {
        let counted = crate::record::read_option(r, Reader::u64)?.map(TokenCount);
        Ok::<_, CodecError>((counted, TokenCount(r.u64()?)))
    };
    let ((prompt, prompt_allowed), (completion, completion_allowed)) = (part()?, part()?);
    let recount = Recount { tokenizer, prompt, prompt_allowed, completion, completion_allowed };
    Ok(Case { customer, seller, amount, at, claimed, recount })
}

/// The open cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Suspense(BTreeMap<RequestId, Case>);

impl Suspense {
    /// Whether no further case fits.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= CASES_MAX
    }

    pub(crate) fn get(&self, request: RequestId) -> Option<&Case> {
        self.0.get(&request)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (RequestId, &Case)> {
        self.0.iter().map(|(request, case)| (*request, case))
    }

    /// What all open cases are worth.
    pub(crate) fn total(&self) -> u128 {
        self.0.values().map(|case| u128::from(case.amount.0)).sum()
    }

    /// Takes what the journal says.
    pub(crate) fn take(&mut self, record: SuspenseRecord) -> Result<(), CodecError> {
        match record {
            SuspenseRecord::Opened { request, case } => match self.0.insert(request, case) {
                None => Ok(()),
                Some(_) => Err(CodecError::Inconsistent("a request is in suspense twice")),
            },
            SuspenseRecord::Resolved { request, .. } => match self.0.remove(&request) {
                Some(_) => Ok(()),
                None => Err(CodecError::Inconsistent("a case is resolved that is not open")),
            },
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        for (request, case) in &self.0 {
            out.extend_from_slice(&request.0.to_le_bytes());
            write_case(out, case);
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut suspense = Self::default();
        for _ in 0..r.u32()? {
            let request = RequestId(r.u128()?);
            suspense.take(SuspenseRecord::Opened { request, case: read_case(r)? })?;
        }
        Ok(suspense)
    }
}

/// An open case as it is shown. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseLine {
    /// The request; its receipt has the same evidence.
    pub request: String,
    /// When it was settled, in Unix milliseconds.
    pub at_ms: u64,
    /// Who claimed.
    pub seller: String,
    /// Who paid.
    pub customer: String,
    /// What waits.
    pub amount_usd: String,
    /// The pin of the tokenizer that counted.
    pub tokenizer: String,
    /// Prompt tokens claimed.
    pub prompt_claimed: u64,
    /// Prompt tokens counted; none where nobody could.
    pub prompt_recounted: Option<u64>,
    /// The most that was allowed.
    pub prompt_allowed: u64,
    /// Completion tokens claimed.
    pub completion_claimed: u64,
    /// Completion tokens counted; none where nobody could.
    pub completion_recounted: Option<u64>,
    /// The most that was allowed.
    pub completion_allowed: u64,
}

impl CaseLine {
    pub(crate) fn of(request: RequestId, case: &Case, customer: String) -> Self {
        Self {
            request: request.to_string(),
            at_ms: case.at.0,
            seller: case.seller.to_string(),
            customer,
            amount_usd: case.amount.to_usd_string(),
            tokenizer: case.recount.tokenizer.to_string(),
            prompt_claimed: case.claimed.prompt.0,
            prompt_recounted: case.recount.prompt.map(|tokens| tokens.0),
            prompt_allowed: case.recount.prompt_allowed.0,
            completion_claimed: case.claimed.completion.0,
            completion_recounted: case.recount.completion.map(|tokens| tokens.0),
            completion_allowed: case.recount.completion_allowed.0,
        }
    }
}

/// To whom a journal says that a request's share went.
pub(crate) fn resolved_of(journal: &dyn Journal, asked: RequestId) -> Result<Option<Party>, OpenError> {
    let mut at = Position::default();
    loop {
        let groups = journal.read(at, REPLAY_GROUPS)?;
        for group in &groups {
            let mut records = Records::new(&group.bytes);
            while let Some(record) = records.next_but_events() {
                let unreadable =
                    |error: CodecError| OpenError::Replay { last_good: at.seq, what: error.to_string() };
                match record.map_err(unreadable)? {
                    Record::Suspense(SuspenseRecord::Resolved { request, to }) if request == asked => {
                        return Ok(Some(to));
                    }
                    _ => {}
                }
            }
            at = group.position;
        }
        if groups.len() < REPLAY_GROUPS {
            return Ok(None);
        }
    }
}
