//! Rules, and lists that come, change and fail, in virtual time.

use super::*;
use crate::config::Pattern;
use crate::tests::fakes::{Act, House, MODEL, good_plain, json_answer};
use crate::{GatewayConfig, LIST_EVERY_DEFAULT};
use bourse_types::NanoUsd;
use bourse_wire::error::ErrorType;
use std::sync::atomic::Ordering;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn rule(names: &str, slug: &str, prices: Option<PriceSchedule>) -> LiveRule {
    let any = ModelSlug::parse("any").unwrap();
    let template = ProviderModel { prices, ..ProviderModel::new(any, "any", FREE) };
    LiveRule {
        names: pattern(names),
        except: Vec::new(),
        slug: pattern(slug),
        template,
        markup_bps: 0,
        has_context: false,
        has_supports: false,
    }
}

fn per_token(pico: u64) -> PriceSchedule {
    PriceSchedule::per_token(PicoUsdPerToken(pico), PicoUsdPerToken(2 * pico))
}

fn listed(id: &str) -> Listed {
    Listed { id: id.to_owned(), ..Listed::default() }
}

fn made(rules: &[LiveRule], listed: &Listed) -> Option<ProviderModel> {
    offered(rules, listed, &mut 0)
}

#[test]
fn a_pattern_has_one_star() {
    let check = |text: &str, name: &str, want: Option<&str>| {
        assert_eq!(pattern(text).part_of(name), want, "{text} {name}");
    };
    check("*", "a/b", Some("a/b"));
    check("a/*", "a/b", Some("b"));
    check("a/*:free", "a/b:free", Some("b"));
    check("a/*", "c/b", None);
    check("a", "a", Some(""));
    check("ab*ba", "aba", None);
    assert_eq!(pattern("x/*-z").with("y"), "x/y-z");
    assert_eq!(Pattern::parse("*a*"), None);
}

#[test]
fn the_first_rule_that_means_a_model_decides() {
    let mut all = rule("*", "b/*", None);
    all.except = vec![pattern("*-preview")];
    let rules = [rule("acme/*", "acme/*", Some(per_token(7))), all];
    let of = |id: &str| made(&rules, &listed(id)).map(|m| (m.model.as_str().to_owned(), m.prices));
    assert_eq!(of("acme/one"), Some(("acme/one".into(), Some(per_token(7)))));
    assert_eq!(of("two"), Some(("b/two".into(), None)), "no price: visible, and nobody is sent there");
    assert_eq!(of("two-preview"), None);
    assert_eq!(of("acme/x-preview").map(|(slug, _)| slug), Some("acme/x-preview".into()));
    let mut unnamed = 0;
    assert!(offered(&rules, &listed("no name"), &mut unnamed).is_none());
    assert_eq!(unnamed, 1);
}

#[test]
fn prices_are_the_rules_or_the_lists_with_its_share() {
    let listed = |pico| Listed { prices: Some(per_token(pico)), ..listed("m") };
    let marked = |bps| LiveRule { markup_bps: bps, ..rule("*", "*", None) };
    let of = |rule: LiveRule, pico| made(&[rule], &listed(pico)).unwrap().prices;
    assert_eq!(of(marked(0), 100), Some(per_token(100)));
    assert_eq!(of(marked(550), 1_000).unwrap().prompt, PicoUsdPerToken(1_055));
    assert_eq!(of(marked(1), 1).unwrap().prompt, PicoUsdPerToken(2), "rounded up");
    assert_eq!(of(marked(1), u64::MAX / 2), None, "what does not fit is no price");
    assert_eq!(of(LiveRule { markup_bps: 500, ..rule("*", "*", Some(per_token(3))) }, 9), Some(per_token(3)));
    let request = PriceSchedule { request: NanoUsd(100), ..per_token(1) };
    let with_request = Listed { prices: Some(request), ..listed(1) };
    assert_eq!(made(&[marked(100)], &with_request).unwrap().prices.unwrap().request, NanoUsd(101));
}

#[test]
fn what_the_operator_says_goes_before_the_list() {
    let told = Listed {
        context_tokens: Some(9),
        completion_tokens: Some(5),
        parameters: Some(
            ["tools", "frequency_penalty", "reasoning", "max_tokens"].map(str::to_owned).to_vec(),
        ),
        takes_media: Some(false),
        quantization: Some("fp8"),
        ..listed("m:free")
    };
    let told = Listed { prices: Some(FREE), ..told };
    let model = made(&[rule("*", "*", None)], &told).unwrap();
    assert_eq!((model.context_tokens_max, model.completion_tokens_max), (9, Some(5)));
    assert_eq!(model.supports.to_string(), "tools, penalties, reasoning, hidden_reasoning, reasoning_replay");
    assert_eq!((model.quantization, model.free), (Quantization::Fp8, Free::Unvalued));
    let mut firm = LiveRule { has_context: true, has_supports: true, ..rule("*", "*", None) };
    firm.template.context_tokens_max = 7;
    firm.template.completion_tokens_max = Some(3);
    firm.template.quantization = Quantization::Bf16;
    let model = made(&[firm.clone()], &told).unwrap();
    assert_eq!((model.context_tokens_max, model.completion_tokens_max), (7, Some(3)));
    assert_eq!((model.supports, model.quantization), (firm.template.supports, Quantization::Bf16));
    let silent = made(&[rule("*", "*", None)], &listed("m")).unwrap();
    assert_eq!(silent.supports, firm.template.supports);
}

#[test]
fn jitter_is_a_tenth() {
    let span = Duration::from_secs(100);
    let with = |byte| jittered(span, [byte; 32]);
    assert_eq!((with(0), with(255)), (Duration::from_secs(90), Duration::from_secs(110)));
}

fn list(body: &str) -> Vec<Act> {
    vec![Act::Read, json_answer(200, "", body), Act::Close]
}

const PRICED: &str = r#"{"data":[{"id":"two","pricing":{"prompt":"0.000001","completion":"0.000002"}},{"id":"bare"},
    {"id":"one","pricing":{"prompt":"9","completion":"9"}}]}"#;

fn followed(config: &mut GatewayConfig) {
    let (provider, rules) = (config.providers[0].name.clone(), vec![rule("*", "acme/*", None)]);
    config.lists = vec![FollowedList { provider, rules, every: LIST_EVERY_DEFAULT }];
}

fn slugs(house: &House) -> Vec<String> {
    let book = house.gateway.0.market.book();
    book.snapshot.models().map(|slug| slug.as_str().to_owned()).collect()
}

async fn follow(house: &House, span: Duration) {
    house.gateway.clone().keep_lists(sleep(span)).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_becomes_offers_and_fixed_ones_stay() {
    let house = House::build(&["a"], 10_000_000_000, followed);
    house.net.script("a", list(PRICED));
    assert_eq!(slugs(&house), [MODEL]);
    follow(&house, Duration::from_secs(1)).await;
    assert_eq!(slugs(&house), ["acme/bare", MODEL, "acme/two"]);
    let sent = house.net.requests.lock().pop().unwrap();
    assert!(sent.starts_with("GET /v1/models HTTP/1.1\r\n"), "{sent}");
    assert!(
        sent.contains("authorization: Bearer sk-upstream\r\n") && !sent.contains("content-type"),
        "{sent}"
    );
    let book = house.gateway.0.market.book();
    let price = |slug: &str| book.snapshot.offers_of(slug).unwrap().next().unwrap().1.prices;
    assert_eq!(price(MODEL).unwrap().prompt, PicoUsdPerToken(1_000_000), "the operator's word goes first");
    assert_eq!(price("acme/two").unwrap().prompt, PicoUsdPerToken(1_000_000));
    house.net.only("a", good_plain());
    let body = |slug: &str| format!(r#"{{"model":"{slug}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let reply = house.call("POST", "/v1/chat/completions", &[], &body("acme/two")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(house.net.requests.lock().pop().unwrap().contains(r#""model":"two""#));
    let reply = house.call("POST", "/v1/chat/completions", &[], &body("acme/bare")).await;
    assert_eq!(reply.status, 404, "no price, no route: {}", reply.text);
    assert_eq!(reply.error_type(), ErrorType::NotFound.as_str());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_keeps_the_last_good_one_and_is_asked_sooner() {
    let house = House::build(&["a"], 0, followed);
    house.net.script("a", list(PRICED));
    house.net.script("a", vec![Act::Read, json_answer(500, "", "{}"), Act::Close]);
    house.net.script("a", list("<html>"));
    house.net.script("a", vec![Act::Read, Act::Hang]);
    house.net.script("a", list(r#"{"data":[{"id":"three"}]}"#));
    let asked = || house.net.connections.load(Ordering::Relaxed);
    follow(&house, Duration::from_secs(1)).await;
    assert_eq!((asked(), slugs(&house).len()), (1, 3));
    // Started anew: a refusal, rubbish and silence, and then a list again, all long before the usual time.
    follow(&house, Duration::from_secs(14)).await;
    assert_eq!((asked(), slugs(&house).len()), (2, 3));
    follow(&house, Duration::from_mins(2)).await;
    assert_eq!((asked(), slugs(&house)), (5, vec![MODEL.to_owned(), "acme/three".to_owned()]));
    assert!(LIST_EVERY_DEFAULT > Duration::from_mins(2));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_asked_for_again_after_its_time() {
    let house = House::build(&["a"], 0, |config| {
        followed(config);
        config.lists[0].every = Duration::from_secs(100);
    });
    house.net.script("a", list(PRICED));
    follow(&house, Duration::from_secs(89)).await;
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 1);
    follow(&house, Duration::from_secs(111)).await;
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 3, "at once, and once more");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_bounded() {
    let check = async |bytes: usize, want: usize| {
        let house = House::build(&["a"], 0, followed);
        let body = format!(r#"{{"data":[{{"id":"two"}}]{}}}"#, " ".repeat(bytes - 23));
        assert!(body.len() == bytes, "{}", body.len());
        house.net.script("a", list(&body));
        follow(&house, Duration::from_secs(10)).await;
        assert_eq!(slugs(&house).len(), want, "{bytes}");
    };
    check(LIST_BYTES_MAX, 2).await;
    check(LIST_BYTES_MAX + 1, 1).await;
}
