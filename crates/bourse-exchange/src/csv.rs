//! Rows with commas, as spreadsheets read them (RFC 4180).

use std::borrow::Cow;

/// One row with its line end. Cells with commas, quotes or line ends are quoted.
pub(crate) fn row(cells: &[&str]) -> String {
    let quoted: Vec<Cow<'_, str>> = cells.iter().map(|cell| quoted(cell)).collect();
    format!("{}\r\n", quoted.join(","))
}

fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(row(&["a", "b c", "", "1.5"]), "a,b c,,1.5\r\n");
        assert_eq!(row(&["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n");
    }
}
