//! Rolling statistics of one offer: how fast, how reliable, how well cached, over the windows in which
//! they are used and published.
//!
//! Two windows for speeds: five minutes, which preferences look at, and thirty, which are published. Three
//! for reliability: those and a day. Each is a ring of buckets, so that a window forgets in steps of a
//! fifth, a sixth and a twenty-fourth. An offer's statistics take [`STATISTICS_BYTES_MAX`] bytes at most,
//! whatever its traffic.
//!
//! Two throughputs, because they tell different things: over the whole time from dispatch to the end,
//! which is what a buyer waits for and what queueing hurts, and between tokens after the first.

use super::histogram::{Better, Histogram, Percentiles, percentiles};
use super::outcome::{Conversation, Served, ToolCalls};
use super::ring::Ring;
use bourse_types::UnixMs;

/// Most bytes that the statistics of one offer take.
pub const STATISTICS_BYTES_MAX: usize = 12 * 1_024;
const _: () = assert!(size_of::<Statistics>() <= STATISTICS_BYTES_MAX);

const MINUTE_MS: u64 = 60_000;
/// Outcomes below which an uptime says nothing.
pub const UPTIME_OUTCOMES_MIN: u32 = 100;
/// How old percentiles of five minutes may be, in milliseconds.
pub(super) const RECENT_MS: u64 = 30_000;
/// How often good answers renew them, in milliseconds.
const REFRESH_MS: u64 = 1_000;
/// Milli-tokens per second in one unit of a throughput's histogram: it reaches 16,777 tokens a second.
const THROUGHPUT_UNIT_MILLI: u64 = 32;
/// Microseconds in one unit of the histogram of times between tokens: it reaches 16 seconds.
const INTER_TOKEN_UNIT_US: u64 = 32;

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The last 4 to 5 minutes: what preferences are compared with.
    FiveMinutes,
    /// The last 25 to 30 minutes: what is published.
    HalfHour,
}

/// How far back to look for reliability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UptimeWindow {
    /// The last 4 to 5 minutes.
    FiveMinutes,
    /// The last 25 to 30 minutes.
    HalfHour,
    /// The last 23 to 24 hours.
    Day,
}

/// Outcomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Good answers.
    pub good: u32,
    /// Failures before any content.
    pub failed: u32,
    /// Answers that broke after content.
    pub broken: u32,
    /// Answers of 429.
    pub limited: u32,
    /// Answers of 403.
    pub forbidden: u32,
}

impl Counts {
    /// Outcomes that count for uptime: good ones and those that the seller is to blame for.
    pub fn counted(&self) -> u32 {
        self.good.saturating_add(self.failed).saturating_add(self.broken)
    }

    /// Share of good answers among those that count, 0 to 1; none below [`UPTIME_OUTCOMES_MIN`].
    pub fn uptime(&self) -> Option<f32> {
        let counted = self.counted();
        (counted >= UPTIME_OUTCOMES_MIN).then(|| self.good as f32 / counted as f32)
    }

    fn add(&mut self, other: &Self) {
        self.good = self.good.saturating_add(other.good);
        self.failed = self.failed.saturating_add(other.failed);
        self.broken = self.broken.saturating_add(other.broken);
        self.limited = self.limited.saturating_add(other.limited);
        self.forbidden = self.forbidden.saturating_add(other.forbidden);
    }
}

/// Tool calls of a window, by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolCounts {
    /// Requests that ended with tool calls.
    pub requests: u32,
    /// Of these, with arguments that are not JSON.
    pub invalid_json: u32,
    /// Of these, with a tool that the request did not name.
    pub unknown_tool: u32,
    /// Of these, with arguments that do not fit the tool's schema.
    pub schema_mismatch: u32,
}

impl ToolCounts {
    /// Share of requests whose calls were all good, 0 to 1; none without requests.
    pub fn success(&self) -> Option<f32> {
        let bad = self.invalid_json.saturating_add(self.unknown_tool).saturating_add(self.schema_mismatch);
        (self.requests > 0).then(|| self.requests.saturating_sub(bad) as f32 / self.requests as f32)
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.invalid_json = self.invalid_json.saturating_add(other.invalid_json);
        self.unknown_tool = self.unknown_tool.saturating_add(other.unknown_tool);
        self.schema_mismatch = self.schema_mismatch.saturating_add(other.schema_mismatch);
    }
}

/// Prompt tokens of conversations that went on at the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounts {
    /// Prompt tokens of answers that continued a conversation.
    pub continued: u64,
    /// Of these, read from the cache.
    pub cached: u64,
}

impl CacheCounts {
    /// Share of prompt tokens that was read from the cache, 0 to 1; none without tokens.
    pub fn hit_rate(&self) -> Option<f32> {
        (self.continued > 0).then(|| self.cached as f32 / self.continued as f32)
    }
}

/// A measure of speed over both windows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Speeds {
    pub(super) minutes: Ring<Histogram, 5, MINUTE_MS>,
    pub(super) half_hour: Ring<Histogram, 6, { 5 * MINUTE_MS }>,
}

impl Speeds {
    fn record(&mut self, now: UnixMs, value: u64) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.minutes.at(now).record(value);
        self.half_hour.at(now).record(value);
    }

    fn percentiles(&self, window: Window, now: UnixMs, better: Better, scale: f32) -> Option<Percentiles> {
        match window {
            Window::FiveMinutes => percentiles(self.minutes.live(now), better, scale),
            Window::HalfHour => percentiles(self.half_hour.live(now), better, scale),
        }
    }
}

/// Percentiles of the last five minutes as they were at a moment: a plan that sorts by speed looks at
/// many offers at once and should not add up their histograms each time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Recent {
    /// The moment; none before the first good answer.
    pub(super) at: Option<UnixMs>,
    pub(super) ttft: Option<Percentiles>,
    pub(super) throughput: Option<Percentiles>,
}

impl Recent {
    fn is_younger_than(&self, age_ms: u64, now: UnixMs) -> bool {
        self.at.is_some_and(|at| now.since(at).0 < age_ms)
    }
}

/// Rolling statistics of one offer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statistics {
    pub(super) ttft: Speeds,
    pub(super) throughput: Speeds,
    pub(super) inter_token: Speeds,
    pub(super) minutes: Ring<Counts, 5, MINUTE_MS>,
    pub(super) half_hour: Ring<Counts, 6, { 5 * MINUTE_MS }>,
    pub(super) day: Ring<Counts, 24, { 60 * MINUTE_MS }>,
    pub(super) tools: Ring<ToolCounts, 8, { 15 * MINUTE_MS }>,
    pub(super) cache: Ring<CacheCounts, 6, { 5 * MINUTE_MS }>,
    pub(super) recent: Recent,
}

impl Statistics {
    /// Time to the first content, in milliseconds; none without good answers in the window. Figures of
    /// five minutes may be half a minute old.
    pub fn ttft_ms(&self, window: Window, now: UnixMs) -> Option<Percentiles> {
        if window == Window::FiveMinutes && self.recent.is_younger_than(RECENT_MS, now) {
            return self.recent.ttft;
        }
        self.ttft.percentiles(window, now, Better::Lower, 1.0)
    }

    /// Output tokens per second of the whole time from dispatch to the end. Figures of five minutes may be
    /// half a minute old.
    pub fn throughput_tokens_per_s(&self, window: Window, now: UnixMs) -> Option<Percentiles> {
        if window == Window::FiveMinutes && self.recent.is_younger_than(RECENT_MS, now) {
            return self.recent.throughput;
        }
        self.throughput.percentiles(window, now, Better::Higher, THROUGHPUT_UNIT_MILLI as f32 / 1_000.0)
    }

    /// Time between tokens after the first, in milliseconds.
    pub fn inter_token_ms(&self, window: Window, now: UnixMs) -> Option<Percentiles> {
        self.inter_token.percentiles(window, now, Better::Lower, INTER_TOKEN_UNIT_US as f32 / 1_000.0)
    }

    /// Outcomes of a window.
    pub fn counts(&self, window: UptimeWindow, now: UnixMs) -> Counts {
        let mut sum = Counts::default();
        match window {
            UptimeWindow::FiveMinutes => self.minutes.live(now).for_each(|bucket| sum.add(bucket)),
            UptimeWindow::HalfHour => self.half_hour.live(now).for_each(|bucket| sum.add(bucket)),
            UptimeWindow::Day => self.day.live(now).for_each(|bucket| sum.add(bucket)),
        }
        sum
    }

    /// Tool calls of the last two hours.
    pub fn tool_counts(&self, now: UnixMs) -> ToolCounts {
        let mut sum = ToolCounts::default();
        self.tools.live(now).for_each(|bucket| sum.add(bucket));
        sum
    }

    /// Prompt tokens of continued conversations in the last half hour, and how many were cached.
    pub fn cache_counts(&self, now: UnixMs) -> CacheCounts {
        self.cache.live(now).fold(CacheCounts::default(), |sum, bucket| CacheCounts {
            continued: sum.continued.saturating_add(bucket.continued),
            cached: sum.cached.saturating_add(bucket.cached),
        })
    }

    pub(super) fn count(&mut self, now: UnixMs, change: impl Fn(&mut Counts)) {
        change(self.minutes.at(now));
        change(self.half_hour.at(now));
        change(self.day.at(now));
    }

    pub(super) fn on_served(&mut self, now: UnixMs, served: &Served) {
        self.count(now, |counts| counts.good = counts.good.saturating_add(1));
        self.ttft.record(now, served.ttft.0);
        let tokens = u64::from(served.completion_tokens);
        if tokens > 0 && served.whole.0 > 0 {
            let milli = tokens.saturating_mul(1_000_000) / served.whole.0;
            self.throughput.record(now, milli / THROUGHPUT_UNIT_MILLI);
        }
        if let Some(gap_us) = served.inter_token_us() {
            self.inter_token.record(now, gap_us / INTER_TOKEN_UNIT_US);
        }
        if !self.recent.is_younger_than(REFRESH_MS, now) {
            self.recent = Recent::default();
            self.recent = Recent {
                at: Some(now),
                ttft: self.ttft_ms(Window::FiveMinutes, now),
                throughput: self.throughput_tokens_per_s(Window::FiveMinutes, now),
            };
        }
        if served.conversation == Conversation::Continued {
            let cache = self.cache.at(now);
            cache.continued = cache.continued.saturating_add(u64::from(served.prompt_tokens));
            // A seller that claims more cached tokens than the prompt has is believed for the prompt.
            let cached = served.cached_tokens.min(served.prompt_tokens);
            cache.cached = cache.cached.saturating_add(u64::from(cached));
        }
        if served.tools != ToolCalls::None {
            let tools = self.tools.at(now);
            tools.requests = tools.requests.saturating_add(1);
            let class = match served.tools {
                ToolCalls::None | ToolCalls::Good => return,
                ToolCalls::InvalidJson => &mut tools.invalid_json,
                ToolCalls::UnknownTool => &mut tools.unknown_tool,
                ToolCalls::SchemaMismatch => &mut tools.schema_mismatch,
            };
            *class = class.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::DurationMs;

    fn served(ttft: u64, whole: u64, tokens: u32) -> Served {
        let (ttft, whole) = (DurationMs(ttft), DurationMs(whole));
        Served { ttft, whole, completion_tokens: tokens, ..Served::default() }
    }

    #[test]
    fn speeds_are_measured_over_the_whole_time_and_between_tokens() {
        let mut statistics = Statistics::default();
        statistics.on_served(UnixMs(0), &served(500, 2_500, 101));
        let near = |got: f32, want: f32| assert!((got - want).abs() <= want / 8.0, "{got} is not {want}");
        for window in [Window::FiveMinutes, Window::HalfHour] {
            near(statistics.ttft_ms(window, UnixMs(1)).unwrap().p50, 500.0);
            near(statistics.throughput_tokens_per_s(window, UnixMs(1)).unwrap().p99, 101.0 / 2.5);
            near(statistics.inter_token_ms(window, UnixMs(1)).unwrap().p90, 20.0);
        }
    }

    #[test]
    fn each_window_forgets_in_its_time() {
        let mut statistics = Statistics::default();
        let tools = ToolCalls::InvalidJson;
        let conversation = Conversation::Continued;
        let one = Served { tools, conversation, prompt_tokens: 9, cached_tokens: 12, ..served(5, 6, 2) };
        statistics.on_served(UnixMs(0), &one);
        let minutes = |n: u64| UnixMs(n * MINUTE_MS);
        let counted = |window, now| statistics.counts(window, now).good;
        assert_eq!((counted(UptimeWindow::FiveMinutes, minutes(4)), 1), (1, 1));
        assert_eq!(counted(UptimeWindow::FiveMinutes, minutes(5)), 0);
        assert!(statistics.ttft_ms(Window::FiveMinutes, minutes(5)).is_none());
        assert!(statistics.ttft_ms(Window::HalfHour, minutes(29)).is_some());
        assert!(statistics.ttft_ms(Window::HalfHour, minutes(30)).is_none());
        assert_eq!(statistics.cache_counts(minutes(29)).hit_rate(), Some(1.0));
        assert_eq!(statistics.cache_counts(minutes(30)).hit_rate(), None);
        assert_eq!(statistics.tool_counts(minutes(119)).success(), Some(0.0));
        assert_eq!(statistics.tool_counts(minutes(120)).success(), None);
        assert_eq!(counted(UptimeWindow::Day, minutes(24 * 60 - 1)), 1);
        assert_eq!(counted(UptimeWindow::Day, minutes(24 * 60)), 0);
    }

    #[test]
    fn recent_percentiles_follow_within_their_age() {
        let mut statistics = Statistics::default();
        statistics.on_served(UnixMs(0), &served(100, 200, 9));
        let p50 = |statistics: &Statistics, now| {
            statistics.ttft_ms(Window::FiveMinutes, UnixMs(now)).map(|p| p.p50)
        };
        for _ in 0..9 {
            statistics.on_served(UnixMs(REFRESH_MS - 1), &served(900, 1_000, 9));
        }
        assert!(p50(&statistics, REFRESH_MS).unwrap() < 120.0, "renewed once a second");
        assert!(p50(&statistics, RECENT_MS).unwrap() > 800.0, "added up when too old");
        statistics.on_served(UnixMs(REFRESH_MS), &served(900, 1_000, 9));
        assert!(p50(&statistics, REFRESH_MS).unwrap() > 800.0);
        assert_eq!(p50(&statistics, REFRESH_MS + 5 * MINUTE_MS), None);
    }

    #[test]
    fn uptime_needs_a_hundred_outcomes_that_count() {
        let counts = Counts { good: 94, failed: 4, broken: 1, limited: 500, forbidden: 9 };
        assert_eq!(counts.uptime(), None);
        assert_eq!(Counts { good: 95, ..counts }.uptime(), Some(0.95));
    }
}
