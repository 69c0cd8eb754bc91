//! Every family of metrics: its name, what kind it is, its labels, what it says.
//!
//! One table, so that the exposition, the page for operators and the tests cannot drift apart. Names are
//! `bourse_<noun>_<unit>[_total]`. Labels come from closed sets; sellers and models, which do not, are bounded by
//! [`OFFERS_LABELLED_MAX`](super::OFFERS_LABELLED_MAX). Nothing here is told by buyer, key or account.

/// How a family is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number that only grows.
    Counter,
    /// A number as it is now.
    Gauge,
    /// Counts by the size of what was measured.
    Histogram,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

const fn family(
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    family(Kind::Counter, name, labels, help)
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    family(Kind::Gauge, name, labels, help)
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    family(Kind::Histogram, name, &[], help)
}

/// The labels of what is told by offer.
const OFFER: &[&str] = &["seller", "model"];

pub(super) const REQUESTS: Family =
    counter("bourse_requests_total", &["front", "outcome"], "Generations that ended, by API and by how.");
pub(super) const ANSWERS: Family =
    counter("bourse_answers_total", &["class"], "HTTP answers of every endpoint, by class of status.");
pub(super) const REQUESTS_OPEN: Family =
    gauge("bourse_requests_open", &[], "Generations that have begun and not ended.");
pub(super) const STREAMS_OPEN: Family =
    gauge("bourse_streams_open", &[], "Streams that have begun to be answered and not ended.");
pub(super) const REQUEST_DURATION: Family = histogram(
    "bourse_request_duration_seconds",
    "From the arrival of a generation's head to the end of its answer, where money was held for it.",
);
pub(super) const FIRST_CONTENT: Family = histogram(
    "bourse_first_content_seconds",
    "From the arrival of a stream's head to its first content, all attempts included.",
);
pub(super) const OUTPUT_TOKEN: Family = histogram(
    "bourse_output_token_seconds",
    "Mean time per generated token of a stream after its first content.",
);
pub(super) const OVERHEAD: Family = histogram(
    "bourse_overhead_seconds",
    "The gateway's own time: from the last byte of a request to the first seller being asked.",
);
pub(super) const SETTLEMENTS: Family =
    counter("bourse_settlements_total", &["finish"], "Settled generations, by how they finished.");
pub(super) const SETTLE_FAILURES: Family =
    counter("bourse_settle_failures_total", &[], "Settlements that the exchange refused: look at the log.");
pub(super) const TOKENS: Family = counter(
    "bourse_tokens_total",
    &["kind"],
    "Tokens billed; cached_prompt and cache_write are parts of prompt.",
);
pub(super) const CHARGED: Family =
    counter("bourse_charged_nanodollars_total", &[], "Nano-dollars charged to all buyers together.");
pub(super) const DOUBTS: Family =
    counter("bourse_usage_doubts_total", &["doubt"], "Usages that sellers claimed and that were odd.");
pub(super) const RECOUNTED: Family = counter(
    "bourse_recounted_tokens_total",
    &["seller", "model", "count"],
    "Tokens of whole answers as their sellers claimed them and as the market counted them; where both, prompt and completion.",
);
pub(super) const RECOUNTS_EXCEEDED: Family = counter(
    "bourse_recounts_exceeded_total",
    OFFER,
    "Whole answers whose claim was beyond the market's count: the seller's share waits in suspense.",
);
pub(super) const ATTEMPTS_STARTED: Family = counter(
    "bourse_attempts_started_total",
    &["reason"],
    "Times that a seller was asked: first, as a retry, as a hedge, or to continue a stream that broke.",
);
pub(super) const ATTEMPTS: Family = counter(
    "bourse_attempts_total",
    &["seller", "model", "outcome"],
    "Attempts that ended, by offer and by what the market learned of the seller.",
);
pub(super) const ATTEMPT_FAILURES: Family =
    counter("bourse_attempt_failures_total", &["class"], "Attempts that failed before any content, by why.");
pub(super) const HEDGES_WON: Family =
    counter("bourse_hedges_won_total", &[], "Hedges that answered before the seller that had stalled.");
pub(super) const CONTINUATIONS: Family =
    counter("bourse_continuations_total", &[], "Broken streams that another seller went on with.");
pub(super) const CONNECTIONS_REFUSED: Family =
    counter("bourse_connections_refused_total", &[], "Connections of buyers beyond the bound.");
pub(super) const OFFERS: Family = gauge("bourse_offers", &[], "Offers in the market.");
pub(super) const NODES: Family = gauge("bourse_nodes", &[], "Connected nodes.");
pub(super) const OFFER_UPTIME: Family = gauge(
    "bourse_offer_uptime_ratio",
    OFFER,
    "Share of good answers in the last five minutes; absent below a hundred.",
);
pub(super) const OFFER_FIRST_CONTENT: Family = gauge(
    "bourse_offer_first_content_seconds",
    &["seller", "model", "quantile"],
    "Time to the first content in the last five minutes.",
);
pub(super) const OFFER_THROUGHPUT: Family = gauge(
    "bourse_offer_throughput_tokens_per_second",
    OFFER,
    "Median of generated tokens per second from dispatch to end in the last five minutes.",
);
pub(super) const OFFER_BREAKER: Family =
    gauge("bourse_offer_breaker_state", OFFER, "0 closed, 1 half open (one probe at a time), 2 open.");
pub(super) const OFFER_IN_FLIGHT: Family =
    gauge("bourse_offer_in_flight_requests", OFFER, "Attempts started and not ended.");
pub(super) const OFFER_IN_FLIGHT_MAX: Family = gauge(
    "bourse_offer_in_flight_max_requests",
    OFFER,
    "Attempts in flight at which the seller begins to answer 429; absent where it never did.",
);
pub(super) const DURABLE_WAITING: Family =
    gauge("bourse_durable_waiting_answers", &[], "Answers that wait for the disk.");
pub(super) const DECISIONS_PENDING: Family =
    gauge("bourse_decisions_pending_bytes", &[], "Bytes of the journal of decisions that wait for the disk.");
pub(super) const DECISIONS_DROPPED: Family = counter(
    "bourse_decisions_dropped_bytes_total",
    &[],
    "Bytes of the journal of decisions that were dropped because the disk was too slow.",
);

/// All families, in the order in which they are written.
#[cfg(test)]
pub(crate) const ALL: [&Family; 32] = [
    &REQUESTS,
    &ANSWERS,
    &REQUESTS_OPEN,
    &STREAMS_OPEN,
    &REQUEST_DURATION,
    &FIRST_CONTENT,
    &OUTPUT_TOKEN,
    &OVERHEAD,
    &SETTLEMENTS,
    &SETTLE_FAILURES,
    &TOKENS,
    &CHARGED,
    &DOUBTS,
    &ATTEMPTS_STARTED,
    &ATTEMPTS,
    &ATTEMPT_FAILURES,
    &HEDGES_WON,
    &CONTINUATIONS,
    &RECOUNTED,
    &RECOUNTS_EXCEEDED,
    &CONNECTIONS_REFUSED,
    &OFFERS,
    &NODES,
    &OFFER_UPTIME,
    &OFFER_FIRST_CONTENT,
    &OFFER_THROUGHPUT,
    &OFFER_BREAKER,
    &OFFER_IN_FLIGHT,
    &OFFER_IN_FLIGHT_MAX,
    &DURABLE_WAITING,
    &DECISIONS_PENDING,
    &DECISIONS_DROPPED,
];
