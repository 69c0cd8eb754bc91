//! The rails under the suite, and what is theirs alone.

use super::conformance::{check_rail, check_reopened};
use super::*;
use bourse_types::{NanoUsd, PayoutId, UnixMs};

fn payout(n: u8) -> Payout {
    let id = PayoutId::new(UnixMs(1_800_000_000_000 + u64::from(n)), [n; 10]);
    Payout { id, payee: Payee::parse("maple-1").unwrap(), amount: NanoUsd(20_000_000), memo: "m".to_owned() }
}

fn times(rail: &FakeRail, id: PayoutId) -> usize {
    rail.payments().iter().filter(|payout| payout.id == id).count()
}

#[test]
fn a_person_conforms() {
    let rail = ManualRail::default();
    // What a person has paid is not on the list any more: it was there once.
    check_rail(&rail, |id| usize::from(rail.look_up(id) != Ok(Standing::Unknown)));
    assert_eq!(rail.open(), [], "everything of the suite has ended");
}

#[test]
fn the_fake_conforms_in_memory_and_in_a_file() {
    let rail = FakeRail::default();
    check_rail(&rail, |id| times(&rail, id));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("payments");
    let rail = FakeRail::open(&path).unwrap();
    check_rail(&rail, |id| times(&rail, id));
    drop(rail);
    let rail = FakeRail::open(&path).unwrap();
    check_reopened(&rail, |id| times(&rail, id));
}

#[test]
fn a_street_that_delivers_twice_and_slowly_conforms() {
    let fake = Arc::new(FakeRail::default());
    let rail = FaultyRail::before(fake.clone(), [Fault::Twice; 40]);
    check_rail(&rail, |id| times(&fake, id));
}

#[test]
fn the_list_of_a_person_is_bounded_and_what_has_ended_makes_room() {
    let rail = ManualRail::with_room(2);
    for n in 1..=2 {
        assert_eq!(rail.send(&payout(n)), Ok(Standing::Pending));
    }
    assert_eq!(rail.send(&payout(3)), Err(RailError::Full(2)), "both wait");
    assert_eq!(rail.send(&payout(1)), Ok(Standing::Pending), "what is there is no further one");
    rail.decide(payout(2).id, &Verdict::Paid { reference: Note::parse("r").unwrap() }).unwrap();
    assert_eq!(rail.send(&payout(3)), Ok(Standing::Pending));
    assert_eq!(rail.open().iter().map(|p| p.id).collect::<Vec<_>>(), [payout(1).id, payout(3).id]);
}

#[test]
fn faults_are_what_they_say() {
    let check = |fault: Fault, sent: fn(&Result<Standing, RailError>) -> bool, paid: usize| {
        let fake = Arc::new(FakeRail::default());
        let rail = FaultyRail::before(fake.clone(), [fault]);
        let answer = rail.send(&payout(1));
        assert!(sent(&answer), "{fault:?}: {answer:?}");
        assert_eq!(times(&fake, payout(1).id), paid, "{fault:?}");
    };
    let is_lost = |answer: &Result<Standing, RailError>| matches!(answer, Err(RailError::Unreachable(_)));
    let is_failed = |answer: &Result<Standing, RailError>| matches!(answer, Ok(Standing::Failed { .. }));
    check(Fault::None, |answer| matches!(answer, Ok(Standing::Paid { .. })), 1);
    check(Fault::Twice, |answer| matches!(answer, Ok(Standing::Paid { .. })), 1);
    check(Fault::QuestionLost, is_lost, 0);
    check(Fault::AnswerLost, is_lost, 1);
    check(Fault::Refused, is_failed, 0);
    check(Fault::PaidLate(1), is_failed, 0);
    check(Fault::Delayed(2), |answer| *answer == Ok(Standing::Pending), 0);
}

#[test]
fn what_is_delayed_or_late_is_paid_when_it_was_looked_up_often_enough() {
    let fake = Arc::new(FakeRail::default());
    let rail = FaultyRail::before(fake.clone(), [Fault::Delayed(2), Fault::PaidLate(2)]);
    assert_eq!(rail.send(&payout(1)), Ok(Standing::Pending));
    assert!(matches!(rail.send(&payout(2)), Ok(Standing::Failed { .. })));
    assert_eq!(rail.look_up(payout(1).id), Ok(Standing::Pending));
    assert!(matches!(rail.look_up(payout(2).id), Ok(Standing::Failed { .. })));
    assert_eq!(fake.payments(), []);
    for n in 1..=2 {
        assert!(matches!(rail.look_up(payout(n).id), Ok(Standing::Paid { .. })), "{n}");
    }
    assert_eq!(fake.payments().len(), 2);
}

#[test]
fn a_line_that_a_kill_cut_off_was_never_paid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("payments");
    let rail = FakeRail::open(&path).unwrap();
    for n in 1..=2 {
        rail.send(&payout(n)).unwrap();
    }
    drop(rail);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let rail = FakeRail::open(&path).unwrap();
    assert_eq!((times(&rail, payout(1).id), times(&rail, payout(2).id)), (1, 0));
    rail.send(&payout(2)).unwrap();
    drop(rail);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "and the next one stands in its place");
}

#[test]
fn a_file_is_one_rail_for_all_who_opened_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("payments");
    let [one, other] = [(); 2].map(|()| FakeRail::open(&path).unwrap());
    let paid = one.send(&payout(1)).unwrap();
    assert_eq!(other.look_up(payout(1).id), Ok(paid.clone()), "what was sent after the other had opened it");
    assert_eq!(other.send(&payout(1)), Ok(paid), "and it is not paid again");
    let dearer = Payout { amount: NanoUsd(1), ..payout(1) };
    assert_eq!(other.send(&dearer), Err(RailError::Conflict(dearer.id)));
    // Both at once, over and over.
    std::thread::scope(|scope| {
        for rail in [&one, &other] {
            scope.spawn(move || (2..=60).for_each(|n| drop(rail.send(&payout(n)).unwrap())));
        }
    });
    let rail = FakeRail::open(&path).unwrap();
    assert_eq!((rail.payments().len(), times(&rail, payout(1).id)), (60, 1));
    // One dies in a line, and the other one's next payment stands in its place.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&bytes, &b"{\"id\":\"pay-\xc3"[..]].concat()).unwrap();
    assert_eq!(one.look_up(payout(61).id), Ok(Standing::Unknown));
    other.send(&payout(61)).unwrap();
    assert_eq!(FakeRail::open(&path).unwrap().payments().len(), 61);
}

#[test]
fn the_fake_refuses_an_account_that_is_closed() {
    let closed = Payee::parse("closed").unwrap();
    assert_eq!(FakeRail::default().check(&closed), Err(Note::of_others("that account is closed")));
}

#[test]
fn texts_have_bounds() {
    let check = |text: &str, is_fine: bool| {
        assert_eq!(Payee::parse(text).is_ok(), is_fine, "{text:?}");
        assert_eq!(Note::parse(text).is_ok(), is_fine, "{text:?}");
    };
    check("DE89 3704 0044 0532 0130 00", true);
    check("", false);
    check("two\nlines", false);
    check(&"x".repeat(PAYEE_BYTES_MAX), true);
    check(&"x".repeat(PAYEE_BYTES_MAX + 1), false);
    assert_eq!(Note::of_others("a\nb").as_str(), "a b");
    assert_eq!(Note::of_others(&"ü".repeat(200)).as_str(), "ü".repeat(NOTE_BYTES_MAX / 2));
    assert_eq!(Note::of_others("").as_str(), "nothing was said");
}

#[test]
fn what_a_rail_says_of_its_silence_is_a_note() {
    let said = RailError::unreachable("\u{1b}[2Jgone\n".repeat(1_000)).to_string();
    assert!(said.len() <= NOTE_BYTES_MAX + 64 && !said.chars().any(char::is_control), "{said}");
}

/// A rail that does everything well under another name.
struct Named(FakeRail, &'static str);

impl PaymentRail for Named {
    fn capabilities(&self) -> Capabilities {
        Capabilities { name: self.1, ..self.0.capabilities() }
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.0.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        self.0.send(payout)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        self.0.look_up(id)
    }
}

#[test]
fn a_rails_name_fits_into_a_journal() {
    let check = |name: &'static str| {
        let rail = Named(FakeRail::default(), name);
        check_rail(&rail, |id| times(&rail.0, id));
    };
    let long = "123456789-123456789-123456789-123";
    check(&long[..RAIL_NAME_BYTES_MAX]);
    assert!(std::panic::catch_unwind(|| check(long)).is_err());
}

#[test]
fn rails_are_opened_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in names() {
        assert_eq!(Rail::open(name, folder.path()).unwrap().unwrap().capabilities().name, name);
    }
    assert!(Rail::open("pigeon", folder.path()).is_none());
    assert!(folder.path().join(FAKE_FILE).exists());
}
