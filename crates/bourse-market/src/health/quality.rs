//! Tiers of quality: which offers answer well, as far as programs can tell.
//!
//! Two signals: how many requests that ended with tool calls had good ones, and throughput. An offer is
//! deprioritised when it is below a bar: the median of its peers less [`TOOL_SIGMAS`] or
//! [`THROUGHPUT_SIGMAS`] deviations, where a deviation is 1.4826 times the median distance from the
//! median, which a few outliers do not move. No bar without [`PEERS_MIN`] offers that have enough data.
//!
//! Bars are frozen: computed once, then kept for [`BAR_LIFE_MS`]. While they stand, nothing that one
//! seller does moves the tier of another; without that, a seller could push its rivals below a bar by
//! answering better for a while, or hide among bad ones that it runs itself.

use super::vital::Quality;
use bourse_types::UnixMs;

/// Offers with enough data below which there are no bars.
pub(super) const PEERS_MIN: usize = 4;
/// Outcomes in the last half hour below which an offer's quality is not judged.
pub(super) const QUALITY_REQUESTS_MIN: u32 = 100;
/// Requests with tool calls in the last two hours below which it is not judged.
pub(super) const QUALITY_TOOL_REQUESTS_MIN: u32 = 200;
/// Deviations below the median at which tool calls are too bad.
pub(super) const TOOL_SIGMAS: f32 = 2.0;
/// Deviations below the median at which throughput is too low.
pub(super) const THROUGHPUT_SIGMAS: f32 = 1.5;
/// How long bars stand, in milliseconds: 21 days.
pub(super) const BAR_LIFE_MS: u64 = 21 * 86_400_000;
/// Deviation of a normal distribution over its median distance.
const MAD_TO_SIGMA: f32 = 1.4826;
/// Smallest deviation of tool success: peers that are all alike do not make a hair's breadth a fault.
const TOOL_SIGMA_MIN: f32 = 0.01;
/// Smallest deviation of throughput, as a share of the median.
const THROUGHPUT_SIGMA_MIN: f32 = 0.05;

/// What an offer shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Showing {
    /// Outcomes in the last half hour.
    pub(super) requests: u32,
    /// Requests with tool calls in the last two hours.
    pub(super) tool_requests: u32,
    /// Share of these whose calls were good.
    pub(super) tool_success: f32,
    /// Output tokens per second; 0 where it was not measured, and then it is not judged.
    pub(super) throughput: f32,
}

impl Showing {
    pub(super) fn is_enough(&self) -> bool {
        self.requests >= QUALITY_REQUESTS_MIN && self.tool_requests >= QUALITY_TOOL_REQUESTS_MIN
    }
}

/// The bars of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bars {
    /// Lowest share of requests with good tool calls, 0 to 1.
    pub tool_success: f32,
    /// Lowest throughput, in output tokens per second.
    pub throughput: f32,
    /// When they are computed anew.
    pub until: UnixMs,
}

impl Bars {
    /// Bars from what peers with enough data show; none with fewer than [`PEERS_MIN`].
    pub(super) fn of(peers: &[Showing], now: UnixMs) -> Option<Self> {
        if peers.len() < PEERS_MIN {
            return None;
        }
        let bar = |values: Vec<f32>, sigmas: f32, sigma_min: fn(f32) -> f32| {
            let mut values = values;
            let middle = median(&mut values);
            for value in &mut values {
                *value = (*value - middle).abs();
            }
            middle - sigmas * (MAD_TO_SIGMA * median(&mut values)).max(sigma_min(middle))
        };
        let tools = peers.iter().map(|peer| peer.tool_success).collect();
        let throughputs: Vec<f32> = peers.iter().map(|p| p.throughput).filter(|t| *t > 0.0).collect();
        let throughput = if throughputs.len() < PEERS_MIN {
            0.0
        } else {
            bar(throughputs, THROUGHPUT_SIGMAS, |middle| THROUGHPUT_SIGMA_MIN * middle)
        };
        Some(Self {
            tool_success: bar(tools, TOOL_SIGMAS, |_| TOOL_SIGMA_MIN),
            throughput,
            until: now.plus(bourse_types::DurationMs(BAR_LIFE_MS)),
        })
    }
}

/// The tier of what is shown, under the bars of its model.
pub(super) fn tier(showing: &Showing, bars: Option<&Bars>) -> Quality {
    if !showing.is_enough() {
        return Quality::InsufficientData;
    }
    let is_below = |bars: &Bars| {
        let is_slow = showing.throughput > 0.0 && showing.throughput < bars.throughput;
        showing.tool_success < bars.tool_success || is_slow
    };
    if bars.is_some_and(is_below) { Quality::Deprioritised } else { Quality::Good }
}

/// The middle value, or the mean of the two middle ones; 0 of none.
fn median(values: &mut [f32]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => 0.0,
        _ if values.len() % 2 == 1 => values[middle],
        _ => f32::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(tool_success: f32, throughput: f32) -> Showing {
        Showing { requests: 100, tool_requests: 200, tool_success, throughput }
    }

    const NOW: UnixMs = UnixMs(7);

    #[test]
    fn who_is_far_below_the_median_is_deprioritised() {
        let peers = [shows(0.99, 100.0), shows(0.98, 90.0), shows(0.97, 110.0), shows(0.60, 20.0)];
        let bars = Bars::of(&peers, NOW).unwrap();
        let tiers: Vec<_> = peers.iter().map(|peer| tier(peer, Some(&bars))).collect();
        assert_eq!(tiers, [Quality::Good, Quality::Good, Quality::Good, Quality::Deprioritised]);
        assert_eq!(tier(&shows(0.99, 20.0), Some(&bars)), Quality::Deprioritised);
    }

    #[test]
    fn three_peers_make_no_bar() {
        let peers = [shows(0.99, 100.0), shows(0.98, 90.0), shows(0.1, 1.0)];
        assert_eq!(Bars::of(&peers, NOW), None);
        assert_eq!(tier(&peers[2], None), Quality::Good);
    }

    #[test]
    fn too_little_data_is_its_own_tier() {
        let few = Showing { requests: 99, ..shows(0.0, 0.0) };
        assert_eq!(tier(&few, None), Quality::InsufficientData);
        let few = Showing { tool_requests: 199, ..shows(0.0, 0.0) };
        assert_eq!(tier(&few, None), Quality::InsufficientData);
    }

    #[test]
    fn equal_peers_do_not_make_a_hairs_breadth_a_fault() {
        let peers = [shows(0.99, 100.0); 5];
        let bars = Bars::of(&peers, NOW).unwrap();
        assert_eq!(tier(&shows(0.98, 96.0), Some(&bars)), Quality::Good);
        assert_eq!(tier(&shows(0.96, 96.0), Some(&bars)), Quality::Deprioritised);
        assert_eq!(bars.until, UnixMs(7 + BAR_LIFE_MS));
    }
}
