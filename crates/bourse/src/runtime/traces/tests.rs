use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use tracing::debug_span;
use tracing_subscriber::layer::SubscriberExt as _;

/// A collector that takes calls and passes on what it was sent, head and body.
fn collector() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (calls, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 4096];
            while !is_whole(&all) {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    n => all.extend_from_slice(&buffer[..n]),
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            if calls.send(all).is_err() {
                return;
            }
        }
    });
    (base, received)
}

fn is_whole(call: &[u8]) -> bool {
    let Some(end) = call.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&call[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    call.len() >= end + 4 + length.unwrap_or(0_usize)
}

fn has(call: &[u8], text: &str) -> bool {
    call.windows(text.len()).any(|window| window == text.as_bytes())
}

fn config(otlp_endpoint: Option<&str>) -> Config {
    let mut config = Config::default();
    config.gateway.otlp_endpoint = otlp_endpoint.map(str::to_owned);
    config
}

#[test]
fn the_collector_is_ours_or_the_standards() {
    let check = |ours: Option<&str>, variables: &[(&str, &str)], want: Option<&str>| {
        assert_eq!(endpoint(&config(ours), &Environment::of(variables)).as_deref(), want);
    };
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/");
    check(None, &[], None);
    check(Some("http://b:1"), &[standard], Some("http://b:1/v1/traces"));
    check(None, &[standard], Some("http://a:4318/v1/traces"));
    let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/x");
    check(None, &[standard, exact], Some("http://c/x"));
    check(None, &[standard, ("OTEL_SDK_DISABLED", "true")], None);
}

#[test]
fn an_address_that_is_none_is_refused() {
    for bad in ["ftp://x/v1/traces", "127.0.0.1:4318/v1/traces", "http://a b/"] {
        assert!(Traces::start(bad).is_err(), "{bad}");
    }
}

#[test]
fn spans_reach_the_collector_with_parents_and_lists() {
    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (base, received) = collector();
    let traces = Traces::start(&format!("{base}/v1/traces")).unwrap();
    let told = tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
        let request = debug_span!(target: SPAN_TARGET, parent: None, "generation", otel.kind = "server",
            otel.name = "chat", "gen_ai.response.finish_reasons" = tracing::field::Empty);
        TraceParent.adopt(&request, THEIRS);
        request.record("otel.name", "chat acme/one");
        let told = request.in_scope(|| {
            let attempt = debug_span!(target: SPAN_TARGET, "attempt", otel.kind = "client");
            TraceParent.traceparent(&attempt)
        });
        request.record("gen_ai.response.finish_reasons", r#"["stop"]"#);
        let other = debug_span!("other-canary");
        assert_eq!(TraceParent.traceparent(&other), None);
        told.unwrap()
    });
    assert_eq!(told[..35], THEIRS[..35], "an attempt belongs to the buyer's trace");
    assert_ne!(told, THEIRS);
    drop(traces);
    let call = received.recv().unwrap();
    let head = String::from_utf8_lossy(&call).to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    for text in
        ["chat acme/one", "attempt", "service.name", "bourse", "gen_ai.response.finish_reasons", "stop"]
    {
        assert!(has(&call, text), "{text}");
    }
    assert!(!has(&call, r#"["stop"]"#), "a list is a list");
    assert!(!has(&call, "other-canary"));
    let parent = [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31];
    assert!(call.windows(8).any(|window| window == parent), "the buyer's span is the parent");
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    // It accepts, by its backlog, and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let traces = Traces::start(&format!("http://{}/v1/traces", silent.local_addr().unwrap())).unwrap();
    let begun = Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
        for _ in 0..4 * QUEUE_SPANS_MAX {
            drop(debug_span!(target: SPAN_TARGET, "generation"));
        }
    });
    assert!(begun.elapsed() < CALL_TIMEOUT, "{:?}", begun.elapsed());
    // The end waits for its own bound alone; here the process goes without it.
    std::mem::forget(traces);
}

#[test]
fn a_traceparent_that_cannot_be_read_is_ignored() {
    let traces = Traces::start("http://127.0.0.1:9/v1/traces").unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "nonsense"] {
            let span = debug_span!(target: SPAN_TARGET, "generation");
            TraceParent.adopt(&span, bad);
            assert!(TraceParent.traceparent(&span).is_some());
        }
    });
    std::mem::forget(traces);
}
