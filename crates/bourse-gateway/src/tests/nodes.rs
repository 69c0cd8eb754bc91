//! Nodes as sellers, over an in-memory link with a real handshake.

mod prefixes;
mod recount;

use super::fakes::*;
use crate::NodeAdmission;
use crate::node::hub::ATTENDANCE_EVERY;
use bourse_link::{FramedLink, greet_gateway};
use bourse_types::{Digest32, ModelSlug, RequestId, SellerName, Usage};
use bourse_wire::node::{
    Counted, Delta, Done, Failed, FailureKind, Frame, Job, NodeCard, NodeFinish, Prompt, Started,
};
use bourse_wire::receipt::{Finish, NodeStatement, SignedNodeStatement};
use ed25519_dalek::{Signer as _, SigningKey};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

type Link = FramedLink<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

/// A node that has said hello.
struct FakeNode {
    key: SigningKey,
    link: Link,
    served: JoinHandle<Result<(), crate::NodeLinkError>>,
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn house() -> House {
    house_with(|_| {})
}

fn house_with(change: impl FnOnce(&mut crate::GatewayConfig)) -> House {
    House::build(&[], 10_000_000_000, |config| {
        change(config);
        config.nodes.push(NodeAdmission {
            node: bourse_types::NodeId(signing_key().verifying_key().to_bytes()),
            seller: SellerName::parse("local").unwrap(),
            prices: prices(1_000_000),
            free: bourse_market::Free::No,
            data: bourse_market::DataPolicy::NONE,
        });
    })
}

fn card(jobs: u32) -> NodeCard {
    NodeCard {
        model: ModelSlug::parse(MODEL).unwrap(),
        model_commitment: Digest32([5; 32]),
        context_tokens_max: 2_048,
        jobs_in_flight_max: jobs,
        bytes_per_token_min: 1,
        template_tokens_max: 16,
        gpus: Some(2),
        engine: "fake".into(),
    }
}

impl FakeNode {
    async fn join(house: &House, jobs: u32) -> Self {
        Self::with_key(house, signing_key(), jobs).await.unwrap()
    }

    async fn with_key(house: &House, key: SigningKey, jobs: u32) -> Result<Self, bourse_link::LinkError> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let gateway = house.gateway.clone();
        let served = tokio::spawn(async move { gateway.serve_node(theirs).await });
        let mut link = FramedLink::over(ours);
        let node = bourse_types::NodeId(key.verifying_key().to_bytes());
        let sign = |bytes: &[u8]| key.sign(bytes).to_bytes();
        greet_gateway(&mut link, node, sign, card(jobs), Duration::from_secs(5)).await?;
        // The gateway publishes the offer right after its welcome.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Self { key, link, served })
    }

    async fn job(&mut self) -> Job {
        match self.link.reader.next().await.unwrap() {
            Some(Frame::Job(job)) => *job,
            other => panic!("expected a job, got {other:?}"),
        }
    }

    async fn say(&mut self, frames: Vec<Frame>) {
        for frame in &frames {
            self.link.writer.push(frame).unwrap();
        }
        self.link.writer.flush().await.unwrap();
    }

    fn done(&self, request: RequestId, prompt: u64, completion: u64) -> Frame {
        let usage = Usage::of_tokens(prompt, 0, completion);
        let digest = Digest32([1; 32]);
        let statement = NodeStatement {
            node: bourse_types::NodeId(self.key.verifying_key().to_bytes()),
            request,
            model_commitment: Digest32([5; 32]),
            run_seed_hash: digest,
            prompt_hash: digest,
            text_hash: digest,
            trace_root: digest,
            usage,
        };
        let signature = self.key.sign(&statement.signed_bytes()).to_bytes();
        Frame::Done(Box::new(Done { usage, statement: SignedNodeStatement { statement, signature } }))
    }
}

#[tokio::test(start_paused = true)]
async fn the_exchange_hears_which_nodes_are_there_and_for_how_long() {
    let house = house();
    let begun = house.gateway.0.ports.clock.now();
    let node = FakeNode::join(&house, 1).await;
    tokio::time::sleep(ATTENDANCE_EVERY + Duration::from_secs(1)).await;
    // What is not heard goes with the next one.
    house.funds.is_deaf.store(true, Ordering::Relaxed);
    tokio::time::sleep(ATTENDANCE_EVERY).await;
    house.funds.is_deaf.store(false, Ordering::Relaxed);
    drop(node);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = house.funds.attended.lock().clone();
    let every = ATTENDANCE_EVERY.as_millis() as u64;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].from, told[0].until.0 - begun.0), (begun, every));
    assert_eq!((told[1].from, told[1].until.0 - begun.0), (told[0].until, 2 * every + 1_001));
    for one in told {
        assert_eq!((one.seller.as_str(), one.gpus, one.is_plausible()), ("local", Some(2), true));
    }
}

fn started(request: RequestId) -> Frame {
    Frame::Started(Started { request, prompt_tokens: 12, cached_tokens: 0 })
}

fn delta(request: RequestId, text: &str, finish: Option<NodeFinish>) -> Frame {
    let tokens = u32::from(!text.is_empty());
    Frame::Delta(Delta { request, choice: 0, text: text.into(), tokens, logprobs_json: None, finish })
}

#[tokio::test(start_paused = true)]
async fn a_node_serves_plain_and_streamed() {
    let house = house();
    assert_eq!(house.chat("").await.status, 404);
    let mut node = FakeNode::join(&house, 4).await;
    let before = house.funds.available();
    for rest in ["", r#","stream":true,"seed":5,"temperature":0.5,"stop":"x""#] {
        let (reply, job) = tokio::join!(house.chat(rest), async {
            let job = node.job().await;
            let id = job.request;
            let done = node.done(id, 12, 2);
            let end = delta(id, "", Some(NodeFinish::Stop));
            node.say(vec![started(id), delta(id, "Hel", None), delta(id, "lo", None), end, done]).await;
            job
        });
        assert_eq!(reply.status, 200, "{}", reply.text);
        let Prompt::Chat { messages_json, tools_json } = job.prompt else { panic!("a chat was asked for") };
        assert_eq!((messages_json.as_str(), tools_json), (r#"[{"role":"user","content":"hi"}]"#, None));
        if rest.is_empty() {
            let json = reply.json();
            assert_eq!(json["choices"][0]["message"]["content"], "Hello");
            assert_eq!(json["provider"], "local");
            assert_eq!(json["usage"]["cost"].to_string(), "1.6e-5".parse::<f64>().unwrap().to_string());
            assert!(job.seed_binds_request);
        } else {
            assert_eq!(reply.content(), "Hello");
            assert_eq!(reply.payloads().last().unwrap()["usage"]["completion_tokens"], 2);
            assert_eq!((job.nonce[0], job.nonce[1], job.seed_binds_request), (5, 0, false));
            assert_eq!(job.sampling.stop, ["x"]);
        }
    }
    house.check_books(before, 2);
    for receipt in house.funds.receipts() {
        assert!(receipt.node.is_some());
        assert_eq!((receipt.finish, receipt.usage_billed.completion.0), (Finish::Stop, 2));
        assert_eq!(receipt.charge.total.0, 16_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_ends_every_job_and_takes_the_offer_away() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let before = house.funds.available();
    let (early, late, ()) =
        tokio::join!(house.chat(r#","stream":true"#), house.chat(r#","stream":true"#), async move {
            let _first = node.job().await;
            let second = node.job().await.request;
            node.say(vec![started(second), delta(second, "Hel", None)]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(node.link);
            let _ = node.served.await;
        });
    assert_eq!(early.status, 502, "{}", early.text);
    let last = late.payloads().pop().unwrap();
    assert_eq!(last["error"]["code"], 502);
    assert_eq!(last["usage"]["cost"], 0, "a failed answer costs nothing");
    house.check_books(before, 2);
    let away = house.chat("").await;
    assert_eq!(away.status, 503, "a model whose node is away is no unknown one: {}", away.text);
    assert_eq!(away.headers["retry-after"], "1");
    let told = away.json()["error"]["availability"].clone();
    let is =
        serde_json::json!([told["code"], told["retryable"], told["retry_after"], told["requested_models"]]);
    assert_eq!(is, serde_json::json!(["temporarily_unavailable", true, 1, [MODEL]]));
    super::api::described("POST", "/v1/chat/completions", &away);
    let with_fallback = house.chat(r#","models":["no/such"]"#).await;
    assert_eq!(with_fallback.status, 503, "it may come back: {}", with_fallback.text);
    let first_unknown = chat_body("")
        .replace(MODEL, "no/such")
        .replace("\"messages\"", &format!(r#""models":["{MODEL}"],"messages""#));
    let fallback_away = house.call("POST", "/v1/chat/completions", &[], &first_unknown).await;
    assert_eq!(fallback_away.status, 503, "its fallback may: {}", fallback_away.text);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_text_is_refused_before_a_node_is_asked() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let before = house.funds.available();
    let image = format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"http://x/y.png"}}}}]}}]}}"#
    );
    for _ in 0..20 {
        let reply = house.call("POST", "/v1/chat/completions", &[], &image).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &"messages".into()),
            "{}",
            reply.text
        );
    }
    house.check_books(before, 0);
    // The node is not blamed for it: it is asked as before.
    let (reply, ()) = tokio::join!(house.chat(""), async {
        let id = node.job().await.request;
        let done = node.done(id, 12, 1);
        node.say(vec![started(id), delta(id, "x", Some(NodeFinish::Stop)), done]).await;
    });
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_cancels_the_job() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let before = house.funds.available();
    let (reply, cancelled) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(1), house.chat(r#","stream":true"#)), async {
            let id = node.job().await.request;
            node.say(vec![started(id), delta(id, "Hel", None)]).await;
            match node.link.reader.next().await.unwrap() {
                Some(Frame::Cancel(cancelled)) => cancelled == id,
                other => panic!("expected a cancellation, got {other:?}"),
            }
        });
    assert!(reply.is_err() && cancelled);
    house.check_books(before, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.finish, receipt.usage_billed.completion.0), (Finish::Cancelled, 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_gets_no_more_jobs_than_it_takes() {
    let house = house();
    let mut node = FakeNode::join(&house, 1).await;
    let (first, second) = tokio::join!(
        async {
            let (reply, ()) = tokio::join!(house.chat(""), async {
                let id = node.job().await.request;
                tokio::time::sleep(Duration::from_millis(50)).await;
                let done = node.done(id, 12, 1);
                node.say(vec![started(id), delta(id, "x", Some(NodeFinish::Length)), done]).await;
            });
            reply
        },
        async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            house.chat("").await
        }
    );
    assert_eq!(first.json()["choices"][0]["finish_reason"], "length");
    assert_eq!((second.status, second.headers["retry-after"].to_str().unwrap()), (503, "1"));
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_node_have_their_status() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    for (kind, status) in [
        (FailureKind::Invalid, 400),
        (FailureKind::ContextLength, 400),
        (FailureKind::Busy, 503),
        (FailureKind::Engine, 502),
    ] {
        for rest in ["", r#","stream":true"#] {
            let (reply, ()) = tokio::join!(house.chat(rest), async {
                let request = node.job().await.request;
                node.say(vec![Frame::Failed(Failed { request, kind, message: "why".into() })]).await;
            });
            assert_eq!(reply.status, status, "{kind:?} {}", reply.text);
            assert!(reply.text.contains("why"));
        }
    }
    assert_eq!(house.funds.open_holds(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_is_not_the_nodes_is_refused() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let (reply, ()) = tokio::join!(house.chat(""), async {
        let id = node.job().await.request;
        let Frame::Done(mut done) = node.done(id, 12, 1) else { return };
        done.statement.signature[0] ^= 1;
        node.say(vec![started(id), delta(id, "x", Some(NodeFinish::Stop)), Frame::Done(done)]).await;
    });
    assert_eq!(reply.status, 502);
    assert!(reply.text.contains("not signed"));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_sent_away() {
    let house = house();
    let stranger = FakeNode::with_key(&house, SigningKey::from_bytes(&[1; 32]), 4).await;
    assert!(matches!(stranger.err(), Some(bourse_link::LinkError::Refused)));
    assert_eq!(house.chat("").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn n_choices_are_told_apart_and_counted_once() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let (reply, job) = tokio::join!(house.chat(r#","n":2,"max_tokens":5"#), async {
        let job = node.job().await;
        let id = job.request;
        let piece = |choice, text: &str| {
            let finish = Some(NodeFinish::Stop);
            Frame::Delta(Delta {
                request: id,
                choice,
                text: text.into(),
                tokens: 1,
                logprobs_json: None,
                finish,
            })
        };
        let done = node.done(id, 12, 2);
        node.say(vec![started(id), piece(1, "two"), piece(0, "one"), done]).await;
        job
    });
    assert_eq!(job.choices, 2);
    let json = reply.json();
    assert_eq!(json["choices"][0]["message"]["content"], "one");
    assert_eq!(json["choices"][1]["message"]["content"], "two");
    assert_eq!(json["usage"]["completion_tokens"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_nodes_answer_in_one_piece_is_held_as_it_grows() {
    let house = house();
    let mut node = FakeNode::join(&house, 4).await;
    let before = house.funds.available();
    let (reply, ()) = tokio::join!(house.chat(r#","max_tokens":2000"#), async {
        let id = node.job().await.request;
        node.say(vec![started(id)]).await;
        for _ in 0..800 {
            node.say(vec![delta(id, "ab ", None)]).await;
        }
        let done = node.done(id, 12, 800);
        node.say(vec![delta(id, "", Some(NodeFinish::Length)), done]).await;
    });
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "ab ".repeat(800));
    house.check_books(before, 1);
    let (held, receipt) = (house.funds.peaks()[0], &house.funds.receipts()[0]);
    assert_eq!((receipt.finish, receipt.usage_billed.completion.0), (Finish::Length, 800));
    assert!(receipt.node.is_some());
    assert!(held.0 * 10 <= receipt.charge.total.0 * 13, "{held} held for {}", receipt.charge.total);
}

#[tokio::test(start_paused = true)]
async fn a_node_counts_a_prompt_for_free() {
    let house = house();
    let mut node = FakeNode::join(&house, 1).await;
    let before = house.funds.available();
    let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    for path in ["/v1/messages/count_tokens", "/api/v1/messages/count_tokens"] {
        let (reply, asked) = tokio::join!(house.call("POST", path, &[], &body), async {
            let Some(Frame::Count(count)) = node.link.reader.next().await.unwrap() else { panic!("a count") };
            let request = count.request;
            node.say(vec![Frame::Counted(Counted { request, prompt_tokens: 12 })]).await;
            *count
        });
        assert_eq!(
            (reply.status, reply.text.as_str()),
            (200, r#"{"input_tokens":12}"#),
            "its place is free again"
        );
        assert!(!reply.headers.contains_key("x-bourse-estimate"));
        assert!(!reply.headers.contains_key("x-generation-id"));
        assert_eq!(asked.model.as_str(), MODEL);
        let Prompt::Chat { messages_json, .. } = asked.prompt else { panic!("a chat") };
        assert!(messages_json.contains("hi"), "{messages_json}");
    }
    house.check_books(before, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_a_prompt_or_says_nothing() {
    let house = house();
    let mut node = FakeNode::join(&house, 1).await;
    let body = format!(r#"{{"model":"{MODEL}","input":"hi"}}"#);
    for (kind, status) in [(FailureKind::Invalid, 400), (FailureKind::Busy, 200)] {
        let (reply, ()) = tokio::join!(house.call("POST", "/v1/responses/input_tokens", &[], &body), async {
            let Some(Frame::Count(count)) = node.link.reader.next().await.unwrap() else { panic!("a count") };
            let failed = Failed { request: count.request, kind, message: "no".into() };
            node.say(vec![Frame::Failed(failed)]).await;
        });
        assert_eq!(reply.status, status, "{}", reply.text);
        assert_eq!(reply.headers.contains_key("x-bourse-estimate"), status == 200);
    }
    let silent = house.call("POST", "/v1/responses/input_tokens", &[], &body).await;
    assert_eq!((silent.status, silent.json()["object"].as_str()), (200, Some("response.input_tokens")));
    assert!(silent.headers.contains_key("x-bourse-estimate"), "{}", silent.text);
    let unknown =
        house.call("POST", "/v1/responses/input_tokens", &[], r#"{"model":"no/one","input":"x"}"#).await;
    assert_eq!(unknown.status, 404);
    let nobody = http::Request::post("/v1/messages/count_tokens");
    let nobody = nobody.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
    assert_eq!(house.gateway.handle(nobody).await.status(), 401);
}

#[tokio::test(start_paused = true)]
async fn as_many_prompts_are_counted_at_a_time_as_there_are_places() {
    let house = house();
    let mut node = FakeNode::join(&house, 64).await;
    let body = format!(r#"{{"model":"{MODEL}","input":"hi"}}"#);
    let open = async |n: usize| {
        let ask = || house.call("POST", "/v1/responses/input_tokens", &[], &body);
        let mut asked: Vec<_> = (0..n).map(|_| Box::pin(ask())).collect();
        std::future::poll_fn(|cx| {
            for call in &mut asked {
                if let std::task::Poll::Ready(reply) = call.as_mut().poll(cx) {
                    return std::task::Poll::Ready(Some(reply.status));
                }
            }
            std::task::Poll::Ready(None)
        })
        .await
    };
    assert_eq!(open(crate::COUNTS_MAX).await, None, "all wait for the node");
    assert_eq!(open(crate::COUNTS_MAX + 1).await, Some(429));
    assert!(matches!(node.link.reader.next().await, Ok(Some(Frame::Count(_)))));
}
