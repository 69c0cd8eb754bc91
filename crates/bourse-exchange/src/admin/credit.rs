//! Money that an account is given: as a gift of the market, or because it was paid in.

use super::{AdminError, AdminReply, check_name, customer, parse_amount};
use crate::core::Core;
use crate::exchange::Exchange;
use crate::names::SUBSIDY;
use bourse_types::{AccountId, Digest32, RequestId, UnixMs};
use bourse_wire::funds::{CLAIM_AGE_MAX, Claim, FundsError, IDEMPOTENCY_KEY_BYTES_MAX};

/// Where an account's money comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The market gives it.
    Subsidy,
    /// It was paid in, and lies in escrow.
    Outside,
}

impl Source {
    /// Names what is claimed.
    fn word(self) -> &'static str {
        match self {
            Self::Subsidy => "credit",
            Self::Outside => "deposit",
        }
    }

    /// Who may be given money from here.
    fn receiver(self, core: &Core, name: &str) -> Result<AccountId, AdminError> {
        let covers = self == Self::Outside && core.names.account(name) == Some(SUBSIDY);
        if covers { Ok(SUBSIDY) } else { customer(core, name) }
    }
}

impl Exchange {
    pub(super) fn credit(
        &self,
        source: Source,
        account: &str,
        amount_usd: &str,
        key: Option<&str>,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let amount = parse_amount("amount_usd", amount_usd)?;
        let id = self.house_transfer(now)?;
        let content = format!("{account}\0{}", amount.0);
        let claim = key
            .map(|key| operators_claim(source.word(), key, content.as_bytes(), RequestId(id.0)))
            .transpose()?;
        let done = self.shared.change(|core| {
            let account = source.receiver(core, account)?;
            let give = |core: &mut Core| match source {
                Source::Subsidy => core.grant_credit(account, amount, id, now),
                Source::Outside => core.deposit(account, amount, id, now),
            };
            core.once(claim.as_ref(), now, give).map_err(AdminError::from)
        });
        match done {
            // It was given before.
            Ok(()) | Err(AdminError::Funds(FundsError::ClaimPaid(_))) => {}
            Err(refused) => return Err(refused),
        }
        self.flush()?;
        Ok(self.balances())
    }
}

/// The claim of a request that is done at once, whose content that is.
pub(super) fn operators_claim(
    what: &str,
    key: &str,
    content: &[u8],
    first: RequestId,
) -> Result<Claim, AdminError> {
    check_name("idempotency_key", key, IDEMPOTENCY_KEY_BYTES_MAX)?;
    let mut hasher = blake3::Hasher::new_derive_key("bourse 2026 idempotency key of an operator's request");
    hasher.update(what.as_bytes()).update(&[0]).update(key.as_bytes());
    let name = Digest32(*hasher.finalize().as_bytes());
    let fingerprint = Digest32(*blake3::keyed_hash(&name.0, content).as_bytes());
    Ok(Claim { name, fingerprint, first, kept_for: CLAIM_AGE_MAX })
}
