//! Offers: what a seller asks and can do for one model.
//!
//! An offer is a plain value. A price that is not known is `None`, and such an offer is never routed to:
//! unknown is not free. Limits are the seller's own; [`PromptBound`] turns bytes of text into an upper
//! bound of tokens, because the market counts bytes before anybody has tokenised.

use crate::flags::flags;
use bourse_types::{Giver, ModelSlug, PicoUsdPerUnit, PriceSchedule, SellerName};
use std::sync::Arc;

/// Turns that a chat template may add by itself: a default system message and the opening of the answer.
const TEMPLATE_TURNS_EXTRA: u64 = 2;

flags! {
    /// What an offer can do beyond plain text with temperature, `top_p`, `max_tokens` and stop strings;
    /// equally, what a request needs.
    Supports {
        /// Tool definitions and tool calls.
        TOOLS = 0, "tools";
        /// `response_format`.
        RESPONSE_FORMAT = 1, "response_format";
        /// Log-probabilities.
        LOGPROBS = 2, "logprobs";
        /// More than one choice.
        CHOICES = 3, "n";
        /// A seed that repeats.
        SEED = 4, "seed";
        /// Bias per token.
        LOGIT_BIAS = 5, "logit_bias";
        /// Presence and frequency penalties.
        PENALTIES = 6, "penalties";
        /// `top_k`.
        TOP_K = 7, "top_k";
        /// `min_p`.
        MIN_P = 8, "min_p";
        /// `repetition_penalty`.
        REPETITION_PENALTY = 9, "repetition_penalty";
        /// Reasoning: `reasoning` and `reasoning_effort`.
        REASONING = 10, "reasoning";
        /// Bills reasoning tokens that it does not show. Declared, because the market cannot count them.
        HIDDEN_REASONING = 11, "hidden_reasoning";
        /// Parts of a message that are not text, such as images.
        MEDIA = 12, "media";
        /// `response_format` with a JSON schema that is enforced.
        STRUCTURED_OUTPUTS = 13, "structured_outputs";
        /// `parallel_tool_calls`.
        PARALLEL_TOOLS = 14, "parallel_tool_calls";
        /// `verbosity`.
        VERBOSITY = 15, "verbosity";
        /// `top_a`.
        TOP_A = 16, "top_a";
        /// Takes the reasoning in a conversation's earlier turns back. Who does not, refuses it, or would not read it: it is
        /// left out.
        REASONING_REPLAY = 17, "reasoning_replay";
    }
}

flags! {
    /// What an offer serves, one member for each kind of request; equally, what a request is.
    Operations {
        /// Chats.
        CHAT = 0, "chat";
        /// Plain text completion.
        TEXT = 1, "text_completion";
        /// Embeddings.
        EMBEDDINGS = 2, "embeddings";
        /// Ranking of documents.
        RERANK = 3, "rerank";
        /// Pictures.
        IMAGES = 4, "images";
        /// Speech from text.
        SPEECH = 5, "speech";
        /// Text from speech.
        TRANSCRIPTION = 6, "transcription";
    }
}

impl Operations {
    /// Requests whose answers are text that can be capped at a number of tokens.
    pub const GENERATES: Self = Self::CHAT.with(Self::TEXT);

    /// What is counted beside tokens where a request is of this one kind.
    pub fn unit(self) -> Option<Unit> {
        match self {
            Self::RERANK => Some(Unit::Search),
            Self::IMAGES => Some(Unit::Image),
            Self::SPEECH => Some(Unit::Character),
            Self::TRANSCRIPTION => Some(Unit::Second),
            _ => None,
        }
    }
}

flags! {
    /// What a seller promises about prompts and answers; what is not promised is not so. The market
    /// repeats these declarations, it cannot see into other houses.
    DataPolicy {
        /// Nothing is kept beyond the request, but for what is needed to serve it.
        NO_RETENTION = 0, "no_retention";
        /// Nothing is used for training.
        NO_TRAINING = 1, "no_training";
        /// Zero data retention by contract. Implies the other two.
        ZDR = 2, "zdr";
    }
}

impl DataPolicy {
    /// What `data_collection: "deny"` demands.
    pub const NO_COLLECTION: Self = Self::NO_RETENTION.with(Self::NO_TRAINING);

    /// The set with everything that its members imply.
    #[must_use]
    pub const fn closed(self) -> Self {
        if self.contains(Self::ZDR) { self.with(Self::NO_COLLECTION) } else { self }
    }
}

/// How fast and how dear an offer is served, where a seller makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ServiceTier {
    /// The ordinary service.
    #[default]
    Default = 0,
    /// Faster and dearer.
    Priority = 1,
    /// Slower and cheaper.
    Flex = 2,
}

impl ServiceTier {
    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        ["default", "priority", "flex"][self as usize]
    }

    /// Reads [`ServiceTier::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Default, Self::Priority, Self::Flex].into_iter().find(|tier| tier.as_str() == text)
    }
}

/// What one unit of an offer is, where it does not sell by tokens alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unit {
    /// A picture.
    Image = 0,
    /// A second of audio.
    Second = 1,
    /// A character of text.
    Character = 2,
    /// A search.
    Search = 3,
}

impl Unit {
    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        ["image", "second", "character", "search"][self as usize]
    }

    /// Reads [`Unit::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Image, Self::Second, Self::Character, Self::Search].into_iter().find(|u| u.as_str() == text)
    }
}

/// How the weights are stored, as the seller says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Quantization {
    /// The seller does not say.
    #[default]
    Unknown = 0,
    /// Four-bit integers.
    Int4 = 1,
    /// Eight-bit integers.
    Int8 = 2,
    /// Four-bit floats.
    Fp4 = 3,
    /// Six-bit floats.
    Fp6 = 4,
    /// Eight-bit floats.
    Fp8 = 5,
    /// IEEE half precision.
    Fp16 = 6,
    /// Brain floats.
    Bf16 = 7,
    /// IEEE single precision.
    Fp32 = 8,
    /// Four-bit floats with shared scales by the OCP rule.
    Mxfp4 = 9,
    /// Four-bit floats with shared scales by NVIDIA's rule.
    Nvfp4 = 10,
    /// Eight-bit floats with shared scales by the OCP rule.
    Mxfp8 = 11,
}

impl Quantization {
    /// All values in order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Unknown,
        Self::Int4,
        Self::Int8,
        Self::Fp4,
        Self::Fp6,
        Self::Fp8,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Mxfp4,
        Self::Nvfp4,
        Self::Mxfp8,
    ];

    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        const WORDS: [&str; 12] = [
            "unknown", "int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32", "mxfp4", "nvfp4", "mxfp8",
        ];
        WORDS[self as usize]
    }

    /// Reads [`Quantization::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|q| q.as_str() == text)
    }
}

/// Upper bound of a prompt's tokens from what can be counted without a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptBound {
    /// Fewest bytes of UTF-8 that one token can stand for. Zero counts as 1.
    pub bytes_per_token_min: u32,
    /// Most tokens that the chat template adds for one message.
    pub per_message_tokens: u32,
}

impl PromptBound {
    /// Holds for every vocabulary whose tokens stand for at least one byte, with a generous template.
    pub const CAUTIOUS: Self = Self { bytes_per_token_min: 1, per_message_tokens: 16 };

    /// Most tokens that `bytes` of text in `messages` messages can become; saturates.
    pub fn tokens_max(self, bytes: u64, messages: u32) -> u64 {
        let text = bytes.div_ceil(u64::from(self.bytes_per_token_min.max(1)));
        let turns = u64::from(messages) + TEMPLATE_TURNS_EXTRA;
        text.saturating_add(turns * u64::from(self.per_message_tokens))
    }
}

/// Whether buyers pay, and what the same would cost where they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Free {
    /// They pay what is asked.
    #[default]
    No,
    /// A free variant, with limits of its own; nobody says what the same would cost.
    Unvalued,
    /// The same at a list price.
    Listed {
        /// What the same would cost.
        list: PriceSchedule,
        /// Who bears it.
        giver: Giver,
    },
}

/// A seller's standing offer for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The model as buyers name it.
    pub model: ModelSlug,
    /// Who serves, with its variant, region or tier after a `/`. Unique per model.
    pub seller: SellerName,
    /// What is asked; none when it is not known, and then nobody is sent there.
    pub prices: Option<PriceSchedule>,
    /// Longest prompt plus answer, in tokens.
    pub context_tokens_max: u64,
    /// Longest answer, in tokens, where that is less than the context.
    pub completion_tokens_max: Option<u64>,
    /// What it can do.
    pub supports: Supports,
    /// Requests in flight at most; none for no limit known.
    pub capacity: Option<u32>,
    /// Upper bound of prompt tokens.
    pub prompt_bound: PromptBound,
    /// How the weights are stored.
    pub quantization: Quantization,
    /// Where it runs, in the seller's words, such as `us-east5`.
    pub region: Option<Arc<str>>,
    /// Which kinds of requests it serves.
    pub operations: Operations,
    /// How fast and how dear.
    pub tier: ServiceTier,
    /// What its seller promises about prompts and answers.
    pub data: DataPolicy,
    /// What one unit is, where it does not sell by tokens alone.
    pub unit: Option<Unit>,
    /// Whether the model's author allows training on its answers.
    pub is_distillable: bool,
    /// Whether it is a free variant, with limits of its own.
    pub free: Free,
}

impl Offer {
    /// An ordinary offer of chats and text completions: nothing promised, no limit but the context, and
    /// all capabilities but hidden reasoning.
    pub fn new(
        model: ModelSlug,
        seller: SellerName,
        prices: Option<PriceSchedule>,
        context_tokens_max: u64,
    ) -> Self {
        Self {
            model,
            seller,
            prices,
            context_tokens_max,
            completion_tokens_max: None,
            supports: Supports::ALL.without(Supports::HIDDEN_REASONING),
            capacity: None,
            prompt_bound: PromptBound::CAUTIOUS,
            quantization: Quantization::Unknown,
            region: None,
            operations: Operations::CHAT.with(Operations::TEXT),
            tier: ServiceTier::Default,
            data: DataPolicy::NONE,
            unit: None,
            is_distillable: false,
            free: Free::No,
        }
    }
}

impl Offer {
    /// Whether what it asks by the unit can be billed: some kind of request that it serves has a unit, and all that have
    /// one have the one that is priced.
    pub fn is_billable(&self) -> bool {
        let priced = self.prices.is_some_and(|prices| prices.unit != PicoUsdPerUnit::ZERO);
        let units = || self.operations.members().filter_map(Operations::unit);
        let is_counted = |unit| units().next().is_some() && units().all(|counted| counted == unit);
        !priced || self.unit.is_some_and(is_counted)
    }
}

/// Position of an offer in its [`MarketSnapshot`](crate::MarketSnapshot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferIndex(pub u32);

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::PicoUsdPerToken;

    #[test]
    fn prompt_bound_counts_text_and_turns() {
        let bound = PromptBound { bytes_per_token_min: 2, per_message_tokens: 5 };
        assert_eq!(bound.tokens_max(7, 1), 4 + 3 * 5);
        assert_eq!(PromptBound { bytes_per_token_min: 0, ..bound }.tokens_max(7, 0), 7 + 2 * 5);
        assert_eq!(bound.tokens_max(u64::MAX, u32::MAX), u64::MAX / 2 + 1 + (u64::from(u32::MAX) + 2) * 5);
    }

    #[test]
    fn sets_name_their_members() {
        let set = Supports::TOOLS.with(Supports::SEED);
        assert_eq!(set.to_string(), "tools, seed");
        assert_eq!((Supports::parse("seed"), Supports::parse("sed")), (Some(Supports::SEED), None));
        assert_eq!((ServiceTier::parse("flex"), ServiceTier::parse("flux")), (Some(ServiceTier::Flex), None));
        assert_eq!((Unit::parse("search"), Unit::parse("")), (Some(Unit::Search), None));
        assert!(Supports::ALL.contains(set) && !set.contains(Supports::ALL));
        assert_eq!(set.without(Supports::TOOLS), Supports::SEED);
        assert_eq!(Supports::ALL.members().count(), 18);
    }

    #[test]
    fn a_price_by_the_unit_needs_the_unit_that_is_counted() {
        let check = |operations, unit, price, want| {
            let prices = PriceSchedule {
                unit: PicoUsdPerUnit(price),
                ..PriceSchedule::per_token(PicoUsdPerToken(1), PicoUsdPerToken(1))
            };
            let (model, seller) = (ModelSlug::parse("m").unwrap(), SellerName::parse("s").unwrap());
            let offer = Offer { operations, unit, ..Offer::new(model, seller, Some(prices), 1) };
            assert_eq!(offer.is_billable(), want, "{operations} by the {unit:?}");
        };
        let both = Operations::SPEECH.with(Operations::TRANSCRIPTION);
        check(Operations::IMAGES, Some(Unit::Image), 1, true);
        check(Operations::IMAGES, Some(Unit::Second), 1, false);
        check(Operations::IMAGES, None, 1, false);
        check(Operations::IMAGES, None, 0, true);
        check(Operations::CHAT, Some(Unit::Image), 1, false);
        check(Operations::CHAT.with(Operations::IMAGES), Some(Unit::Image), 1, true);
        check(both, Some(Unit::Second), 1, false);
        check(both, None, 0, true);
    }

    #[test]
    fn zero_retention_implies_the_rest() {
        assert_eq!(DataPolicy::ZDR.closed(), DataPolicy::ALL);
        assert_eq!(DataPolicy::NO_TRAINING.closed(), DataPolicy::NO_TRAINING);
    }

    #[test]
    fn quantization_words_round_trip() {
        for (number, q) in Quantization::ALL.into_iter().enumerate() {
            assert_eq!(q as usize, number);
            assert_eq!(Quantization::parse(q.as_str()), Some(q));
        }
    }
}
