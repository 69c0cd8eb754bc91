//! What makes one simulated seller differ from another.

use super::answer_script::AnswerScript;
use super::cache::CacheLaw;
use super::fault::Fault;
use super::models::ModelList;
use super::rate::RateLaw;
use super::shape::Shape;
use super::text::TokenLaw;
use crate::seed::Random;
use bourse_types::PicoUsdPerToken;
use std::time::{Duration, SystemTime};

/// Tokens of an answer that no `max_tokens` cuts, unless configured otherwise.
const COMPLETION_TOKENS_DEFAULT: usize = 16;
/// Concurrent generations before the seller answers 429, unless configured otherwise.
const CAPACITY_DEFAULT: usize = 1_024;

/// One model on a price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The seller's own name for the model.
    pub id: String,
    /// Per prompt token.
    pub price_prompt: PicoUsdPerToken,
    /// Per generated token.
    pub price_completion: PicoUsdPerToken,
    /// Longest prompt and completion together, in tokens; told, not enforced.
    pub context_length_tokens: u64,
}

impl Listing {
    /// A model at 0.1 and 0.4 dollars per million tokens, with a context of 32,768 tokens.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            price_prompt: PicoUsdPerToken(100_000),
            price_completion: PicoUsdPerToken(400_000),
            context_length_tokens: 32_768,
        }
    }
}

/// How fast a seller is. Zero means as fast as the socket takes it, without a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpeedLaw {
    /// Wait before the first token.
    pub first_token: Duration,
    /// Wait before each further token.
    pub per_token: Duration,
}

/// The waits inside faults that are about waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultTiming {
    /// Between two pieces of [`Fault::SlowDrip`], and between two comments.
    pub drip: Duration,
    /// The silence of [`Fault::IdleGap`]; longer than any idle timeout in use.
    pub gap: Duration,
}

impl Default for FaultTiming {
    fn default() -> Self {
        Self { drip: Duration::from_millis(2), gap: Duration::from_hours(1) }
    }
}

/// Which fault meets which request. A request may override it: by the header `x-sim-fault`, by
/// `metadata.sim_fault` in the body (where the shape's metadata is free: not Anthropic's), or by a model
/// name that ends in `@fault-name`, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FaultScript {
    /// An honest seller.
    #[default]
    Never,
    /// Every request.
    Always(Fault),
    /// The first request meets the first entry, and so on; behind the end of the list all is well.
    InOrder(Vec<Option<Fault>>),
    /// A share of the requests, each meeting one of all faults, drawn from a seed.
    Seeded {
        /// The seed.
        seed: u64,
        /// Requests in 1,000 that meet a fault.
        permille: u16,
    },
}

impl FaultScript {
    /// The fault of the request with this number (from 0), if any.
    pub fn choose(&self, order: u64) -> Option<Fault> {
        match self {
            Self::Never => None,
            Self::Always(fault) => Some(*fault),
            Self::InOrder(list) => usize::try_from(order).ok().and_then(|at| list.get(at).copied().flatten()),
            Self::Seeded { seed, permille } => {
                let mut random = Random::new(seed.wrapping_add(crate::seed::mix(order)));
                if random.permille(*permille) { random.pick(Fault::ALL).copied() } else { None }
            }
        }
    }
}

/// One seller.
#[derive(Clone, PartialEq, Eq)]
pub struct SellerConfig {
    /// Its name, which also seeds its noise.
    pub name: String,
    /// What it sells.
    pub listings: Vec<Listing>,
    /// How it counts.
    pub tokens: TokenLaw,
    /// How fast it is.
    pub speed: SpeedLaw,
    /// Generations at a time; one more is answered 429.
    pub capacity: usize,
    /// Words in 1,000 that are as the model would have said them.
    pub quality_permille: u16,
    /// Length of an answer that `max_tokens` does not cut, in words.
    pub completion_words: usize,
    /// How it misbehaves.
    pub faults: FaultScript,
    /// The waits inside faults.
    pub timing: FaultTiming,
    /// The key that it asks for; any other is answered 401.
    pub bearer: Option<String>,
    /// Size of the pieces that a body is written in; `None` writes each event whole.
    pub write_bytes: Option<usize>,
    /// The time of day that its answers tell; `None` reads the machine's clock.
    pub time_of_day: Option<SystemTime>,
    /// The API shapes that it speaks, each at its own path.
    pub shapes: Vec<Shape>,
    /// What it says when all is well.
    pub answers: AnswerScript,
    /// How it caches prompts; `None` does not.
    pub cache: Option<CacheLaw>,
    /// How many calls a second it takes; `None` takes all that its capacity allows.
    pub rate: Option<RateLaw>,
    /// Whether its models see; images are refused otherwise.
    pub takes_images: bool,
    /// How it lists its models at `GET /v1/models`.
    pub model_list: ModelList,
}

impl SellerConfig {
    /// An honest, fast seller of one model.
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listings: vec![Listing::new(model)],
            tokens: TokenLaw::default(),
            speed: SpeedLaw::default(),
            capacity: CAPACITY_DEFAULT,
            quality_permille: 1_000,
            completion_words: COMPLETION_TOKENS_DEFAULT,
            faults: FaultScript::Never,
            timing: FaultTiming::default(),
            bearer: None,
            write_bytes: None,
            time_of_day: None,
            shapes: vec![Shape::Chat, Shape::Completions],
            answers: AnswerScript::default(),
            cache: None,
            rate: None,
            takes_images: true,
            model_list: ModelList::default(),
        }
    }

    /// The same seller, speaking these shapes.
    #[must_use]
    pub fn with_shapes(mut self, shapes: impl IntoIterator<Item = Shape>) -> Self {
        self.shapes = shapes.into_iter().collect();
        self
    }

    /// The same seller, saying this.
    #[must_use]
    pub fn with_answers(mut self, answers: AnswerScript) -> Self {
        self.answers = answers;
        self
    }

    /// The same seller with this fault script.
    #[must_use]
    pub fn with_faults(mut self, faults: FaultScript) -> Self {
        self.faults = faults;
        self
    }
}

impl std::fmt::Debug for SellerConfig {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SellerConfig")
            .field("name", &self.name)
            .field("shapes", &self.shapes)
            .field("listings", &self.listings)
            .field("speed", &self.speed)
            .field("capacity", &self.capacity)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_choose_by_order_and_seed() {
        let list = FaultScript::InOrder(vec![Some(Fault::Refuse), None, Some(Fault::GzipBody)]);
        let chosen: Vec<_> = (0..4).map(|order| list.choose(order)).collect();
        assert_eq!(chosen, [Some(Fault::Refuse), None, Some(Fault::GzipBody), None]);

        let seeded = FaultScript::Seeded { seed: 3, permille: 250 };
        let hit = (0..4_000).filter(|order| seeded.choose(*order).is_some()).count();
        assert!((900..1_100).contains(&hit), "{hit}");
        assert_eq!(seeded.choose(17), seeded.choose(17));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let config = SellerConfig { bearer: Some("sk-canary".to_owned()), ..SellerConfig::new("a", "m") };
        assert!(!format!("{config:?}").contains("canary"));
    }
}
