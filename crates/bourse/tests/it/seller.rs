//! A seller that speaks just enough of the API: plain answers, streams, and streams that stay open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// The request text that makes the seller stop after its first words and wait.
pub(crate) const HANG: &str = "and then stay silent";

/// The request text that makes it say [`MANY`] words first.
pub(crate) const AT_LENGTH: &str = "at length";
/// See [`AT_LENGTH`].
pub(crate) const MANY: usize = 200;

/// A seller that lives as long as the test program.
pub(crate) struct Seller {
    /// Its API.
    pub(crate) base_url: String,
    /// Hears of each request the seller was asked to be silent on, once its first words are out.
    pub(crate) hung: Receiver<()>,
}

/// Starts a seller on a port of the system's choice.
pub(crate) fn start() -> Seller {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, hung) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            std::thread::spawn(move || drop(serve(stream.unwrap(), &tell)));
        }
    });
    Seller { base_url, hung }
}

/// Answers requests on one connection until the other side closes it.
fn serve(mut stream: TcpStream, tell: &std::sync::mpsc::Sender<()>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(body) = request(&mut reader)? {
        let text = String::from_utf8_lossy(&body).into_owned();
        if !text.contains("\"stream\":true") {
            plain(&mut stream)?;
            continue;
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        let words = if text.contains(AT_LENGTH) { MANY } else { 2 };
        for word in ["one ", "two "].iter().cycle().take(words) {
            chunk(&mut stream, &delta(word, "null"))?;
        }
        if text.contains(HANG) {
            let _ = tell.send(());
            // Silent until the gateway gives up on this connection.
            let _ = reader.read(&mut [0; 1])?;
            return Ok(());
        }
        chunk(&mut stream, &delta("three", "\"stop\""))?;
        chunk(
            &mut stream,
            &format!(
                "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{USAGE}}}\n\n"
            ),
        )?;
        chunk(&mut stream, "data: [DONE]\n\n")?;
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

const USAGE: &str = "{\"prompt_tokens\":10,\"completion_tokens\":3,\"total_tokens\":13}";

fn delta(text: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":\
         [{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

fn plain(stream: &mut TcpStream) -> std::io::Result<()> {
    let body = format!(
        "{{\"id\":\"x\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
         \"message\":{{\"role\":\"assistant\",\"content\":\"one two three\"}},\"finish_reason\":\"stop\"}}],\
         \"usage\":{USAGE}}}"
    );
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Reads one request's body; `None` when the connection is closed.
fn request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        lines += 1;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() && lines > 1 {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            return Ok(Some(body));
        }
    }
}
