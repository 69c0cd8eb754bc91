//! Which token comes next: a pure function of logits, parameters, history and seed.
//!
//! The choice is seeded and counter-based. At step *t* every token *v* has its own Gumbel noise
//! `g = −ln(−ln u)`, `u` from a hash of (run seed, t, v), and the choice is the token with the largest
//! `logit / temperature + g` among those that the masks leave. That draws from exactly the softmax
//! distribution, and because the noise belongs to (t, v) instead of to a running generator, neither batching
//! nor masks nor speculation reshuffle it. An auditor with the logits replays the choice: [`replay_choice`].
//!
//! Order of operations (part of `SAMPLER_SPEC`; changing it changes the specification's name):
//! 1. penalties: repetition over prompt and answer, presence and frequency over the answer;
//! 2. logit bias is added;
//! 3. temperature 0 takes the largest logit, the lowest id among equals, and ends here;
//! 4. logits are divided by the temperature; top-k, then top-p, then min-p mask (ties towards lower ids);
//! 5. noise is added and the largest sum wins, the lowest id among equals.
//!
//! Log-probabilities are reported from the model's unmodified logits, so that they do not depend on the
//! sampling parameters. All arithmetic uses the house's own exponential and logarithm (`math`).

mod choice;
mod noise;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub(crate) use choice::{History, choose, logprobs};

/// Most entries of a logit bias.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Most alternatives reported beside each chosen token.
pub const LOGPROBS_MAX: u8 = 20;
/// Highest temperature.
const TEMPERATURE_MAX: f32 = 100.0;
/// Largest magnitude of presence and frequency penalties and of a bias.
const PENALTY_MAX: f32 = 1000.0;

/// Why sampling parameters are refused: the field, and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} must be {requirement}")]
pub struct SamplingError {
    /// The field's name.
    pub field: &'static str,
    /// What its value must be.
    pub requirement: &'static str,
}

/// How the next token is drawn. `Default` is plain sampling: temperature 1 and no masks.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 always takes the most likely token. 0 to 100.
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities together reach this; 1 keeps all. Above 0, to 1.
    pub top_p: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all. 0 to 1.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer; 1 does nothing.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token that the answer has. −1000 to 1000.
    pub presence_penalty: f32,
    /// Subtracted for each time that the answer has the token. −1000 to 1000.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens, −1000 to 1000 each; at most [`LOGIT_BIAS_MAX`], each token once.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every field, for a vocabulary of `vocab_size` tokens.
    pub fn validate(&self, vocab_size: usize) -> Result<(), SamplingError> {
        let check = |good: bool, field, requirement| {
            if good { Ok(()) } else { Err(SamplingError { field, requirement }) }
        };
        check((0.0..=TEMPERATURE_MAX).contains(&self.temperature), "temperature", "between 0 and 100")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", "above 0 and at most 1")?;
        check((0.0..=1.0).contains(&self.min_p), "min_p", "between 0 and 1")?;
        let repetition = self.repetition_penalty;
        check((0.01..=100.0).contains(&repetition), "repetition_penalty", "between 0.01 and 100")?;
        let allowed = -PENALTY_MAX..=PENALTY_MAX;
        let requirement = "between -1000 and 1000";
        check(allowed.contains(&self.presence_penalty), "presence_penalty", requirement)?;
        check(allowed.contains(&self.frequency_penalty), "frequency_penalty", requirement)?;
        check(self.logit_bias.len() <= LOGIT_BIAS_MAX, "logit_bias", "at most 1024 entries")?;
        check(self.logit_bias.iter().all(|(_, bias)| allowed.contains(bias)), "logit_bias", requirement)?;
        let known = self.logit_bias.iter().all(|&(token, _)| (token as usize) < vocab_size);
        check(known, "logit_bias", "of tokens in the vocabulary")?;
        let mut tokens: Vec<u32> = self.logit_bias.iter().map(|&(token, _)| token).collect();
        tokens.sort_unstable();
        check(tokens.windows(2).all(|pair| pair[0] != pair[1]), "logit_bias", "without repeated tokens")
    }
}

/// A token and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// ln of its probability under the model's unmodified logits.
    pub logprob: f32,
}

/// The chosen token's log-probability and the most likely alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The chosen token's.
    pub chosen: f32,
    /// The most likely tokens, most likely first; as many as were asked for.
    pub top: Vec<TokenLogprob>,
}

/// Repeats one choice: the token at zero-based `step` of the answer.
///
/// `logits` are the model's for that step, `prompt` and `answer` the tokens before it. The parameters must
/// have been validated for `logits.len()` tokens; a history token outside the vocabulary has no effect.
pub fn replay_choice(
    run_seed: &[u8; 32],
    step: u32,
    logits: &[f32],
    params: &SamplingParams,
    prompt: &[u32],
    answer: &[u32],
) -> u32 {
    let mut history = History::new(params, prompt);
    for &token in answer {
        history.push(token);
    }
    choose(run_seed, step, logits, params, &history)
}
