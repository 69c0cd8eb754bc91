//! Payouts on their way into their table: a row each, made when it is planned and told on from then.
//!
//! What becomes of a payout within one batch is one change of its row, and every state has a column for its time, so that the
//! table does not depend on where batches end. Where sellers take money is in no table: it is for who pays, and tables are
//! for whoever counts.

use super::rows::{Rows, Table, moment, text, word};
use crate::payouts::{PayoutRecord, PayoutState};
use bourse_types::{PayoutId, UnixMs};
use postgres::Transaction;
use std::collections::BTreeMap;

const PLANNED: Table<7> = Table {
    name: "payouts",
    columns: [
        ("id", "text"),
        ("hold", "text"),
        ("seller", "bigint"),
        ("amount", "numeric"),
        ("rail", "text"),
        ("state", "text"),
        ("planned_at", "timestamptz"),
    ],
    conflict: "",
};
const BECAME: Table<8> = Table {
    name: "",
    columns: [
        ("id", "text"),
        ("state", "text"),
        ("sending_at", "timestamptz"),
        ("paid_at", "timestamptz"),
        ("failed_at", "timestamptz"),
        ("late_at", "timestamptz"),
        ("reference", "text"),
        ("reason", "text"),
    ],
    conflict: "",
};

/// What became of a payout within a batch.
#[derive(Default)]
struct Course {
    state: &'static str,
    sending: Option<UnixMs>,
    paid: Option<UnixMs>,
    failed: Option<UnixMs>,
    late: Option<UnixMs>,
    reference: Option<String>,
    reason: Option<String>,
}

/// What a batch changes in the table.
pub(super) struct PayoutRows {
    planned: Rows<7>,
    became: BTreeMap<PayoutId, Course>,
}

impl PayoutRows {
    pub(super) fn new() -> Self {
        Self { planned: Rows::of(&PLANNED), became: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, record: &PayoutRecord) {
        match record {
            PayoutRecord::Planned { id, payout } => self.planned.push([
                text(id),
                text(format!("{:032x}", id.0)),
                text(payout.seller.0),
                text(payout.amount.0),
                word(&payout.rail),
                word(payout.state.word()),
                moment(payout.since),
            ]),
            PayoutRecord::Became { id, state, at } => {
                let course = self.became.entry(*id).or_default();
                course.state = state.word();
                let note = state.note().and_then(|note| word(note.as_str()));
                match state {
                    // A payout becomes this by being planned alone.
                    PayoutState::Planned => {}
                    PayoutState::Sending => course.sending = Some(*at),
                    PayoutState::Paid(_) => (course.paid, course.reference) = (Some(*at), note),
                    PayoutState::Failed(_) => (course.failed, course.reason) = (Some(*at), note),
                    PayoutState::Late(_) => (course.late, course.reference) = (Some(*at), note),
                }
            }
        }
    }

    pub(super) fn write(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        self.planned.write(work)?;
        let mut rows = Rows::of(&BECAME);
        for (id, course) in &self.became {
            let [sending, paid, failed, late] =
                [course.sending, course.paid, course.failed, course.late].map(|at| at.and_then(moment));
            let (reference, reason) = (course.reference.clone(), course.reason.clone());
            rows.push([text(id), text(course.state), sending, paid, failed, late, reference, reason]);
        }
        let update = format!(
            "UPDATE bourse_read.payouts p SET state = r.state, sending_at = coalesce(r.sending_at, p.sending_at),
                paid_at = coalesce(r.paid_at, p.paid_at), failed_at = coalesce(r.failed_at, p.failed_at),
                late_at = coalesce(r.late_at, p.late_at), reference = coalesce(r.reference, p.reference),
                reason = coalesce(r.reason, p.reason)
             FROM {} WHERE p.id = r.id",
            BECAME.rows()
        );
        rows.run(work, &update)
    }
}
