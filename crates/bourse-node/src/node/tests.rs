//! The daemon against a gateway on a real socket, and the real model where it is present.

use super::*;
use crate::engine::fake::FakeEngine;
use bourse_link::{TcpLink, challenge_node, welcome_node};
use bourse_proof::sign::{Signer, verify_statement};
use bourse_tokens::testing::{model_path, tiny_vocabulary};
use bourse_types::RequestId;
use bourse_wire::node::{Frame, Job, NodeFinish, Prompt, Sampling};
use std::sync::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_mins(1);

fn fake_service() -> Arc<NodeService> {
    let model = ModelSlug::parse("author/model").unwrap();
    let engine = FakeEngine::new(tiny_vocabulary().tokens.len());
    let signer = Signer::from_bytes(&[4; 32]);
    Arc::new(NodeService::new(model, Arc::new(engine), &tiny_vocabulary(), signer, 4).unwrap())
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn welcomed(listener: &TcpListener) -> TcpLink {
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = TcpLink::tcp(stream).unwrap();
    let hello = challenge_node(&mut link, [1; 32], PATIENCE).await.unwrap();
    assert_eq!(hello.node, Signer::from_bytes(&[4; 32]).node_id());
    assert_eq!((hello.card.bytes_per_token_min, hello.card.jobs_in_flight_max), (1, 4));
    welcome_node(&mut link, 4, PATIENCE).await.unwrap();
    link
}

fn recorded() -> (EventSink, Arc<Mutex<Vec<NodeEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    (Arc::new(move |event| sink.lock().unwrap().push(event)), events)
}

#[tokio::test]
async fn a_lost_link_is_dialled_again_and_a_stopped_node_says_goodbye() {
    let (listener, address) = listener().await;
    let (sink, events) = recorded();
    let (stop, stopped) = oneshot::channel::<()>();
    let node = Node::with_service(fake_service(), address, Duration::from_secs(1));
    let running = tokio::spawn(async move {
        node.serve(&sink, async {
            let _ = stopped.await;
        })
        .await
    });
    drop(welcomed(&listener).await);
    let mut link = welcomed(&listener).await;
    stop.send(()).unwrap();
    let mut last = None;
    while let Some(frame) = link.reader.next().await.unwrap() {
        last = Some(frame);
    }
    assert_eq!(last, Some(Frame::Goodbye));
    running.await.unwrap().unwrap();
    let events = events.lock().unwrap();
    let node = Signer::from_bytes(&[4; 32]).node_id();
    assert_eq!(events[0], NodeEvent::Welcomed { node, jobs_in_flight_max: 4 });
    assert!(matches!(events[1], NodeEvent::LinkLost { .. }));
    assert_eq!(events[2], NodeEvent::Welcomed { node, jobs_in_flight_max: 4 });
}

#[tokio::test]
async fn a_gateway_of_another_version_ends_the_node() {
    let (listener, address) = listener().await;
    let (sink, _) = recorded();
    let gateway = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        Frame::Challenge([1; 32]).encode(&mut bytes);
        bytes.extend_from_slice(&[9, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0]);
        stream.write_all(&bytes).await.unwrap();
        stream
    };
    let node = Node::with_service(fake_service(), address, Duration::ZERO);
    let (_stream, ended) = tokio::join!(gateway, node.serve(&sink, std::future::pending()));
    let error = ended.unwrap_err();
    assert!(
        matches!(error, NodeError::Gateway { source: LinkError::Version { theirs: 1, .. }, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_gives_up_when_it_was_told_to() {
    let (listener, address) = listener().await;
    drop(listener);
    let (sink, _) = recorded();
    let mut node = Node::with_service(fake_service(), address, Duration::ZERO);
    node.give_up_after = Some(Duration::ZERO);
    let ended = node.serve(&sink, std::future::pending()).await;
    assert!(matches!(ended, Err(NodeError::GaveUp { .. })));
}

#[tokio::test]
async fn a_node_that_never_got_a_link_can_be_stopped() {
    let (listener, address) = listener().await;
    drop(listener);
    let (sink, _) = recorded();
    let node = Node::with_service(fake_service(), address, Duration::ZERO);
    node.serve(&sink, async {}).await.unwrap();
}

#[test]
fn the_pause_grows_by_at_most_a_quarter() {
    for _ in 0..100 {
        let pause = with_jitter(Duration::from_secs(1));
        assert!((1000..=1250).contains(&pause.as_millis()));
    }
}

fn real_job(id: u128, prompt: &str) -> Job {
    Job {
        request: RequestId(id),
        model: ModelSlug::parse("huggingfacetb/smollm2-135m-instruct").unwrap(),
        prompt: Prompt::Chat {
            messages_json: serde_json::json!([{"role": "user", "content": prompt}]).to_string(),
            tools_json: None,
        },
        sampling: Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            logprobs: Some(2),
            stop: Vec::new(),
            max_tokens: Some(6),
        },
        choices: 2,
        nonce: [3; 32],
        seed_binds_request: false,
        deadline_ms: 600_000,
    }
}

async fn answer(link: &mut TcpLink, job: Job) -> (Vec<String>, u64) {
    let mut texts = vec![String::new(); job.choices as usize];
    link.writer.send(&Frame::Job(Box::new(job))).await.unwrap();
    loop {
        match link.reader.next().await.unwrap().unwrap() {
            Frame::Delta(delta) => {
                assert_ne!(delta.finish, Some(NodeFinish::Cancelled));
                texts[delta.choice as usize].push_str(&delta.text);
            }
            Frame::Done(done) => {
                verify_statement(&done.statement).unwrap();
                return (texts, done.usage.completion.0);
            }
            Frame::Failed(failed) => panic!("{failed:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_real_model_answers_over_a_real_link() {
    let Some(model_path) = model_path() else { return };
    let (listener, gateway) = listener().await;
    let data_dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        gateway,
        data_dir: data_dir.path().to_owned(),
        model: ModelSlug::parse("huggingfacetb/smollm2-135m-instruct").unwrap(),
        model_path,
        threads: 0,
        kv_bytes_max: 64 * 1024 * 1024,
        jobs_in_flight_max: 4,
        drain: Duration::from_secs(1),
        give_up_after: None,
    };
    let (sink, events) = recorded();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(Node::run(config, sink, async {
        let _ = stopped.await;
    }));
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = TcpLink::tcp(stream).unwrap();
    challenge_node(&mut link, [1; 32], PATIENCE).await.unwrap();
    welcome_node(&mut link, 4, PATIENCE).await.unwrap();
    let first = answer(&mut link, real_job(1, "Name a colour.")).await;
    let again = answer(&mut link, real_job(2, "Name a colour.")).await;
    assert_eq!(first, again, "the same seed gives the same answer");
    assert!(first.0.iter().all(|text| !text.is_empty()) && first.1 > 2, "{first:?}");
    stop.send(()).unwrap();
    while let Some(frame) = link.reader.next().await.unwrap() {
        assert!(matches!(frame, Frame::Load(_) | Frame::Goodbye));
    }
    running.await.unwrap().unwrap();
    assert!(events.lock().unwrap().iter().any(|event| matches!(event, NodeEvent::Loaded { .. })));
}
