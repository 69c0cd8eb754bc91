//! Activity: settled requests summed by day, account, key, model and seller.
//!
//! A projection like the rest of the index: made off the hot path, free to lose. The running day and
//! [`ACTIVITY_DAYS`] completed ones are kept. An account has at most [`ACTIVITY_ROWS_PER_DAY_MAX`] rows of one
//! day; what finds no row of its own goes to one row more, under [`ACTIVITY_OTHER`].

use bourse_types::{Digest32, ModelSlug, NanoUsd, SellerName, UtcDay};
use bourse_wire::funds::{ACTIVITY_DAYS, ACTIVITY_OTHER, ActivityRow, ActivitySums, GenerationNote};
use bourse_wire::receipt::Receipt;
use std::collections::BTreeMap;

/// What names a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ActivityKey {
    pub(crate) day: UtcDay,
    pub(crate) account: Digest32,
    pub(crate) key: Digest32,
    pub(crate) model: ModelSlug,
    pub(crate) seller: SellerName,
}

impl ActivityKey {
    /// The row for what found no row of its own.
    pub(crate) fn other(&self) -> Option<Self> {
        Some(Self {
            day: self.day,
            account: self.account,
            key: Digest32::default(),
            model: ModelSlug::parse(ACTIVITY_OTHER).ok()?,
            seller: SellerName::parse(ACTIVITY_OTHER).ok()?,
        })
    }
}

/// One request that a seller answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) key: ActivityKey,
    pub(crate) sums: ActivitySums,
}

impl Sale {
    /// What a receipt and its note say; none when no seller answered. The day is still to be told.
    pub(crate) fn of(receipt: &Receipt, note: &GenerationNote) -> Option<Self> {
        let key = ActivityKey {
            day: UtcDay::default(),
            account: receipt.account_digest,
            key: receipt.key_digest,
            model: receipt.model.clone(),
            seller: receipt.seller.clone()?,
        };
        let sums = ActivitySums {
            requests: 1,
            prompt_tokens: receipt.usage_billed.prompt.0,
            completion_tokens: receipt.usage_billed.completion.0,
            reasoning_tokens: note.reasoning_tokens.map_or(0, |tokens| tokens.0),
            cost: receipt.charge.total,
            byok_cost: note.byok_cost.unwrap_or(NanoUsd::ZERO),
        };
        Some(Self { key, sums })
    }

    /// The same, settled on this day.
    pub(crate) fn on(&self, day: UtcDay) -> Self {
        Self { key: ActivityKey { day, ..self.key.clone() }, sums: self.sums }
    }
}

/// Adds one sale to sums by row.
pub(crate) fn add_sale(rows: &mut BTreeMap<ActivityKey, ActivitySums>, sale: &Sale) {
    match rows.get_mut(&sale.key) {
        Some(sums) => sums.add(&sale.sums),
        None => drop(rows.insert(sale.key.clone(), sale.sums)),
    }
}

/// The first day that is kept when `newest` is running.
pub(crate) fn first_kept(newest: UtcDay) -> UtcDay {
    newest.minus(ACTIVITY_DAYS)
}

/// Which rows of the store are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActivityRange {
    pub(crate) account: Digest32,
    pub(crate) key: Option<Digest32>,
    pub(crate) first: UtcDay,
    pub(crate) last: UtcDay,
}

impl ActivityRange {
    pub(crate) fn holds(&self, key: &ActivityKey) -> bool {
        key.account == self.account
            && self.key.is_none_or(|wanted| wanted == key.key)
            && (self.first..=self.last).contains(&key.day)
    }
}

/// Rows as they are shown: keys summed, by day, then model, then seller.
pub(crate) fn summed(rows: impl IntoIterator<Item = (ActivityKey, ActivitySums)>) -> Vec<ActivityRow> {
    let mut shown: BTreeMap<_, ActivitySums> = BTreeMap::new();
    for (key, sums) in rows {
        shown.entry((key.day, key.model, key.seller)).or_default().add(&sums);
    }
    let row = |((day, model, seller), sums)| ActivityRow { day, model, seller, sums };
    shown.into_iter().map(row).collect()
}

/// Rows in memory, with the same bounds as those on disk.
#[derive(Debug, Default)]
pub(crate) struct MemoryActivity(BTreeMap<ActivityKey, ActivitySums>);

impl MemoryActivity {
    pub(crate) fn add(&mut self, batch: &BTreeMap<ActivityKey, ActivitySums>) {
        for (key, sums) in batch {
            let is_full = !self.0.contains_key(key) && self.rows_of(key) >= super::ACTIVITY_ROWS_MAX;
            let place = if is_full { key.other() } else { Some(key.clone()) };
            if let Some(place) = place {
                self.0.entry(place).or_default().add(sums);
            }
        }
        if let Some((newest, _)) = batch.last_key_value() {
            let first = first_kept(newest.day);
            self.0.retain(|key, _| key.day >= first);
        }
    }

    pub(crate) fn read(&self, range: &ActivityRange) -> Vec<(ActivityKey, ActivitySums)> {
        let wanted = self.0.iter().filter(|(key, _)| range.holds(key));
        wanted.map(|(key, sums)| (key.clone(), *sums)).collect()
    }

    fn rows_of(&self, key: &ActivityKey) -> usize {
        self.0.keys().filter(|k| (k.day, k.account) == (key.day, key.account)).count()
    }
}
