//! Both stores of the index behave alike, and an index of another journal is dropped.

use super::*;
use crate::memory::SharedJournal;
use bourse_types::UnixMs;

fn batch(n: u64) -> IndexBatch {
    let after = Position { seq: n, chain: Digest32([n as u8; 32]) };
    let place = Place { leaf: n, after, offset: 5, len: 600 };
    let mut log = MerkleLog::default();
    let tiles = (0..256).flat_map(|leaf| log.append(leaf_hash(&[n as u8, leaf as u8])));
    let tiles = tiles.map(|tile| Tile { index: n, ..tile }).collect();
    IndexBatch { places: vec![(RequestId(u128::from(n) << 90), place)], tiles, activity: BTreeMap::new() }
}

fn head(n: u64) -> IndexHead {
    let mut log = MerkleLog::default();
    log.append(leaf_hash(&[n as u8]));
    let checkpoint = (n > 1).then_some(Checkpoint {
        size: n,
        root: Digest32([1; 32]),
        time: UnixMs(n),
        exchange: Digest32([2; 32]),
        signature: [3; 64],
    });
    IndexHead { position: Position { seq: n, chain: Digest32([n as u8; 32]) }, log, checkpoint }
}

fn check_store(mut open: impl FnMut() -> Box<dyn IndexStore>) {
    let mut store = open();
    assert_eq!(store.head().unwrap().position, Position::default());
    for n in 1..=3 {
        store.commit(&batch(n), &head(n)).unwrap();
        let got = store.head().unwrap();
        assert_eq!(
            (got.position, got.log, got.checkpoint),
            (head(n).position, head(n).log, head(n).checkpoint)
        );
        assert_eq!(store.find(batch(n).places[0].0).unwrap(), Some(batch(n).places[0].1));
        assert_eq!(store.tile(0, n), Some(batch(n).tiles[0].clone()));
    }
    assert_eq!(store.find(RequestId(1)).unwrap(), None);
    assert_eq!(store.tile(1, 1), None);
    store.reset().unwrap();
    assert_eq!(store.find(batch(1).places[0].0).unwrap(), None);
    assert_eq!(store.head().unwrap().position, Position::default());
}

#[test]
fn stores_behave_alike() {
    check_store(|| Box::new(MemoryIndex::default()));
    let dir = tempfile::tempdir().unwrap();
    check_store(|| Box::new(SqliteIndex::open(dir.path()).unwrap()));
}

#[test]
fn an_index_of_another_journal_is_dropped() {
    let mut store: Box<dyn IndexStore> = Box::new(MemoryIndex::default());
    store.commit(&batch(1), &head(1)).unwrap();
    let index = Index::open(store, Box::new(SharedJournal::default())).unwrap();
    assert_eq!(index.head.position, Position::default());
    assert_eq!(index.store.find(batch(1).places[0].0).unwrap(), None);
}

#[test]
fn the_inbox_is_bounded_and_the_journal_fills_the_gap() {
    let step = |n: u64, receipts: usize| Step {
        after: head(n).position,
        at: head(n + 1).position,
        receipts: Arc::new(vec![
            ReceiptMark {
                request: RequestId(1),
                offset: 0,
                len: 0,
                leaf: Digest32::default(),
                sale: None,
            };
            receipts
        ]),
        checkpoint: None,
    };
    let mut inbox = Inbox::default();
    assert!(inbox.push(step(1, INBOX_RECEIPTS_MAX)), "full: time to empty it");
    assert!(!inbox.push(step(2, 1)), "one past the bound starts anew");
    assert_eq!(inbox.take().len(), 1);
    assert!(!inbox.push(step(1, 1)));
    inbox.push(step(2, INBOX_RECEIPTS_MAX + 1));
    assert_eq!(inbox.take().len(), 0, "a group that never fits is left to the journal");
    for n in 0..INBOX_GROUPS_MAX as u64 {
        inbox.push(step(n, 0));
    }
    assert_eq!(inbox.steps.len(), INBOX_GROUPS_MAX);
    inbox.push(step(0, 0));
    assert_eq!(inbox.steps.len(), 1);

    let mut journal = SharedJournal::default();
    let at: Vec<_> = [b"", b"", b""].iter().map(|bytes| journal.append(*bytes).unwrap()).collect();
    let store: Box<dyn IndexStore> = Box::new(MemoryIndex::default());
    let mut index = Index::open(store, Box::new(journal)).unwrap();
    let gap = Step { after: at[0], at: at[1], receipts: Arc::default(), checkpoint: None };
    index.catch_up(vec![gap], 3).unwrap();
    assert_eq!(index.head.position, at[2], "a step that does not fit is read from the journal instead");
}
