//! Dollars as JSON numbers with all their digits.

use crate::dialect::push_usd;
use bourse_types::NanoUsd;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An amount, written as a plain JSON number of dollars: every nano-dollar, no exponent. Only `serde_json` can write
/// it, and straight to text: a tree of values in between would make it a double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Usd(pub NanoUsd);

impl From<NanoUsd> for Usd {
    fn from(amount: NanoUsd) -> Self {
        Self(amount)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Vec::with_capacity(24);
        push_usd(&mut text, self.0);
        let text = String::from_utf8(text).map_err(serde::ser::Error::custom)?;
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl JsonSchema for Usd {
    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": 0,
            "description": "Dollars, exact to the nano-dollar: read it as a decimal.",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_written() {
        let check = |nano: u64, want: &str| {
            assert_eq!(serde_json::to_string(&Usd(NanoUsd(nano))).unwrap(), want);
        };
        check(0, "0");
        check(1, "0.000000001");
        check(1_500_000_000, "1.5");
        check(u64::MAX, "18446744073.709551615");
    }
}
