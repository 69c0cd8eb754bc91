//! An account's statement on paper.

use super::{AccountStatement, StatementSection};
use crate::csv;
use crate::invoice::InvoiceLine;
use crate::paper::{self, Columns, sum};

/// The account on the other side, movements, in, out.
const MOVES: Columns<4> = Columns { widths: [52, 15, 19, 19], words: 1 };
/// Model, seller, requests, tokens in, tokens out, dollars.
const USES: Columns<6> = Columns { widths: [32, 18, 9, 13, 13, 18], words: 2 };

impl AccountStatement {
    /// Its lines as people read them.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![
            format!("Statement of {} ({}), {} (UTC)", self.account, self.kind, self.period),
            String::new(),
            sum("Balance before, USD", &self.opening_usd),
            String::new(),
            MOVES.row(["WITH", "MOVEMENTS", "IN USD", "OUT USD"]),
        ];
        let row = |moved: &super::StatementMovements| {
            MOVES.row([&moved.counterpart, &moved.count.to_string(), &moved.in_usd, &moved.out_usd])
        };
        lines.extend(self.movements.iter().map(row));
        lines.push(String::new());
        lines.push(sum("In, USD", &self.in_usd));
        lines.push(sum("Out, USD", &self.out_usd));
        lines.push(sum("Balance after, USD", &self.closing_usd));
        for section in &self.sections {
            push_section(&mut lines, section);
        }
        lines
    }

    /// The same as rows (RFC 4180).
    pub fn csv(&self) -> String {
        let head =
            "what,with,count,in_usd,out_usd,model,seller,requests,prompt_tokens,completion_tokens,usd\r\n";
        let mut out = head.to_owned();
        let mut push = |cells: [&str; 11]| out.push_str(&csv::row(&cells));
        let balance = |what: &'static str, usd| [what, "", "", "", "", "", "", "", "", "", usd];
        push(balance("balance before", &self.opening_usd));
        for moved in &self.movements {
            let (count, with) = (moved.count.to_string(), &moved.counterpart);
            push(["moved", with, &count, &moved.in_usd, &moved.out_usd, "", "", "", "", "", ""]);
        }
        push(balance("balance after", &self.closing_usd));
        for section in &self.sections {
            let what = section.sort.as_str();
            for line in &section.lines {
                let [requests, prompt, completion] = counts(line);
                let (model, seller) = (&line.model, &line.seller);
                push([what, "", "", "", "", model, seller, &requests, &prompt, &completion, &line.cost_usd]);
            }
        }
        out
    }

    /// The same as PDF, on sheets of A4.
    pub fn pdf(&self) -> Vec<u8> {
        paper::pdf(&format!("Statement of {}, {}", self.account, self.period), &self.text())
    }
}

fn push_section(lines: &mut Vec<String>, section: &StatementSection) {
    lines.push(String::new());
    lines.push(section.sort.title().to_owned());
    lines.push(USES.row(["MODEL", "SELLER", "REQUESTS", "TOKENS IN", "TOKENS OUT", "USD"]));
    for line in &section.lines {
        let [requests, prompt, completion] = counts(line);
        lines.push(USES.row([&line.model, &line.seller, &requests, &prompt, &completion, &line.cost_usd]));
    }
    lines.push(sum("Sum, USD", &section.usd));
}

fn counts(line: &InvoiceLine) -> [String; 3] {
    [line.requests, line.prompt_tokens, line.completion_tokens].map(|n| n.to_string())
}
