//! Rows with commas, as spreadsheets read them (RFC 4180).
//!
//! A spreadsheet computes what begins like a formula, and names are chosen by others. Such a cell gets an apostrophe before
//! it, which makes it text; numbers stay numbers. Source: OWASP, "CSV Injection".

use std::borrow::Cow;

/// One row with its line end. Cells with commas, quotes or line ends are quoted, and none is a formula.
pub(crate) fn row(cells: &[&str]) -> String {
    let quoted: Vec<Cow<'_, str>> = cells.iter().map(|cell| quoted(cell)).collect();
    format!("{}\r\n", quoted.join(","))
}

fn quoted(cell: &str) -> Cow<'_, str> {
    let mark = if is_formula(cell) { "'" } else { "" };
    if cell.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{mark}{}\"", cell.replace('"', "\"\"")))
    } else if mark.is_empty() {
        Cow::Borrowed(cell)
    } else {
        Cow::Owned(format!("{mark}{cell}"))
    }
}

/// Whether a spreadsheet would compute the cell.
fn is_formula(cell: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && !cell.strip_prefix('-').is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(row(&["a", "b c", "", "1.5"]), "a,b c,,1.5\r\n");
        assert_eq!(row(&["-1.50", "0", "a-b", "a=b"]), "-1.50,0,a-b,a=b\r\n");
        assert_eq!(row(&["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n");
    }

    #[test]
    fn no_cell_is_computed() {
        let cells = ["=1+1", "+1", "-", "-1+1", "@SUM(A1)", "\tx", "=HYPERLINK(\"a\",\"b\")"];
        let want = "'=1+1,'+1,'-,'-1+1,'@SUM(A1),'\tx,\"'=HYPERLINK(\"\"a\"\",\"\"b\"\")\"\r\n";
        assert_eq!(row(&cells), want);
    }
}
