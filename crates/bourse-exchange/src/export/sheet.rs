//! A table as a Parquet file: rows come in, groups of columns go out.
//!
//! Whole numbers that may be beyond 2⁶³ are decimals without places, so that every reader adds them up exactly. A group of
//! [`ROWS_PER_GROUP`] rows is all that is kept in memory.

use super::ExportError;
use bourse_types::UnixMs;
use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

/// Rows in one group.
pub(crate) const ROWS_PER_GROUP: usize = 32_768;
/// The largest number of thirty-eight digits.
const SUM_MAX: u128 = 10u128.pow(38) - 1;
const SUM_BYTES: usize = 16;
const AMOUNT_BYTES: usize = 9;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Below 2⁶³.
    Count,
    /// `DECIMAL(20,0)`: up to 2⁶⁴.
    Amount,
    /// `DECIMAL(38,0)`.
    Sum,
    /// Milliseconds in UTC.
    Moment,
    Flag,
    /// Thirty-two bytes.
    Digest,
}

impl Kind {
    /// The words before and behind the column's name in Parquet's own notation.
    fn notation(self) -> (String, &'static str) {
        let fixed = |bytes: usize| format!("fixed_len_byte_array({bytes})");
        match self {
            Self::Text => ("byte_array".to_owned(), " (STRING)"),
            Self::Count => ("int64".to_owned(), ""),
            Self::Amount => (fixed(AMOUNT_BYTES), " (DECIMAL(20,0))"),
            Self::Sum => (fixed(SUM_BYTES), " (DECIMAL(38,0))"),
            Self::Moment => ("int64".to_owned(), " (TIMESTAMP(MILLIS,true))"),
            Self::Flag => ("boolean".to_owned(), ""),
            Self::Digest => (fixed(32), ""),
        }
    }
}

/// A column: its name, what it holds, and whether it may be empty.
pub(super) type Column = (&'static str, Kind, bool);

/// One value.
#[derive(Clone)]
pub(super) enum Cell {
    Text(String),
    Count(u64),
    /// An amount or a sum.
    Number(u128),
    Moment(UnixMs),
    Flag(bool),
    Digest([u8; 32]),
    Empty,
}

impl Cell {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and codes are told by value")]
    pub(super) fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    pub(super) fn number(value: u64) -> Self {
        Self::Number(value.into())
    }
}

impl From<ParquetError> for ExportError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
                Ok(error) => Self::Write(*error),
                Err(other) => Self::Sheet(other.to_string()),
            },
            other => Self::Sheet(other.to_string()),
        }
    }
}

/// A file on its way.
pub(super) struct Sheet<W: Write + Send> {
    columns: &'static [Column],
    writer: SerializedFileWriter<W>,
    rows: Vec<Vec<Cell>>,
    rows_max: usize,
}

impl<W: Write + Send> Sheet<W> {
    pub(super) fn begin(
        name: &str,
        columns: &'static [Column],
        rows_max: usize,
        out: W,
    ) -> Result<Self, ExportError> {
        let mut notation = format!("message {name} {{\n");
        for (column, kind, is_optional) in columns {
            let (before, behind) = kind.notation();
            let repetition = if *is_optional { "optional" } else { "required" };
            let _ = writeln!(notation, "{repetition} {before} {column}{behind};");
        }
        notation.push('}');
        let schema = Arc::new(parse_message_type(&notation)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("bourse ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self { columns, writer, rows: Vec::new(), rows_max })
    }

    pub(super) fn push(&mut self, row: Vec<Cell>) -> Result<(), ExportError> {
        self.rows.push(row);
        if self.rows.len() >= self.rows_max { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left, and the end that readers begin with.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        for (n, column) in self.columns.iter().enumerate() {
            let Some(mut writer) = group.next_column()? else {
                return Err(ExportError::Sheet(format!("the file has no column {}", column.0)));
            };
            let cells = rows.iter().filter_map(|row| row.get(n));
            write_column(&mut writer, *column, cells)?;
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn write_column<'c>(
    writer: &mut SerializedColumnWriter<'_>,
    column: Column,
    cells: impl Iterator<Item = &'c Cell> + Clone,
) -> Result<(), ExportError> {
    match column.1 {
        Kind::Text => write_values::<ByteArrayType>(writer, column, cells, |cell| match cell {
            Cell::Text(text) => Some(ByteArray::from(text.as_str())),
            _ => None,
        }),
        Kind::Count => write_values::<Int64Type>(writer, column, cells, |cell| match cell {
            Cell::Count(count) => i64::try_from(*count).ok(),
            _ => None,
        }),
        Kind::Moment => write_values::<Int64Type>(writer, column, cells, |cell| match cell {
            Cell::Moment(at) => i64::try_from(at.0).ok(),
            _ => None,
        }),
        Kind::Flag => write_values::<BoolType>(writer, column, cells, |cell| match cell {
            Cell::Flag(flag) => Some(*flag),
            _ => None,
        }),
        Kind::Amount => write_values::<FixedLenByteArrayType>(writer, column, cells, |cell| match cell {
            Cell::Number(number) if *number <= u128::from(u64::MAX) => Some(decimal(*number, AMOUNT_BYTES)),
            _ => None,
        }),
        Kind::Sum => write_values::<FixedLenByteArrayType>(writer, column, cells, |cell| match cell {
            Cell::Number(number) if *number <= SUM_MAX => Some(decimal(*number, SUM_BYTES)),
            _ => None,
        }),
        Kind::Digest => write_values::<FixedLenByteArrayType>(writer, column, cells, |cell| match cell {
            Cell::Digest(digest) => Some(digest.to_vec().into()),
            _ => None,
        }),
    }
}

/// The last bytes of a number, the most significant one first.
fn decimal(number: u128, bytes: usize) -> FixedLenByteArray {
    let all = number.to_be_bytes();
    all[all.len() - bytes..].to_vec().into()
}

/// Values and, for a column that may be empty, where there are none. A value that the column cannot hold is an error.
fn write_values<'c, T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    (name, _, is_optional): Column,
    cells: impl Iterator<Item = &'c Cell> + Clone,
    value: impl Fn(&Cell) -> Option<T::T>,
) -> Result<(), ExportError> {
    let is_there = |cell: &&Cell| !(is_optional && matches!(cell, Cell::Empty));
    let values: Option<Vec<T::T>> = cells.clone().filter(is_there).map(value).collect();
    let values =
        values.ok_or_else(|| ExportError::Sheet(format!("the column {name} cannot hold a value")))?;
    let levels: Option<Vec<i16>> =
        is_optional.then(|| cells.map(|cell| i16::from(is_there(&cell))).collect());
    writer.typed::<T>().write_batch(&values, levels.as_deref(), None)?;
    Ok(())
}
