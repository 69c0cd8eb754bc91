//! Closed-loop load on one OpenAI-shaped endpoint over plain HTTP/1.1 on loopback.
//!
//! `load --url http://HOST:PORT/v1/chat/completions [--key K] [--model M] [--concurrency C] [--seconds S]
//! [--stream DELTAS] [--header 'NAME: VALUE']...` prints one line of JSON. An answer counts as good only when it
//! is 200 and complete: `"choices"` in a plain answer; in a stream `[DONE]` at its end and no fewer events than
//! deltas were asked for.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bourse_bench_gateway::{Connection, Side};
use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A client gives up after this many bad answers: the row is worthless by then.
const ERRORS_MAX: u32 = 20;

struct Options {
    address: String,
    path: String,
    key: String,
    model: String,
    concurrency: usize,
    seconds: f64,
    deltas: u64,
    /// More header lines, each with its line's end.
    headers: String,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        address: String::new(),
        path: String::new(),
        key: String::new(),
        model: "mock-model".to_owned(),
        concurrency: 16,
        seconds: 3.0,
        deltas: 0,
        headers: String::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let bad = |_| format!("{name} {value} is no number");
        match name.as_str() {
            "--url" => {
                let rest = value.strip_prefix("http://").ok_or("--url begins with http://")?;
                let (address, path) = rest.split_once('/').ok_or("--url names a path")?;
                options.address = address.to_owned();
                options.path = format!("/{path}");
            }
            "--key" => options.key = value,
            "--model" => options.model = value,
            "--concurrency" => options.concurrency = value.parse().map_err(bad)?,
            "--seconds" => {
                options.seconds = value.parse().map_err(|_| format!("{name} {value} is no number"))?
            }
            "--stream" => options.deltas = value.parse().map_err(bad)?,
            "--header" => options.headers += &format!("{value}\r\n"),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.address.is_empty() { Err("--url is missing".to_owned()) } else { Ok(options) }
}

fn request(options: &Options) -> Vec<u8> {
    let system = "You are a terse assistant that answers questions about a small library of books. Always name \
        the shelf, the author and the year, and say so when you do not know.";
    let user = "Which of the books on the second shelf were printed before 1900, who wrote them, and which one \
        would you hand to a reader who has only an afternoon to spare? Answer in one short paragraph.";
    let tail = match options.deltas {
        0 => r#""max_tokens":128"#.to_owned(),
        n => format!(r#""max_tokens":{n},"stream":true,"stream_options":{{"include_usage":true}}"#),
    };
    let body = format!(
        r#"{{"model":"{}","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{user}"}}],"temperature":0.7,{tail}}}"#,
        options.model
    );
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: */*\r\n\
         user-agent: bourse-bench\r\nauthorization: Bearer {}\r\n{}content-length: {}\r\n\r\n{body}",
        options.path,
        options.address,
        options.key,
        options.headers,
        body.len()
    )
    .into_bytes()
}

#[derive(Default)]
struct Tally {
    latencies_us: Vec<u32>,
    first_bytes_us: Vec<u32>,
    events: u64,
    bytes: u64,
    errors: u64,
    connects: u64,
    error_sample: String,
}

impl Tally {
    fn error(&mut self, sample: &str) {
        self.errors += 1;
        self.error_sample = sample.chars().filter(|c| c.is_ascii() && !c.is_control()).take(300).collect();
    }
}

/// One client: asks again as soon as it is answered, on one connection as long as that lives.
async fn client(options: Rc<Options>, request: Rc<Vec<u8>>, tally: Rc<RefCell<Tally>>, until: Instant) {
    let mut connection: Option<Connection> = None;
    let mut body = Vec::with_capacity(64 * 1024);
    let mut errors = 0;
    while Instant::now() < until && errors < ERRORS_MAX {
        let fresh = connection.is_none();
        let mut open = match connection.take() {
            Some(open) => open,
            None => match TcpStream::connect(&options.address).await {
                Ok(stream) => {
                    tally.borrow_mut().connects += 1;
                    Connection::new(stream)
                }
                Err(error) => {
                    errors += 1;
                    tally.borrow_mut().error(&error.to_string());
                    continue;
                }
            },
        };
        let start = Instant::now();
        let sent = open.stream.write_all(&request).await.is_ok();
        let message = if sent { open.read(Side::Answer, &mut body).await } else { None };
        let mut tally = tally.borrow_mut();
        match message {
            Some(message) if is_good(&message.head, &body, options.deltas) => {
                tally.latencies_us.push(start.elapsed().as_micros() as u32);
                tally.first_bytes_us.push((message.first_byte - start).as_micros() as u32);
                tally.events += events(&body);
                tally.bytes += body.len() as u64;
                connection = message.keep_alive.then_some(open);
            }
            Some(message) => {
                errors += 1;
                let head = String::from_utf8_lossy(&message.head);
                let line = head.lines().next().unwrap_or("").to_owned();
                tally.error(&format!("{line} {}", String::from_utf8_lossy(&body)));
            }
            // A kept connection may be closed under us, which is no error; a fresh one may not.
            None if fresh => {
                errors += 1;
                tally.error("cut off");
            }
            None => {}
        }
    }
}

fn is_good(head: &[u8], body: &[u8], deltas: u64) -> bool {
    let tail = &body[body.len().saturating_sub(64)..];
    let whole = match deltas {
        0 => memmem::find(body, b"\"choices\"").is_some(),
        // At least a delta for each that was asked for, and [DONE]: nobody is measured on less work.
        n => memmem::find(tail, b"[DONE]").is_some() && events(body) > n,
    };
    head.get(9..12) == Some(b"200") && whole
}

fn events(body: &[u8]) -> u64 {
    memmem::find_iter(body, b"data:").count() as u64
}

fn percentile(sorted: &[u32], share: f64) -> u32 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or(0)
}

fn report(tally: &mut Tally, wall: Duration) -> String {
    tally.latencies_us.sort_unstable();
    tally.first_bytes_us.sort_unstable();
    let (latency, first) = (&tally.latencies_us, &tally.first_bytes_us);
    let good = latency.len();
    let each = |sum: u64| sum as f64 / good.max(1) as f64;
    format!(
        concat!(
            r#"{{"ok":{},"errors":{},"connects":{},"rps":{:.1},"latency_us":{{"p50":{},"p90":{},"p99":{}}},"#,
            r#""first_byte_us":{{"p50":{},"p90":{},"p99":{}}},"events_per":{:.1},"bytes_per":{:.0},"error_sample":{:?}}}"#
        ),
        good,
        tally.errors,
        tally.connects,
        good as f64 / wall.as_secs_f64(),
        percentile(latency, 0.5),
        percentile(latency, 0.9),
        percentile(latency, 0.99),
        percentile(first, 0.5),
        percentile(first, 0.9),
        percentile(first, 0.99),
        each(tally.events),
        each(tally.bytes),
        tally.error_sample
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => Rc::new(options),
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::FAILURE;
        }
    };
    let request = Rc::new(request(&options));
    let tally = Rc::new(RefCell::new(Tally::default()));
    let begin = Instant::now();
    let until = begin + Duration::from_secs_f64(options.seconds);
    let set = tokio::task::LocalSet::new();
    for _ in 0..options.concurrency {
        set.spawn_local(client(Rc::clone(&options), Rc::clone(&request), Rc::clone(&tally), until));
    }
    set.await;
    println!("{}", report(&mut tally.borrow_mut(), begin.elapsed()));
    ExitCode::SUCCESS
}
