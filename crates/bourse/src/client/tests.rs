//! The client against a socket that says exactly what a case wants.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Answers one connection with these bytes and gives back what was asked.
async fn answering(answer: &str) -> (Client, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            asked.extend_from_slice(&part[..read]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (Client::new(&base_url, Some("sk-bourse-x".to_owned())).unwrap(), asked)
}

fn with_length(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn addresses_are_checked_before_anyone_is_called() {
    let check = |text: &str, good: bool| assert_eq!(Client::new(text, None).is_ok(), good, "{text}");
    check("http://127.0.0.1:8420", true);
    check("http://[::1]:8420/v1/", true);
    check("https://example.com", true);
    check("ftp://example.com", false);
    check("127.0.0.1:8420", false);
    check("http://", false);
    check("http://host/?query", false);
}

#[tokio::test]
async fn a_document_is_fetched_with_the_key() {
    let (client, asked) = answering(&with_length("200 OK", "{\"data\":[]}")).await;
    assert_eq!(client.get("/models").await.unwrap(), serde_json::json!({"data": []}));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /v1/models HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer sk-bourse-x\r\n"), "{asked}");
}

#[tokio::test]
async fn a_refusal_carries_the_markets_words_and_a_hint() {
    let body = "{\"error\":{\"message\":\"no such API key\",\"code\":401}}";
    let (client, _asked) = answering(&with_length("401 Unauthorized", body)).await;
    let error = client.get("/models").await.unwrap_err();
    assert_eq!(error.to_string(), "the market answered 401 Unauthorized: no such API key");
    assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("revoked"));
}

#[tokio::test]
async fn a_stranger_is_told_apart_from_a_market() {
    let (client, _asked) = answering(&with_length("200 OK", "<html>")).await;
    assert!(matches!(client.get("/models").await, Err(ClientError::Malformed(_))));
}

#[tokio::test]
async fn a_stream_comes_in_whole_lines() {
    let (client, _asked) = answering(&with_length("200 OK", "data: a\r\n\ndata: b\nrest")).await;
    let mut lines = client.stream("/chat/completions", &serde_json::json!({})).await.unwrap();
    let mut got = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        got.push(line);
    }
    assert_eq!(got, ["data: a", "", "data: b", "rest"]);
}

#[tokio::test]
async fn a_line_is_bounded() {
    let check = async |bytes: usize| {
        let body = format!("{}\n", "a".repeat(bytes));
        let (client, _asked) = answering(&with_length("200 OK", &body)).await;
        let mut lines = client.stream("/", &serde_json::json!({})).await.unwrap();
        lines.next().await.map(|line| line.map(|text| text.len()))
    };
    assert_eq!(check(LINE_BYTES_MAX).await.unwrap(), Some(LINE_BYTES_MAX));
    assert!(matches!(check(LINE_BYTES_MAX + 1).await, Err(ClientError::TooLong(LINE_BYTES_MAX))));
}

#[tokio::test]
async fn a_silent_port_is_named_with_a_hint() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::new(&format!("http://{address}"), None).unwrap().get("/").await.unwrap_err();
    assert_eq!(error.to_string(), format!("nobody answers at {address}"));
}
