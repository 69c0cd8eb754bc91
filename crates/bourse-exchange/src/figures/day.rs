//! The figures of one day, and how they are told.

use super::FIGURES_ROWS_MAX;
use super::hours::Attended;
use crate::core::Split;
use crate::spend::nano;
use bourse_types::{Gift, Giver, NanoUsd, Usage, UtcDay};
use bourse_wire::api::{MarketFigures, ModelFigures, SellerFigures, Shares, Usd, Used};
use bourse_wire::funds::ACTIVITY_OTHER;
use std::collections::BTreeMap;

/// Who paid for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Paid = 0,
    Subsidised = 1,
    Free = 2,
    OwnKey = 3,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Paid, Self::Subsidised, Self::Free, Self::OwnKey];

    pub(super) fn as_str(self) -> &'static str {
        ["paid", "subsidised", "free", "own key"][self as usize]
    }
}

/// Requests and tokens of one model, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ModelDay {
    used: [Used; 4],
}

impl ModelDay {
    pub(super) fn of(&self, class: Class) -> Used {
        self.used[class as usize]
    }
}

/// One seller, in nano-USD.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SellerDay {
    pub(super) revenue: u128,
    pub(super) subsidised: u128,
    pub(super) given: u128,
    pub(super) unvalued: u64,
    pub(super) attended: Attended,
}

/// Where charges went, in nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SharesDay {
    pub(super) charged: u128,
    pub(super) sellers: u128,
    pub(super) suspense: u128,
    pub(super) fee: u128,
    pub(super) rounding: u128,
}

/// The figures of one day in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFigures {
    pub(super) day: UtcDay,
    pub(super) models: BTreeMap<String, ModelDay>,
    pub(super) sellers: BTreeMap<String, SellerDay>,
    pub(super) paid: SharesDay,
    pub(super) by_credit: SharesDay,
    pub(super) given_by_market: u128,
    pub(super) given_by_sellers: u128,
}

impl DayFigures {
    pub(super) fn of(day: UtcDay) -> Self {
        Self {
            day,
            models: BTreeMap::new(),
            sellers: BTreeMap::new(),
            paid: SharesDay::default(),
            by_credit: SharesDay::default(),
            given_by_market: 0,
            given_by_sellers: 0,
        }
    }

    /// Which day.
    pub fn day(&self) -> UtcDay {
        self.day
    }

    pub(super) fn used(&mut self, model: &str, class: Class, usage: &Usage) {
        let used = &mut row(&mut self.models, model).used[class as usize];
        used.requests = used.requests.saturating_add(1);
        used.prompt_tokens = used.prompt_tokens.saturating_add(usage.prompt.0);
        used.completion_tokens = used.completion_tokens.saturating_add(usage.completion.0);
    }

    /// Where the charge of a request went. What waits in suspense is nobody's yet.
    pub(super) fn charged(&mut self, seller: &str, split: &Split, is_paid: bool, waits: bool) {
        let shares = if is_paid { &mut self.paid } else { &mut self.by_credit };
        shares.charged += u128::from(split.total.0);
        shares.fee += u128::from(split.fee.0);
        shares.rounding += u128::from(split.rounding.0);
        if waits {
            shares.suspense += u128::from(split.seller.0);
            return;
        }
        shares.sellers += u128::from(split.seller.0);
        self.released(seller, split.seller, is_paid);
    }

    /// What came to a seller.
    pub(super) fn released(&mut self, seller: &str, amount: NanoUsd, is_paid: bool) {
        let row = row(&mut self.sellers, seller);
        *(if is_paid { &mut row.revenue } else { &mut row.subsidised }) += u128::from(amount.0);
    }

    /// What a buyer did not pay for. What the market gives waits in suspense as what a buyer pays does.
    pub(super) fn given(&mut self, seller: &str, gift: Gift, waits: bool) {
        let list = u128::from(gift.list.0);
        match gift.giver {
            Giver::Market => {
                self.given_by_market += list;
                if !waits {
                    self.released(seller, gift.list, false);
                }
            }
            Giver::Seller => {
                self.given_by_sellers += list;
                row(&mut self.sellers, seller).given += list;
            }
        }
    }

    pub(super) fn unvalued(&mut self, seller: &str) {
        let row = row(&mut self.sellers, seller);
        row.unvalued = row.unvalued.saturating_add(1);
    }

    /// A machine was there.
    pub(super) fn attended(&mut self, seller: &str, gpus: Option<u32>, ms: u64) {
        row(&mut self.sellers, seller).attended.add(gpus, ms);
    }

    /// Time and revenue of those sellers that earned all with GPUs whose time is known.
    pub(super) fn of_gpus(&self) -> (Attended, u128) {
        let mut all = (Attended::default(), 0);
        for seller in self.sellers.values().filter(|seller| seller.attended.is_all_of_gpus()) {
            all.0.plus(&seller.attended);
            all.1 += seller.revenue;
        }
        all
    }

    pub(super) fn unvalued_requests(&self) -> u64 {
        self.sellers.values().fold(0, |sum, seller| sum.saturating_add(seller.unvalued))
    }
}

/// The row of a name, or of all that found none.
fn row<'a, T: Default>(rows: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let is_full = rows.len() >= FIGURES_ROWS_MAX && !rows.contains_key(name);
    rows.entry(if is_full { ACTIVITY_OTHER } else { name }.to_owned()).or_default()
}

impl From<&DayFigures> for MarketFigures {
    fn from(day: &DayFigures) -> Self {
        let model = |(model, of): (&String, &ModelDay)| ModelFigures {
            model: model.clone(),
            paid: of.of(Class::Paid),
            subsidised: of.of(Class::Subsidised),
            free: of.of(Class::Free),
            own_key: of.of(Class::OwnKey),
        };
        let seller = |(seller, of): (&String, &SellerDay)| SellerFigures {
            seller: seller.clone(),
            revenue_usd: dollars(of.revenue),
            subsidised_usd: dollars(of.subsidised),
            given_usd: dollars(of.given),
            unvalued_requests: of.unvalued,
            gpu_seconds: of.attended.gpu_ms().map(seconds),
            machine_seconds: of.attended.machine_ms().map(seconds),
            revenue_per_gpu_hour_usd: of.attended.per_gpu_hour(of.revenue).map(Usd),
        };
        let (of_gpus, earned) = day.of_gpus();
        Self {
            day: day.day.to_string(),
            models: day.models.iter().map(model).collect(),
            sellers: day.sellers.iter().map(seller).collect(),
            paid: shares(&day.paid),
            paid_by_credit: shares(&day.by_credit),
            given_by_market_usd: dollars(day.given_by_market),
            given_by_sellers_usd: dollars(day.given_by_sellers),
            unvalued_requests: day.unvalued_requests(),
            gpu_seconds: of_gpus.gpu_ms().map(seconds),
            revenue_per_gpu_hour_usd: of_gpus.per_gpu_hour(earned).map(Usd),
        }
    }
}

fn seconds(ms: u64) -> u64 {
    ms / 1_000
}

fn dollars(sum: u128) -> Usd {
    Usd(nano(sum))
}

fn shares(of: &SharesDay) -> Shares {
    Shares {
        charged_usd: dollars(of.charged),
        sellers_usd: dollars(of.sellers),
        suspense_usd: dollars(of.suspense),
        fee_usd: dollars(of.fee),
        rounding_usd: dollars(of.rounding),
    }
}
