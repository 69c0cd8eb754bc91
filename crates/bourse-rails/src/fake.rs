//! A rail that pays nobody: a list of payments in memory or in a file, and faults on order.
//!
//! [`FakeRail`] is the other side of the street: what it has is the truth about payments, and survives the exchange. In a
//! file it survives `kill -9` of the process too: each payment is a line that is on the disk before the answer, and a line
//! that a kill cut off was never paid. The file is one rail for all who opened it, as a bank is for two exchanges that both
//! think they are the active one: each call locks it and first reads what others wrote. It pays whole micro-dollars, as
//! chains do.
//!
//! [`FaultyRail`] is the street: it loses questions and answers, delivers twice, and orders refusals, delays and payments
//! that come after all. Faults are taken one a call in the order of the script.

use crate::FAKE;
use crate::rail::{Capabilities, Note, Payee, PaymentRail, Payout, RailError, Standing};
use bourse_types::{NanoUsd, PayoutId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

const MICRO_USD: NanoUsd = NanoUsd(1_000);
/// An address that takes nothing, to see a refusal.
const CLOSED: &str = "closed";

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing does.
    None,
    /// The rail never hears of it.
    QuestionLost,
    /// The rail does it and nobody hears so.
    AnswerLost,
    /// The rail hears of it twice.
    Twice,
    /// A new payout is refused for good.
    Refused,
    /// A new payout is pending until it was looked up so many times.
    Delayed(u32),
    /// A new payout is refused and, when it was looked up so many times, paid after all.
    PaidLate(u32),
}

/// How a payment comes about, decided when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Course {
    Paid,
    Refused,
    Delayed(u32),
    PaidLate(u32),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    id: String,
    payee: String,
    nano_usd: u64,
    memo: String,
    course: Course,
}

#[derive(Debug, Clone)]
struct Taken {
    payout: Payout,
    course: Course,
    looked_up: u32,
}

impl Taken {
    fn is_paid(&self) -> bool {
        match self.course {
            Course::Paid => true,
            Course::Refused => false,
            Course::Delayed(times) | Course::PaidLate(times) => self.looked_up >= times,
        }
    }

    fn standing(&self) -> Standing {
        if self.is_paid() {
            return Standing::Paid { reference: Note::of_others(&format!("fake-{:032x}", self.payout.id.0)) };
        }
        match self.course {
            Course::Delayed(_) => Standing::Pending,
            _ => Standing::Failed { reason: Note::of_others("the payee's account is closed") },
        }
    }
}

#[derive(Debug, Default)]
struct Books {
    taken: BTreeMap<PayoutId, Taken>,
    /// Every payment that was taken, also those that should not have been.
    payments: Vec<Payout>,
    file: Option<Arc<File>>,
    /// Bytes of the file that are in here.
    known_bytes: u64,
}

/// The right to the file, among all who opened it, until it is dropped.
struct Turn(Option<Arc<File>>);

impl Drop for Turn {
    fn drop(&mut self) {
        // Whoever cannot give it back closes the file sooner or later, which does.
        let _ = self.0.take().map(|file| file.unlock());
    }
}

/// Payments that nobody gets.
#[derive(Debug, Default)]
pub struct FakeRail(Mutex<Books>);

impl FakeRail {
    /// The same with its payments in a file, which is made when there is none.
    pub fn open(path: &Path) -> Result<Self, RailError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut books = Books { file: Some(Arc::new(file)), ..Books::default() };
        books.turn().map(drop)?;
        Ok(Self(Mutex::new(books)))
    }

    /// Every payment until the last call of this handle, in order; one that was made twice stands here twice.
    pub fn payments(&self) -> Vec<Payout> {
        let books = self.0.lock();
        let is_paid = |payout: &&Payout| books.taken.get(&payout.id).is_some_and(Taken::is_paid);
        books.payments.iter().filter(is_paid).cloned().collect()
    }

    fn take(&self, payout: &Payout, course: Course) -> Result<Standing, RailError> {
        let mut books = self.0.lock();
        let _turn = books.turn()?;
        if let Some(known) = books.taken.get(&payout.id) {
            let is_same = known.payout == *payout;
            return if is_same { Ok(known.standing()) } else { Err(RailError::Conflict(payout.id)) };
        }
        books.write(payout, course)?;
        books.remember(payout.clone(), course);
        Ok(books.taken[&payout.id].standing())
    }
}

impl Books {
    /// Waits for the file and takes up what others wrote. Whoever was killed while writing has left half a line.
    fn turn(&mut self) -> Result<Turn, RailError> {
        let Some(file) = self.file.clone() else { return Ok(Turn(None)) };
        file.lock().map_err(failed)?;
        let turn = Turn(Some(Arc::clone(&file)));
        let (mut file, mut bytes) = (&*file, Vec::new());
        file.seek(SeekFrom::Start(self.known_bytes)).map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(self.known_bytes + whole as u64).map_err(failed)?;
        }
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let line: Line = serde_json::from_slice(line).map_err(failed)?;
            let id = PayoutId::parse(&line.id).map_err(failed)?;
            let payee = Payee::parse(&line.payee).map_err(failed)?;
            let payout = Payout { id, payee, amount: NanoUsd(line.nano_usd), memo: line.memo };
            self.remember(payout, line.course);
        }
        self.known_bytes += whole as u64;
        Ok(turn)
    }

    fn write(&mut self, payout: &Payout, course: Course) -> Result<(), RailError> {
        let Some(file) = &self.file else { return Ok(()) };
        let line = Line {
            id: payout.id.to_string(),
            payee: payout.payee.as_str().to_owned(),
            nano_usd: payout.amount.0,
            memo: payout.memo.clone(),
            course,
        };
        let line = format!("{}\n", serde_json::to_string(&line).map_err(failed)?);
        (&**file).write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
        self.known_bytes += line.len() as u64;
        Ok(())
    }

    fn remember(&mut self, payout: Payout, course: Course) {
        self.payments.push(payout.clone());
        self.taken.insert(payout.id, Taken { payout, course, looked_up: 0 });
    }
}

fn failed(error: impl std::fmt::Display) -> RailError {
    RailError::unreachable(error)
}

impl PaymentRail for FakeRail {
    fn capabilities(&self) -> Capabilities {
        Capabilities { name: FAKE, unit: MICRO_USD, is_by_hand: false }
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        if payee.as_str() == CLOSED { Err(Note::of_others("that account is closed")) } else { Ok(()) }
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        self.take(payout, Course::Paid)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        let mut books = self.0.lock();
        let _turn = books.turn()?;
        let Some(taken) = books.taken.get_mut(&id) else { return Ok(Standing::Unknown) };
        taken.looked_up = taken.looked_up.saturating_add(1);
        Ok(taken.standing())
    }
}

/// A fake rail behind faults.
#[derive(Debug, Default)]
pub struct FaultyRail {
    rail: Arc<FakeRail>,
    script: Mutex<VecDeque<Fault>>,
}

impl FaultyRail {
    /// Faults before a rail; when the script has ended everything goes well.
    pub fn before(rail: Arc<FakeRail>, script: impl IntoIterator<Item = Fault>) -> Self {
        Self { rail, script: Mutex::new(script.into_iter().collect()) }
    }

    /// Adds a fault at the end of the script.
    pub fn then(&self, fault: Fault) {
        self.script.lock().push_back(fault);
    }

    fn next(&self) -> Fault {
        self.script.lock().pop_front().unwrap_or(Fault::None)
    }

    /// Calls the rail as the fault has it.
    fn across<T>(
        &self,
        fault: Fault,
        call: impl Fn(&FakeRail) -> Result<T, RailError>,
    ) -> Result<T, RailError> {
        match fault {
            Fault::QuestionLost => Err(failed("the question was lost")),
            Fault::AnswerLost => call(&self.rail).and_then(|_| Err(failed("the answer was lost"))),
            Fault::Twice => call(&self.rail).and_then(|_| call(&self.rail)),
            _ => call(&self.rail),
        }
    }
}

impl PaymentRail for FaultyRail {
    fn capabilities(&self) -> Capabilities {
        self.rail.capabilities()
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.rail.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        let fault = self.next();
        let course = match fault {
            Fault::Refused => Course::Refused,
            Fault::Delayed(times) => Course::Delayed(times),
            Fault::PaidLate(times) => Course::PaidLate(times),
            _ => Course::Paid,
        };
        self.across(fault, |rail| rail.take(payout, course))
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        let fault = self.next();
        self.across(fault, |rail| rail.look_up(id))
    }
}
