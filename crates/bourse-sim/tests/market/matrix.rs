//! The whole list of faults: every fault in every grammar of sellers, met by every front, in one piece and streamed,
//! alone and before an honest seller.
//!
//! What is expected is the simulator's table for the seller's grammar; what the buyer gets is read by the simulator's
//! own reader of the front's grammar. Whatever happens, a buyer sees one terminal, one status and one envelope of the
//! grammar that it speaks, the books have one receipt and balance, and no seller is left working.

use crate::piped::{CHAT, FRONTS, GRAMMARS, Grammar, MESSAGES, MODEL, Market, Stand, Told, timeouts};
use bourse_sim::upstream::{
    Ask, Ending, Expectation, Fault, FaultScript, FaultTiming, Mode, SellerConfig, Shape, UsageRule,
};
use bourse_types::NanoUsd;
use bourse_wire::receipt::Finish;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
struct Case {
    fault: Fault,
    grammar: Grammar,
    front: Shape,
    mode: Mode,
    expectation: Expectation,
}

/// Every case that has a meaning.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for front in FRONTS {
        for grammar in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
            for mode in Mode::ALL {
                for fault in Fault::ALL.iter().copied() {
                    let expectation = expected(fault, grammar, front, mode);
                    cases.extend(expectation.map(|expectation| Case {
                        fault,
                        grammar,
                        front,
                        mode,
                        expectation,
                    }));
                }
            }
        }
    }
    cases
}

/// What the table says; of an answer in one piece that is gathered, whether it is whole is told by the stream: one that ends
/// without a reason may have been cut, and nothing of it has gone out.
fn expected(fault: Fault, grammar: Grammar, front: Shape, mode: Mode) -> Option<Expectation> {
    let is_gathered = mode == Mode::Plain && grammar.is_gathered(front);
    if !is_gathered || fault != Fault::DoneWithoutFinish {
        return fault.expectation_in(grammar.shape, mode);
    }
    let streamed = fault.expectation_in(grammar.shape, Mode::Stream)?;
    Some(if streamed == Expectation::BreaksOff { Expectation::FailsOver { status: 502 } } else { streamed })
}

impl Case {
    fn label(&self, told: &Told) -> String {
        let Self { fault, grammar, front, mode, .. } = self;
        let text: String = told.response.text().chars().take(6_000).collect();
        format!("{fault} of {} to {front} {mode:?}: {} {text}", grammar.shape, told.response.status)
    }

    fn faulty(&self) -> Stand {
        let timing = FaultTiming { drip: Duration::from_millis(1), gap: timeouts().idle * 3 };
        let config = SellerConfig { timing, ..SellerConfig::new("faulty", MODEL) };
        Stand::new(self.grammar, config.with_faults(FaultScript::Always(self.fault)))
    }

    fn body(&self, order: &[&str]) -> Value {
        let members = json!({"provider": {"order": order}});
        Ask::new(self.front, self.mode, MODEL).with(&members).body()
    }
}

/// The words of an error type in each grammar, by status.
fn words(status: u16) -> (&'static str, &'static str, &'static str, &'static str) {
    match status {
        429 => ("rate_limit_exceeded", "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
        502 => ("provider_unavailable", "server_error", "api_error", "server_error"),
        503 => ("provider_overloaded", "server_error", "overloaded_error", "server_error"),
        504 => ("timeout", "server_error", "timeout_error", "server_error"),
        other => panic!("no words for {other}"),
    }
}

/// The envelope of an error that took the place of an answer.
fn check_envelope(front: Shape, told: &Told, status: u16, label: &str) {
    assert_eq!(told.response.status, status, "{label}");
    let (ours, openai, anthropic, _) = words(status);
    let body = told.response.json();
    let error = &body["error"];
    assert_eq!(error["metadata"]["error_type"], ours, "{label}");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("faulty")), "{label}: says who failed");
    if front == Shape::Messages {
        assert_eq!((&body["type"], &error["type"]), (&json!("error"), &json!(anthropic)), "{label}");
    } else {
        assert_eq!((&error["code"], &error["type"]), (&json!(status), &json!(openai)), "{label}");
        assert!(error.get("param").is_some() && body.get("type").is_none(), "{label}");
    }
}

/// One terminal that is an error, in the grammar of the front.
fn check_broken(front: Shape, told: &Told, status: u16, label: &str) {
    assert_eq!(told.response.status, 200, "{label}");
    assert_eq!(told.heard.errors, 1, "{label}");
    assert_eq!(told.heard.violations, Vec::<String>::new(), "{label}");
    assert!(!told.heard.text.is_empty(), "{label}");
    let ends = usize::from(front == Shape::Chat);
    assert_eq!(told.heard.ends, ends, "{label}");
    let (ours, _, anthropic, responses) = words(status);
    let documents = told.documents();
    let last = documents.last().expect("a document");
    let error = told.error();
    match front {
        Shape::Messages => {
            assert_eq!((&last["type"], &error["type"]), (&json!("error"), &json!(anthropic)), "{label}");
            assert_eq!(error["metadata"]["error_type"], ours, "{label}");
        }
        Shape::Responses => {
            assert_eq!(
                (&last["type"], &error["code"]),
                (&json!("response.failed"), &json!(responses)),
                "{label}"
            );
        }
        _ => {
            assert_eq!(last["choices"][0]["finish_reason"], "error", "{label}");
            assert_eq!(
                (&error["code"], &error["metadata"]["error_type"]),
                (&json!(status), &json!(ours)),
                "{label}"
            );
        }
    }
}

/// An answer in good order. Bytes of a seller that speaks the buyer's own grammar pass as they came, oddities that
/// clients bear included.
fn check_whole(case: &Case, told: &Told, label: &str) {
    assert_eq!(told.response.status, 200, "{label}");
    let heard = &told.heard;
    let passes = case.grammar.shape == case.front;
    let odd: &[&str] = match case.fault {
        // Half a character is a legal escape for most readers of JSON, not for the one here.
        Fault::SplitSurrogates if passes && case.mode == Mode::Stream => {
            &["a document is not JSON", "responses:"]
        }
        Fault::ContentAfterFinish if passes => {
            &["chat: content follows", "messages: text_delta outside", "responses:"]
        }
        _ => &[],
    };
    let odd = |violation: &&String| !odd.iter().any(|odd| violation.starts_with(odd));
    assert_eq!(heard.violations.iter().find(odd), None, "{label}: {heard:?}");
    let ends = usize::from(case.mode == Mode::Stream);
    assert_eq!((heard.errors, heard.ends), (0, ends), "{label}: {heard:?}");
    // A seller that never gave a reason for its end: none is invented.
    assert!(!heard.finishes.is_empty() || case.fault == Fault::DoneWithoutFinish, "{label}: {heard:?}");
    let model = if passes && case.fault == Fault::WrongModel { "other/model-7b" } else { MODEL };
    assert_eq!(heard.models, [model], "{label}");
}

fn check_cost(told: &Told, label: &str) {
    let costs = told.costs();
    assert_eq!(costs, [told.receipt().charge.total], "{label}: told and posted");
}

fn check_usage(market: &Market, rule: UsageRule, told: &Told, label: &str) {
    let billed = told.receipt().usage_billed;
    let truth = market.seller("faulty").log()[0].truth;
    match rule {
        UsageRule::Claimed => {
            assert_eq!((billed.prompt.0, billed.completion.0), (truth.prompt, truth.completion), "{label}");
        }
        UsageRule::ClaimedBelowTruth => assert_eq!(billed.completion.0, truth.completion / 2, "{label}"),
        UsageRule::Recounted | UsageRule::CachedBounded => {
            assert!((1..=truth.completion).contains(&billed.completion.0), "{label}: {billed:?} {truth:?}");
        }
        UsageRule::Bounded => {
            assert!(billed.completion.0 < truth.completion * 10, "{label}: {billed:?} {truth:?}");
            assert!(billed.prompt.0 < truth.prompt * 20, "{label}: {billed:?} {truth:?}");
        }
    }
    assert!(billed.cached_prompt <= billed.prompt && billed.prompt.0 > 0, "{label}: {billed:?}");
    let reported = told.heard.usages.last().expect("usage is told");
    assert_eq!((reported.prompt, reported.completion), (billed.prompt.0, billed.completion.0), "{label}");
}

/// Alone: what the table says, and nothing for a stream that the seller broke.
async fn check_alone(case: Case) {
    let market = Market::open(vec![case.faulty()]).await;
    let told = market.ask(case.front, &case.body(&[])).await;
    let label = case.label(&told);
    let receipt = told.receipt();
    match case.expectation {
        Expectation::FailsOver { status } => {
            check_envelope(case.front, &told, status, &label);
            assert_eq!((receipt.charge.total, receipt.finish), (NanoUsd::ZERO, Finish::NoSeller), "{label}");
            assert_eq!(told.costs(), [], "{label}");
        }
        Expectation::BreaksOff => {
            let status = if case.fault == Fault::IdleGap { 504 } else { 502 };
            check_broken(case.front, &told, status, &label);
            assert_eq!(
                (receipt.charge.total, receipt.finish),
                (NanoUsd::ZERO, Finish::SellerError),
                "{label}"
            );
            check_cost(&told, &label);
        }
        Expectation::Answers { usage } => {
            check_whole(&case, &told, &label);
            check_usage(&market, usage, &told, &label);
            check_cost(&told, &label);
            assert!(receipt.charge.total > NanoUsd::ZERO, "{label}");
        }
    }
    assert_eq!(market.spent(), receipt.charge.total, "{label}");
    market.audit(1).await;
    assert_eq!(market.seller("faulty").calls(), 1, "{label}: asked once");
    let left = market.seller("faulty").log().into_iter().find(|seen| seen.ending == Ending::Open);
    assert!(left.is_none(), "{label}: {left:?} is still at work");
}

/// Before an honest seller of another grammar: a fault before content is never seen.
async fn check_pair(case: Case) {
    let other = if case.grammar.shape == Shape::Chat { MESSAGES } else { CHAT };
    let market = Market::open(vec![case.faulty(), Stand::honest(other, "honest")]).await;
    let told = market.ask(case.front, &case.body(&["faulty", "honest"])).await;
    let label = case.label(&told);
    check_whole(&case, &told, &label);
    check_cost(&told, &label);
    let receipt = told.receipt();
    assert_eq!(receipt.seller.as_ref().map(bourse_types::SellerName::as_str), Some("honest"), "{label}");
    assert_eq!(receipt.attempts.len(), 2, "{label}");
    assert!(!told.response.text().contains("faulty"), "{label}: who failed is not told");
    assert_eq!(market.spent(), receipt.charge.total, "{label}");
    market.audit(1).await;
}

async fn every_fault_through(front: Shape) {
    let cases: Vec<_> = cases().into_iter().filter(|case| case.front == front).collect();
    assert!(cases.len() > 4 * 80, "{}", cases.len());
    each(cases, check_alone).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_every_grammar_through_chat() {
    every_fault_through(Shape::Chat).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_every_grammar_through_responses() {
    every_fault_through(Shape::Responses).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_every_grammar_through_messages() {
    every_fault_through(Shape::Messages).await;
}

/// Runs a check on every case, and tells of all that failed.
async fn each<F>(cases: Vec<Case>, check: impl Fn(Case) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut failed = Vec::new();
    for case in cases {
        if tokio::spawn(check(case)).await.is_err() {
            let Case { fault, grammar, front, mode, .. } = case;
            failed.push(format!("{fault} of {} to {front} {mode:?}", grammar.shape));
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

/// A plain answer that sends white space for ever is alive as far as anybody can tell, and takes the whole deadline
/// with it: no time is left for another seller.
fn outlasts_the_deadline(case: &Case) -> bool {
    (case.fault, case.mode) == (Fault::CommentsForever, Mode::Plain)
}

#[tokio::test(start_paused = true)]
async fn every_fault_before_content_fails_over_in_silence_from_any_grammar_to_any_front() {
    let is_early = |case: &Case| matches!(case.expectation, Expectation::FailsOver { .. });
    let cases: Vec<_> =
        cases().into_iter().filter(|case| is_early(case) && !outlasts_the_deadline(case)).collect();
    assert!(cases.len() > 250, "{}", cases.len());
    each(cases, check_pair).await;
}
