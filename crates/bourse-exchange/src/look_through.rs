//! The whole journal, read once more behind a start.
//!
//! A start reads the snapshot and what follows it, so damage to what lies before would stay unseen until somebody asks
//! `bourse ledger check`. Here every group is read and held against its hash and the hash of the one before, as a start
//! without a snapshot does; nothing is replayed, so it costs no memory, and after each step it rests as long as that took.
//! What is found is told and changes nothing: balances come from the snapshot, and a copy of the journal from elsewhere can
//! mend it.
//!
//! Limits: [`STEP_GROUPS`] groups at a time. It checks no signature, no root and no law of the books.

use bourse_ledger::{Journal, JournalError, Position};
use std::time::{Duration, Instant};

/// Groups read at a time.
pub(crate) const STEP_GROUPS: usize = 16;
/// The shortest rest: longer than a commit waits for company, so that no commit has it beside itself all the time.
const REST_MIN: Duration = Duration::from_millis(5);

/// Reads from the beginning to the end. `rest` waits for so long, and says whether to go on. The last group that is good,
/// and whether that is the end of what there is.
pub(crate) fn look_through(
    journal: &dyn Journal,
    mut rest: impl FnMut(Duration) -> bool,
) -> Result<Option<Position>, JournalError> {
    let mut at = Position::default();
    loop {
        let begun = Instant::now();
        let groups = journal.read(at, STEP_GROUPS)?;
        at = groups.last().map_or(at, |group| group.position);
        if groups.len() < STEP_GROUPS {
            return Ok(Some(at));
        }
        if !rest(begun.elapsed().max(REST_MIN)) {
            return Ok(None);
        }
    }
}

/// Tells the log what came of it.
pub(crate) fn tell(found: &Result<Option<Position>, JournalError>) {
    match found {
        Ok(Some(at)) => {
            tracing::info!(groups = at.seq, "the journal has been looked through: nothing is damaged");
        }
        Ok(None) => {}
        Err(JournalError::Damaged { last_good, what }) => tracing::error!(
            last_good,
            %what,
            "the journal is damaged before its snapshot: what it holds is not proven any more; run `bourse ledger check`, \
             and mend it from a copy"
        ),
        Err(error) => {
            tracing::warn!(%error, "the journal could not be looked through; run `bourse ledger check`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SharedJournal;

    fn journal_of(groups: usize) -> SharedJournal {
        let mut journal = SharedJournal::default();
        for n in 0..groups {
            journal.append(&[n as u8]).unwrap();
        }
        journal
    }

    #[test]
    fn it_reads_to_the_end_in_steps_and_rests_after_each() {
        for (groups, steps) in [(0, 0), (STEP_GROUPS - 1, 0), (STEP_GROUPS, 1), (2 * STEP_GROUPS + 1, 2)] {
            let (journal, mut rests) = (journal_of(groups), Vec::new());
            let found = look_through(&journal, |rest| {
                rests.push(rest);
                true
            });
            assert_eq!(found, Ok(Some(journal.last())), "{groups}");
            assert_eq!(rests.len(), steps, "{groups}");
            assert!(rests.iter().all(|rest| *rest >= REST_MIN));
        }
    }

    #[test]
    fn a_market_that_closes_is_not_held_up() {
        let mut rests = 0;
        let found = look_through(&journal_of(9 * STEP_GROUPS), |_| {
            rests += 1;
            rests < 3
        });
        assert_eq!((found, rests), (Ok(None), 3));
    }
}
