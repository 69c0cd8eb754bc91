//! A gateway made of an in-memory pipe against the serve loop with a fake engine.

use super::*;
use crate::engine::fake::{FakeEngine, FakeStep, Script};
use crate::engine::{Generation, SubmitError};
use bourse_proof::sign::{Signer, verify_statement};
use bourse_proof::trace::{choice_nonce, prompt_hash, run_seed, run_seed_hash, trace_root};
use bourse_tokens::testing::{BYTE_0, IM_END, IM_START, tiny_vocabulary};
use bourse_types::{Digest32, ModelSlug, Usage};
use bourse_wire::node::{Count, Counted, Delta, Done, NodeFinish, Prompt, Sampling, Started};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

const DRAIN: Duration = Duration::from_secs(30);
const MODEL: &str = "author/model";

struct Gateway {
    link: FramedLink<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<Result<ServeEnd, ServeError>>,
}

fn service(engine: FakeEngine, jobs_in_flight_max: u32) -> Arc<NodeService> {
    let model = ModelSlug::parse(MODEL).unwrap();
    let signer = Signer::from_bytes(&[9; 32]);
    let service = NodeService::new(model, Arc::new(engine), &tiny_vocabulary(), signer, jobs_in_flight_max);
    Arc::new(service.unwrap())
}

impl Gateway {
    fn new(service: Arc<NodeService>) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (shutdown, leaving) = watch::channel(false);
        let serving = tokio::spawn(serve(FramedLink::over(far), service, 64, leaving, DRAIN));
        Self { link: FramedLink::over(near), shutdown, serving }
    }

    fn scripted(script: impl Fn(&Generation) -> Vec<FakeStep> + Send + Sync + 'static) -> Self {
        Self::new(service(FakeEngine::scripted(tiny_vocabulary().tokens.len(), script), 4))
    }

    async fn send(&mut self, frame: Frame) {
        self.link.writer.send(&frame).await.unwrap();
    }

    /// The next frame that is not about load.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.link.reader.next().await.unwrap() {
                Some(Frame::Load(_)) => {}
                other => return other,
            }
        }
    }

    /// All frames of one job, its last word last.
    async fn serve(&mut self, job: Job) -> Answer {
        self.send(Frame::Job(Box::new(job))).await;
        self.rest().await
    }

    async fn rest(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.next().await.expect("a last word") {
                Frame::Started(started) => answer.started = Some(started),
                Frame::Delta(delta) => answer.deltas.push(delta),
                Frame::Done(done) => {
                    answer.done = Some(*done);
                    return answer;
                }
                Frame::Failed(failed) => {
                    answer.failed = Some(failed);
                    return answer;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[derive(Debug, Default)]
struct Answer {
    started: Option<Started>,
    deltas: Vec<Delta>,
    done: Option<Done>,
    failed: Option<Failed>,
}

impl Answer {
    fn text(&self, choice: u32) -> String {
        self.deltas.iter().filter(|d| d.choice == choice).map(|d| d.text.as_str()).collect()
    }
    fn tokens(&self, choice: u32) -> u32 {
        self.deltas.iter().filter(|d| d.choice == choice).map(|d| d.tokens).sum()
    }
    /// The finish of a choice, which its last delta and no other carries.
    fn finish(&self, choice: u32) -> Option<NodeFinish> {
        let finishes: Vec<_> = self.deltas.iter().filter(|d| d.choice == choice).map(|d| d.finish).collect();
        let (last, before) = finishes.split_last()?;
        assert!(before.iter().all(Option::is_none));
        *last
    }
    fn usage(&self) -> (u64, u64) {
        let usage = self.done.as_ref().unwrap().usage;
        (usage.prompt.0, usage.completion.0)
    }
    fn failure(&self) -> (FailureKind, &str) {
        let failed = self.failed.as_ref().unwrap_or_else(|| panic!("{self:?}"));
        (failed.kind, &failed.message)
    }
}

fn job(id: u128) -> Job {
    Job {
        request: RequestId(id),
        model: ModelSlug::parse(MODEL).unwrap(),
        prompt: Prompt::Chat {
            messages_json: r#"[{"role":"user","content":"hi"}]"#.to_owned(),
            tools_json: None,
        },
        sampling: Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            logprobs: None,
            stop: Vec::new(),
            max_tokens: None,
        },
        choices: 1,
        nonce: [3; 32],
        seed_binds_request: true,
        deadline_ms: 600_000,
    }
}

/// Byte by byte.
fn tokens(text: &str) -> Vec<u32> {
    text.bytes().map(|byte| BYTE_0 + u32::from(byte)).collect()
}

fn says(text: &'static str) -> impl Fn(&Generation) -> Vec<FakeStep> + Send + Sync + 'static {
    move |_| tokens(text).into_iter().map(FakeStep::Token).collect()
}

/// Says something and then nothing more until it is cancelled.
fn hangs_after(text: &'static str) -> Box<Script> {
    Box::new(move |_| tokens(text).into_iter().map(FakeStep::Token).chain([FakeStep::Hang]).collect())
}

#[tokio::test]
async fn a_prompt_is_counted_as_a_job_for_it_would_be() {
    let mut gateway = Gateway::scripted(says("x"));
    let job = job(1);
    let (model, prompt) = (job.model.clone(), job.prompt.clone());
    let started = gateway.serve(job).await.started.unwrap();
    let count = |id, model: &ModelSlug, prompt: &Prompt| {
        let (model, prompt) = (model.clone(), prompt.clone());
        Frame::Count(Box::new(Count { request: RequestId(id), model, prompt }))
    };
    gateway.send(count(2, &model, &prompt)).await;
    let counted = Counted { request: RequestId(2), prompt_tokens: started.prompt_tokens };
    assert_eq!(gateway.next().await, Some(Frame::Counted(counted)));
    gateway.send(count(2, &model, &Prompt::Text("abc".into()))).await;
    let counted = Counted { request: RequestId(2), prompt_tokens: 3 };
    assert_eq!(gateway.next().await, Some(Frame::Counted(counted)), "its name is free again");
    for (model, prompt) in [("author/other", prompt), (MODEL, Prompt::Text(String::new()))] {
        gateway.send(count(3, &ModelSlug::parse(model).unwrap(), &prompt)).await;
        assert_eq!(gateway.rest().await.failure().0, FailureKind::Invalid, "{model}");
    }
}

#[tokio::test]
async fn a_count_takes_the_place_of_a_job() {
    let mut gateway =
        Gateway::new(service(FakeEngine::scripted(tiny_vocabulary().tokens.len(), hangs_after("x")), 1));
    let (model, prompt) = (job(1).model, job(1).prompt);
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    gateway.send(Frame::Count(Box::new(Count { request: RequestId(2), model, prompt }))).await;
    let refused = loop {
        if let Some(Frame::Failed(failed)) = gateway.next().await {
            break failed;
        }
    };
    assert_eq!((refused.request, refused.kind), (RequestId(2), FailureKind::Busy));
}

#[tokio::test]
async fn a_chat_is_streamed_and_signed() {
    let mut gateway = Gateway::scripted(says("héllo!"));
    let answer = gateway.serve(job(77)).await;
    assert_eq!(answer.text(0), "héllo!");
    assert_eq!((answer.tokens(0), answer.finish(0)), (7, Some(NodeFinish::Stop)));
    let mut prompt = vec![IM_START];
    prompt.extend(tokens("user\nhi"));
    prompt.extend([IM_END, IM_START]);
    prompt.extend(tokens("a\n"));
    let prompt_tokens = prompt.len() as u64;
    assert_eq!(answer.started, Some(Started { request: RequestId(77), prompt_tokens, cached_tokens: 0 }));
    let done = answer.done.unwrap();
    let usage = Usage::of_tokens(prompt_tokens, 0, 7);
    assert_eq!(done.usage, usage);
    verify_statement(&done.statement).unwrap();
    let statement = done.statement.statement;
    assert_eq!(statement.node, Signer::from_bytes(&[9; 32]).node_id());
    assert_eq!(statement.request, RequestId(77));
    assert_eq!(statement.usage, usage);
    assert_eq!(statement.prompt_hash, prompt_hash(&prompt));
    assert_eq!(statement.trace_root, trace_root(&[tokens("héllo!")]));
    assert_eq!(statement.text_hash, Digest32(*blake3::hash("héllo!".as_bytes()).as_bytes()));
    let seed = run_seed(&[3; 32], RequestId(77), &statement.model_commitment);
    assert_eq!(statement.run_seed_hash, run_seed_hash(&seed));
}

#[tokio::test]
async fn a_stop_string_across_tokens_ends_the_answer() {
    let mut gateway = Gateway::scripted(|_| {
        tokens("one END two").into_iter().map(FakeStep::Token).chain([FakeStep::Hang]).collect()
    });
    let mut stopped = job(1);
    stopped.sampling.stop = vec!["END".to_owned()];
    let answer = gateway.serve(stopped).await;
    assert_eq!((answer.text(0).as_str(), answer.finish(0)), ("one ", Some(NodeFinish::Stop)));
    assert_eq!((answer.tokens(0), answer.usage().1), (7, 7));
}

#[tokio::test]
async fn text_held_for_a_stop_string_is_sent_when_the_answer_ends() {
    let mut gateway = Gateway::scripted(says("one EN"));
    let mut stopped = job(1);
    stopped.sampling.stop = vec!["END".to_owned()];
    let answer = gateway.serve(stopped).await;
    assert_eq!((answer.text(0).as_str(), answer.finish(0)), ("one EN", Some(NodeFinish::Stop)));
}

#[tokio::test]
async fn choices_have_their_own_seeds_and_share_the_prompt() {
    let letter = |seed: &[u8; 32]| char::from(b'a' + seed[0] % 26).to_string();
    let mut gateway = Gateway::scripted(move |generation| {
        tokens(&letter(&generation.run_seed)).into_iter().map(FakeStep::Token).collect()
    });
    let mut three = job(5);
    three.choices = 3;
    three.seed_binds_request = false;
    let answer = gateway.serve(three).await;
    for choice in 0..3u8 {
        let nonce = choice_nonce(&[3; 32], choice);
        let seed = run_seed(&nonce, RequestId(0), &Digest32([0xFA; 32]));
        assert_eq!(answer.text(choice.into()), letter(&seed.0));
        assert_eq!(answer.finish(choice.into()), Some(NodeFinish::Stop));
    }
    let prompt_tokens = answer.started.unwrap().prompt_tokens;
    assert_eq!(answer.usage(), (prompt_tokens, 3));
    let text: String = (0..3).map(|choice| answer.text(choice)).collect();
    let said: Vec<Vec<u32>> = (0..3).map(|choice| tokens(&answer.text(choice))).collect();
    let statement = answer.done.unwrap().statement.statement;
    assert_eq!(statement.text_hash, Digest32(*blake3::hash(text.as_bytes()).as_bytes()));
    assert_eq!(statement.trace_root, trace_root(&said));
}

#[tokio::test]
async fn a_cancelled_job_ends_with_what_was_made() {
    let mut gateway = Gateway::scripted(hangs_after("ab"));
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    let mut text = String::new();
    while text != "ab" {
        if let Some(Frame::Delta(delta)) = gateway.next().await {
            text.push_str(&delta.text);
        }
    }
    gateway.send(Frame::Cancel(RequestId(2))).await;
    gateway.send(Frame::Cancel(RequestId(1))).await;
    gateway.send(Frame::Cancel(RequestId(1))).await;
    let answer = gateway.rest().await;
    assert_eq!(answer.finish(0), Some(NodeFinish::Cancelled));
    assert_eq!(answer.usage().1, 2);
    verify_statement(&answer.done.unwrap().statement).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_late_job_ends_with_what_was_made() {
    let mut gateway = Gateway::scripted(hangs_after("ab"));
    let mut late = job(1);
    late.deadline_ms = 500;
    let answer = gateway.serve(late).await;
    assert_eq!((answer.text(0).as_str(), answer.finish(0)), ("ab", Some(NodeFinish::Cancelled)));
}

#[tokio::test]
async fn max_tokens_and_the_context_bound_an_answer() {
    let mut gateway = Gateway::new(service(FakeEngine::new(tiny_vocabulary().tokens.len()), 4));
    let mut short = job(1);
    short.sampling.max_tokens = Some(3);
    let answer = gateway.serve(short).await;
    assert_eq!((answer.tokens(0), answer.finish(0).is_some()), (3, true));
    let mut long = job(2);
    long.prompt = Prompt::Text("x".repeat(511));
    let answer = gateway.serve(long).await;
    assert_eq!((answer.tokens(0), answer.usage()), (1, (511, 1)));
}

#[tokio::test]
async fn a_dead_engine_fails_open_jobs_and_ends_the_link() {
    let mut gateway = Gateway::scripted(|_| vec![FakeStep::Token(BYTE_0 + 97), FakeStep::Crash]);
    let answer = gateway.serve(job(1)).await;
    assert_eq!(answer.failure(), (FailureKind::Engine, "the engine has stopped"));
    assert_eq!(gateway.next().await, Some(Frame::Goodbye));
    assert_eq!(gateway.next().await, None);
    assert!(matches!(gateway.serving.await.unwrap(), Err(ServeError::EngineStopped)));
}

#[tokio::test]
async fn jobs_beyond_the_credit_are_busy_and_free_places_are_used() {
    let mut gateway = Gateway::scripted(hangs_after(""));
    for id in 1..=5 {
        gateway.send(Frame::Job(Box::new(job(id)))).await;
    }
    let answer = gateway.rest().await;
    assert_eq!(answer.failed.as_ref().unwrap().request, RequestId(5));
    assert_eq!(answer.failure().0, FailureKind::Busy);
    gateway.send(Frame::Cancel(RequestId(2))).await;
    assert!(gateway.rest().await.done.is_some());
    gateway.send(Frame::Job(Box::new(job(6)))).await;
    gateway.send(Frame::Cancel(RequestId(6))).await;
    assert_eq!(gateway.rest().await.done.unwrap().statement.statement.request, RequestId(6));
}

#[tokio::test]
async fn an_engine_without_room_is_busy() {
    let mut engine = FakeEngine::new(tiny_vocabulary().tokens.len());
    engine.capabilities_mut().generations_max = 0;
    let mut gateway = Gateway::new(service(engine, 4));
    assert_eq!(gateway.serve(job(1)).await.failure().0, FailureKind::Busy);
}

#[tokio::test]
async fn what_cannot_be_served_is_the_buyers_and_says_why() {
    let mut gateway = Gateway::scripted(says("x"));
    let mut check = async |edit: fn(&mut Job), kind, want: &str| {
        let mut wrong = job(1);
        edit(&mut wrong);
        let answer = gateway.serve(wrong).await;
        assert_eq!(answer.failure().0, kind);
        assert!(answer.failure().1.contains(want), "{}", answer.failure().1);
        assert!(answer.deltas.is_empty());
    };
    check(
        |j| {
            let messages_json = r#"[{"role":"user","content":[{"type":"image_url"}]}]"#.to_owned();
            j.prompt = Prompt::Chat { messages_json, tools_json: None };
        },
        FailureKind::Invalid,
        "messages[0].content[0] has type `image_url`",
    )
    .await;
    check(|j| j.prompt = Prompt::Text(String::new()), FailureKind::Invalid, "the prompt is empty").await;
    check(|j| j.prompt = Prompt::Text("x".repeat(512)), FailureKind::ContextLength, "512 tokens").await;
    check(|j| j.prompt = Prompt::Text("x".repeat(1 << 20)), FailureKind::ContextLength, "at least").await;
    check(|j| j.prompt = Prompt::Text("x".repeat(6000)), FailureKind::ContextLength, "at least 512").await;
    check(|j| j.model = ModelSlug::parse("a/b").unwrap(), FailureKind::Invalid, "author/model, not a/b")
        .await;
    check(|j| j.choices = 0, FailureKind::Invalid, "n must be").await;
    check(|j| j.choices = 129, FailureKind::Invalid, "n must be").await;
    check(|j| j.sampling.max_tokens = Some(0), FailureKind::Invalid, "max_tokens").await;
    check(|j| j.sampling.logprobs = Some(21), FailureKind::Invalid, "top_logprobs").await;
    check(|j| j.sampling.top_p = 0.0, FailureKind::Invalid, "top_p").await;
    check(|j| j.sampling.logit_bias = vec![(999, 1.0)], FailureKind::Invalid, "logit_bias").await;
    check(|j| j.sampling.stop = vec![String::new()], FailureKind::Invalid, "stop string").await;
}

#[tokio::test]
async fn a_refusal_of_the_engine_is_passed_on() {
    let refusal = SubmitError::KvBudget { needed_tokens: 9, kv_tokens_max: 8 };
    let mut gateway = Gateway::scripted(move |_| vec![FakeStep::Refuse(refusal.clone())]);
    assert_eq!(gateway.serve(job(1)).await.failure().0, FailureKind::ContextLength);
}

#[tokio::test]
async fn log_probabilities_have_openais_shape() {
    let mut gateway = Gateway::scripted(says("é"));
    let mut wanted = job(1);
    wanted.sampling.logprobs = Some(1);
    let answer = gateway.serve(wanted).await;
    let arrays = answer.deltas.iter().filter_map(|delta| delta.logprobs_json.as_deref());
    let items: Vec<serde_json::Value> =
        arrays.flat_map(|json| serde_json::from_str::<Vec<serde_json::Value>>(json).unwrap()).collect();
    let item = |byte: u8| {
        serde_json::json!({
            "token": "\u{FFFD}", "logprob": -0.5, "bytes": [byte],
            "top_logprobs": [{"token": "\u{FFFD}", "logprob": -0.5, "bytes": [byte]}],
        })
    };
    assert_eq!(items, [item(0xC3), item(0xA9)]);
}

#[tokio::test]
async fn a_leaving_node_finishes_what_is_open_and_takes_nothing_new() {
    let mut gateway = Gateway::scripted(hangs_after("a"));
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    assert!(matches!(gateway.next().await, Some(Frame::Started(_))));
    gateway.shutdown.send(true).unwrap();
    // Refusals begin once the node has seen that it should leave; earlier jobs are taken and cancelled.
    let mut id = 2;
    loop {
        gateway.send(Frame::Job(Box::new(job(id)))).await;
        gateway.send(Frame::Cancel(RequestId(id))).await;
        let answer = gateway.rest().await;
        if answer.failed.is_some() {
            assert_eq!(answer.failure(), (FailureKind::Busy, "this node is leaving"));
            break;
        }
        id += 1;
    }
    gateway.send(Frame::Cancel(RequestId(1))).await;
    assert!(gateway.rest().await.done.is_some());
    assert_eq!(gateway.next().await, Some(Frame::Goodbye));
    assert_eq!(gateway.serving.await.unwrap().unwrap(), ServeEnd::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_outlast_the_drain_are_cut() {
    let mut gateway = Gateway::scripted(hangs_after("a"));
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    assert!(matches!(gateway.next().await, Some(Frame::Started(_))));
    gateway.shutdown.send(true).unwrap();
    let answer = gateway.rest().await;
    assert_eq!((answer.finish(0), answer.usage().1), (Some(NodeFinish::Cancelled), 1));
    assert_eq!(gateway.next().await, Some(Frame::Goodbye));
}

#[tokio::test]
async fn a_goodbye_of_the_gateway_is_answered_after_the_last_job() {
    let mut gateway = Gateway::scripted(says("abc"));
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    gateway.send(Frame::Goodbye).await;
    assert_eq!(gateway.rest().await.text(0), "abc");
    assert_eq!(gateway.next().await, Some(Frame::Goodbye));
    assert_eq!(gateway.serving.await.unwrap().unwrap(), ServeEnd::GatewayLeft);
}

#[tokio::test]
async fn a_frame_that_has_no_place_ends_the_link() {
    let mut gateway = Gateway::scripted(says("abc"));
    gateway.send(Frame::Load(Load::default())).await;
    let ended = gateway.serving.await.unwrap();
    assert!(matches!(ended, Err(ServeError::Link(LinkError::Unexpected { .. }))));
}

#[tokio::test]
async fn load_is_told_at_once_and_when_it_changes() {
    let mut gateway = Gateway::scripted(hangs_after(""));
    let first = gateway.link.reader.next().await.unwrap();
    assert_eq!(first, Some(Frame::Load(Load { kv_tokens_max: 4096, ..Load::default() })));
    gateway.send(Frame::Job(Box::new(job(1)))).await;
    loop {
        if let Some(Frame::Load(load)) = gateway.link.reader.next().await.unwrap()
            && load.running == 1
        {
            break;
        }
    }
}
