//! Lines of text as accountants read them, on a terminal and on sheets of A4.
//!
//! A line has [`LINE_CHARS`] characters, which fit between the margins of a sheet. Words stand to the left of their
//! column and numbers to the right, so that amounts stand under each other.

mod page;

use std::borrow::Cow;

/// Characters of a line.
pub(crate) const LINE_CHARS: usize = 108;
/// Of them those of the amount that ends a line of a sum.
const AMOUNT_CHARS: usize = 18;

/// A table: the widths of its columns, the first of which hold words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<const N: usize> {
    pub(crate) widths: [usize; N],
    pub(crate) words: usize,
}

impl<const N: usize> Columns<N> {
    /// One row: words to the left, numbers to the right.
    pub(crate) fn row(&self, cells: [&str; N]) -> String {
        let padded = cells.iter().zip(self.widths).enumerate().map(|(n, (cell, width))| {
            let cell = clipped(cell, width);
            if n < self.words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join(" ")
    }
}

/// A line of a sum: what it is, and how much.
pub(crate) fn sum(what: &str, amount: &str) -> String {
    let width = LINE_CHARS - AMOUNT_CHARS;
    format!("{:<width$}{amount:>AMOUNT_CHARS$}", clipped(what, width - 2))
}

/// The lines as PDF, on sheets of A4.
pub(crate) fn pdf(title: &str, lines: &[String]) -> Vec<u8> {
    page::pdf(title, lines)
}

/// A long word keeps its end, where names of models differ.
fn clipped(text: &str, width: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= width {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("~{}", text.chars().skip(count + 1 - width).collect::<String>()))
}
