//! One asks, all are told.

use super::*;
use bourse_types::{KeyHash, UnixMs};
use bourse_wire::funds::{HoldExtension, HoldRequest, KeyGrant, Settled, Settlement};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

/// An exchange of which nothing but its disk is asked.
#[derive(Default)]
struct Disk(Mutex<DiskState>);

#[derive(Default)]
struct DiskState {
    written: u64,
    has_failed: bool,
    questions: usize,
    lost: Option<u64>,
    waiting: Vec<Waker>,
}

impl Disk {
    fn questions(&self) -> usize {
        self.0.lock().questions
    }

    fn change(&self, change: impl FnOnce(&mut DiskState)) {
        let mut state = self.0.lock();
        change(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The port, on a disk that the test keeps.
struct OnDisk(Arc<Disk>);

impl Funds for OnDisk {
    fn authenticate(&self, _: &KeyHash, _: UnixMs) -> Result<KeyGrant, FundsError> {
        Err(FundsError::Closing)
    }

    fn hold(&self, _: &HoldRequest) -> Result<(), FundsError> {
        Err(FundsError::Closing)
    }

    fn extend(&self, _: &HoldExtension) -> Result<(), FundsError> {
        Err(FundsError::Closing)
    }

    fn settle(&self, _: Settlement) -> Result<Settled, FundsError> {
        Err(FundsError::Closing)
    }

    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let disk = Arc::clone(&self.0);
        disk.0.lock().questions += 1;
        Box::pin(poll_fn(move |cx| {
            let mut state = disk.0.lock();
            if state.written >= ticket.0 {
                return Poll::Ready(Ok(()));
            }
            if state.has_failed {
                return Poll::Ready(Err(FundsError::Closing));
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn lost(&self, ticket: CommitTicket) -> Option<FundsError> {
        (self.0.0.lock().lost == Some(ticket.0)).then_some(FundsError::NoHold)
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Table {
    durable: Arc<Durable>,
    disk: Arc<Disk>,
    funds: Arc<dyn Funds>,
    woken: Arc<Woken>,
}

impl Table {
    fn new() -> Self {
        let disk = Arc::new(Disk::default());
        let funds = Arc::new(OnDisk(Arc::clone(&disk)));
        Self { durable: Arc::default(), disk, funds, woken: Arc::default() }
    }

    fn wait(&self, ticket: u64) -> Wait {
        self.durable.wait(&self.funds, CommitTicket(ticket))
    }

    fn poll(&self, wait: &mut Wait) -> Poll<Result<(), FundsError>> {
        let waker = Waker::from(Arc::clone(&self.woken));
        Pin::new(wait).poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.woken.0.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn a_group_is_asked_for_once() {
    let table = Table::new();
    let mut waits: Vec<Wait> = [1, 1, 1, 2].into_iter().map(|ticket| table.wait(ticket)).collect();
    for wait in &mut waits {
        assert!(table.poll(wait).is_pending());
    }
    assert!(table.poll(&mut waits[1]).is_pending(), "looking twice is fine");
    assert_eq!(table.disk.questions(), 1, "the first one asks for all");
    table.disk.change(|disk| disk.written = 1);
    assert_eq!(table.woken(), 1, "the exchange wakes one");
    assert_eq!(table.poll(&mut waits[0]), Poll::Ready(Ok(())));
    assert_eq!(table.woken(), 3, "which wakes the rest, each once");
    assert_eq!(table.poll(&mut waits[1]), Poll::Ready(Ok(())));
    assert_eq!(table.poll(&mut waits[2]), Poll::Ready(Ok(())));
    assert!(table.poll(&mut waits[3]).is_pending());
    assert_eq!(table.disk.questions(), 2, "the later group is asked for by one that needs it");
    table.disk.change(|disk| disk.written = 2);
    assert_eq!(table.poll(&mut waits[3]), Poll::Ready(Ok(())));
    assert_eq!(table.poll(&mut table.wait(2)), Poll::Ready(Ok(())));
    assert_eq!(table.disk.questions(), 2, "what is known is not asked for");
}

#[test]
fn one_that_was_lost_is_not_told_that_later_ones_are_written() {
    let table = Table::new();
    let mut waits: Vec<Wait> = [3, 1, 2].into_iter().map(|ticket| table.wait(ticket)).collect();
    assert!(waits.iter_mut().all(|wait| table.poll(wait).is_pending()));
    table.disk.change(|disk| (disk.written, disk.lost) = (3, Some(1)));
    let lost = Poll::Ready(Err(FundsError::NoHold));
    let answers: Vec<_> = waits.iter_mut().map(|wait| table.poll(wait)).collect();
    assert_eq!(answers, [Poll::Ready(Ok(())), lost, Poll::Ready(Ok(()))]);
}

#[test]
fn another_one_asks_when_the_first_one_vanishes() {
    let table = Table::new();
    let (mut first, mut second) = (table.wait(1), table.wait(1));
    assert!(table.poll(&mut first).is_pending() && table.poll(&mut second).is_pending());
    drop(first);
    assert_eq!(table.woken(), 1);
    assert!(table.poll(&mut second).is_pending());
    assert_eq!(table.disk.questions(), 2);
    table.disk.change(|disk| disk.written = 1);
    assert_eq!(table.poll(&mut second), Poll::Ready(Ok(())));
}

#[test]
fn a_failed_disk_is_told_to_everybody() {
    let table = Table::new();
    let (mut first, mut second) = (table.wait(1), table.wait(2));
    assert!(table.poll(&mut first).is_pending() && table.poll(&mut second).is_pending());
    table.disk.change(|disk| disk.has_failed = true);
    let failed = Poll::Ready(Err(FundsError::Closing));
    assert_eq!((table.poll(&mut first), table.poll(&mut second)), (failed.clone(), failed));
}
