//! The commands, one file each: `Args` says what can be typed, `run` does it.
//!
//! Stdout carries what was asked for and nothing else; everything said on the way goes to stderr.

pub mod chat;
pub mod completions;
pub mod config;
pub mod models;
pub mod receipt;

use std::fmt::Write as _;

/// Lines up rows in columns, two spaces apart.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ", width = *width);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
