//! Amounts of money: integers of nano- and pico-dollars.
//!
//! Balances and transfers are [`NanoUsd`] (10⁻⁹ USD; a `u64` holds 18.4 billion dollars). The product
//! of tokens and a price is [`PicoUsd`] (10⁻¹² USD, `u128`) and becomes nano-dollars exactly once per
//! request. There are two roundings, each named for its direction; no float ever holds an amount.

use std::fmt;

/// Pico-dollars in one nano-dollar.
const PICO_PER_NANO: u128 = 1_000;
/// Nano-dollars in one dollar.
const NANO_PER_USD: u64 = 1_000_000_000;
/// Decimal places of a dollar amount written in nano-dollars.
const NANO_DECIMALS: usize = 9;

/// Why an amount could not be computed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result does not fit the type.
    #[error("amount overflows")]
    Overflow,
    /// The text is not a plain non-negative decimal number.
    #[error("`{0}` is not a plain decimal amount such as `1.25`")]
    NotDecimal(String),
    /// The text has more decimal places than the unit can hold exactly.
    #[error("`{text}` has more than {places} decimal places")]
    TooPrecise {
        /// The text as given.
        text: String,
        /// Decimal places that the unit holds.
        places: usize,
    },
}

/// An amount of 10⁻⁹ USD. Range: 0 to 18.4 billion dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount a transfer can carry.
    pub const MAX: Self = Self(u64::MAX);

    /// Whole dollars.
    pub const fn from_usd(usd: u32) -> Self {
        Self(usd as u64 * NANO_PER_USD)
    }

    /// Reads a decimal dollar amount such as `12.5`; at most nine decimal places, exact or an error.
    pub fn parse_usd(text: &str) -> Result<Self, MoneyError> {
        let scaled = parse_scaled(text, NANO_DECIMALS)?;
        u64::try_from(scaled).map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// The sum, or an error when it does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The difference, or an error when it would be negative.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_sub(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The share of this amount in basis points (1/10,000), rounded down. `bps` over 10,000 is allowed.
    pub fn share_bps_floor(self, bps: u32) -> Result<Self, MoneyError> {
        let share = u128::from(self.0) * u128::from(bps) / 10_000;
        u64::try_from(share).map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// The amount as decimal dollars with all nine places, such as `0.000012345`.
    pub fn to_usd_string(self) -> String {
        format!("{}.{:09}", self.0 / NANO_PER_USD, self.0 % NANO_PER_USD)
    }
}

impl fmt::Display for NanoUsd {
    /// Dollars with trailing zeros cut, such as `$0.000012`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.to_usd_string();
        let text = full.trim_end_matches('0').trim_end_matches('.');
        write!(f, "${text}")
    }
}

/// An amount of 10⁻¹² USD: what tokens times a price give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsd(pub u128);

impl PicoUsd {
    /// The sum, or an error when it does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The smallest nano-dollar amount that is not less: what a buyer is charged.
    pub fn round_up(self) -> Result<NanoUsd, MoneyError> {
        u64::try_from(self.0.div_ceil(PICO_PER_NANO)).map(NanoUsd).map_err(|_| MoneyError::Overflow)
    }

    /// The largest nano-dollar amount that is not more: what a seller and the fee share.
    pub fn round_down(self) -> Result<NanoUsd, MoneyError> {
        u64::try_from(self.0 / PICO_PER_NANO).map(NanoUsd).map_err(|_| MoneyError::Overflow)
    }
}

/// Reads a plain decimal number as an integer count of 10^-`places`. No sign, exponent or separators.
pub(crate) fn parse_scaled(text: &str, places: usize) -> Result<u128, MoneyError> {
    let bad = || MoneyError::NotDecimal(text.chars().take(64).collect());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > places {
        return Err(MoneyError::TooPrecise { text: text.chars().take(64).collect(), places });
    }
    let padded = format!("{whole}{fraction:0<places$}");
    let significant = padded.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    significant.parse().map_err(|_| MoneyError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<u64, &str>) {
        let got = NanoUsd::parse_usd(text).map(|n| n.0).map_err(|e| e.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn reads_dollars_exactly_or_not_at_all() {
        check("1", Ok(1_000_000_000));
        check("0.000000001", Ok(1));
        check(".5", Ok(500_000_000));
        check("5.", Ok(5_000_000_000));
        check("1.2500000000000", Ok(1_250_000_000));
        check("0.0000000001", Err("`0.0000000001` has more than 9 decimal places"));
        check("-1", Err("`-1` is not a plain decimal amount such as `1.25`"));
        check("1e3", Err("`1e3` is not a plain decimal amount such as `1.25`"));
        check(".", Err("`.` is not a plain decimal amount such as `1.25`"));
        check("99999999999999999999", Err("amount overflows"));
    }

    #[test]
    fn rounding_is_named_for_its_direction() {
        assert_eq!(PicoUsd(1_001).round_up(), Ok(NanoUsd(2)));
        assert_eq!(PicoUsd(1_999).round_down(), Ok(NanoUsd(1)));
        assert_eq!(PicoUsd(2_000).round_up(), Ok(NanoUsd(2)));
        assert_eq!(PicoUsd(u128::MAX).round_up(), Err(MoneyError::Overflow));
    }

    #[test]
    fn shows_dollars() {
        assert_eq!(NanoUsd(1_250_000_000).to_string(), "$1.25");
        assert_eq!(NanoUsd(12).to_string(), "$0.000000012");
        assert_eq!(NanoUsd::ZERO.to_string(), "$0");
    }
}
