//! The seller's prefix cache: which part of a prompt it has read before, and for how long it remembers.
//!
//! Two ways, as in the field. *Automatic* (OpenAI, Gemini): every prefix that is long enough is kept, the
//! longest known one is read. *Marked* (Anthropic): only prefixes that end in a mark are kept, each for as
//! long as its mark says; what is written costs extra, so it is told as well. Time comes in.

use super::prompt::Prefix;
use std::collections::HashMap;
use std::time::Duration;

/// Prefixes that a seller remembers; the one that would expire first goes first.
pub const CACHE_PREFIXES_MAX: usize = 16_384;

/// How a seller caches prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLaw {
    /// How long an automatic prefix is remembered after its last use.
    pub ttl: Duration,
    /// Shortest prefix that is kept, in tokens.
    pub tokens_min: u64,
}

/// Which prefixes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheMode {
    Automatic,
    Marked,
}

/// What one prompt read from the cache and wrote into it, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CacheUse {
    pub(super) read: u64,
    pub(super) written: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    expires: Duration,
    ttl: Duration,
}

/// What a seller remembers.
#[derive(Debug, Default)]
pub(super) struct PrefixCache(HashMap<u64, Entry>);

impl PrefixCache {
    /// Reads a prompt: the longest remembered prefix is refreshed, and what may be kept is kept.
    pub(super) fn read(
        &mut self,
        prefixes: &[Prefix],
        mode: CacheMode,
        law: CacheLaw,
        now: Duration,
    ) -> CacheUse {
        let keeps = |prefix: &&Prefix| {
            prefix.tokens >= law.tokens_min && (mode == CacheMode::Automatic || prefix.mark.is_some())
        };
        let Some(last) = prefixes.iter().rev().find(keeps) else { return CacheUse::default() };
        let alive = |prefix: &&Prefix| {
            prefix.tokens <= last.tokens && self.0.get(&prefix.digest).is_some_and(|e| e.expires > now)
        };
        let read = prefixes.iter().rev().find(alive).map_or(0, |prefix| prefix.tokens);
        for prefix in prefixes.iter().filter(keeps) {
            let ttl = prefix.mark.filter(|_| mode == CacheMode::Marked).unwrap_or(law.ttl);
            self.keep(prefix.digest, ttl, now);
        }
        CacheUse { read, written: last.tokens.saturating_sub(read) }
    }

    fn keep(&mut self, digest: u64, ttl: Duration, now: Duration) {
        if self.0.len() >= CACHE_PREFIXES_MAX && !self.0.contains_key(&digest) {
            self.0.retain(|_, entry| entry.expires > now);
            let first = self.0.iter().min_by_key(|(_, entry)| entry.expires).map(|(digest, _)| *digest);
            if let Some(first) = first.filter(|_| self.0.len() >= CACHE_PREFIXES_MAX) {
                self.0.remove(&first);
            }
        }
        let kept = self.0.entry(digest).or_insert(Entry { expires: now, ttl });
        kept.ttl = kept.ttl.max(ttl);
        kept.expires = now + kept.ttl;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const LAW: CacheLaw = CacheLaw { ttl: MINUTE, tokens_min: 10 };

    fn prefix(digest: u64, tokens: u64, mark: Option<Duration>) -> Prefix {
        Prefix { digest, tokens, mark }
    }

    #[test]
    fn automatic_prefixes_are_read_until_they_expire() {
        let mut cache = PrefixCache::default();
        let short = [prefix(1, 9, None)];
        assert_eq!(cache.read(&short, CacheMode::Automatic, LAW, MINUTE), CacheUse::default());
        let long = [prefix(1, 9, None), prefix(2, 10, None), prefix(3, 30, None)];
        let uses = |cache: &mut PrefixCache, now| {
            let used = cache.read(&long, CacheMode::Automatic, LAW, now);
            (used.read, used.written)
        };
        assert_eq!(uses(&mut cache, MINUTE), (0, 30));
        assert_eq!(uses(&mut cache, MINUTE), (30, 0));
        let grown = [&long[..], &[prefix(4, 50, None)]].concat();
        let used = cache.read(&grown, CacheMode::Automatic, LAW, MINUTE);
        assert_eq!(used, CacheUse { read: 30, written: 20 });
        assert_eq!(uses(&mut cache, MINUTE * 2), (0, 30), "a minute later nothing is left");
    }

    #[test]
    fn marked_prefixes_only_and_for_as_long_as_the_mark_says() {
        let mut cache = PrefixCache::default();
        let parts = [prefix(1, 20, Some(MINUTE * 60)), prefix(2, 40, Some(MINUTE * 5)), prefix(3, 50, None)];
        let uses = |cache: &mut PrefixCache, now| {
            let used = cache.read(&parts, CacheMode::Marked, LAW, now);
            (used.read, used.written)
        };
        assert_eq!(uses(&mut cache, MINUTE), (0, 40));
        assert_eq!(uses(&mut cache, MINUTE * 2), (40, 0));
        assert_eq!(uses(&mut cache, MINUTE * 8), (20, 20), "the short mark has expired, the long has not");
        let unmarked = [prefix(1, 20, None)];
        assert_eq!(cache.read(&unmarked, CacheMode::Marked, LAW, MINUTE * 9), CacheUse::default());
    }

    #[test]
    fn a_full_cache_forgets_what_expires_first() {
        let mut cache = PrefixCache::default();
        let read = |cache: &mut PrefixCache, digest: u64| {
            let now = Duration::from_millis(digest);
            cache.read(&[prefix(digest, 10, None)], CacheMode::Automatic, LAW, now).read
        };
        for digest in 0..CACHE_PREFIXES_MAX as u64 {
            assert_eq!(read(&mut cache, digest), 0);
        }
        let again = |cache: &PrefixCache, digest: u64| cache.0.contains_key(&digest);
        assert!(again(&cache, 0) && cache.0.len() == CACHE_PREFIXES_MAX);
        read(&mut cache, CACHE_PREFIXES_MAX as u64);
        assert!(!again(&cache, 0) && again(&cache, 1) && cache.0.len() == CACHE_PREFIXES_MAX);
    }
}
