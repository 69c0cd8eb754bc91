//! A process that is to be killed, and that tells what it has done.

use super::{Phase, SNAPSHOT_EVENTS, load::obey};
use crate::child::{Child, STUCK_AFTER, say};
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

const ORDER: &str = "BOURSE_CRASH_ORDER";
const SIGKILL: i32 = 9;

/// What a process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) dir: PathBuf,
    /// Hashes of the keys that buy; without any it opens and closes.
    pub(crate) keys: Vec<String>,
    pub(crate) round: u64,
    /// Numbers of requests of the dead that are made once more, each by two callers.
    pub(crate) again: Vec<u64>,
    /// It closes in order after so many acknowledgements.
    pub(crate) closes_after: Option<u64>,
    /// Whether a failure of the journal is nothing wrong.
    pub(crate) server_may_die: bool,
    pub(crate) snapshot_events: u64,
}

impl Order {
    /// To begin a market there, and to end.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            keys: Vec::new(),
            round: 0,
            again: Vec::new(),
            closes_after: None,
            server_may_die: false,
            snapshot_events: SNAPSHOT_EVENTS,
        }
    }

    /// The order that this process was started with.
    pub(crate) fn of_environment() -> Option<Self> {
        let order = std::env::var(ORDER).ok()?;
        Some(serde_json::from_str(&order).expect("an order"))
    }
}

/// When the kill comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// A time after its start.
    Started { after: Duration },
    /// A time after so many acknowledgements.
    Acknowledged { count: usize, after: Duration },
    /// A time after it began to close.
    Closing { after: Duration },
}

/// What was seen of a process until its end.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) acknowledged: Vec<u64>,
    /// The digest of the state with which it opened.
    pub(crate) digest: Option<String>,
    /// How long it took to open.
    pub(crate) opening: Option<Duration>,
    pub(crate) found: u64,
    pub(crate) late: u64,
    pub(crate) without_hold: u64,
    /// Its own complaints.
    pub(crate) wrong: Vec<String>,
    pub(crate) is_closing: bool,
    pub(crate) was_killed: bool,
}

impl Seen {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self { digest: None, .. } => Phase::Opening,
            Self { is_closing: true, .. } => Phase::Closing,
            _ => Phase::Serving,
        }
    }

    fn take(&mut self, said: &str, since: Instant) {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "acknowledged" => self.acknowledged.push(rest.parse().expect("a number")),
            "opened" => {
                self.digest = Some(rest.to_owned());
                self.opening = Some(since.elapsed());
            }
            "found" => self.found += 1,
            "late" => self.late += 1,
            "without-hold" => self.without_hold += 1,
            "closing" => self.is_closing = true,
            _ => self.wrong.push(said.to_owned()),
        }
    }

    fn meets(&self, aim: Aim) -> Option<Duration> {
        match aim {
            Aim::Started { after } => Some(after),
            Aim::Acknowledged { count, after } => (self.acknowledged.len() >= count).then_some(after),
            Aim::Closing { after } => self.is_closing.then_some(after),
        }
    }
}

pub(crate) struct Victim {
    process: Child,
    since: Instant,
}

impl Victim {
    pub(crate) fn start(order: &Order) -> Self {
        let since = Instant::now();
        let order = serde_json::to_string(order).expect("an order");
        Self { process: Child::start("writer_process", ORDER, order), since }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Listens until the aim is met or the process has ended, kills, and listens to what it had said by then.
    pub(crate) fn watch(mut self, aim: Aim, kill: impl FnOnce(&mut Self)) -> Seen {
        let mut seen = Seen::default();
        if self.listen(&mut seen, aim) {
            kill(&mut self);
        }
        self.hear_out(&mut seen);
        seen
    }

    /// Listens until the aim is met; false when the process has ended before.
    pub(crate) fn listen(&self, seen: &mut Seen, aim: Aim) -> bool {
        let mut until = None;
        loop {
            until = until.or_else(|| Some(Instant::now() + seen.meets(aim)?));
            let patience = until.map_or(STUCK_AFTER, |at| at.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                return true;
            }
            match self.process.listen(patience) {
                Ok(line) => seen.take(&line, self.since),
                Err(RecvTimeoutError::Timeout) => assert!(until.is_some(), "it is stuck: {seen:?}"),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Listens to what is left until the process has ended.
    pub(crate) fn hear_out(&mut self, seen: &mut Seen) {
        loop {
            match self.process.listen(STUCK_AFTER) {
                Ok(line) => seen.take(&line, self.since),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {seen:?}"),
            }
        }
        let ended = self.process.wait();
        seen.was_killed = ended.signal() == Some(SIGKILL);
        // What it found wrong says more than how it ended.
        assert!(seen.was_killed || ended.success() || !seen.wrong.is_empty(), "{ended}: {seen:?}");
    }
}

/// The process itself: does as it was ordered. Nothing in an ordinary test run.
pub(crate) fn run() {
    let Some(order) = Order::of_environment() else { return };
    // A thread that fails must be heard, not only missed.
    std::panic::set_hook(Box::new(|why| say(&format!("wrong {}", why.to_string().replace('\n', " ")))));
    obey(&order);
}
