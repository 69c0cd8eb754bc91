//! How offers fare, as it is published.
//!
//! One offer at a time: whoever lists a whole market takes the lock once for each, so that no request waits for
//! a list.

use super::{Book, Market};
use bourse_market::{OfferIndex, Percentiles, UptimeWindow, Window};
use bourse_types::UnixMs;
use std::sync::Arc;

/// How one offer fares. What is not known is none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fare {
    /// Whether it rests after failures or at its seller's own wish.
    pub(crate) is_resting: bool,
    /// Share of good answers over five minutes, thirty minutes and a day.
    pub(crate) uptime: [Option<f32>; 3],
    /// Milliseconds to the first content, over thirty minutes.
    pub(crate) ttft_ms: Option<Percentiles>,
    /// Generated tokens per second, over thirty minutes.
    pub(crate) tokens_per_s: Option<Percentiles>,
    /// Share of requests whose tool calls were all good, over two hours.
    pub(crate) tool_success: Option<f32>,
}

impl Market {
    /// How an offer of a book fares now. One that has left the market fares unknown.
    pub(crate) fn fare(&self, book: &Arc<Book>, index: OfferIndex, now: UnixMs) -> Fare {
        let state = self.state.lock();
        let index = if Arc::ptr_eq(&state.book, book) {
            Some(index)
        } else {
            let offer = book.snapshot.offer(index);
            offer.and_then(|o| state.book.snapshot.index_of(o.model.as_str(), o.seller.as_str()))
        };
        let Some(index) = index else { return Fare::default() };
        let is_resting = state.health.vital(index).rest(now).is_some();
        let Some(statistics) = state.health.statistics(index) else {
            return Fare { is_resting, ..Fare::default() };
        };
        let uptime = [UptimeWindow::FiveMinutes, UptimeWindow::HalfHour, UptimeWindow::Day];
        Fare {
            is_resting,
            uptime: uptime.map(|window| statistics.counts(window, now).uptime()),
            ttft_ms: statistics.ttft_ms(Window::HalfHour, now),
            tokens_per_s: statistics.throughput_tokens_per_s(Window::HalfHour, now),
            tool_success: statistics.tool_counts(now).success(),
        }
    }
}
