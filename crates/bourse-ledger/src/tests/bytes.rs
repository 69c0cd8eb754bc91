//! Batches, snapshots and journals as bytes.

use super::*;
use crate::conformance::check_journal;
use crate::{Batch, CodecError, MemoryJournal, Reader, decode_batch, encode_batch};
use proptest::prelude::*;

const EVERY_EVENT: &str = "s1 fund>alice 100 &
    h2 alice>till 60 until 5 &
    r3 h2 70 until 6 &
    p4 h2 5 &
    v5 h2
    expire h6
    orphan h7";

fn every_event() -> Vec<Event> {
    let open = Account::of_money(AccountId(9), AccountKind::Control, BalanceLimit::CreditsWithinDebits);
    let others = [Unit::TOKEN_SECONDS, Unit::TOKENS, Unit::credits(0), Unit::credits(255)]
        .map(|unit| Account { unit, ..open });
    let opened = [open].into_iter().chain(others).map(Event::Open);
    EVERY_EVENT.lines().map(|line| parse(line.trim())).chain(opened).collect()
}

#[test]
fn every_event_round_trips() {
    let mut bytes = Vec::new();
    encode_batch(UnixMs(77), &every_event(), &mut bytes).unwrap();
    encode_batch(UnixMs(78), &[], &mut bytes).unwrap();
    let mut reader = Reader::new(&bytes);
    assert_eq!(decode_batch(&mut reader), Ok(Batch { at: UnixMs(77), events: every_event() }));
    assert_eq!(decode_batch(&mut reader), Ok(Batch { at: UnixMs(78), events: vec![] }));
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn the_layout_is_fixed() {
    let mut bytes = Vec::new();
    encode_batch(UnixMs(0x0102), &[parse("p4 h2 5 &")], &mut bytes).unwrap();
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let id = |n: u8, time: &str| format!("{n:02x}000000000000000000{time}00000000");
    let want = format!("01 0201000000000000 0100 85 {} {} 0500000000000000", id(4, "a00f"), id(2, "d007"));
    assert_eq!(hex, want.replace(' ', ""));
}

#[test]
fn codes_out_of_range_are_named() {
    let read = |bytes: &[u8]| decode_batch(&mut Reader::new(bytes));
    assert_eq!(read(&[9]), Err(CodecError::Version(9)));
    let event = |tail: &[u8]| read(&[&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], tail].concat());
    assert_eq!(event(&[0]), Err(CodecError::Code { what: "event", code: 0 }));
    assert_eq!(event(&[0x81]), Err(CodecError::Code { what: "event", code: 0x81 }));
    let account = |kind, limit| event(&[1, 0, 0, 0, 0, 0, 0, 0, 0, kind, limit]);
    assert_eq!(account(14, 0), Err(CodecError::Code { what: "account kind", code: 14 }));
    assert_eq!(account(0, 3), Err(CodecError::Code { what: "balance limit", code: 3 }));
    let counts = |unit: [u8; 2]| event(&[&[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &unit].concat());
    assert!(counts([3, 0]).is_ok() && counts([0xff, 1]).is_ok());
    for unknown in [[4, 0], [0xff, 0], [0, 2]] {
        let want = CodecError::Inconsistent("an account counts an unknown unit");
        assert_eq!(counts(unknown), Err(want), "{unknown:?}");
    }
    assert_eq!(
        event(&[&[7][..], &[0; 16], &[2]].concat()),
        Err(CodecError::Code { what: "release reason", code: 2 })
    );
    let too_many = vec![every_event()[0]; usize::from(u16::MAX) + 1];
    assert_eq!(encode_batch(UnixMs(0), &too_many, &mut vec![]), Err(CodecError::TooMany));
    assert_eq!(encode_batch(UnixMs(0), &too_many[1..], &mut vec![]), Ok(()));
}

#[test]
fn truncated_batches_and_snapshots_are_errors() {
    let mut batch = Vec::new();
    encode_batch(UnixMs(77), &every_event(), &mut batch).unwrap();
    for len in 0..batch.len() {
        assert_eq!(decode_batch(&mut Reader::new(&batch[..len])), Err(CodecError::Truncated), "{len}");
    }
    let mut state = ledger(SMALL);
    run(&mut state, "s1 fund>alice 9\n h2 alice>till 4");
    let mut bytes = Vec::new();
    state.encode_snapshot(&mut bytes);
    for len in 0..bytes.len() {
        assert!(
            State::decode_snapshot(&mut Reader::new(&bytes[..len]), HashKey::default()).is_err(),
            "{len}"
        );
    }
}

#[test]
fn a_snapshot_rebuilds_the_ledger() {
    let mut state = ledger(Limits { known_ids_max: 2, ..SMALL });
    run(&mut state, "@5\n s1 fund>alice 9\n h2 alice>till 4 until 15\n s3 fund>bob 1");
    let mut bytes = Vec::new();
    state.encode_snapshot(&mut bytes);
    let mut again = State::decode_snapshot(&mut Reader::new(&bytes), HashKey([1, 2])).unwrap();
    assert_eq!(again.digest(), state.digest());
    let script =
        "s1 fund>alice 9\n s3 fund>bob 1\n s3 fund>bob 2\n expire h2\n @15\n expire h2\n s4 fund>bob 2";
    assert_eq!(run(&mut again, script), "old exists reused early done done");
    run(&mut state, script);
    assert_eq!(again.digest(), state.digest());
}

#[test]
fn the_memory_journal_conforms() {
    check_journal(|before: Option<MemoryJournal>| before.unwrap_or_default());
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_batch(&mut Reader::new(&bytes));
        let _ = State::decode_snapshot(&mut Reader::new(&bytes), HashKey::default());
    }

    #[test]
    fn damaged_snapshots_never_panic(at in 0usize..900, xor in 1u8..) {
        let mut state = ledger(SMALL);
        run(&mut state, "@5\n s1 fund>alice 9\n h2 alice>till 4 until 15\n s3 fund>bob 1");
        let mut bytes = Vec::new();
        state.encode_snapshot(&mut bytes);
        let at = at % bytes.len();
        bytes[at] ^= xor;
        if let Ok(other) = State::decode_snapshot(&mut Reader::new(&bytes), HashKey::default()) {
            let _ = other.check_books();
        }
    }
}

/// Snapshots from before accounts had units are read: all accounts counted money then.
#[test]
fn older_snapshots_are_read() {
    let mut state = State::new(SMALL, HashKey::default());
    for (n, (_, kind, limit, unit)) in ACCOUNTS.into_iter().enumerate().filter(|(_, a)| a.3 == Unit::NANO_USD)
    {
        let account = Account { id: AccountId(n as u64 + 1), kind, limit, unit };
        assert_eq!(state.apply(UnixMs(0), &[Event::Open(account)]), [Ok(Applied::Done)]);
    }
    let script = "s1 fund>alice 100\n h2 alice>till 60";
    for line in script.lines() {
        assert_eq!(state.apply(UnixMs(0), &[parse(line.trim())]), [Ok(Applied::Done)]);
    }
    let mut new = Vec::new();
    state.encode_snapshot(&mut new);
    // Version, limits, time, count of events, count of accounts; then 8 bytes of id, kind, limit, unit, sums.
    let (head, account) = (1 + 3 * 8 + 8 + 8 + 4, 8 + 2 + 2 + 64);
    let mut old = new[..head].to_vec();
    old[0] = 1;
    for n in 0..state.accounts().len() {
        let at = head + n * account;
        old.extend_from_slice(&new[at..at + 10]);
        old.extend_from_slice(&new[at + 12..at + account]);
    }
    old.extend_from_slice(&new[head + state.accounts().len() * account..]);
    let read = State::decode_snapshot(&mut Reader::new(&old), HashKey([1, 2])).unwrap();
    assert_eq!(read.digest(), state.digest());
    old[0] = 3;
    assert!(State::decode_snapshot(&mut Reader::new(&old), HashKey::default()).is_err());
}
