//! What only a real socket shows: `TCP_NODELAY`, slow clients, the drain.

use super::fakes::*;
use crate::Timeouts;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Serving {
    house: House,
    port: u16,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

async fn serve(house: House) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let gateway = house.gateway.clone();
    let served = tokio::spawn(async move {
        gateway
            .serve(listener, async {
                let _ = stopped.await;
            })
            .await
    });
    Serving { house, port, stop, served }
}

impl Serving {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn send_chat(&self, rest: &str) -> TcpStream {
        let body = chat_body(rest);
        let mut stream = self.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until `until` shows up or the peer closes.
async fn read_until(stream: &mut TcpStream, until: &str) -> String {
    let mut all = Vec::new();
    let mut buf = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(until) {
        match stream.read(&mut buf).await {
            Ok(n) if n > 0 => all.extend_from_slice(&buf[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_stream_arrives_over_a_socket_and_the_connection_stays() {
    let house = House::new(&["a"]);
    house.net.script("a", good_stream(&["x"]));
    let serving = serve(house).await;
    let mut stream = serving.send_chat(r#","stream":true"#).await;
    let first = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("data: [DONE]"), "{first}");
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "ok\"}").await.contains("200 OK"));
    serving.stop.send(()).unwrap();
    serving.served.await.unwrap().unwrap();
}

/// The kernel's own word on the accepted connection is out of reach from here, so time tells: a paced
/// stream under Nagle's algorithm and delayed acknowledgements would take 40 ms an event.
#[tokio::test]
async fn events_do_not_wait_for_acknowledgements() {
    let house = House::new(&["a"]);
    let mut script = vec![Act::Read, stream_head(), events(&[&role()])];
    for _ in 0..10 {
        script.extend([events(&[&text("x")]), Act::Wait(Duration::from_millis(2))]);
    }
    script.extend([events(&[&stop(), &usage(9, 10), "[DONE]"]), stream_end()]);
    house.net.script("a", script);
    let serving = serve(house).await;
    let mut stream = serving.send_chat(r#","stream":true"#).await;
    let started = std::time::Instant::now();
    read_until(&mut stream, "[DONE]").await;
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_buyer_that_hangs_up_cancels_the_seller() {
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, stream_head(), events(&[&role(), &text("x")]), Act::Hang]);
    let before = house.funds.available();
    let serving = serve(house).await;
    let mut stream = serving.send_chat(r#","stream":true"#).await;
    read_until(&mut stream, "\"x\"").await;
    drop(stream);
    let cancelled = &serving.house.net.cancelled;
    tokio::time::timeout(Duration::from_secs(5), async {
        while cancelled.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    serving.house.check_books(before, 1);
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_and_told_so() {
    let house = House::build(&["a"], 1_000, |config| {
        config.timeouts = Timeouts { head: Duration::from_millis(50), ..Timeouts::default() };
    });
    let serving = serve(house).await;
    for (sent, starts, part) in [
        ("GET /health HTTP/1.1\r\nhost: ", "HTTP/1.1 408 ", "\"request_timeout\""),
        // Who has asked nothing is told nothing, before a first request or after one.
        ("", "", ""),
        ("GET /health HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 ", "\"ok\"}"),
    ] {
        let mut stream = serving.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), read_until(&mut stream, "never")).await;
        let ended = ended.expect("the connection must be closed");
        assert!(ended.starts_with(starts) && ended.contains(part), "{ended}");
        assert_eq!(ended.matches("HTTP/1.1").count(), usize::from(!starts.is_empty()), "{ended}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let serving = serve(House::new(&["a"])).await;
    let with_fields = |n: usize| {
        let fields: String = (0..n).map(|k| format!("x-{k}: y\r\n")).collect::<Vec<_>>().concat();
        format!("GET /health HTTP/1.1\r\nhost: x\r\n{fields}\r\n")
    };
    // The host is one of them.
    let (ours, hypers) = (crate::HEADERS_MAX - 1, crate::HEADERS_READ_MAX - 1);
    let cases =
        [(ours, "200", "\"ok\""), (ours + 1, "431", "at most 64"), (hypers, "431", "headers_too_large")];
    for (n, status, part) in cases {
        let mut stream = serving.connect().await;
        stream.write_all(with_fields(n).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{n}: {answer}");
    }
    for head in [with_fields(hypers + 1), with_bytes(crate::HEAD_BYTES_MAX + 1)] {
        let mut stream = serving.connect().await;
        // The answer may come, and the connection go, before the last byte is written.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("content-length: 0"), "{answer}");
    }
    let mut stream = serving.connect().await;
    stream.write_all(with_bytes(crate::HEAD_BYTES_MAX).as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\"ok\"").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A head of that many bytes.
fn with_bytes(bytes: usize) -> String {
    let (start, end) = ("GET /health HTTP/1.1\r\nhost: x\r\nx-long: ", "\r\n\r\n");
    format!("{start}{}{end}", "y".repeat(bytes - start.len() - end.len()))
}

#[tokio::test]
async fn a_drain_ends_open_streams_explicitly() {
    check_drain(Duration::from_millis(20), |_| {}).await;
}

#[tokio::test]
async fn a_drain_can_be_cut_short() {
    check_drain(Duration::from_hours(1), |serving| serving.house.gateway.end_streams()).await;
}

/// A stream that is open when the gateway stops gets its terminal and is settled.
async fn check_drain(drain: Duration, then: impl FnOnce(&Serving)) {
    let house = House::build(&["a"], 10_000_000_000, |config| {
        config.timeouts = Timeouts { drain, idle: Duration::from_millis(400), ..Timeouts::default() };
    });
    // Comments keep the stream alive; it would never end by itself.
    let mut script = vec![Act::Read, stream_head(), events(&[&role(), &text("x")])];
    for _ in 0..1_000 {
        script.extend([Act::Write("4\r\n: .\n\r\n".into()), Act::Wait(Duration::from_millis(5))]);
    }
    house.net.script("a", script);
    let before = house.funds.available();
    let mut serving = serve(house).await;
    let mut stream = serving.send_chat(r#","stream":true"#).await;
    read_until(&mut stream, "\"x\"").await;
    let (stop, _) = oneshot::channel();
    std::mem::replace(&mut serving.stop, stop).send(()).unwrap();
    while !serving.house.gateway.0.is_closing() {
        tokio::task::yield_now().await;
    }
    then(&serving);
    let rest = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(rest.contains("the market is closing") && rest.contains("data: [DONE]"), "{rest}");
    serving.served.await.unwrap().unwrap();
    serving.house.check_books(before, 1);
}

#[tokio::test]
async fn whoever_waits_when_the_drain_ends_is_told() {
    let house = House::build(&["a"], 10_000_000_000, |config| {
        config.timeouts = Timeouts { drain: Duration::from_millis(60), ..Timeouts::default() };
    });
    house.net.script("a", vec![Act::Read, Act::Hang]);
    let before = house.funds.available();
    let serving = serve(house).await;
    let mut stream = serving.send_chat("").await;
    while serving.house.net.requests.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    serving.stop.send(()).unwrap();
    let answer = read_until(&mut stream, "never").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the market is closing"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("x-bourse-receipt: gen-"), "{answer}");
    serving.served.await.unwrap().unwrap();
    serving.house.check_books(before, 1);
}
