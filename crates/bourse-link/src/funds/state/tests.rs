//! The memory of a connection, without one.

use super::*;
use bourse_types::{AccountId, Charge, Digest32, KeyHash, ModelSlug, Usage};
use bourse_wire::funds::Settlement;
use bourse_wire::funds::port::{FRAME_BYTES_MAX, Question, decode};
use bourse_wire::receipt::{Finish, Receipt};
use std::sync::mpsc::{Receiver, sync_channel};

const PATIENCE: Duration = Duration::from_secs(1);

fn hold(n: u128) -> HoldRequest {
    let grant = KeyGrant::new(KeyHash([1; 32]), AccountId(1));
    let (amount, byok) = (NanoUsd(100), NanoUsd::ZERO);
    let (expires, now, tokens) = (UnixMs(1_000), UnixMs(1), Some(9));
    HoldRequest { request: RequestId(n), grant, amount, byok, tokens, expires, now, claim: None }
}

fn extension(n: u128, step: u16) -> HoldExtension {
    let (amount, byok) = (NanoUsd(u64::from(step)), NanoUsd::ZERO);
    HoldExtension { request: RequestId(n), step, amount, byok, tokens: 3, now: UnixMs(2) }
}

fn settlement(n: u128) -> Settlement {
    let digest = Digest32([0; 32]);
    let receipt = Receipt {
        request: RequestId(n),
        account_digest: digest,
        key_digest: digest,
        model: ModelSlug::parse("a/b").unwrap(),
        constraints_digest: digest,
        price_snapshot_digest: digest,
        plan_digest: digest,
        attempts: Vec::new(),
        seller: None,
        node: None,
        usage_claimed: None,
        usage_billed: Usage::default(),
        recount: None,
        charge: Charge::ZERO,
        fee: NanoUsd::ZERO,
        request_hash: digest,
        response_hash: digest,
        finish: Finish::Stop,
        streamed: false,
        created: UnixMs(1),
        first_content_ms: None,
        total_ms: 1,
    };
    Settlement::new(receipt, UnixMs(3))
}

type Answers = Receiver<Result<Told, FundsError>>;

/// A state and the other end of its connection.
struct World {
    state: State,
    now: Instant,
}

impl World {
    fn new(incarnation: Option<u128>) -> Self {
        let (mut state, now) = (State::default(), Instant::now());
        if let Some(incarnation) = incarnation {
            state.link_up(incarnation, now);
        }
        Self { state, now }
    }

    fn begin(&mut self, request: &Request) -> Result<(u64, Answers), FundsError> {
        let about = match request {
            Request::Hold(hold) => About::Hold(Box::new(*hold)),
            Request::Extend(more) => About::Extend(*more),
            Request::Settle(settlement) => About::Settle(settlement.receipt.request),
            Request::Ask(question) if question.is_change() => About::Change,
            Request::Ask(_) => About::Question,
            _ => About::Look,
        };
        let (told, answer) = sync_channel(1);
        let mut frame = Vec::new();
        encode(NO_CALL, request, &mut frame).unwrap();
        Ok((self.state.begin(frame, about, told, self.now)?, answer))
    }

    fn done(&mut self, request: &Request) {
        let (call, answer) = self.begin(request).unwrap();
        self.answer(call, Reply::Done);
        assert_eq!(answer.try_recv(), Ok(Ok(Told::Done)));
    }

    /// Settles in a group; gives back the ticket.
    fn settle(&mut self, n: u128, group: u64) -> CommitTicket {
        let (call, answer) = self.begin(&Request::Settle(Box::new(settlement(n)))).unwrap();
        self.answer(call, settled(group));
        match answer.try_recv() {
            Ok(Ok(Told::Settled(settled))) => settled.ticket,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, call: u64, reply: Reply) {
        self.state.answered(call, reply, self.now).unwrap();
    }

    /// What was written since the last time.
    fn written(&mut self) -> Vec<(u64, Request)> {
        let (mut bytes, mut all) = (Vec::new(), Vec::new());
        self.state.take_outbox(&mut bytes);
        while let Some(taken) = decode::<Request>(&bytes, FRAME_BYTES_MAX).unwrap() {
            bytes.drain(..taken.bytes);
            all.push((taken.call, taken.message));
        }
        assert!(bytes.is_empty());
        all
    }

    fn requests(&mut self) -> Vec<Request> {
        self.written().into_iter().map(|(_, request)| request).collect()
    }

    fn wait(&mut self, ticket: CommitTicket) {
        assert_eq!(self.state.durable(ticket), None);
        self.state.wait_for(ticket, self.now + PATIENCE, self.now, Waker::noop());
    }
}

fn settled(group: u64) -> Reply {
    Reply::Settled(Settled { cost: NanoUsd::ZERO, ticket: CommitTicket(group) })
}

fn durable(group: u64) -> Reply {
    Reply::Durable(CommitTicket(group))
}

#[test]
fn the_same_incarnation_hears_again_what_it_did_not_answer() {
    let mut world = World::new(Some(1));
    world.done(&Request::Hold(hold(1)));
    world.done(&Request::Extend(extension(1, 1)));
    let (call, _answer) = world.begin(&Request::Extend(extension(1, 2))).unwrap();
    world.settle(2, 5);
    world.written();
    world.state.link_down();
    let (later, _answer) = world.begin(&Request::Hold(hold(3))).unwrap();
    assert_eq!(world.written(), [], "nobody is there");
    world.state.link_up(1, world.now);
    let want = [(call, Request::Extend(extension(1, 2))), (later, Request::Hold(hold(3)))];
    assert_eq!(world.written(), want);
    world.answer(call, Reply::Done);
    world.answer(call, Reply::Done);
    assert_eq!(world.state.open[&RequestId(1)].steps.len(), 2, "answered twice, done once");
}

#[test]
fn a_new_incarnation_hears_all_it_must_know_first_and_only_once() {
    let mut world = World::new(Some(1));
    let settle = |n| Request::Settle(Box::new(settlement(n)));
    world.done(&Request::Hold(hold(1)));
    world.done(&Request::Extend(extension(1, 1)));
    let first = world.settle(1, 5);
    world.done(&Request::Hold(hold(2)));
    world.done(&Request::Extend(extension(2, 1)));
    world.done(&Request::Extend(extension(2, 2)));
    let (call, answer) = world.begin(&settle(2)).unwrap();
    world.wait(first);
    assert_eq!(world.requests().last(), Some(&Request::Durable(CommitTicket(5))), "it is asked to hurry");

    world.state.link_up(2, world.now);
    let said = world.written();
    let want = [
        Request::Hold(hold(1)),
        Request::Extend(extension(1, 1)),
        settle(1),
        Request::Hold(hold(2)),
        Request::Extend(extension(2, 1)),
        Request::Extend(extension(2, 2)),
        settle(2),
    ];
    assert_eq!(said.iter().map(|(_, request)| request).collect::<Vec<_>>(), want.iter().collect::<Vec<_>>());
    // Group 5 is something else here.
    world.answer(NO_CALL, durable(5));
    assert_eq!(world.state.durable(first), None);
    for (call, request) in &said {
        world.answer(*call, if matches!(request, Request::Settle(_)) { settled(7) } else { Reply::Done });
    }
    assert!(matches!(answer.try_recv(), Ok(Ok(Told::Settled(_)))), "call {call} has its answer");
    assert_eq!(world.requests(), [Request::Durable(CommitTicket(7))], "somebody still waits");
    world.state.link_up(2, world.now);
    assert_eq!(world.requests(), [Request::Durable(CommitTicket(7))], "and it knows all the rest");
    world.answer(NO_CALL, durable(7));
    assert_eq!((world.state.durable(first), world.state.kept()), (Some(Ok(())), 0));
}

#[test]
fn a_settlement_whose_hold_is_gone_is_lost_and_says_so() {
    let mut world = World::new(Some(1));
    world.done(&Request::Hold(hold(1)));
    let (lost, next) = (world.settle(1, 5), world.settle(2, 5));
    world.state.link_up(2, world.now);
    for (call, request) in world.written() {
        let reply = match request {
            Request::Settle(settlement) if settlement.receipt.request == RequestId(2) => settled(6),
            _ => Reply::Refused(FundsError::NoHold),
        };
        world.answer(call, reply);
    }
    world.answer(NO_CALL, durable(6));
    assert_eq!(world.state.durable(lost), Some(Err(FundsError::NoHold)));
    assert_eq!(world.state.durable(next), Some(Ok(())));
    assert_eq!(world.state.durable(CommitTicket(next.0 + 1)), Some(Err(FundsError::Conflict)), "of nobody");
}

/// None of them may be taken for durable, however many are lost before anybody looks.
#[test]
fn all_that_can_be_owed_can_be_lost_at_once_and_is_told() {
    let mut world = World::new(Some(1));
    let mut tickets: Vec<_> = (0..KEPT_MAX as u128).map(|n| world.settle(n, 5)).collect();
    // As many more may be under way when the last one that is let in begins.
    let under_way = |n: usize| Request::Settle(Box::new(settlement((KEPT_MAX + n) as u128)));
    let calls: Vec<_> = (0..CALLS_MAX)
        .map(|n| {
            let (mut frame, request) = (Vec::new(), under_way(n));
            encode(NO_CALL, &request, &mut frame).unwrap();
            let (told, answer) = sync_channel(1);
            let Request::Settle(settlement) = request else { panic!() };
            let about = About::Settle(settlement.receipt.request);
            (world.state.begin(frame, about, told, world.now).unwrap(), answer)
        })
        .collect();
    for (call, answer) in calls {
        world.answer(call, settled(5));
        let Ok(Ok(Told::Settled(settled))) = answer.try_recv() else { panic!() };
        tickets.push(settled.ticket);
    }
    world.written();
    world.state.link_up(2, world.now);
    for (call, _) in world.written() {
        world.answer(call, Reply::Refused(FundsError::NoHold));
    }
    for ticket in tickets {
        assert_eq!(world.state.durable(ticket), Some(Err(FundsError::NoHold)), "{ticket:?}");
    }
}

#[test]
fn an_exchange_that_is_full_for_a_moment_hears_it_once_more() {
    let mut world = World::new(Some(1));
    world.done(&Request::Hold(hold(1)));
    world.state.link_up(2, world.now);
    let (call, _) = world.written().pop().unwrap();
    let full = Reply::Refused(FundsError::TooMany(FOR_A_MOMENT));
    assert!(matches!(world.state.answered(call, full, world.now), Err(Broken::Full(_))));
    world.state.link_up(2, world.now);
    assert_eq!(world.requests(), [Request::Hold(hold(1))]);
}

#[test]
fn what_is_given_up_covers_nothing_but_a_settlement_stays_owed() {
    let mut world = World::new(Some(1));
    let (call, _answer) = world.begin(&Request::Hold(hold(1))).unwrap();
    world.state.give_up(call);
    world.answer(call, Reply::Done);
    assert!(world.state.open.is_empty(), "its caller was told that nothing is held");
    world.done(&Request::Hold(hold(2)));
    let (call, _answer) = world.begin(&Request::Extend(extension(2, 1))).unwrap();
    world.state.give_up(call);
    assert_eq!(world.begin(&Request::Extend(extension(2, 1))).unwrap_err(), FundsError::Away);
    let (call, _answer) = world.begin(&Request::Settle(Box::new(settlement(2)))).unwrap();
    world.state.give_up(call);
    world.written();
    world.state.link_up(1, world.now);
    assert_eq!(world.requests(), [Request::Settle(Box::new(settlement(2)))]);
    world.answer(call, settled(9));
    assert_eq!((world.state.kept(), world.state.open.len()), (1, 0));
}

#[test]
fn every_list_has_its_bound() {
    let mut world = World::new(None);
    let question = Request::Authenticate { key: KeyHash([0; 32]), now: UnixMs(0) };
    let calls: Vec<_> = (0..CALLS_MAX)
        .map(|_| {
            assert!(world.state.has_room(&About::Look));
            world.begin(&question).unwrap().0
        })
        .collect();
    assert!(!world.state.has_room(&About::Look));
    for call in calls {
        world.state.give_up(call);
    }
    assert!(world.state.has_room(&About::Look));

    let mut world = World::new(Some(1));
    for n in 0..OPEN_MAX as u128 {
        world.state.granted(&hold(n));
    }
    assert_eq!(world.begin(&Request::Hold(hold(1 << 99))).unwrap_err(), FundsError::TooMany("open holds"));
    let later = HoldRequest { now: UnixMs(1_000), ..hold(1 << 99) };
    assert!(world.begin(&Request::Hold(later)).is_ok(), "their time is over");

    let about = About::Settle(RequestId(0));
    for n in 0..KEPT_MAX as u128 {
        assert!(world.state.has_room(&about));
        world.settle(n, 5);
    }
    assert!(!world.state.has_room(&about) && world.state.has_room(&About::Look));
    world.answer(NO_CALL, durable(5));
    assert!(world.state.has_room(&about));

    (1..=LOST_MAX as u64 + 1).for_each(|ticket| world.state.lose(ticket, &FundsError::NoHold));
    assert_eq!((world.state.lost.len(), world.state.lost.contains_key(&1)), (LOST_MAX, false));
}

#[test]
fn answers_that_fit_no_call_and_silence_end_a_connection() {
    let mut world = World::new(Some(1));
    let silent = |world: &World, after: u32| {
        world.state.is_silent(world.now + after * PATIENCE, 2 * PATIENCE, 4 * PATIENCE)
    };
    let (call, _answer) = world.begin(&Request::Hold(hold(1))).unwrap();
    assert_eq!([1, 2].map(|after| silent(&world, after)), [false, true]);
    assert_eq!(world.state.answered(call, settled(1), world.now), Err(Broken::Answer));
    let ticket = world.settle(1, 5);
    world.wait(ticket);
    assert_eq!([3, 4].map(|after| silent(&world, after)), [false, true], "the disk may take its time");
    world.written();
    world.state.ping(world.now);
    assert_eq!([1, 2].map(|after| silent(&world, after)), [false, true], "but not the exchange");
    world.state.ping(world.now);
    let pings = world.written();
    assert_eq!(pings.len(), 1, "one at a time: {pings:?}");
    world.answer(pings[0].0, durable(4));
    assert_eq!(
        ([3, 4].map(|after| silent(&world, after)), world.state.durable(ticket)),
        ([false, true], None)
    );
    // Whoever says other things is there.
    let (_call, _answer) = world.begin(&Request::Hold(hold(3))).unwrap();
    world.now += PATIENCE;
    world.answer(NO_CALL, durable(4));
    assert_eq!([1, 2].map(|after| silent(&world, after)), [false, true]);
    world.state.close();
    assert_eq!(world.begin(&Request::Hold(hold(2))).unwrap_err(), FundsError::Closing);
    assert_eq!(world.state.durable(ticket), Some(Err(FundsError::Closing)));
}

#[test]
fn what_is_metered_is_said_once_and_only_to_somebody() {
    let frame = || {
        let mut frame = Vec::new();
        encode(NO_CALL, &Request::Metered(Box::new(settlement(1))), &mut frame).unwrap();
        frame
    };
    let mut world = World::new(None);
    let now = world.now;
    world.state.metered(frame(), now);
    world.state.link_up(1, now);
    assert_eq!(world.requests(), [], "nobody was there");
    for reply in [Reply::Done, Reply::Refused(FundsError::NoHold)] {
        world.state.metered(frame(), now);
        let (call, request) = world.written().pop().unwrap();
        assert_eq!(request, Request::Metered(Box::new(settlement(1))));
        world.answer(call, reply);
    }
    world.state.metered(frame(), now);
    world.state.link_up(2, now);
    assert_eq!(world.requests(), [], "the next one is newer");
    for _ in 0..=CALLS_MAX {
        world.state.metered(frame(), now);
    }
    assert_eq!(world.requests().len(), CALLS_MAX, "and there is no room for more");
}

fn question() -> Request {
    Request::Ask(Box::new(Question::Checkpoint))
}

fn change() -> Request {
    let (by, hash, now) = (KeyHash([1; 32]), KeyHash([2; 32]), UnixMs(1));
    Request::Ask(Box::new(Question::DeleteKey { by, hash, now }))
}

fn part(bytes: &[u8], is_last: bool) -> Reply {
    Reply::Part { bytes: bytes.to_vec(), is_last }
}

#[test]
fn a_question_is_asked_again_from_its_start_and_answered_in_parts() {
    let mut world = World::new(Some(1));
    let (call, answer) = world.begin(&question()).unwrap();
    assert_eq!(world.requests(), [question()]);
    world.answer(call, part(b"lost with its connection", false));
    world.state.link_down();
    world.state.link_up(2, world.now);
    assert_eq!(world.written(), [(call, question())]);
    world.answer(call, part(b"one ", false));
    assert!(answer.try_recv().is_err(), "not whole yet");
    world.answer(call, part(b"two", true));
    assert_eq!(answer.try_recv(), Ok(Ok(Told::Answer(b"one two".to_vec()))));
    world.answer(call, part(b"more", true));
    let (call, answer) = world.begin(&question()).unwrap();
    world.answer(call, Reply::Refused(FundsError::TooMany("questions at once")));
    assert_eq!(answer.try_recv(), Ok(Err(FundsError::TooMany("questions at once"))));
}

#[test]
fn a_change_of_keys_is_sent_once_and_waits_for_a_connection_before() {
    let mut world = World::new(None);
    let (call, answer) = world.begin(&change()).unwrap();
    world.state.link_up(1, world.now);
    assert_eq!(world.written(), [(call, change())], "it was not sent to anybody yet");
    world.state.link_down();
    assert_eq!(answer.try_recv(), Ok(Err(FundsError::Away)), "nobody knows");
    world.state.link_up(1, world.now);
    assert_eq!(world.written(), []);
}

#[test]
fn questions_and_their_answers_are_bounded_and_nobody_is_cut_off_for_a_slow_one() {
    let mut world = World::new(Some(1));
    let asked: Vec<_> = (0..QUESTIONS_MAX).map(|_| world.begin(&question()).unwrap()).collect();
    assert_eq!(world.begin(&change()).unwrap_err(), FundsError::TooMany("questions at once"));
    world.written();
    assert!(!world.state.is_silent(world.now + 9 * PATIENCE, PATIENCE, PATIENCE), "it may take its time");
    world.state.ping(world.now);
    assert_eq!(world.requests().len(), 1, "but whether anybody is there is asked");
    assert!(world.state.is_silent(world.now + PATIENCE, PATIENCE, PATIENCE));
    let (call, answer) = &asked[0];
    let half = part(&vec![7; ANSWER_BYTES_MAX / 2], false);
    world.answer(*call, half.clone());
    world.answer(*call, half.clone());
    world.answer(*call, part(&[], true));
    assert!(matches!(answer.try_recv(), Ok(Ok(Told::Answer(bytes))) if bytes.len() == ANSWER_BYTES_MAX));
    let call = asked[1].0;
    world.answer(call, half.clone());
    world.answer(call, half);
    assert_eq!(world.state.answered(call, part(&[7], true), world.now), Err(Broken::Answer));
    let (call, _answer) = world.begin(&Request::Hold(hold(1))).unwrap();
    assert_eq!(world.state.answered(call, part(b"", true), world.now), Err(Broken::Answer));
}

#[test]
fn a_gateway_owes_until_the_books_have_it_on_disk() {
    let mut world = World::new(Some(1));
    world.done(&Request::Hold(hold(1)));
    assert!(!world.state.owes());
    let (call, _answer) = world.begin(&Request::Settle(Box::new(settlement(1)))).unwrap();
    world.state.give_up(call);
    assert!(world.state.owes());
    world.answer(call, settled(3));
    assert!(world.state.owes());
    world.answer(NO_CALL, durable(3));
    assert!(!world.state.owes());
}

#[test]
fn clocks_that_differ_by_less_than_a_second_count_as_one() {
    let mut state = State::default();
    let own = UnixMs(1_000_000);
    for (wall, dated) in [
        (1_000_999, own.0),
        (1_001_000, 1_001_000),
        (999_001, own.0),
        (999_000, 999_000),
        (1_060_000, 1_060_000),
        (own.0, own.0),
    ] {
        state.told_clock(UnixMs(wall), own);
        assert_eq!(state.dated(own), UnixMs(dated), "{wall}");
    }
    state.told_clock(UnixMs(0), own);
    assert_eq!(state.dated(UnixMs(1)), UnixMs(0), "no time is before the first");
}
