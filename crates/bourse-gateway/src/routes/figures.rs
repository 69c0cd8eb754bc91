//! The market's public figures, for anybody: a completed day never changes, so it is asked for once and kept.
//!
//! Limit: [`FIGURES_DAYS`] days are kept, the latest ones.

use super::query::Query;
use crate::gateway::Shared;
use crate::phase::admit;
use bourse_types::UtcDay;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::FIGURES_DAYS;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Days that somebody asked for.
#[derive(Debug, Default)]
pub(crate) struct FiguresKept(Mutex<BTreeMap<UtcDay, Bytes>>);

impl FiguresKept {
    fn get(&self, day: UtcDay) -> Option<Bytes> {
        self.0.lock().get(&day).cloned()
    }

    fn put(&self, day: UtcDay, figures: Bytes) {
        let mut kept = self.0.lock();
        kept.insert(day, figures);
        while kept.len() > FIGURES_DAYS as usize {
            kept.pop_first();
        }
    }
}

/// The figures of one completed day: of yesterday when none is named.
pub(super) async fn market(shared: &Arc<Shared>, query: &Query<'_>) -> Result<Bytes, ApiError> {
    let now = shared.ports.clock.now();
    let day = query.day("date").unwrap_or_else(|| UtcDay::of(now).minus(1));
    if let Some(kept) = shared.figures.get(day) {
        return Ok(kept);
    }
    // The exchange may read a part of its journal for it.
    let records = Arc::clone(&shared.ports.records);
    let found = tokio::task::spawn_blocking(move || records.figures(day, now)).await;
    let found = found.map_err(|_| unmade())?.map_err(|error| admit::refusal(&error))?;
    let figures = Bytes::from(found.ok_or_else(|| nowhere(day))?.as_bytes().to_vec());
    shared.figures.put(day, figures.clone());
    Ok(figures)
}

fn unmade() -> ApiError {
    ApiError::new(ErrorType::Server, "the figures could not be made: tell the operator")
}

fn nowhere(day: UtcDay) -> ApiError {
    let message = format!(
        "there are no figures of {day}: they are told of the last {FIGURES_DAYS} completed days in UTC, half an hour after a day's end"
    );
    ApiError::new(ErrorType::NotFound, message)
}
