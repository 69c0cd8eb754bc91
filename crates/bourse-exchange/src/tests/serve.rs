//! What a server of gateways allows one of them, and that the others do not notice.

use super::support::{START, hold, request};
use super::{key, market_in};
use crate::exchange::wall_clock;
use crate::serve::STRANGERS_MAX;
use crate::serve::session::{DURABLE_CALLS_MAX, HOLD_LIVES_MAX, JOURNAL_FAILED};
use crate::{
    AdminReply, AdminRequest, Exchange, FundsServer, FundsServerConfig, GATEWAYS_MAX, NewKey, hash_key,
};
use bourse_link::ChannelConnector;
use bourse_types::UnixMs;
use bourse_wire::funds::port::{
    Answer, Drawn, FRAME_BYTES_MAX, HELLO_BYTES_MAX, NO_CALL, PART_BYTES_MAX, PORT_VERSION, PortSecret,
    QUESTIONS_MAX, Question, Reply, Request, Side, decode, encode,
};
use bourse_wire::funds::{
    Accounts as _, CommitTicket, Funds, FundsError, HoldRequest, KEYS_PAGE_MAX, KeyDraft, KeyGrant, KeyPage,
};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

const STUCK_AFTER: Duration = Duration::from_secs(20);

struct World {
    exchange: Arc<Exchange>,
    server: FundsServer,
    grant: KeyGrant,
    _dir: tempfile::TempDir,
}

fn world() -> World {
    world_with(FundsServerConfig::of(secret("a secret of these tests")))
}

fn world_with(config: FundsServerConfig) -> World {
    let dir = tempfile::tempdir().unwrap();
    let exchange = Arc::new(market_in(dir.path(), 1_000_000_000));
    let grant = key(&exchange, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = FundsServer::start(Arc::clone(&exchange), listener, config).unwrap();
    World { exchange, server, grant, _dir: dir }
}

fn secret(text: &str) -> PortSecret {
    PortSecret::of(text).unwrap()
}

/// A gateway that is driven by hand.
struct Gateway {
    runtime: Runtime,
    stream: TlsStream<TcpStream>,
    binding: [u8; 32],
    input: Vec<u8>,
}

impl Gateway {
    /// Connects; the first thing that it is told.
    fn dial_first(address: SocketAddr) -> Option<(Self, Option<(u64, Reply)>)> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connector = ChannelConnector::new().unwrap();
        let channel =
            runtime.block_on(async { connector.connect(TcpStream::connect(address).await?).await }).ok()?;
        let mut this = Self { runtime, stream: channel.stream, binding: channel.binding, input: Vec::new() };
        let first = this.next();
        Some((this, first))
    }

    /// Connects; the challenge when there is one. None: not even a channel was opened.
    fn dial(address: SocketAddr) -> Option<(Self, Option<[u8; 32]>)> {
        let (this, first) = Self::dial_first(address)?;
        match first {
            Some((NO_CALL, Reply::Challenge(challenge))) => Some((this, Some(challenge))),
            None => Some((this, None)),
            other => panic!("{other:?}"),
        }
    }

    /// What an exchange says first of all that welcomes nobody.
    fn refused(address: SocketAddr) -> FundsError {
        match Self::dial_first(address) {
            Some((_, Some((NO_CALL, Reply::Refused(why))))) => why,
            _ => panic!("it is welcome"),
        }
    }

    /// Connects and proves a secret; none when it was not welcomed.
    fn greet(address: SocketAddr, text: &str, version: u8) -> Option<Self> {
        let (mut this, challenge) = Self::dial(address)?;
        let drawn = Drawn { challenge: challenge?, nonce: [7; 32], binding: this.binding };
        let proof = *secret(text).proof(Side::Gateway, &drawn, 0).as_bytes();
        this.send(NO_CALL, &Request::Hello { version, nonce: drawn.nonce, proof });
        match this.next()? {
            (NO_CALL, Reply::Welcome { incarnation, proof, .. }) => {
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
        self.write(&frame, STUCK_AFTER).unwrap();
    }

    /// Writes all of it within a time.
    fn write(&mut self, bytes: &[u8], within: Duration) -> io::Result<()> {
        let stream = &mut self.stream;
        self.runtime.block_on(async {
            let written = timeout(within, async {
                stream.write_all(bytes).await?;
                stream.flush().await
            });
            written.await.unwrap_or_else(|_| Err(ErrorKind::WouldBlock.into()))
        })
    }

    /// The next frame; none when the exchange has closed.
    fn next(&mut self) -> Option<(u64, Reply)> {
        loop {
            if let Some(taken) = decode(&self.input, FRAME_BYTES_MAX).unwrap() {
                self.input.drain(..taken.bytes);
                return Some((taken.call, taken.message));
            }
            let mut chunk = [0; 4_096];
            let read =
                self.runtime.block_on(async { timeout(STUCK_AFTER, self.stream.read(&mut chunk)).await });
            match read.expect("stuck") {
                Ok(0) => return None,
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
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

    /// The whole answer to a question, and how many parts it came in.
    fn told(&mut self, call: u64) -> (Answer, usize) {
        let (mut whole, mut parts) = (Vec::new(), 0);
        loop {
            match self.answer(call) {
                Some(Reply::Part { bytes, is_last }) => {
                    whole.extend_from_slice(&bytes);
                    parts += 1;
                    if is_last {
                        return (Answer::from_bytes(&whole).unwrap(), parts);
                    }
                    assert_eq!(bytes.len(), PART_BYTES_MAX);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, call: u64, question: Question) {
        self.send(call, &Request::Ask(Box::new(question)));
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
    let (mut hasty, _) = Gateway::dial(address).unwrap();
    hasty.send(1, &Request::Durable(CommitTicket(1)));
    assert_eq!(hasty.next(), None, "calls come after the hello");
    let (mut long, _) = Gateway::dial(address).unwrap();
    long.write(&(HELLO_BYTES_MAX as u32 + 1).to_le_bytes(), STUCK_AFTER).unwrap();
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
    long.write(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes(), STUCK_AFTER).unwrap();
    assert_eq!(long.answer(1), None, "cut off");
    let mut nonsense = Gateway::welcome(address);
    nonsense.write(&[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 250], STUCK_AFTER).unwrap();
    assert_eq!(nonsense.answer(1), None, "cut off");

    // It asks and asks until nobody takes its questions any more.
    let mut deaf = Gateway::welcome(address);
    let mut questions = Vec::new();
    for call in 1..2_000 {
        encode(call, &Request::Authenticate { key: world.grant.key, now: START }, &mut questions).unwrap();
    }
    let blocked = loop {
        if let Err(error) = deaf.write(&questions, Duration::from_millis(200)) {
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
    let late = Gateway::greet(address, "a secret of these tests", PORT_VERSION);
    assert!(late.is_none(), "it is not welcome, so it tries another exchange");
    drop(gateways);
    let strangers: Vec<_> = (0..STRANGERS_MAX).map(|_| Gateway::dial(address).unwrap()).collect();
    assert!(strangers.iter().all(|(_, challenge)| challenge.is_some()));
    assert!(Gateway::dial(address).is_none());
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
    let mut asked = hold(request(1, START), world.grant, 5, wall_clock());
    asked.now = UnixMs(u64::MAX / 2);
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
    assert_eq!(Gateway::refused(world.server.address()), FundsError::Closing);
}

#[test]
fn an_exchange_whose_journal_failed_says_so_to_whoever_dials_it() {
    let world = world();
    let full = FundsError::Journal("/a/folder: no space left on device".to_owned());
    world.exchange.shared.core.lock().stop(full);
    let why = Gateway::refused(world.server.address());
    assert!(matches!(&why, FundsError::Journal(text) if text == JOURNAL_FAILED), "{why}");
    assert!(!why.to_string().contains("/a/folder"), "the cause is for its own log");
}

#[test]
fn a_hold_ends_within_reason_and_one_past_it_is_refused() {
    let world = world();
    let mut gateway = Gateway::welcome(world.server.address());
    // The exchange looks at its clock later than this test does.
    let mut ask = |call: u64, beyond_ms: u64| {
        let expires = UnixMs(wall_clock().0 + HOLD_LIVES_MAX.0 + beyond_ms);
        let asked = HoldRequest { expires, ..hold(request(call, START), world.grant, 5, START) };
        gateway.send(call, &Request::Hold(asked));
        gateway.answer(call)
    };
    assert_eq!(ask(1, 0), Some(Reply::Done));
    let refused = Reply::Refused(FundsError::TooMany("hours until a hold ends"));
    assert_eq!(ask(2, 60_000), Some(refused));
}

#[test]
fn a_gateway_that_says_nothing_makes_room() {
    let secret = secret("a secret of these tests");
    let world = world_with(FundsServerConfig {
        silent_after: Duration::from_millis(50),
        ..FundsServerConfig::of(secret)
    });
    let since = Instant::now();
    let mut silent = Gateway::welcome(world.server.address());
    assert_eq!(silent.answer(1), None, "cut off");
    assert!(since.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_proof_from_another_channel_is_worth_nothing() {
    let world = world();
    let (mut between, challenge) = Gateway::dial(world.server.address()).unwrap();
    // What somebody between two channels passes on is bound to the other one.
    let drawn = Drawn { challenge: challenge.unwrap(), nonce: [7; 32], binding: [1; 32] };
    let proof = *secret("a secret of these tests").proof(Side::Gateway, &drawn, 0).as_bytes();
    between.send(NO_CALL, &Request::Hello { version: PORT_VERSION, nonce: drawn.nonce, proof });
    assert_eq!(between.next(), None);
}

#[test]
fn questions_are_answered_in_parts_and_holds_between_them() {
    let world = world();
    let manager = NewKey { label: "team".to_owned(), management: true, ..NewKey::default() };
    let made = world.exchange.admin(AdminRequest::CreateKey(manager), wall_clock()).unwrap();
    let AdminReply::KeyCreated { secret, .. } = made else { panic!("{made:?}") };
    let by = hash_key(&secret.0);
    for n in 0..KEYS_PAGE_MAX {
        let draft = KeyDraft { name: format!("{n:0>128}"), ..KeyDraft::default() };
        world.exchange.create_key(&by, draft, wall_clock()).unwrap();
    }
    let mut gateway = Gateway::welcome(world.server.address());
    let page = KeyPage { offset: 0, limit: KEYS_PAGE_MAX, include_disabled: true };
    gateway.ask(1, Question::ListKeys { by, page, now: wall_clock() });
    let (answer, parts) = gateway.told(1);
    let Answer::Keys(keys) = answer else { panic!("{answer:?}") };
    assert_eq!((keys, parts > 2), (world.exchange.list_keys(&by, page, wall_clock()).unwrap(), true));

    // As many questions as there may be, and one more; meanwhile a hold has its answer.
    let many = 1_000..1_000 + QUESTIONS_MAX as u64;
    let mut frames = Vec::new();
    for call in many.clone().chain([7]) {
        let question = Question::ListKeys { by, page, now: wall_clock() };
        encode(call, &Request::Ask(Box::new(question)), &mut frames).unwrap();
    }
    encode(8, &Request::Hold(hold(request(1, START), world.grant, 5, wall_clock())), &mut frames).unwrap();
    gateway.write(&frames, STUCK_AFTER).unwrap();
    let (mut ended, mut held_after) = (Vec::new(), None);
    while ended.len() < QUESTIONS_MAX || held_after.is_none() {
        match gateway.next().unwrap() {
            (7, reply) => assert_eq!(reply, Reply::Refused(FundsError::TooMany("questions at once"))),
            (8, reply) => held_after = (reply == Reply::Done).then_some(ended.len()),
            (call, Reply::Part { is_last, .. }) => ended.extend(is_last.then_some(call)),
            (NO_CALL, Reply::Durable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(held_after.unwrap() < 3, "the hold waited for {held_after:?} answers");
    ended.sort_unstable();
    assert_eq!(ended, many.collect::<Vec<_>>());
}
