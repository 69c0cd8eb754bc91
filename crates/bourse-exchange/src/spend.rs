//! What a key spent: in all, and in the running day, week and month of UTC.
//!
//! Sums are of settlements, at the ledger's time. They roll over when they are touched or read, never by
//! themselves, so that they follow from the journal alone.

use bourse_ledger::{CodecError, Reader};
use bourse_types::{NanoUsd, UnixMs, UtcDay};
use bourse_wire::funds::{LimitReset, SpendWindows};

/// Four sums in nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    total: u128,
    day: u128,
    week: u128,
    month: u128,
}

impl Sums {
    fn add(&mut self, amount: NanoUsd) {
        for sum in [&mut self.total, &mut self.day, &mut self.week, &mut self.month] {
            *sum = sum.saturating_add(u128::from(amount.0));
        }
    }

    fn window(&self, reset: LimitReset) -> u128 {
        match reset {
            LimitReset::Never => self.total,
            LimitReset::Daily => self.day,
            LimitReset::Weekly => self.week,
            LimitReset::Monthly => self.month,
        }
    }

    fn shown(&self) -> SpendWindows {
        let [total, daily, weekly, monthly] = [self.total, self.day, self.week, self.month].map(nano);
        SpendWindows { total, daily, weekly, monthly }
    }
}

/// Spending of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spent {
    /// The day that the sums stand for.
    day: UtcDay,
    /// Charges.
    credits: Sums,
    /// What the buyer's own sellers billed, at list price.
    byok: Sums,
    /// When the last was settled; 0: none yet.
    last: UnixMs,
}

impl Spent {
    /// Adds one settlement.
    pub(crate) fn add(&mut self, cost: NanoUsd, byok: NanoUsd, now: UnixMs) {
        self.roll(UtcDay::of(now));
        self.last = self.last.max(now);
        self.credits.add(cost);
        if byok > NanoUsd::ZERO {
            self.byok.add(byok);
        }
    }

    /// The sums as of `now`.
    pub(crate) fn at(mut self, now: UnixMs) -> Self {
        self.roll(UtcDay::of(now));
        self
    }

    /// What counts towards a limit in the window that holds `now`.
    pub(crate) fn in_window(self, reset: LimitReset, includes_byok: bool, now: UnixMs) -> u128 {
        let spent = self.at(now);
        let byok = if includes_byok { spent.byok.window(reset) } else { 0 };
        spent.credits.window(reset).saturating_add(byok)
    }

    /// Charges ever.
    pub(crate) fn total(&self) -> u128 {
        self.credits.total
    }

    /// When it last bought.
    pub(crate) fn last_used(&self) -> Option<UnixMs> {
        (self.last != UnixMs::default()).then_some(self.last)
    }

    /// Charges, and what own sellers billed, as the port shows them.
    pub(crate) fn shown(self, now: UnixMs) -> (SpendWindows, SpendWindows) {
        let spent = self.at(now);
        (spent.credits.shown(), spent.byok.shown())
    }

    /// The sums only move forward: an earlier `day` counts as the latest one.
    fn roll(&mut self, day: UtcDay) {
        if day <= self.day {
            return;
        }
        for sums in [&mut self.credits, &mut self.byok] {
            sums.day = 0;
            if day.week_start() != self.day.week_start() {
                sums.week = 0;
            }
            if day.month_start() != self.day.month_start() {
                sums.month = 0;
            }
        }
        self.day = day;
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.day.0.to_le_bytes());
        out.extend_from_slice(&self.last.0.to_le_bytes());
        for sums in [&self.credits, &self.byok] {
            for sum in [sums.total, sums.day, sums.week, sums.month] {
                out.extend_from_slice(&sum.to_le_bytes());
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (day, last) = (UtcDay(r.u32()?), UnixMs(r.u64()?));
        let mut sums = || Ok(Sums { total: r.u128()?, day: r.u128()?, week: r.u128()?, month: r.u128()? });
        Ok(Self { day, credits: sums()?, byok: sums()?, last })
    }
}

/// List prices that an account's own sellers billed in one month, all its keys together: what the free
/// allowance is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ByokMonth {
    month: UtcDay,
    sum: u128,
}

impl ByokMonth {
    pub(crate) fn add(&mut self, amount: NanoUsd, now: UnixMs) {
        let month = UtcDay::of(now).month_start();
        if month > self.month {
            *self = Self { month, sum: 0 };
        }
        self.sum = self.sum.saturating_add(u128::from(amount.0));
    }

    /// The sum of the month that holds `now`.
    pub(crate) fn at(&self, now: UnixMs) -> u128 {
        if UtcDay::of(now).month_start() > self.month { 0 } else { self.sum }
    }

    /// The month as a day number, and the sum: for the snapshot.
    pub(crate) fn parts(self) -> (u32, u128) {
        (self.month.0, self.sum)
    }

    pub(crate) fn of_parts(month: u32, sum: u128) -> Self {
        Self { month: UtcDay(month), sum }
    }
}

/// A `u128` sum in the port's unit; saturates at 18 billion dollars.
pub(crate) fn nano(sum: u128) -> NanoUsd {
    NanoUsd(u64::try_from(sum).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_begin_anew_with_their_day_week_and_month() {
        let mut spent = Spent::default();
        // 2026-11-28 is a Saturday.
        let steps = [
            ("2026-11-28T23:59:59Z", [1, 1, 1, 1]),
            ("2026-11-29T00:00:00Z", [2, 1, 2, 2]),
            ("2026-11-30T08:00:00Z", [3, 1, 1, 3]),
            ("2026-12-01T00:00:00Z", [4, 1, 2, 1]),
            ("2026-11-30T00:00:00Z", [5, 2, 3, 2]),
            ("2027-12-06T00:00:00Z", [6, 1, 1, 1]),
        ];
        for (now, want) in steps {
            let now = UnixMs::parse_iso(now).unwrap();
            spent.add(NanoUsd(1), NanoUsd(10), now);
            let (credits, byok) = spent.shown(now);
            let shown = |w: SpendWindows| [w.total, w.daily, w.weekly, w.monthly].map(|sum| sum.0);
            assert_eq!(shown(credits), want, "{now:?}");
            assert_eq!(shown(byok), want.map(|sum| sum * 10), "{now:?}");
            assert_eq!(spent.in_window(LimitReset::Weekly, true, now), u128::from(want[2] * 11));
        }
        let later = UnixMs::parse_iso("2027-12-07").unwrap();
        assert_eq!(spent.in_window(LimitReset::Daily, true, later), 0, "reading rolls over, too");
        assert_eq!(spent.in_window(LimitReset::Never, false, later), 6);
        let mut bytes = Vec::new();
        spent.write(&mut bytes);
        assert_eq!(Spent::read(&mut Reader::new(&bytes)), Ok(spent));
    }

    #[test]
    fn the_free_allowance_is_of_one_month() {
        let mut month = ByokMonth::default();
        let at = |text: &str| UnixMs::parse_iso(text).unwrap();
        month.add(NanoUsd(5), at("2026-11-30"));
        month.add(NanoUsd(6), at("2026-11-30"));
        assert_eq!((month.at(at("2026-11-30")), month.at(at("2026-12-01"))), (11, 0));
        month.add(NanoUsd(7), at("2026-12-01"));
        assert_eq!(month.at(at("2026-12-31")), 7);
    }
}
