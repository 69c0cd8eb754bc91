//! The sampler: masks, penalties, noise, replay.

use super::noise::StepNoise;
use super::*;
use crate::math;
use crate::testing::Random;

fn logits(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.float() * 8.0).collect()
}

fn pick(logits: &[f32], params: &SamplingParams, seed: u8, step: u32) -> u32 {
    replay_choice(&[seed; 32], step, logits, params, &[], &[])
}

/// The choice as the specification words it: every candidate's sum, no shortcut.
fn pick_plainly(logits: &[f32], temperature: f32, seed: u8, step: u32) -> u32 {
    let noise = StepNoise::new(&[seed; 32], step);
    let sum = |token: usize| {
        f64::from(logits[token]) / f64::from(temperature) + StepNoise::gumbel(noise.bits(token as u32))
    };
    (0..logits.len()).fold(0, |best, token| if sum(token) > sum(best) { token } else { best }) as u32
}

#[test]
fn skipping_hopeless_tokens_never_changes_the_choice() {
    for seed in 0..20 {
        let logits = logits(u64::from(seed), 3000);
        for (step, temperature) in [(0, 1.0), (1, 0.3), (2, 3.0), (3, 100.0), (4, 0.01)] {
            let params = SamplingParams { temperature, ..SamplingParams::default() };
            assert_eq!(pick(&logits, &params, seed, step), pick_plainly(&logits, temperature, seed, step));
        }
    }
}

#[test]
fn frequencies_are_the_softmax() {
    let logits = [2.0, 1.0, 0.0, -1.0];
    let mut counts = [0.0; 4];
    let draws = 20_000;
    for step in 0..draws {
        counts[pick(&logits, &SamplingParams::default(), 7, step) as usize] += 1.0 / f64::from(draws);
    }
    let total: f64 = logits.iter().map(|&logit| math::exp(f64::from(logit))).sum();
    for (token, &logit) in logits.iter().enumerate() {
        let expected = math::exp(f64::from(logit)) / total;
        assert!((counts[token] - expected).abs() < 0.015, "token {token}: {} of {expected}", counts[token]);
    }
}

#[test]
fn temperature_zero_takes_the_largest_and_the_lowest_id_among_equals() {
    let check =
        |logits: &[f32], expected| assert_eq!(pick(logits, &SamplingParams::greedy(), 1, 1), expected);
    check(&[0.0, 3.0, 3.0, 1.0], 1);
    check(&[-5.0], 0);
    check(&[f32::NAN, -1.0, f32::NAN, 2.0], 3);
    check(&[f32::NAN, f32::NAN], 0);
    check(&[f32::NEG_INFINITY, -1e30], 1);
}

/// The tokens that are ever chosen.
fn support(logits: &[f32], params: &SamplingParams) -> Vec<u32> {
    let mut seen: Vec<u32> = (0..3000).map(|step| pick(logits, params, 3, step)).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn masks_leave_what_they_say() {
    // Probabilities 0.5, 0.25, 0.125, 0.125, in another order than the ids.
    let logits = [0.25_f64, 0.125, 0.5, 0.125].map(|p| math::ln(p) as f32);
    let base = SamplingParams::default();
    let check = |params: SamplingParams, expected: &[u32]| {
        assert_eq!(support(&logits, &params), expected, "{params:?}");
    };
    check(base.clone(), &[0, 1, 2, 3]);
    check(SamplingParams { top_k: 2, ..base.clone() }, &[0, 2]);
    check(SamplingParams { top_k: 3, ..base.clone() }, &[0, 1, 2]);
    check(SamplingParams { top_p: 0.49, ..base.clone() }, &[2]);
    check(SamplingParams { top_p: 0.7, ..base.clone() }, &[0, 2]);
    check(SamplingParams { top_p: 0.8, ..base.clone() }, &[0, 1, 2]);
    check(SamplingParams { min_p: 0.6, ..base.clone() }, &[2]);
    check(SamplingParams { min_p: 0.3, ..base.clone() }, &[0, 2]);
    check(SamplingParams { min_p: 0.2, ..base.clone() }, &[0, 1, 2, 3]);
    // After top-k 2 the likelier has two thirds.
    check(SamplingParams { top_k: 2, top_p: 0.6, ..base.clone() }, &[2]);
    check(SamplingParams { top_k: 1, min_p: 1.0, ..base }, &[2]);
}

#[test]
fn a_nucleus_larger_than_the_first_sort_is_complete() {
    let flat = vec![0.0; 600];
    let params = SamplingParams { top_p: 0.9, ..SamplingParams::default() };
    let seen = support(&flat, &params);
    assert!(seen.len() > 500 && seen.iter().all(|&token| token < 541), "{} tokens", seen.len());
}

#[test]
fn masks_do_not_reshuffle_what_they_leave() {
    let logits = logits(5, 500);
    for step in 0..300 {
        let free = pick(&logits, &SamplingParams::default(), 9, step);
        let masked = pick(&logits, &SamplingParams { top_k: 400, ..SamplingParams::default() }, 9, step);
        let rank = logits.iter().filter(|&&logit| logit > logits[free as usize]).count();
        assert!(free == masked || rank >= 400, "step {step}");
    }
}

#[test]
fn penalties_and_bias_change_single_logits() {
    let greedy = SamplingParams::greedy();
    let check = |params: SamplingParams, prompt: &[u32], answer: &[u32], expected| {
        let found = replay_choice(&[0; 32], 0, &[2.0, 1.5, 1.0, -1.0], &params, prompt, answer);
        assert_eq!(found, expected, "{params:?}");
    };
    check(greedy.clone(), &[0], &[0], 0);
    check(SamplingParams { repetition_penalty: 1.5, ..greedy.clone() }, &[0], &[], 1);
    check(SamplingParams { repetition_penalty: 1.2, ..greedy.clone() }, &[0], &[], 0);
    // Presence and frequency look at the answer alone.
    check(SamplingParams { presence_penalty: 0.6, ..greedy.clone() }, &[0, 0], &[], 0);
    check(SamplingParams { presence_penalty: 0.6, ..greedy.clone() }, &[], &[0], 1);
    check(SamplingParams { frequency_penalty: 0.3, ..greedy.clone() }, &[], &[0], 0);
    check(SamplingParams { frequency_penalty: 0.3, ..greedy.clone() }, &[], &[0, 0], 1);
    check(SamplingParams { logit_bias: vec![(3, 4.0)], ..greedy.clone() }, &[], &[], 3);
    check(SamplingParams { logit_bias: vec![(0, -100.0), (1, -100.0)], ..greedy.clone() }, &[], &[], 2);
    // A history token outside the vocabulary has no effect.
    check(SamplingParams { repetition_penalty: 1.5, ..greedy }, &[99], &[98], 0);
}

#[test]
fn log_probabilities_are_of_the_unmodified_logits() {
    let logits = [0.5_f64, 0.25, 0.125, 0.125].map(|p| (math::ln(p) + 3.0) as f32);
    let found = logprobs(&logits, 1, 3);
    assert!((f64::from(found.chosen) - math::ln(0.25)).abs() < 1e-6);
    let tokens: Vec<u32> = found.top.iter().map(|entry| entry.token).collect();
    assert_eq!(tokens, [0, 1, 2]);
    assert!((f64::from(found.top[0].logprob) - math::ln(0.5)).abs() < 1e-6);
    assert!(logprobs(&logits, 0, 0).top.is_empty());
    assert_eq!(logprobs(&logits, 0, 20).top.len(), 4);
}

#[test]
fn noise_is_the_same_for_ever() {
    // Golden: these values are part of the sampler's specification.
    let noise = StepNoise::new(&[1; 32], 5);
    let found: Vec<u64> = [0, 1, 49_151].into_iter().map(|token| noise.bits(token)).collect();
    assert_eq!(found, GOLDEN_BITS);
    assert!(StepNoise::gumbel(u64::MAX).is_finite() && StepNoise::gumbel(0).is_finite());
    assert!(StepNoise::gumbel(u64::MAX) < 37.5);
}

const GOLDEN_BITS: [u64; 3] =
    [8_564_633_024_723_738_223, 8_016_519_152_100_058_054, 13_122_659_373_482_929_603];

#[test]
fn parameters_are_checked_at_their_bounds() {
    let good = SamplingParams::default();
    let check = |params: SamplingParams, field: Option<&str>| {
        assert_eq!(params.validate(10).err().map(|error| error.field), field, "{params:?}");
    };
    check(good.clone(), None);
    for (value, field) in
        [(0.0, None), (100.0, None), (100.1, Some("temperature")), (-0.1, Some("temperature"))]
    {
        check(SamplingParams { temperature: value, ..good.clone() }, field);
    }
    check(SamplingParams { temperature: f32::NAN, ..good.clone() }, Some("temperature"));
    for (value, field) in
        [(1.0, None), (1e-6, None), (0.0, Some("top_p")), (1.01, Some("top_p")), (f32::NAN, Some("top_p"))]
    {
        check(SamplingParams { top_p: value, ..good.clone() }, field);
    }
    for (value, field) in [(0.0, None), (1.0, None), (-0.01, Some("min_p")), (1.01, Some("min_p"))] {
        check(SamplingParams { min_p: value, ..good.clone() }, field);
    }
    check(SamplingParams { repetition_penalty: 0.0, ..good.clone() }, Some("repetition_penalty"));
    check(SamplingParams { presence_penalty: 1000.5, ..good.clone() }, Some("presence_penalty"));
    check(SamplingParams { frequency_penalty: f32::INFINITY, ..good.clone() }, Some("frequency_penalty"));
    check(SamplingParams { logit_bias: vec![(9, 1000.0)], ..good.clone() }, None);
    check(SamplingParams { logit_bias: vec![(10, 0.0)], ..good.clone() }, Some("logit_bias"));
    check(SamplingParams { logit_bias: vec![(1, 0.0), (1, 0.0)], ..good.clone() }, Some("logit_bias"));
    let bias = |count: u32| (0..count).map(|token| (token, 0.0)).collect();
    let full = SamplingParams { logit_bias: bias(1024), ..good.clone() };
    assert_eq!(full.validate(2000), Ok(()));
    let over = SamplingParams { logit_bias: bias(1025), ..good };
    assert_eq!(over.validate(2000).map_err(|error| error.field), Err("logit_bias"));
}
