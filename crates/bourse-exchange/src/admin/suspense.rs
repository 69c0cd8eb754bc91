//! Shares in suspense, as an operator sees and releases them.

use super::{AdminError, AdminReply};
use crate::core::Resolution;
use crate::exchange::Exchange;
use crate::suspense::{Case, CaseLine, Party, resolved_of};
use bourse_types::{RequestId, UnixMs};

impl Exchange {
    pub(super) fn list_suspense(&self) -> AdminReply {
        let core = self.shared.core.lock();
        let line = |(request, case): (_, &Case)| CaseLine::of(request, case, core.names.name(case.customer));
        AdminReply::Suspense { cases: core.suspense.iter().map(line).collect() }
    }

    /// Repeating it with the same party changes nothing. That it was done before stands in the journal, which is read
    /// from its beginning then.
    pub(super) fn release_suspense(
        &self,
        text: &str,
        to: Party,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let unknown = || AdminError::NotSuspended(text.chars().take(64).collect());
        let request = RequestId::parse(text).map_err(|_| unknown())?;
        let id = self.house_transfer(now)?;
        let resolution = self.shared.change(|core| core.resolve(request, to, id, now))?;
        self.flush()?;
        if resolution == Resolution::NotOpen {
            let before = self.shared.index.lock().with_journal(|journal| resolved_of(journal, request))?;
            let before = before.ok_or_else(unknown)?;
            if before != to {
                return Err(AdminError::Resolved { request: text.to_owned(), to: before.as_str() });
            }
        }
        Ok(AdminReply::Released { request: request.to_string(), to })
    }
}
