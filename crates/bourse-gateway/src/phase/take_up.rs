//! Taking up a stream that broke: another seller goes on from where it stopped.
//!
//! The rest is a generation of its own: another id, another hold, another receipt, the legs that were not asked yet, the
//! deadline of the whole request. All parts are settled together at the end, because a failed answer costs nothing: what
//! the first part delivered is charged only if the whole comes to a good end.

use super::dispatch::{Answer, Begun, dispatch};
use super::hold::Held;
use super::plan::Route;
use super::prove::Draft;
use super::settle::Open;
use crate::gateway::Shared;
use crate::resume::Resume;
use bourse_market::Bill;
use bourse_types::{MoneyError, RequestId, UnixMs};
use bourse_wire::dialect::Job;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{Claim, KeyGrant};
use bourse_wire::receipt::Finish;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

/// What a request was, kept for as long as its stream may have to be taken up.
pub(crate) struct Again {
    pub(crate) job: Job,
    pub(crate) route: Route,
}

/// What the part that was delivered leaves to the next one.
pub(crate) struct Handover {
    pub(crate) grant: KeyGrant,
    /// Of the whole answer.
    pub(crate) claim: Option<Box<Claim>>,
    pub(crate) expires: UnixMs,
    pub(crate) deadline: Instant,
    pub(crate) resume: Resume,
    pub(crate) next_leg: usize,
    /// The request's.
    pub(crate) span: Span,
}

/// Asks the legs that are left for the rest.
pub(crate) async fn take_up(
    shared: Arc<Shared>,
    again: Arc<Again>,
    handover: Handover,
) -> Result<(Open, Box<Begun>), ApiError> {
    let Handover { grant, claim, expires, deadline, resume, next_leg, span } = handover;
    let now = shared.ports.clock.now();
    let random = shared.ports.entropy.draw();
    let request = RequestId::new(now, std::array::from_fn(|n| random[n]));
    let mut held = Held::nothing(request, grant, expires).continued();
    held.claim = claim;
    let draft = Draft::new(&again.job, &again.route, now);
    let mut open = Open::new(shared, held, draft, Instant::now());
    open.deadline = deadline;
    match dispatch(&mut open, &again.job, &again.route, Some((&resume, next_leg))).instrument(span).await {
        Ok(Answer::Stream(begun)) => {
            open.draft.first_content_ms = Some(open.elapsed_ms());
            Ok((open, begun))
        }
        Ok(Answer::Plain(_)) => {
            open.give_back(Finish::Bourse);
            Err(ApiError::new(ErrorType::Server, "a stream was answered in one piece"))
        }
        Err(error) => {
            open.give_back(Finish::NoSeller);
            Err(error)
        }
    }
}

/// One bill for all parts of an answer, for the buyer's usage object. The books have one each.
pub(crate) fn together(earlier: Option<&Bill>, last: &Bill) -> Result<Bill, MoneyError> {
    let Some(earlier) = earlier else { return Ok(*last) };
    Ok(Bill { usage: earlier.usage.plus(&last.usage)?, charge: earlier.charge.plus(&last.charge)?, ..*last })
}
