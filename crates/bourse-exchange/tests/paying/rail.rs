//! A rail whose street ends where the process is told to stop, and that notes who calls it.

use super::Moment;
use crate::child::{say, waits};
use bourse_rails::{Capabilities, FakeRail, Note, Payee, PaymentRail, Payout, RailError, Standing};
use bourse_types::PayoutId;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

/// Its payments, which outlive every process.
const PAYMENTS: &str = "payments";
/// A line for each call: whose, which, of what.
const CALLS: &str = "calls";

/// The other side of the rail that lies in a folder.
pub(crate) fn rail_in(folder: &Path) -> FakeRail {
    FakeRail::open(&folder.join(PAYMENTS)).expect("a rail")
}

/// How often somebody told that rail to pay.
pub(crate) fn sends_of(folder: &Path, name: &str) -> usize {
    let calls = std::fs::read_to_string(folder.join(CALLS)).expect("the calls");
    calls.lines().filter(|call| call.starts_with(&format!("{name} send "))).count()
}

pub(crate) struct StoppingRail {
    rail: FakeRail,
    calls: File,
    name: String,
    /// Where it stops, once; none before it is armed.
    stops: Mutex<Option<Moment>>,
}

impl StoppingRail {
    pub(crate) fn open(folder: &Path, name: &str) -> Self {
        let calls = OpenOptions::new().append(true).create(true).open(folder.join(CALLS)).expect("a file");
        Self { rail: rail_in(folder), calls, name: name.to_owned(), stops: Mutex::default() }
    }

    pub(crate) fn arm(&self, moment: Option<Moment>) {
        *self.stops.lock().expect("nobody failed") = moment;
    }

    fn note(&self, call: &str, id: PayoutId) {
        let line = format!("{} {call} {id}\n", self.name);
        (&self.calls).write_all(line.as_bytes()).expect("a file");
    }

    /// Stops here if it is the moment; a kill ends the waiting.
    fn pass(&self, moment: Moment) {
        let mut stops = self.stops.lock().expect("nobody failed");
        if (*stops, moment) == (Some(Moment::Next), Moment::LookUp) {
            // The first look-up passes.
            *stops = Some(Moment::LookUp);
        } else if *stops == Some(moment) {
            *stops = None;
            drop(stops);
            say("here");
            assert!(waits(), "it is killed or goes on");
        }
    }
}

impl PaymentRail for StoppingRail {
    fn capabilities(&self) -> Capabilities {
        self.pass(Moment::Planning);
        self.rail.capabilities()
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.rail.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        self.note("send", payout.id);
        self.pass(Moment::Before);
        let sent = self.rail.send(payout);
        self.pass(Moment::After);
        sent
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        self.note("look-up", id);
        self.pass(Moment::LookUp);
        self.rail.look_up(id)
    }
}
