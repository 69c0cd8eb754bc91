//! Penalties, masks and the draw.

use std::borrow::Cow;
use std::collections::HashMap;

use super::noise::{GUMBEL_MAX, StepNoise};
use super::{SamplingParams, TokenLogprob, TokenLogprobs};
use crate::math;

/// A nucleus is mostly small, so so many tokens are sorted first, and more only when they do not suffice.
const NUCLEUS_FIRST: usize = 128;
const NUCLEUS_GROWTH: usize = 8;

/// How often each token has occurred, as far as the parameters need to know.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// Occurrences in the answer by token; tokens of the prompt are present with zero if repetition counts.
    counts: HashMap<u32, u32>,
    active: Active,
}

/// Which penalties do anything; without one the history is not kept.
#[derive(Debug, Clone, Copy)]
enum Active {
    None,
    Answer,
    PromptAndAnswer,
}

impl History {
    #[expect(clippy::float_cmp, reason = "1 and 0 are the exact values that switch a penalty off")]
    pub(crate) fn new(params: &SamplingParams, prompt: &[u32]) -> Self {
        let active = if params.repetition_penalty != 1.0 {
            Active::PromptAndAnswer
        } else if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
            Active::Answer
        } else {
            Active::None
        };
        let counts = match active {
            Active::PromptAndAnswer => prompt.iter().map(|&token| (token, 0)).collect(),
            Active::None | Active::Answer => HashMap::new(),
        };
        Self { counts, active }
    }

    pub(crate) fn push(&mut self, token: u32) {
        if !matches!(self.active, Active::None) {
            *self.counts.entry(token).or_insert(0) += 1;
        }
    }

    /// Each token's logit is changed by its own count alone, so the map's order does not matter.
    fn penalise(&self, params: &SamplingParams, logits: &mut [f32]) {
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            let repetition = params.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
            if count > 0 {
                *logit -= params.presence_penalty + params.frequency_penalty * count as f32;
            }
        }
    }
}

/// The token at `step`. Logits that are not numbers are never chosen unless all are; then token 0 is.
pub(crate) fn choose(
    run_seed: &[u8; 32],
    step: u32,
    logits: &[f32],
    params: &SamplingParams,
    history: &History,
) -> u32 {
    let mut logits = Cow::Borrowed(logits);
    if !history.counts.is_empty() || !params.logit_bias.is_empty() {
        let logits = logits.to_mut();
        history.penalise(params, logits);
        for &(token, bias) in &params.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }
    let (best, best_logit) = largest(&logits);
    if params.temperature <= 0.0 || !best_logit.is_finite() {
        return best;
    }
    let noise = StepNoise::new(run_seed, step);
    let temperature = f64::from(params.temperature);
    if params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0.0 {
        return draw(noise, temperature, best, best_logit, each(&logits));
    }
    let kept = masked(&logits, params, best_logit);
    draw(noise, temperature, best, best_logit, kept.into_iter())
}

fn each(logits: &[f32]) -> impl Iterator<Item = (u32, f32)> + '_ {
    logits.iter().enumerate().map(|(token, &logit)| (token as u32, logit))
}

/// The largest logit and its token, the lowest id among equals. NaN never wins.
fn largest(logits: &[f32]) -> (u32, f32) {
    // The value first, in lanes, which the compiler makes vectors of; then the first place that has it.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let best = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |best, &logit| best.max(logit));
    #[expect(clippy::float_cmp, reason = "the value was taken from this very slice")]
    let token = logits.iter().position(|&logit| logit == best).unwrap_or(0);
    (token as u32, best)
}

/// The largest `logit / temperature + noise`.
///
/// Most tokens are so unlikely that only an extreme noise could lift them to the top; whether a token's
/// noise is that extreme shows in the leading ones of its 64 bits, without a logarithm. The bound is
/// conservative (noise ≥ n·ln 2 needs at least n leading ones less one), so skipping never changes the
/// choice.
fn draw(
    noise: StepNoise,
    temperature: f64,
    best: u32,
    best_logit: f32,
    candidates: impl Iterator<Item = (u32, f32)>,
) -> u32 {
    let mut winner = best;
    let mut winner_sum = f64::from(best_logit) / temperature + StepNoise::gumbel(noise.bits(best));
    for (token, logit) in candidates {
        let z = f64::from(logit) / temperature;
        let needed = winner_sum - z;
        if needed.is_nan() || needed > GUMBEL_MAX {
            continue;
        }
        let bits = noise.bits(token);
        if f64::from(bits.leading_ones()) < needed * std::f64::consts::LOG2_E - 2.0 {
            continue;
        }
        let sum = z + StepNoise::gumbel(bits);
        if sum > winner_sum || (sum >= winner_sum && token < winner) {
            (winner, winner_sum) = (token, sum);
        }
    }
    winner
}

/// The tokens that top-k, top-p and min-p leave.
fn masked(logits: &[f32], params: &SamplingParams, best_logit: f32) -> Vec<(u32, f32)> {
    let vocab = logits.len();
    let k = if params.top_k == 0 { vocab } else { vocab.min(params.top_k as usize) };
    let temperature = f64::from(params.temperature);
    let weight = |logit: f32| math::exp((f64::from(logit) - f64::from(best_logit)) / temperature);
    let mut ranked = Ranked::new(logits);
    let mut kept = if params.top_p < 1.0 {
        // The total is added in order of ids, so that it has one value.
        let total: f64 = if k == vocab {
            logits.iter().filter(|logit| !logit.is_nan()).map(|&logit| weight(logit)).sum()
        } else {
            let mut kept = ranked.first(k).to_vec();
            kept.sort_unstable_by_key(|&(token, _)| token);
            kept.iter().map(|&(_, logit)| weight(logit)).sum()
        };
        ranked.nucleus(k, total * f64::from(params.top_p), weight)
    } else if k == vocab {
        each(logits).filter(|&(_, logit)| weight(logit) >= f64::from(params.min_p)).collect()
    } else {
        ranked.first(k).to_vec()
    };
    // The most likely token's weight is exactly 1, so at least one token stays.
    kept.retain(|&(_, logit)| weight(logit) >= f64::from(params.min_p));
    kept
}

/// Tokens in order of falling logit, then rising id; sorted only as far as asked for.
struct Ranked {
    tokens: Vec<(u32, f32)>,
}

impl Ranked {
    fn new(logits: &[f32]) -> Self {
        Self { tokens: each(logits).filter(|(_, logit)| !logit.is_nan()).collect() }
    }

    fn first(&mut self, count: usize) -> &[(u32, f32)] {
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let count = count.min(self.tokens.len());
        if count < self.tokens.len() && count > 0 {
            self.tokens.select_nth_unstable_by(count - 1, order);
        }
        self.tokens[..count].sort_unstable_by(order);
        &self.tokens[..count]
    }

    /// The first of at most `limit` tokens whose weights reach `target`, one at least.
    fn nucleus(&mut self, limit: usize, target: f64, weight: impl Fn(f32) -> f64) -> Vec<(u32, f32)> {
        let limit = limit.min(self.tokens.len());
        let mut sorted = NUCLEUS_FIRST;
        loop {
            let ranked = self.first(sorted.min(limit));
            let mut reached = 0.0;
            let enough = ranked.iter().position(|&(_, logit)| {
                reached += weight(logit);
                reached >= target
            });
            match enough {
                Some(at) => return ranked[..=at].to_vec(),
                None if sorted >= limit => return ranked.to_vec(),
                None => sorted *= NUCLEUS_GROWTH,
            }
        }
    }
}

/// The chosen token's log-probability and the `top` most likely ones, from unmodified logits.
pub(crate) fn logprobs(logits: &[f32], chosen: u32, top: u8) -> TokenLogprobs {
    let (_, best) = largest(logits);
    let best = f64::from(best);
    let total: f64 = logits.iter().map(|&logit| math::exp(f64::from(logit) - best)).sum();
    let shift = best + math::ln(total);
    let logprob = |logit: f32| (f64::from(logit) - shift) as f32;
    TokenLogprobs {
        chosen: logits.get(chosen as usize).map_or(f32::NEG_INFINITY, |&logit| logprob(logit)),
        top: Ranked::new(logits)
            .first(top.into())
            .iter()
            .map(|&(token, logit)| TokenLogprob { token, logprob: logprob(logit) })
            .collect(),
    }
}
