//! What a stream has cost so far is told to the exchange while it runs.

use super::fakes::*;
use crate::phase::settle::{METERED_EVERY, METERED_TOKENS};
use bourse_wire::funds::FundsError;
use bourse_wire::receipt::{Finish, Receipt};
use std::time::Duration;

const PIECES: usize = 100;
const GAP: Duration = Duration::from_millis(10);

/// A stream of `pieces` pieces with `words` events of one token each, and a pause after each piece.
fn paced(pieces: usize, words: usize) -> Vec<Act> {
    let word = text("ab");
    let piece = events(&vec![word.as_str(); words]);
    let mut script = vec![Act::Read, stream_head(), events(&[&role()])];
    script.extend((0..pieces).flat_map(|_| [piece.clone(), Act::Wait(GAP)]));
    script.extend([events(&[&stop(), "[DONE]"]), stream_end()]);
    script
}

async fn metered(pieces: usize, words: usize) -> (Vec<Receipt>, Receipt) {
    let house = House::new(&["a"]);
    house.net.script("a", paced(pieces, words));
    let reply = house.chat(r#","stream":true"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    (house.funds.metered(), house.funds.receipts()[0].clone())
}

#[tokio::test(start_paused = true)]
async fn every_64_tokens_and_never_more_often_than_every_50_ms() {
    // 10 tokens in 10 ms: the tokens decide. 100 tokens in 10 ms: the clock does.
    let by_tokens = PIECES * 10 / (METERED_TOKENS as usize + 10);
    let by_time = PIECES * GAP.as_millis() as usize / METERED_EVERY.as_millis() as usize;
    for (words, at_least, at_most) in
        [(10, by_tokens, PIECES * 10 / METERED_TOKENS as usize), (100, by_time - 4, by_time + 1)]
    {
        let (said, last) = metered(PIECES, words).await;
        assert!((at_least..=at_most).contains(&said.len()), "{} of {at_least} to {at_most}", said.len());
        let tokens: Vec<u64> = said.iter().map(|receipt| receipt.usage_billed.completion.0).collect();
        assert!(tokens.windows(2).all(|two| two[1] >= two[0] + METERED_TOKENS), "{tokens:?}");
        assert!(said.windows(2).all(|two| two[1].total_ms >= two[0].total_ms + 50), "the clock");
        assert!(*tokens.last().unwrap() <= last.usage_billed.completion.0);
        for receipt in &said {
            assert_eq!((receipt.request, receipt.finish), (last.request, Finish::Bourse));
            assert_eq!((&receipt.seller, receipt.request_hash), (&last.seller, last.request_hash));
            assert!(receipt.charge.total <= last.charge.total && receipt.charge.total.0 > 0);
            assert_eq!(receipt.attempts, last.attempts);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_stream_and_a_plain_answer_are_settled_only() {
    let (said, _) = metered(1, METERED_TOKENS as usize - 3).await;
    assert_eq!(said.len(), 0, "with the two that markup may be, 63");
    let (said, _) = metered(1, METERED_TOKENS as usize - 2).await;
    assert_eq!(said.len(), 1);
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    house.chat("").await;
    assert_eq!(house.funds.metered().len(), 0);
}

/// A hold whose time was over by the exchange's clock was settled as it was last metered: nobody may be told that it cost
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_hold_that_is_gone_may_have_been_settled_as_metered() {
    let gone = || Some(FundsError::NoHold);
    for (at_settlement, at_disk, pieces, may_cost) in [
        (gone(), None, 20, true),
        (gone(), None, 1, false),
        (None, gone(), 20, true),
        (None, gone(), 1, false),
    ] {
        let house = House::new(&["a"]);
        house.funds.fail_books(at_settlement, at_disk);
        house.net.script("a", paced(pieces, 10));
        let last = house.chat(r#","stream":true"#).await.payloads().pop().unwrap();
        let message = last["error"]["message"].as_str().unwrap();
        assert_eq!(message.contains("at most $0.0"), may_cost, "{pieces} pieces: {message}");
        assert_eq!(house.funds.metered().is_empty(), !may_cost);
        let most = house.funds.metered().last().map_or(0, |receipt| receipt.charge.total.0);
        assert!((last["usage"]["cost"].as_f64().unwrap() * 1e9).round() as u64 >= most, "{last}");
    }
}
