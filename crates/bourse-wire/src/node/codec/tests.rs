//! Laws of the frame codec: what was written is read back, and foreign bytes never panic.

use super::*;
use bourse_types::{TokenCount, Usage};
use proptest::prelude::*;

fn slug() -> ModelSlug {
    ModelSlug::parse("author/model").unwrap()
}

fn usages() -> impl Strategy<Value = Usage> {
    any::<[u64; 5]>().prop_map(|[prompt, cached, write, completion, units]| Usage {
        cache_write: TokenCount(write),
        units,
        ..Usage::of_tokens(prompt, cached, completion)
    })
}

fn finite() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite())
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let floats = (finite(), finite(), finite(), finite(), finite(), finite());
    let biases = proptest::collection::vec((any::<u32>(), finite()), 0..4);
    let stops = proptest::collection::vec(".{0,8}", 0..4);
    let counts = (any::<u32>(), any::<Option<u8>>(), any::<Option<u32>>());
    (floats, biases, stops, counts).prop_map(|(f, logit_bias, stop, (top_k, logprobs, max_tokens))| {
        Sampling {
            temperature: f.0,
            top_p: f.1,
            top_k,
            min_p: f.2,
            repetition_penalty: f.3,
            presence_penalty: f.4,
            frequency_penalty: f.5,
            logit_bias,
            logprobs,
            stop,
            max_tokens,
        }
    })
}

fn prompts() -> impl Strategy<Value = Prompt> {
    prop_oneof![
        (".{0,32}", proptest::option::of(".{0,16}"))
            .prop_map(|(messages_json, tools_json)| Prompt::Chat { messages_json, tools_json }),
        ".{0,32}".prop_map(Prompt::Text),
    ]
}

fn jobs() -> impl Strategy<Value = Frame> {
    (any::<u128>(), prompts(), samplings(), any::<u32>(), any::<[u8; 32]>(), any::<bool>(), any::<u64>())
        .prop_map(|(request, prompt, sampling, choices, nonce, seed_binds_request, deadline_ms)| {
            Frame::Job(Box::new(Job {
                request: RequestId(request),
                model: slug(),
                prompt,
                sampling,
                choices,
                nonce,
                seed_binds_request,
                deadline_ms,
            }))
        })
}

fn hellos() -> impl Strategy<Value = Frame> {
    (any::<[u8; 32]>(), any::<[u8; 64]>(), any::<[u32; 4]>(), ".{0,16}").prop_map(
        |(node, signature, n, engine)| {
            let card = NodeCard {
                model: slug(),
                model_commitment: Digest32(node),
                context_tokens_max: n[0],
                jobs_in_flight_max: n[1],
                bytes_per_token_min: n[2],
                template_tokens_max: n[3],
                gpus: (n[0] % 2 == 1).then_some(n[1]),
                engine,
            };
            Frame::Hello(Hello { version: NODE_PROTOCOL_VERSION, node: NodeId(node), signature, card })
        },
    )
}

fn deltas() -> impl Strategy<Value = Frame> {
    let finish = prop_oneof![
        Just(None),
        Just(Some(NodeFinish::Stop)),
        Just(Some(NodeFinish::Length)),
        Just(Some(NodeFinish::Cancelled))
    ];
    (any::<u128>(), any::<u32>(), ".{0,32}", any::<u32>(), proptest::option::of(".{0,16}"), finish).prop_map(
        |(request, choice, text, tokens, logprobs_json, finish)| {
            Frame::Delta(Delta { request: RequestId(request), choice, text, tokens, logprobs_json, finish })
        },
    )
}

fn dones() -> impl Strategy<Value = Frame> {
    (any::<u128>(), any::<[[u8; 32]; 6]>(), usages(), any::<[u8; 64]>()).prop_map(
        |(request, d, usage, signature)| {
            let statement = NodeStatement {
                node: NodeId(d[0]),
                request: RequestId(request),
                model_commitment: Digest32(d[1]),
                run_seed_hash: Digest32(d[2]),
                prompt_hash: Digest32(d[3]),
                text_hash: Digest32(d[4]),
                trace_root: Digest32(d[5]),
                usage,
            };
            Frame::Done(Box::new(Done { usage, statement: SignedNodeStatement { statement, signature } }))
        },
    )
}

fn faileds() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![
        Just(FailureKind::Invalid),
        Just(FailureKind::ContextLength),
        Just(FailureKind::Busy),
        Just(FailureKind::Engine)
    ];
    (any::<u128>(), kind, ".{0,32}").prop_map(|(request, kind, message)| {
        Frame::Failed(Failed { request: RequestId(request), kind, message })
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    let small = prop_oneof![
        any::<[u8; 32]>().prop_map(Frame::Challenge),
        any::<u32>().prop_map(|jobs_in_flight_max| Frame::Welcome(Welcome {
            version: NODE_PROTOCOL_VERSION,
            jobs_in_flight_max
        })),
        any::<u128>().prop_map(|id| Frame::Cancel(RequestId(id))),
        (any::<u128>(), any::<u64>(), any::<u64>()).prop_map(|(id, prompt_tokens, cached_tokens)| {
            Frame::Started(Started { request: RequestId(id), prompt_tokens, cached_tokens })
        }),
        (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
            |(running, waiting, kv_tokens_used, kv_tokens_max)| {
                Frame::Load(Load { running, waiting, kv_tokens_used, kv_tokens_max })
            }
        ),
        (any::<u128>(), prompts()).prop_map(|(id, prompt)| {
            Frame::Count(Box::new(Count { request: RequestId(id), model: slug(), prompt }))
        }),
        (any::<u128>(), any::<u64>()).prop_map(|(id, prompt_tokens)| {
            Frame::Counted(Counted { request: RequestId(id), prompt_tokens })
        }),
        Just(Frame::Goodbye),
    ];
    prop_oneof![small, jobs(), hellos(), deltas(), dones(), faileds()]
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

fn delta_with(text: String) -> Frame {
    Frame::Delta(Delta {
        request: RequestId(1),
        choice: 0,
        text,
        tokens: 1,
        logprobs_json: None,
        finish: None,
    })
}

fn job_with(edit: impl FnOnce(&mut Job)) -> Frame {
    let mut job = Job {
        request: RequestId(7),
        model: slug(),
        prompt: Prompt::Text(String::new()),
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
        nonce: [0; 32],
        seed_binds_request: true,
        deadline_ms: 1000,
    };
    edit(&mut job);
    Frame::Job(Box::new(job))
}

fn check_bound(at_bound: &Frame, past: &Frame, long: usize) {
    assert_eq!(Frame::decode(&encoded(at_bound)[LENGTH_PREFIX_BYTES..]).as_ref(), Ok(at_bound));
    assert_eq!(Frame::decode(&encoded(past)[LENGTH_PREFIX_BYTES..]), Err(CanonicalError::Long(long)));
}

#[test]
fn texts_are_read_up_to_their_bounds_and_refused_past_them() {
    let x = |n: usize| "x".repeat(n);
    let n = DELTA_TEXT_BYTES_MAX;
    check_bound(&delta_with(x(n)), &delta_with(x(n + 1)), n + 1);
    let n = PROMPT_BYTES_MAX;
    let prompt = |n| job_with(|j| j.prompt = Prompt::Text(x(n)));
    check_bound(&prompt(n), &prompt(n + 1), n + 1);
    let n = TOOLS_JSON_BYTES_MAX;
    let tools =
        |n| job_with(|j| j.prompt = Prompt::Chat { messages_json: String::new(), tools_json: Some(x(n)) });
    check_bound(&tools(n), &tools(n + 1), n + 1);
    let n = STOP_BYTES_MAX;
    let stop = |n| job_with(|j| j.sampling.stop = vec![x(n)]);
    check_bound(&stop(n), &stop(n + 1), n + 1);
    let n = FAILURE_MESSAGE_BYTES_MAX;
    let failed =
        |n| Frame::Failed(Failed { request: RequestId(1), kind: FailureKind::Engine, message: x(n) });
    check_bound(&failed(n), &failed(n + 1), n + 1);
    let n = LOGPROBS_JSON_BYTES_MAX;
    let logprobs = |n| {
        let Frame::Delta(mut delta) = delta_with(String::new()) else { unreachable!() };
        delta.logprobs_json = Some(x(n));
        Frame::Delta(delta)
    };
    check_bound(&logprobs(n), &logprobs(n + 1), n + 1);
}

#[test]
fn collections_are_read_up_to_their_bounds_and_refused_past_them() {
    let stops = |n| job_with(|j| j.sampling.stop = vec!["s".to_owned(); n]);
    check_bound(&stops(STOPS_MAX), &stops(STOPS_MAX + 1), STOPS_MAX + 1);
    let biases = |n| job_with(|j| j.sampling.logit_bias = vec![(1, 1.0); n]);
    check_bound(&biases(LOGIT_BIASES_MAX), &biases(LOGIT_BIASES_MAX + 1), LOGIT_BIASES_MAX + 1);
}

#[test]
fn the_largest_job_fits_a_frame() {
    let x = |n: usize| "x".repeat(n);
    let frame = job_with(|j| {
        j.prompt =
            Prompt::Chat { messages_json: x(PROMPT_BYTES_MAX), tools_json: Some(x(TOOLS_JSON_BYTES_MAX)) };
        j.sampling.stop = vec![x(STOP_BYTES_MAX); STOPS_MAX];
        j.sampling.logit_bias = vec![(0, 0.0); LOGIT_BIASES_MAX];
    });
    assert!(encoded(&frame).len() - LENGTH_PREFIX_BYTES <= super::super::FRAME_BYTES_MAX);
}

#[test]
fn floats_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let frame = job_with(|j| j.sampling.min_p = bad);
        assert_eq!(
            Frame::decode(&encoded(&frame)[LENGTH_PREFIX_BYTES..]),
            Err(CanonicalError::Value("min_p"))
        );
    }
}

#[test]
fn bytes_of_a_goodbye_and_a_cancel_are_fixed() {
    assert_eq!(encoded(&Frame::Goodbye), [1, 0, 0, 0, 11]);
    let mut want = vec![17, 0, 0, 0, 5];
    want.extend_from_slice(&258u128.to_le_bytes());
    assert_eq!(encoded(&Frame::Cancel(RequestId(258))), want);
}

#[test]
fn another_version_is_named_whatever_follows_it() {
    assert_eq!(Frame::decode(&[2, 9, 0, 0, 0, 1, 2, 3]), Err(CanonicalError::Version(9)));
    assert_eq!(Frame::decode(&[3, 0, 1, 0, 0]), Err(CanonicalError::Version(255)));
}

#[test]
fn an_unknown_kind_and_an_empty_frame_are_refused() {
    assert_eq!(Frame::decode(&[]), Err(CanonicalError::Short));
    assert_eq!(Frame::decode(&[0]), Err(CanonicalError::Value("kind")));
    assert_eq!(Frame::decode(&[14]), Err(CanonicalError::Value("kind")));
}

proptest! {
    #[test]
    fn frames_round_trip(frame in frames(), before in proptest::collection::vec(any::<u8>(), 0..8)) {
        let mut out = before.clone();
        frame.encode(&mut out);
        prop_assert_eq!(&out[..before.len()], &before[..]);
        let bytes = &out[before.len()..];
        let (length, payload) = bytes.split_at(LENGTH_PREFIX_BYTES);
        prop_assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, payload.len());
        prop_assert_eq!(Frame::decode(payload), Ok(frame));
    }

    #[test]
    fn a_cut_frame_is_an_error(frame in frames(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&frame);
        let payload = &bytes[LENGTH_PREFIX_BYTES..];
        prop_assert!(Frame::decode(&payload[..cut.index(payload.len())]).is_err());
    }

    #[test]
    fn a_changed_frame_reads_as_itself_or_fails(frame in frames(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = encoded(&frame);
        let i = LENGTH_PREFIX_BYTES + at.index(bytes.len() - LENGTH_PREFIX_BYTES);
        bytes[i] ^= flip;
        if let Ok(other) = Frame::decode(&bytes[LENGTH_PREFIX_BYTES..]) {
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Frame::decode(&bytes);
    }
}
