//! Demands: what a request asks of a seller, and the buyer's wishes about which one.
//!
//! [`Preferences`] is the subset of the field's `provider` object that the market honours. Prices in it
//! are dollars per *million* tokens on the wire and pico-dollars per token here.

use crate::offer::{Quantization, Supports};
use bourse_types::{MoneyError, NanoUsd, PicoUsdPerToken, SellerName};

/// Most names in each list of [`Preferences`].
pub const PREFERENCE_NAMES_MAX: usize = 32;
/// Bytes of text that a token stands for at most, on average over a text: what is divided by it is a
/// count of tokens that no ordinary text stays below (English has 4 to 5 bytes per token).
pub const BYTES_PER_TOKEN_MOST: u64 = 8;
/// Bytes per token of ordinary text, for expectations that only weigh one offer against another.
const BYTES_PER_TOKEN_TYPICAL: f64 = 4.0;
/// Completion tokens to expect where the buyer sets no limit.
const COMPLETION_TOKENS_TYPICAL: u64 = 256;

/// What one request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The model as the buyer names it.
    pub model: &'a str,
    /// Bytes of UTF-8 of all text that reaches the model: contents, names, tool definitions.
    pub prompt_bytes: u64,
    /// Messages of a chat; 0 for plain text.
    pub messages: u32,
    /// Tokens to generate at most for each choice, where the buyer says.
    pub max_tokens: Option<u64>,
    /// Answers wanted, at least 1.
    pub choices: u32,
    /// What the seller must be able to do.
    pub needs: Supports,
    /// What the buyer sent beyond that: offers that support it go before those that do not, which are
    /// used only when nobody does. With [`Preferences::require_parameters`] it is needed.
    pub prefers: Supports,
    /// The buyer's wishes.
    pub preferences: &'a Preferences,
}

impl Demand<'_> {
    /// Prompt tokens that even the most talkative vocabulary needs; see [`BYTES_PER_TOKEN_MOST`].
    pub fn prompt_tokens_least(&self) -> u64 {
        self.prompt_bytes / BYTES_PER_TOKEN_MOST
    }

    /// Prompt and completion tokens to expect, for weighing prices.
    pub(crate) fn tokens_expected(&self) -> (f64, f64) {
        let each = self.max_tokens.unwrap_or(COMPLETION_TOKENS_TYPICAL).min(COMPLETION_TOKENS_TYPICAL);
        let prompt = self.prompt_bytes as f64 / BYTES_PER_TOKEN_TYPICAL;
        (prompt.max(1.0), (each * u64::from(self.choices)).max(1) as f64)
    }
}

/// A deterministic order that replaces the draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// Cheapest expected cost of this request first.
    Price,
    /// Shortest measured time to the first token first; never measured ones last.
    Latency,
}

/// The most that a buyer accepts. Hard: no offer under it means no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxPrice {
    /// Per prompt token.
    pub prompt: Option<PicoUsdPerToken>,
    /// Per completion token.
    pub completion: Option<PicoUsdPerToken>,
    /// Once per request.
    pub request: Option<NanoUsd>,
}

impl MaxPrice {
    /// Reads dollars per million tokens such as `1.5`. Rounds down: a price meets the rounded limit
    /// exactly when it meets the written one.
    pub fn parse_usd_per_million(text: &str) -> Result<PicoUsdPerToken, MoneyError> {
        // Nano-dollars per million tokens are femto-dollars per token.
        NanoUsd::parse_usd(text).map(|per_million| PicoUsdPerToken(per_million.0 / 1_000))
    }
}

/// A set of [`Quantization`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuantizationSet(pub(crate) u16);

impl QuantizationSet {
    /// The set with one more member.
    #[must_use]
    pub fn with(self, member: Quantization) -> Self {
        Self(self.0 | 1 << member as u8)
    }

    /// Whether `member` is in the set.
    pub fn contains(self, member: Quantization) -> bool {
        self.0 & 1 << member as u8 != 0
    }
}

/// The buyer's wishes about sellers. A name matches the seller of that name and every seller whose name
/// continues it after a `/` (its variants and regions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// Tried first, in this order; the rest follows by price. Replaces the draw.
    pub order: Vec<SellerName>,
    /// When not empty, nobody else.
    pub only: Vec<SellerName>,
    /// Never these.
    pub ignore: Vec<SellerName>,
    /// When false: only the sellers in `order`, or without `order` a single attempt.
    pub allow_fallbacks: bool,
    /// A deterministic order instead of the draw.
    pub sort: Option<Sort>,
    /// The most that may be asked.
    pub max_price: MaxPrice,
    /// When true, [`Demand::prefers`] is needed.
    pub require_parameters: bool,
    /// When given, only offers stored so.
    pub quantizations: Option<QuantizationSet>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            only: Vec::new(),
            ignore: Vec::new(),
            allow_fallbacks: true,
            sort: None,
            max_price: MaxPrice::default(),
            require_parameters: false,
            quantizations: None,
        }
    }
}

/// Why preferences were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`provider.{list}` has {count} names, at most {PREFERENCE_NAMES_MAX} are allowed")]
pub struct PreferencesError {
    /// Which list.
    pub list: &'static str,
    /// How many names it has.
    pub count: usize,
}

impl Preferences {
    /// Checks the bounds; for the edge that builds this from foreign input.
    pub fn check(&self) -> Result<(), PreferencesError> {
        for (list, names) in [("order", &self.order), ("only", &self.only), ("ignore", &self.ignore)] {
            if names.len() > PREFERENCE_NAMES_MAX {
                return Err(PreferencesError { list, count: names.len() });
            }
        }
        Ok(())
    }
}

/// Position of the first name in `names` that matches `seller`.
pub(crate) fn position(names: &[SellerName], seller: &SellerName) -> Option<usize> {
    let seller = seller.as_str();
    names.iter().position(|name| {
        seller.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<SellerName> {
        list.iter().map(|n| SellerName::parse(n).unwrap()).collect()
    }

    #[test]
    fn max_price_is_per_million() {
        assert_eq!(MaxPrice::parse_usd_per_million("1.5"), Ok(PicoUsdPerToken(1_500_000)));
        assert_eq!(MaxPrice::parse_usd_per_million("0.000001"), Ok(PicoUsdPerToken(1)));
        assert_eq!(MaxPrice::parse_usd_per_million("0.0000019"), Ok(PicoUsdPerToken(1)));
        assert!(MaxPrice::parse_usd_per_million("-1").is_err());
    }

    #[test]
    fn a_base_name_matches_its_variants() {
        let list = names(&["deepinfra", "vertex/us"]);
        assert_eq!(position(&list, &SellerName::parse("deepinfra/turbo").unwrap()), Some(0));
        assert_eq!(position(&list, &SellerName::parse("deepinfra").unwrap()), Some(0));
        assert_eq!(position(&list, &SellerName::parse("deepinfra2").unwrap()), None);
        assert_eq!(position(&list, &SellerName::parse("vertex").unwrap()), None);
    }

    #[test]
    fn lists_are_bounded() {
        let at = Preferences { only: names(&["a"; PREFERENCE_NAMES_MAX]), ..Preferences::default() };
        assert_eq!(at.check(), Ok(()));
        let past = Preferences { order: names(&["a"; PREFERENCE_NAMES_MAX + 1]), ..at };
        assert_eq!(past.check(), Err(PreferencesError { list: "order", count: 33 }));
    }

    #[test]
    fn quantization_sets_hold_what_was_put_in() {
        let set = QuantizationSet::default().with(Quantization::Int8).with(Quantization::Fp32);
        assert!(set.contains(Quantization::Int8) && set.contains(Quantization::Fp32));
        assert!(!set.contains(Quantization::Unknown));
    }
}
