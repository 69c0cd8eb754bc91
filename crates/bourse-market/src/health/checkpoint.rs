//! The canonical bytes of the whole health, for checkpoints of a journal.
//!
//! Offers of which nothing is known take no bytes, and neither do empty bins of a histogram, so that a
//! checkpoint is as large as what was learned: about a kilobyte for a busy offer.

use super::breaker::{Bucket, Fuse};
use super::cap::Cap;
use super::histogram::{BINS, Histogram, Percentiles};
use super::outcome::{Conversation, Outcome, Served, ToolCalls};
use super::peers::{Pace, Peers};
use super::quality::Bars;
use super::ring::Ring;
use super::statistics::{CacheCounts, Counts, Recent, Speeds, Statistics, ToolCounts};
use super::vital::{Quality, Standing, Vital};
use super::vitals::Vitals;
use super::{Cold, HealthTable};
use crate::canonical::{Bytes, Canonical, CanonicalError, canonical_enum, canonical_struct, put_len};

canonical_enum!(Quality { Good = 0, InsufficientData = 1, Deprioritised = 2 });
canonical_enum!(Standing { Normal = 0, Degraded = 1, LastResort = 2 });
canonical_enum!(Conversation { New = 0, Continued = 1 });
canonical_enum!(ToolCalls { None = 0, Good = 1, InvalidJson = 2, UnknownTool = 3, SchemaMismatch = 4 });
canonical_struct!(Served {
    ttft,
    whole,
    prompt_tokens,
    cached_tokens,
    completion_tokens,
    conversation,
    tools
});
canonical_struct!(Vital {
    rests_until,
    in_flight,
    in_flight_max,
    cached_share,
    burden,
    ttft_ms,
    quality,
    standing,
    opened,
    reserved
});
canonical_struct!(Bucket { outcomes, failures });
canonical_struct!(Fuse {
    failures_in_a_row,
    successes_in_a_row,
    openings,
    limited_in_a_row,
    open_until,
    paused_until,
    bucket_start,
    current,
    previous
});
canonical_struct!(Cap { load, step, length_ms, wait, successes, draining, is_probing });
canonical_struct!(Pace { inter_token_ms, tokens_per_s, timed });
canonical_struct!(Counts { good, failed, broken, limited, forbidden });
canonical_struct!(ToolCounts { requests, invalid_json, unknown_tool, schema_mismatch });
canonical_struct!(CacheCounts { continued, cached });
canonical_struct!(Speeds { minutes, half_hour });
canonical_struct!(Percentiles { p50, p75, p90, p99 });
canonical_struct!(Recent { at, ttft, throughput });
canonical_struct!(Statistics {
    ttft,
    throughput,
    inter_token,
    minutes,
    half_hour,
    day,
    tools,
    cache,
    recent
});
canonical_struct!(Cold { fuse, cap, pace, statistics });
canonical_struct!(Bars { tool_success, throughput, until });
canonical_struct!(Peers { active, reference_ms, looked_at, cursor, bars });

impl Canonical for Outcome {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success(served) => {
                out.push(0);
                served.put(out);
            }
            Self::Failure => out.push(1),
            Self::Broken => out.push(2),
            Self::RateLimited { retry_after } => {
                out.push(3);
                retry_after.put(out);
            }
            Self::Forbidden => out.push(4),
            Self::Neutral => out.push(5),
        }
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        match u8::read(from)? {
            0 => Served::read(from).map(Self::Success),
            1 => Ok(Self::Failure),
            2 => Ok(Self::Broken),
            3 => Ok(Self::RateLimited { retry_after: Canonical::read(from)? }),
            4 => Ok(Self::Forbidden),
            5 => Ok(Self::Neutral),
            _ => Err(CanonicalError::Value("Outcome")),
        }
    }
}

/// The bins that are not empty, each by its number and count.
impl Canonical for Histogram {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.0.iter().filter(|count| **count > 0).count() as u8);
        for (bin, count) in (0u8..).zip(self.0).filter(|(_, count)| *count > 0) {
            bin.put(out);
            count.put(out);
        }
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        const _: () = assert!(BINS <= u8::MAX as usize);
        let mut histogram = Self::default();
        for _ in 0..u8::read(from)? {
            let bin = usize::from(u8::read(from)?);
            let count = histogram.0.get_mut(bin).ok_or(CanonicalError::Value("bin"))?;
            *count = u16::read(from)?;
        }
        Ok(histogram)
    }
}

impl<T: Canonical + Default + Copy, const N: usize, const LEN_MS: u64> Canonical for Ring<T, N, LEN_MS> {
    fn put(&self, out: &mut Vec<u8>) {
        let (newest, buckets) = self.parts();
        newest.put(out);
        for bucket in buckets {
            bucket.put(out);
        }
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        let newest = u64::read(from)?;
        let mut buckets = [T::default(); N];
        for bucket in &mut buckets {
            *bucket = T::read(from)?;
        }
        Ok(Self::from_parts(newest, buckets))
    }
}

/// Number of offers, then each that is known with its position; the same for models.
impl Canonical for HealthTable {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { vitals, cold, models } = self;
        let vitals = vitals.as_slice();
        put_len(vitals.len(), out);
        let known =
            |(vital, cold): &(&Vital, &Option<Box<Cold>>)| cold.is_some() || **vital != Vital::UNKNOWN;
        put_len(vitals.iter().zip(cold).filter(known).count(), out);
        for (at, (vital, cold)) in (0u32..).zip(vitals.iter().zip(cold)).filter(|(_, pair)| known(pair)) {
            at.put(out);
            vital.put(out);
            cold.is_some().put(out);
            if let Some(cold) = cold {
                cold.put(out);
            }
        }
        put_len(models.len(), out);
        for (first, peers) in models {
            first.put(out);
            peers.is_some().put(out);
            if let Some(peers) = peers {
                peers.put(out);
            }
        }
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        let count = u32::read(from)? as usize;
        if count > crate::snapshot::OFFERS_MAX {
            return Err(CanonicalError::Value("number of offers"));
        }
        let mut table = Self { vitals: Vitals::unknown(count), cold: vec![None; count], models: Vec::new() };
        for _ in 0..from.len()? {
            let at = u32::read(from)? as usize;
            let cold = table.cold.get_mut(at).ok_or(CanonicalError::Value("position"))?;
            table.vitals.set(at, Vital::read(from)?);
            *cold = Option::<Cold>::read(from)?.map(Box::new);
        }
        for _ in 0..from.len()? {
            let first = u32::read(from)?;
            let is_next = table.models.last().map_or(first == 0, |(before, _)| *before < first);
            if !is_next || first as usize >= count {
                return Err(CanonicalError::Value("model"));
            }
            let peers = Option::<Peers>::read(from)?.map(Box::new);
            let fits =
                peers.as_ref().is_none_or(|peers| peers.active.iter().all(|at| (*at as usize) < count));
            if !fits {
                return Err(CanonicalError::Value("position"));
            }
            table.models.push((first, peers));
        }
        Ok(table)
    }
}
