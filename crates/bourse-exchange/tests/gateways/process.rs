//! An exchange that is a process: this test binary again, with an order in its environment.
//!
//! It takes a port at once, listens to it only when it has the books, and ends when its input is closed.

use super::{clock, config, secret};
use bourse_exchange::{Exchange, FundsServer, FundsServerConfig, Holds, JournalError, OpenError};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpSocket;

const ORDER: &str = "BOURSE_EXCHANGE_DIR";
/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

pub(crate) struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
    /// Where it will listen.
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "exchange_process", "--nocapture", "--test-threads", "1"])
            .env(ORDER, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let address = said(&mut output, "address").parse().expect("an address");
        Self { process, output, address }
    }

    pub(crate) fn wait_until_it_serves(&mut self) {
        said(&mut self.output, "serves");
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("its end");
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Ends it in order.
    pub(crate) fn close(mut self) {
        drop(self.process.stdin.take());
        let ended = self.process.wait().expect("its end");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Server {
    /// A test that fails leaves nobody behind.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What it says after a word. Everything but its own words is libtest's.
fn said(output: &mut BufReader<ChildStdout>, word: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(output.read_line(&mut line).expect("its output") > 0, "it ended before it said {word}");
        if let Some(rest) = line.trim_end().strip_prefix("exchange ").and_then(|said| said.strip_prefix(word))
        {
            return rest.trim().to_owned();
        }
    }
}

fn say(line: &str) {
    println!("\nexchange {line}");
}

/// The process itself. Nothing in an ordinary test run.
pub(crate) fn run() {
    let Some(dir) = std::env::var_os(ORDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a reactor");
    let _guard = runtime.enter();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    say(&format!("address {}", socket.local_addr().expect("its address")));
    let exchange = loop {
        match Exchange::open(&dir, config(Holds::OutliveExchange), clock()) {
            Ok(exchange) => break Arc::new(exchange),
            Err(OpenError::Journal(JournalError::InUse)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let listener = socket.listen(BACKLOG).expect("it listens").into_std().expect("a listener");
    let server = FundsServer::start(Arc::clone(&exchange), listener, FundsServerConfig::of(secret()))
        .expect("it serves");
    say("serves");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("its input");
    drop(server);
    exchange.close().expect("it closes");
}
