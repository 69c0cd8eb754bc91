//! Figures of a day as people read them.

use super::day::{Class, DayFigures, SharesDay};
use super::hours::hours;
use crate::books::{signed, usd};
use crate::paper::{Columns, sum};

/// Model, who paid, requests, tokens in, tokens out.
const MODELS: Columns<5> = Columns { widths: [56, 10, 10, 14, 14], words: 2 };
/// Seller, hours of machines, hours of GPUs, revenue for each of these.
const MACHINES: Columns<4> = Columns { widths: [32, 18, 18, 18], words: 1 };
/// Seller, revenue, subsidised, given away, requests that nobody valued.
const SELLERS: Columns<5> = Columns { widths: [32, 18, 18, 18, 18], words: 1 };

impl DayFigures {
    /// Its lines as people read them.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![format!("Figures of {} (UTC)", self.day), String::new()];
        lines.push(MODELS.row(["MODEL", "PAID BY", "REQUESTS", "TOKENS IN", "TOKENS OUT"]));
        for (model, of) in &self.models {
            for class in Class::ALL.into_iter().filter(|class| of.of(*class).requests > 0) {
                let used = of.of(class);
                let counts = [used.requests, used.prompt_tokens, used.completion_tokens];
                let [requests, prompt, completion] = counts.map(|n| n.to_string());
                lines.push(MODELS.row([model, class.as_str(), &requests, &prompt, &completion]));
            }
        }
        lines.push(String::new());
        lines.push(SELLERS.row(["SELLER", "REVENUE USD", "SUBSIDISED USD", "GIVEN AWAY USD", "NOT VALUED"]));
        for (seller, of) in &self.sellers {
            let [revenue, subsidised, given] =
                [of.revenue, of.subsidised, of.given].map(|sum| usd(signed(sum)));
            lines.push(SELLERS.row([seller, &revenue, &subsidised, &given, &of.unvalued.to_string()]));
        }
        self.push_machines(&mut lines);
        push_shares(&mut lines, "Paid by buyers, USD", &self.paid);
        push_shares(&mut lines, "Paid by credit that the market gave, USD", &self.by_credit);
        lines.push(String::new());
        lines.push(sum(
            "Given by the market to sellers of free offers, USD",
            &usd(signed(self.given_by_market)),
        ));
        lines.push(sum("Given away by sellers, at list price, USD", &usd(signed(self.given_by_sellers))));
        lines.push(sum("Free requests that nobody valued", &self.unvalued_requests().to_string()));
        lines
    }
}

impl DayFigures {
    /// Nothing where nobody told of a machine.
    fn push_machines(&self, lines: &mut Vec<String>) {
        let mut attended =
            self.sellers.iter().filter(|(_, of)| of.attended.machine_ms().is_some()).peekable();
        if attended.peek().is_none() {
            return;
        }
        lines.push(String::new());
        lines.push(MACHINES.row(["SELLER", "MACHINE-HOURS", "GPU-HOURS", "USD PER GPU-HOUR"]));
        for (seller, of) in attended {
            let [machine, gpu] = [of.attended.machine_ms(), of.attended.gpu_ms()].map(hours);
            let per_hour = match of.attended.per_gpu_hour(of.revenue) {
                Some(nano) => usd(nano.0.into()),
                None if of.attended.gpu_ms() == Some(0) => "no GPU".to_owned(),
                None => "unknown".to_owned(),
            };
            lines.push(MACHINES.row([seller, &machine, &gpu, &per_hour]));
        }
    }
}

fn push_shares(lines: &mut Vec<String>, what: &str, shares: &SharesDay) {
    lines.push(String::new());
    lines.push(sum(what, &usd(signed(shares.charged))));
    let parts = [
        ("to sellers", shares.sellers),
        ("in suspense", shares.suspense),
        ("fee", shares.fee),
        ("rounding", shares.rounding),
    ];
    lines.extend(parts.into_iter().map(|(name, part)| sum(&format!("  {name}"), &usd(signed(part)))));
}
