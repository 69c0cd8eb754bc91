//! That nodes were there: written down for the market's figures, and nothing else. It moves nothing and is no state.

use super::{Core, WAITING_BYTES_MAX};
use crate::record;
use bourse_types::UnixMs;
use bourse_wire::funds::{Attendance, FundsError};

/// How far the end of an attendance may lie ahead of its exchange's clock, in milliseconds.
const CLOCK_AHEAD_MS: u64 = 60_000;

impl Core {
    pub(crate) fn attended(&mut self, attendance: &Attendance, now: UnixMs) -> Result<(), FundsError> {
        self.running()?;
        if !attendance.is_plausible() || attendance.until.0 > now.0.saturating_add(CLOCK_AHEAD_MS) {
            return Err(FundsError::Conflict);
        }
        if self.group.bytes.len() >= WAITING_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        record::put_attendance(&mut self.group.bytes, attendance);
        Ok(())
    }
}
