//! An exchange that is a process.
//!
//! It takes a port at once, listens to it only when it has the books, and ends when its input is closed.

use super::{clock, config, secret};
use crate::child::{Child, say, waits};
use bourse_exchange::{Exchange, FundsServer, FundsServerConfig, Holds, JournalError, OpenError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpSocket;

const ORDER: &str = "BOURSE_EXCHANGE_DIR";
/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

pub(crate) struct Server {
    pub(crate) process: Child,
    /// Where it will listen.
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        let process = Child::start("exchange_process", ORDER, dir);
        let address = process.hear("address").parse().expect("an address");
        Self { process, address }
    }

    pub(crate) fn wait_until_it_serves(&self) {
        self.process.hear("serves");
    }
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
    while waits() {}
    drop(server);
    exchange.close().expect("it closes");
}
