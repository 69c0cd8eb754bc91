//! Rows on their way into tables: every value as its text, cast by the server to the column's type.
//!
//! One statement for each table and batch, whatever the number of rows: the columns travel as arrays.

#![expect(clippy::unnecessary_wraps, reason = "a cell of a row, which may be empty")]
#![expect(clippy::needless_pass_by_value, reason = "numbers and codes are told by value")]

use bourse_types::UnixMs;
use postgres::Transaction;
use postgres::types::ToSql;
use std::fmt::Write as _;

/// The last moment that PostgreSQL and people write with four digits of a year; later is `infinity`.
const LAST_MS: u64 = 253_402_300_799_999;

/// A table: its name, its columns with their types, and what happens to a row that is there.
pub(super) struct Table<const N: usize> {
    pub(super) name: &'static str,
    pub(super) columns: [(&'static str, &'static str); N],
    pub(super) conflict: &'static str,
}

impl<const N: usize> Table<N> {
    fn insert(&self) -> String {
        let names = self.columns.map(|(name, _)| name).join(", ");
        let (from, conflict) = (self.rows(), self.conflict);
        format!("INSERT INTO bourse_read.{}({names}) SELECT {names} FROM {from} {conflict}", self.name)
    }

    /// The rows as a table expression `r`.
    pub(super) fn rows(&self) -> String {
        let (mut typed, mut arrays, mut plain) = (String::new(), String::new(), String::new());
        for (n, (name, kind)) in self.columns.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let _ = write!(typed, "{comma}c{n}::{kind} AS {name}");
            let _ = write!(arrays, "{comma}${}::text[]", n + 1);
            let _ = write!(plain, "{comma}c{n}");
        }
        format!("(SELECT {typed} FROM unnest({arrays}) AS u({plain})) AS r")
    }
}

/// Rows of one table.
pub(super) struct Rows<const N: usize> {
    table: &'static Table<N>,
    columns: [Vec<Option<String>>; N],
}

impl<const N: usize> Rows<N> {
    pub(super) fn of(table: &'static Table<N>) -> Self {
        Self { table, columns: [const { Vec::new() }; N] }
    }

    pub(super) fn push(&mut self, row: [Option<String>; N]) {
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.push(value);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Inserts them.
    pub(super) fn write(&self, work: &mut Transaction<'_>) -> Result<(), postgres::Error> {
        self.run(work, &self.table.insert())
    }

    /// Has a statement that takes these rows as its parameters run, if there are any.
    pub(super) fn run(&self, work: &mut Transaction<'_>, sql: &str) -> Result<(), postgres::Error> {
        if self.len() == 0 {
            return Ok(());
        }
        let columns = self.columns.each_ref().map(|column| column as &(dyn ToSql + Sync));
        work.execute(sql, &columns).map(drop)
    }
}

/// A whole number or a code.
pub(super) fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

/// A name that somebody chose: PostgreSQL's texts hold no zero byte.
pub(super) fn word(value: &str) -> Option<String> {
    Some(value.replace('\0', "\u{fffd}"))
}

pub(super) fn moment(at: UnixMs) -> Option<String> {
    Some(if at.0 > LAST_MS { "infinity".to_owned() } else { at.to_iso_string() })
}

pub(super) fn bytes(value: &[u8]) -> Option<String> {
    let mut text = "\\x".to_owned();
    for byte in value {
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}
