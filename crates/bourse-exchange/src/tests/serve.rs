//! What a server of gateways allows one of them, and that the others do not notice.

use super::support::{START, hold, request};
use super::{key, market_in};
use crate::serve::STRANGERS_MAX;
use crate::serve::session::DURABLE_CALLS_MAX;
use crate::{Exchange, FundsServer, GATEWAYS_MAX};
use bourse_types::UnixMs;
use bourse_wire::funds::port::{
    Drawn, FRAME_BYTES_MAX, HELLO_BYTES_MAX, NO_CALL, PORT_VERSION, PortSecret, Reply, Request, Side, decode,
    encode,
};
use bourse_wire::funds::{CommitTicket, Funds, FundsError, KeyGrant};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const STUCK_AFTER: Duration = Duration::from_secs(20);

struct World {
    exchange: Arc<Exchange>,
    server: FundsServer,
    grant: KeyGrant,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(market_in(dir.path(), 1_000_000_000));
    let grant = key(&exchange, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server =
        FundsServer::start(Arc::clone(&exchange), listener, secret("a secret of these tests")).unwrap();
    World { exchange, server, grant, _dir: dir }
}

fn secret(text: &str) -> PortSecret {
    PortSecret::of(text).unwrap()
}

/// A gateway that is driven by hand.
struct Gateway {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Gateway {
    /// Connects; the challenge when there is one.
    fn dial(address: SocketAddr) -> (Self, Option<[u8; 32]>) {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(STUCK_AFTER)).unwrap();
        let mut this = Self { stream, input: Vec::new() };
        match this.next() {
            Some((NO_CALL, Reply::Challenge(challenge))) => (this, Some(challenge)),
            None => (this, None),
            other => panic!("{other:?}"),
        }
    }

    /// Connects and proves a secret; none when it was not welcomed.
    fn greet(address: SocketAddr, text: &str, version: u8) -> Option<Self> {
        let (mut this, challenge) = Self::dial(address);
        let drawn = Drawn { challenge: challenge?, nonce: [7; 32] };
        let proof = *secret(text).proof(Side::Gateway, &drawn, 0).as_bytes();
        this.send(NO_CALL, &Request::Hello { version, nonce: drawn.nonce, proof });
        match this.next()? {
            (NO_CALL, Reply::Welcome { incarnation, proof }) => {
                assert_eq!(secret(text).proof(Side::Exchange, &drawn, incarnation), proof);
                Some(this)
            }
            other => panic!("{other:?}"),
        }
    }

    fn welcome(address: SocketAddr) -> Self {
        Self::greet(address, "a secret of these tests", PORT_VERSION).expect("it is welcome")
    }

    fn send(&mut self, call: u64, request: &Request) {
        let mut frame = Vec::new();
        encode(call, request, &mut frame).unwrap();
        self.stream.write_all(&frame).unwrap();
    }

    /// The next frame; none when the exchange has closed.
    fn next(&mut self) -> Option<(u64, Reply)> {
        loop {
            if let Some(taken) = decode(&self.input, FRAME_BYTES_MAX).unwrap() {
                self.input.drain(..taken.bytes);
                return Some((taken.call, taken.message));
            }
            let mut chunk = [0; 4_096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The answer to a call, past what is told unasked.
    fn answer(&mut self, call: u64) -> Option<Reply> {
        loop {
            match self.next()? {
                (found, reply) if found == call => return Some(reply),
                (NO_CALL, Reply::Durable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether it is served.
    fn is_served(&mut self, world: &World) -> bool {
        self.send(77, &Request::Authenticate { key: world.grant.key, now: START });
        self.answer(77) == Some(Reply::Granted(world.grant))
    }
}

#[test]
fn who_does_not_prove_the_secret_or_the_version_is_told_nothing() {
    let world = world();
    let address = world.server.address();
    assert!(Gateway::greet(address, "a secret of nobody", PORT_VERSION).is_none());
    assert!(Gateway::greet(address, "a secret of these tests", PORT_VERSION + 1).is_none());
    let (mut hasty, _) = Gateway::dial(address);
    hasty.send(1, &Request::Durable(CommitTicket(1)));
    assert_eq!(hasty.next(), None, "calls come after the hello");
    let (mut long, _) = Gateway::dial(address);
    long.stream.write_all(&(HELLO_BYTES_MAX as u32 + 1).to_le_bytes()).unwrap();
    assert_eq!(long.next(), None);
    let mut twice = Gateway::welcome(address);
    assert!(twice.is_served(&world));
    twice.send(NO_CALL, &Request::Hello { version: PORT_VERSION, nonce: [0; 32], proof: [0; 32] });
    assert_eq!(twice.next(), None);
}

#[test]
fn one_gateway_that_sends_nonsense_or_reads_nothing_does_not_hurt_another() {
    let world = world();
    let address = world.server.address();
    let mut good = Gateway::welcome(address);
    let mut long = Gateway::welcome(address);
    long.stream.write_all(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes()).unwrap();
    assert_eq!(long.answer(1), None, "cut off");
    let mut nonsense = Gateway::welcome(address);
    nonsense.stream.write_all(&[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 250]).unwrap();
    assert_eq!(nonsense.answer(1), None, "cut off");

    // It asks and asks until nobody takes its questions any more.
    let mut deaf = Gateway::welcome(address);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut questions = Vec::new();
    for call in 1..2_000 {
        encode(call, &Request::Authenticate { key: world.grant.key, now: START }, &mut questions).unwrap();
    }
    let blocked = loop {
        if let Err(error) = deaf.stream.write_all(&questions) {
            break error;
        }
        assert!(good.is_served(&world));
    };
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock, "it is held up, not cut off yet");
    assert!(good.is_served(&world));
}

#[test]
fn gateways_and_strangers_have_their_number() {
    let world = world();
    let address = world.server.address();
    let gateways: Vec<_> = (0..GATEWAYS_MAX).map(|_| Gateway::welcome(address)).collect();
    let mut late = Gateway::welcome(address);
    assert_eq!(late.answer(1), None, "welcome, and then there is no place");
    drop(gateways);
    let strangers: Vec<_> = (0..STRANGERS_MAX).map(|_| Gateway::dial(address)).collect();
    assert!(strangers.iter().all(|(_, challenge)| challenge.is_some()));
    assert!(Gateway::dial(address).1.is_none());
    drop(strangers);
}

#[test]
fn calls_that_wait_for_the_disk_have_a_bound_and_an_answer_when_it_is_there() {
    let world = world();
    let mut gateway = Gateway::welcome(world.server.address());
    let never = CommitTicket(u64::MAX);
    (1..=DURABLE_CALLS_MAX as u64).for_each(|call| gateway.send(call, &Request::Durable(never)));
    gateway.send(999, &Request::Durable(never));
    let refused = Reply::Refused(FundsError::TooMany("things at the exchange"));
    assert_eq!(gateway.answer(999), Some(refused));
    let mut other = Gateway::welcome(world.server.address());
    world.exchange.hold(&hold(request(1, START), world.grant, 5, START)).unwrap();
    let ticket = world.exchange.ticket();
    other.send(1, &Request::Durable(ticket));
    assert!(matches!(other.answer(1), Some(Reply::Durable(durable)) if durable >= ticket));
}

#[test]
fn a_gateways_clock_is_believed_a_little() {
    let world = world();
    let mut gateway = Gateway::welcome(world.server.address());
    let far = UnixMs(u64::MAX / 2);
    let mut asked = hold(request(1, START), world.grant, 5, START);
    (asked.now, asked.expires) = (far, far);
    let before = world.exchange.shared.core.lock().now();
    gateway.send(1, &Request::Hold(asked));
    assert_eq!(gateway.answer(1), Some(Reply::Done));
    let now = world.exchange.shared.core.lock().now();
    assert!(now < UnixMs(before.0 + 86_400_000), "{now:?}");
}

#[test]
fn an_exchange_that_has_stopped_answers_nobody() {
    let world = world();
    let mut gateway = Gateway::welcome(world.server.address());
    assert!(gateway.is_served(&world));
    world.exchange.close().unwrap();
    gateway.send(1, &Request::Authenticate { key: world.grant.key, now: START });
    assert_eq!(gateway.answer(1), None);
    assert!(Gateway::dial(world.server.address()).1.is_none());
}
