//! Phase 4: money is set aside before anything is dispatched, and more while the answer grows.
//!
//! The hold is one amount per request. Each leg says how much it needs covered; what is held already
//! counts, so walking to a dearer seller adds the difference and walking to a cheaper one adds nothing.

use super::gather::Whole;
use bourse_market::{Demand, Extension, HoldWindow, Offer, Operations, QuoteError};
use bourse_types::{NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{
    Claim, Funds, FundsError, HOLD_EXTENSIONS_MAX, HoldExtension, HoldRequest, KeyGrant,
};

/// Tokens that an answer in one piece is capped at, at least, where the money does not reach for the longest one: below
/// that it is refused.
const CAP_TOKENS_MIN: u64 = 256;

/// What is held for one request.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) request: RequestId,
    pub(crate) grant: KeyGrant,
    pub(crate) expires: UnixMs,
    /// What keeps it from being charged twice. Few have one: it must not make all requests larger.
    pub(crate) claim: Option<Box<Claim>>,
    /// The market's fee where the buyer's own key serves, in 1/10,000; none: the market's key does.
    pub(crate) fee_bps: Option<u32>,
    /// Granted so far.
    amount: NanoUsd,
    /// List price that the buyer's own sellers may bill so far.
    byok: NanoUsd,
    /// Tokens of prompt and answer that are covered so far.
    tokens: u64,
    /// Something was granted.
    is_open: bool,
    /// It goes on with a request that was let in, so no rate counts it.
    is_continued: bool,
    steps: u16,
}

/// Why money was not set aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HoldError {
    /// The exchange refused.
    #[error(transparent)]
    Funds(#[from] FundsError),
    /// The bound is beyond any amount.
    #[error(transparent)]
    Quote(#[from] QuoteError),
}

/// Why a hold cannot stay ahead of an answer that grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Short {
    /// The money, or a limit, reaches for no more.
    Budget,
    /// The key was disabled or revoked meanwhile.
    Key(FundsError),
    /// The market's own bounds are reached.
    Full(FundsError),
    /// The books cannot be asked any more.
    Closing,
}

impl From<HoldError> for Short {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Funds(
                FundsError::Closing | FundsError::Away | FundsError::Journal(_) | FundsError::NoHold,
            ) => Self::Closing,
            HoldError::Funds(
                error @ (FundsError::UnknownKey | FundsError::RevokedKey | FundsError::DisabledKey),
            ) => Self::Key(error),
            HoldError::Funds(full @ FundsError::TooMany(_)) => Self::Full(full),
            HoldError::Funds(_) | HoldError::Quote(_) => Self::Budget,
        }
    }
}

impl Short {
    /// What is told of an answer that was cut for it.
    pub(crate) fn cut(&self) -> &'static str {
        match self {
            Self::Key(_) => "the key was taken back while the answer came: it was cut there",
            _ => "the budget reached for no more: the answer was cut there",
        }
    }
}

impl Held {
    pub(crate) fn nothing(request: RequestId, grant: KeyGrant, expires: UnixMs) -> Self {
        Self {
            request,
            grant,
            expires,
            claim: None,
            fee_bps: None,
            amount: NanoUsd::ZERO,
            byok: NanoUsd::ZERO,
            tokens: 0,
            is_open: false,
            is_continued: false,
            steps: 0,
        }
    }

    /// The same, of a request that goes on with another one.
    pub(crate) fn continued(self) -> Self {
        Self { is_continued: true, ..self }
    }

    /// Whether a settlement is owed.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The list price that is covered for whoever serves.
    pub(crate) fn covered(&self) -> NanoUsd {
        if self.fee_bps.is_some() { self.byok } else { self.amount }
    }

    /// Makes the hold cover a list price of at least `total`, with tokens that were covered before.
    pub(crate) fn cover(&mut self, funds: &dyn Funds, total: NanoUsd, now: UnixMs) -> Result<(), FundsError> {
        self.cover_tokens(funds, total, self.tokens, now)
    }

    /// Makes the hold cover a list price of at least `total` for at least `tokens`.
    fn cover_tokens(
        &mut self,
        funds: &dyn Funds,
        total: NanoUsd,
        tokens: u64,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let (amount, byok) = match self.fee_bps {
            None => (total, NanoUsd::ZERO),
            Some(bps) => (total.share_bps_floor(bps).unwrap_or(total), total),
        };
        if !self.is_open {
            let (request, grant, expires) = (self.request, self.grant, self.expires);
            let claim = self.claim.as_deref().copied();
            let rated = (!self.is_continued).then_some(tokens);
            funds.hold(&HoldRequest { request, grant, amount, byok, tokens: rated, expires, now, claim })?;
            (self.amount, self.byok, self.tokens, self.is_open) = (amount, byok, tokens, true);
            return Ok(());
        }
        let held = self.amount;
        if amount <= held && byok <= self.byok && tokens <= self.tokens {
            return Ok(());
        }
        let step = self.steps + 1;
        if step > HOLD_EXTENSIONS_MAX {
            return Err(FundsError::TooMany("extensions of one hold"));
        }
        let (more, more_byok) = (amount.0.saturating_sub(held.0), byok.0.saturating_sub(self.byok.0));
        // A refused step is not used up: the exchange keeps no refusals, and the next leg may ask for less.
        let (amount, byok) = (NanoUsd(more), NanoUsd(more_byok));
        let tokens = tokens.saturating_sub(self.tokens);
        funds.extend(&HoldExtension { request: self.request, step, amount, byok, tokens, now })?;
        self.steps = step;
        self.amount = NanoUsd(held.0 + more);
        self.byok = NanoUsd(self.byok.0 + more_byok);
        self.tokens = self.tokens.saturating_add(tokens);
        Ok(())
    }

    /// Covers a window.
    fn cover_window(
        &mut self,
        funds: &dyn Funds,
        window: &HoldWindow,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let tokens = window.prompt_tokens().saturating_add(window.covered_tokens());
        self.cover_tokens(funds, window.held(), tokens, now)
    }
}

/// Covers the first part of an answer that is seen to grow; all of it where nobody sees that.
pub(crate) fn cover_stream(
    held: &mut Held,
    funds: &dyn Funds,
    offer: &Offer,
    demand: &Demand<'_>,
    now: UnixMs,
) -> Result<HoldWindow, HoldError> {
    let is_seen = Whole::of(offer, demand).is_none();
    let window = if is_seen { HoldWindow::first } else { HoldWindow::whole }(offer, demand)?;
    held.cover_window(funds, &window, now)?;
    Ok(window)
}

/// Covers what has passed and what comes next. When the money does not reach for the next step, it goes as far as it
/// reaches; fails when all of it is used up.
pub(crate) fn extend(
    held: &mut Held,
    window: &mut HoldWindow,
    funds: &dyn Funds,
    generated: u64,
    now: impl FnOnce() -> UnixMs,
) -> Result<(), HoldError> {
    let Some(extension) = window.extension(generated)? else { return Ok(()) };
    let now = now();
    let grant = |held: &mut Held, window: &mut HoldWindow, extension: &Extension| {
        let total = window.held().checked_add(extension.amount).map_err(QuoteError::Bound)?;
        let tokens = window.prompt_tokens().saturating_add(extension.covers_tokens);
        held.cover_tokens(funds, total, tokens, now)?;
        Ok::<_, HoldError>(window.grant(extension)?)
    };
    let refused = match grant(held, window, &extension) {
        Err(HoldError::Funds(refused)) => refused,
        granted => return granted,
    };
    let Some(available) = refused.money_left() else { return Err(refused.into()) };
    // A seller before this one may have needed more than this one does so far.
    let most = NanoUsd(window.held().max(held.covered()).0.saturating_add(available.0));
    if let Some(smaller) = window.extension_within(generated, most)? {
        // Somebody else may have been faster; what is covered is still there to be used.
        let _ = grant(held, window, &smaller);
    }
    window.use_up();
    if generated < window.covered_tokens() { Ok(()) } else { Err(refused.into()) }
}

/// Covers a whole answer in one piece. When the buyer set no `max_tokens` and the money does not reach for
/// the longest answer, the answer is capped at what it reaches for: the cap is returned. What is no text cannot be capped.
pub(crate) fn cover_whole(
    held: &mut Held,
    funds: &dyn Funds,
    offer: &Offer,
    demand: &Demand<'_>,
    now: UnixMs,
) -> Result<Option<u32>, HoldError> {
    let whole = |max_tokens| HoldWindow::whole(offer, &Demand { max_tokens, ..*demand });
    let refused = match held.cover_window(funds, &whole(demand.max_tokens)?, now) {
        Ok(()) => return Ok(None),
        Err(refused) => refused,
    };
    let Some(available) = refused.money_left() else { return Err(refused.into()) };
    if held.fee_bps.is_some() {
        return Err(refused.into());
    }
    let reach = NanoUsd(available.0.saturating_add(held.amount.0));
    let fits = |tokens: u64| Ok::<_, QuoteError>(whole(Some(tokens))?.held() <= reach);
    let can_be_capped = demand.max_tokens.is_none() && Operations::GENERATES.contains(demand.operation);
    if !can_be_capped || !fits(CAP_TOKENS_MIN)? {
        return Err(refused.into());
    }
    let (mut low, mut high) = (CAP_TOKENS_MIN, u64::from(u32::MAX).min(offer.context_tokens_max));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle)? { low = middle } else { high = middle - 1 }
    }
    held.cover_window(funds, &whole(Some(low))?, now)?;
    Ok(u32::try_from(low).ok())
}
