//! What every [`Journal`] must do, as assertions that any implementation can run in its tests.

use crate::journal::{GROUP_BYTES_MAX, Journal, JournalError, Position, Snapshot, chain_hash};

/// Runs the suite. `open` opens the same store each time it is called; the journal of the call before
/// is dropped first, so a durable store must show what it kept.
///
/// # Panics
/// When the implementation breaks a rule; the message names it.
pub fn check_journal<J: Journal>(mut open: impl FnMut(Option<J>) -> J) {
    let mut journal = open(None);
    assert_eq!(journal.last(), Position::default(), "a new journal is empty");
    assert_eq!(journal.read(Position::default(), 8), Ok(vec![]), "nothing to read from an empty journal");
    assert_eq!(journal.load_snapshot(), Ok(None), "a new journal has no snapshot");

    let mut positions = vec![Position::default()];
    for bytes in groups() {
        let got = journal.append(&bytes).expect("a group within the bound is appended");
        assert_eq!(got, chain_hash(positions[positions.len() - 1], &bytes), "positions follow chain_hash");
        assert_eq!(journal.last(), got, "last() is the group just appended");
        positions.push(got);
    }
    check_reads(&journal, &positions);

    let mut journal = open(Some(journal));
    check_reads(&journal, &positions);
    for text in ["first", "second"] {
        let snapshot = Snapshot { at: positions[2], bytes: text.as_bytes().to_vec() };
        journal.save_snapshot(&snapshot).expect("a snapshot is kept");
        assert_eq!(journal.load_snapshot(), Ok(Some(snapshot)), "the last snapshot is the one loaded");
    }
    let mut journal = open(Some(journal));
    let loaded = journal.load_snapshot().expect("snapshots survive").map(|s| s.bytes);
    assert_eq!(loaded, Some(b"second".to_vec()), "snapshots survive reopening");

    check_bounds(&mut journal);
    let wrong = Position { chain: positions[1].chain, ..positions[2] };
    assert!(journal.read(wrong, 1).is_err(), "reading after a position of another history is an error");
}

fn groups() -> Vec<Vec<u8>> {
    vec![b"a".to_vec(), vec![], vec![7; 100_000], b"tail".to_vec()]
}

fn check_reads<J: Journal>(journal: &J, positions: &[Position]) {
    for (from, after) in positions.iter().enumerate() {
        for count_max in [0, 1, 2, 100] {
            let got = journal.read(*after, count_max).expect("a whole journal reads");
            let want: Vec<_> = groups().into_iter().skip(from).take(count_max).collect();
            assert_eq!(got.len(), want.len(), "groups after {}", after.seq);
            for (i, group) in got.iter().enumerate() {
                assert_eq!(group.bytes, want[i], "bytes come back as written");
                assert_eq!(group.position, positions[from + i + 1], "positions come back as given");
            }
        }
    }
}

fn check_bounds<J: Journal>(journal: &mut J) {
    let before = journal.last();
    let refused = journal.append(&vec![0; GROUP_BYTES_MAX + 1]);
    assert_eq!(refused, Err(JournalError::GroupTooLarge(GROUP_BYTES_MAX + 1)), "one byte past the bound");
    assert_eq!(journal.last(), before, "a refused group leaves no trace");
    assert!(journal.append(&vec![0; GROUP_BYTES_MAX]).is_ok(), "exactly the bound is fine");
}
