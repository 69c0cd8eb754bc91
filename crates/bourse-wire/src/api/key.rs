//! Keys as a management key makes, changes and lists them.
//!
//! Requests are read by serde and their errors name the field; whether a value is possible is decided by
//! [`KeyDraft::check`](crate::funds::KeyDraft::check) and its like.

use super::money::Usd;
use bourse_types::{NanoUsd, UnixMs};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::{ApiError, ErrorType};
use crate::funds::{Change, DEFAULT_WORKSPACE, KeyDraft, KeyPatch, KeyRecord, LimitReset, SpendWindows};
use crate::json::{path_at, without_exponent};

/// A key as its owner may see it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Key {
    /// SHA-256 of the key in hexadecimal: its identity.
    pub hash: String,
    /// What its owner calls it.
    pub name: String,
    /// The same.
    pub label: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Most dollars that it may spend in one window; null: no limit.
    pub limit: Option<Usd>,
    /// What is left of them; null without a limit.
    pub limit_remaining: Option<Usd>,
    /// When the limit begins anew; null: never.
    pub limit_reset: Option<KeyReset>,
    /// Whether what the account's own sellers bill counts towards the limit.
    pub include_byok_in_limit: bool,
    /// What it was charged, ever.
    pub usage: Usd,
    /// Since 00:00 UTC.
    pub usage_daily: Usd,
    /// Since Monday.
    pub usage_weekly: Usd,
    /// Since the first of the month.
    pub usage_monthly: Usd,
    /// What the account's own sellers billed for it, ever.
    pub byok_usage: Usd,
    /// Since 00:00 UTC.
    pub byok_usage_daily: Usd,
    /// Since Monday.
    pub byok_usage_weekly: Usd,
    /// Since the first of the month.
    pub byok_usage_monthly: Usd,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: Option<String>,
    /// From when on it is refused.
    pub expires_at: Option<String>,
    /// When something that it bought was last settled.
    #[schemars(extend("format" = "date-time"))]
    pub last_used_at: Option<String>,
    /// The management key that made it, by its hash; null: the operator.
    pub creator_user_id: Option<String>,
    /// The buyer's user; keys have none.
    pub external_user: Option<String>,
    /// The workspace that it belongs to; `default`: none.
    pub workspace_id: String,
    /// Held by its requests in flight.
    pub in_flight: Usd,
}

impl From<&KeyRecord> for Key {
    fn from(record: &KeyRecord) -> Self {
        let (usage, byok) = (&record.usage, &record.byok_usage);
        Self {
            hash: record.hash.to_string(),
            name: record.name.clone(),
            label: record.name.clone(),
            disabled: record.is_disabled,
            limit: record.limit.map(Usd),
            limit_remaining: record.limit_remaining.map(Usd),
            limit_reset: KeyReset::of(record.limit_reset),
            include_byok_in_limit: record.includes_byok_in_limit,
            usage: Usd(usage.total),
            usage_daily: Usd(usage.daily),
            usage_weekly: Usd(usage.weekly),
            usage_monthly: Usd(usage.monthly),
            byok_usage: Usd(byok.total),
            byok_usage_daily: Usd(byok.daily),
            byok_usage_weekly: Usd(byok.weekly),
            byok_usage_monthly: Usd(byok.monthly),
            created_at: record.created.to_iso_string(),
            updated_at: Some(record.updated.to_iso_string()),
            expires_at: record.expires.map(UnixMs::to_iso_string),
            last_used_at: record.last_used.map(UnixMs::to_iso_string),
            creator_user_id: record.creator.map(|hash| hash.to_string()),
            external_user: None,
            workspace_id: workspace(record),
            in_flight: Usd(record.held),
        }
    }
}

/// The workspace of a key, as its clients know it.
pub(super) fn workspace(record: &KeyRecord) -> String {
    record.workspace.map_or_else(|| DEFAULT_WORKSPACE.to_owned(), |id| id.to_string())
}

/// When a limit begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum KeyReset {
    /// At 00:00 UTC.
    Daily,
    /// On Mondays.
    Weekly,
    /// On the first of a month.
    Monthly,
}

impl KeyReset {
    /// None: never.
    pub fn of(reset: LimitReset) -> Option<Self> {
        Some(match reset {
            LimitReset::Never => return None,
            LimitReset::Daily => Self::Daily,
            LimitReset::Weekly => Self::Weekly,
            LimitReset::Monthly => Self::Monthly,
        })
    }
}

/// A key that was made.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct KeyCreated {
    /// The key itself, shown this once.
    pub key: String,
    /// What is known of it.
    pub data: Key,
}

/// A key that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyDeleted {
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// A key to be made. Unknown members are refused, so that a limit in a misspelt one is not lost.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCreate {
    /// What its owner calls it.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// Most dollars that it may spend in one window; null: no limit.
    #[serde(default)]
    #[schemars(with = "Option<f64>", range(min = 0))]
    limit: Option<Box<RawValue>>,
    /// When the limit begins anew; null: never.
    #[serde(default)]
    limit_reset: Option<KeyReset>,
    /// From when on it is refused, in UTC.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// Whether what the account's own sellers bill counts towards the limit.
    #[serde(default)]
    include_byok_in_limit: Option<bool>,
    /// Accepted for the field's clients; the key belongs to the caller's account.
    #[serde(default, rename = "creator_user_id")]
    _creator_user_id: Option<String>,
    /// The workspace that it belongs to for good, by its id or its slug; null or `default`: none.
    #[serde(default)]
    workspace_id: Option<String>,
}

impl KeyCreate {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<KeyDraft, ApiError> {
        let asked: Self = read(body)?;
        Ok(KeyDraft {
            name: asked.name,
            limit: asked.limit.as_deref().map(|raw| limit("limit", raw)).transpose()?,
            limit_reset: reset(asked.limit_reset),
            includes_byok_in_limit: asked.include_byok_in_limit.unwrap_or(false),
            expires: asked.expires_at.as_deref().map(expires).transpose()?,
            policy: None,
            claim: None,
            workspace: asked.workspace_id.filter(|named| named != DEFAULT_WORKSPACE),
        })
    }
}

/// Changes to a key: what is absent stays, `"limit": null` lifts the limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyUpdate {
    /// What its owner calls it.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    name: Option<String>,
    /// Whether it is switched off.
    #[serde(default)]
    disabled: Option<bool>,
    /// Most dollars that it may spend in one window; null: no limit.
    #[serde(default)]
    #[schemars(with = "Option<f64>", range(min = 0))]
    limit: Asked<Box<RawValue>>,
    /// When the limit begins anew; null: never.
    #[serde(default)]
    #[schemars(with = "Option<KeyReset>")]
    limit_reset: Asked<KeyReset>,
    /// Whether what the account's own sellers bill counts towards the limit.
    #[serde(default)]
    include_byok_in_limit: Option<bool>,
    /// From when on it is refused, in UTC; null: never.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    expires_at: Asked<String>,
}

impl KeyUpdate {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<KeyPatch, ApiError> {
        let asked: Self = read(body)?;
        Ok(KeyPatch {
            name: change(asked.name),
            disabled: change(asked.disabled),
            limit: asked.limit.read(|raw| limit("limit", &raw))?,
            limit_reset: match asked.limit_reset {
                Asked::Absent => Change::Keep,
                Asked::Given(asked) => Change::Set(reset(asked)),
            },
            includes_byok_in_limit: change(asked.include_byok_in_limit),
            expires: asked.expires_at.read(|text| expires(&text))?,
            policy: Change::Keep,
        })
    }
}

/// A member that may be absent, null, or there.
#[derive(Debug, Default)]
pub(super) enum Asked<T> {
    #[default]
    Absent,
    Given(Option<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Asked<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Option::deserialize(value).map(Self::Given)
    }
}

impl<T> Asked<T> {
    /// Absent keeps, null sets to none.
    pub(super) fn read<V>(
        self,
        read: impl FnOnce(T) -> Result<V, ApiError>,
    ) -> Result<Change<Option<V>>, ApiError> {
        match self {
            Self::Absent => Ok(Change::Keep),
            Self::Given(value) => value.map(read).transpose().map(Change::Set),
        }
    }
}

fn change<T>(value: Option<T>) -> Change<T> {
    value.map_or(Change::Keep, Change::Set)
}

fn reset(asked: Option<KeyReset>) -> LimitReset {
    match asked {
        None => LimitReset::Never,
        Some(KeyReset::Daily) => LimitReset::Daily,
        Some(KeyReset::Weekly) => LimitReset::Weekly,
        Some(KeyReset::Monthly) => LimitReset::Monthly,
    }
}

/// The member at whose value reading stopped; empty where that is the whole body.
fn member_before(body: &[u8], error: &serde_json::Error) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let line = error.line().checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    path_at(text, (start + error.column()).checked_sub(1)?).ok()
}

/// A body of JSON; the error names the member where serde does.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // Serde would take a list for an object, too: its entries for the members in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::new(ErrorType::InvalidRequest, "the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        let named = if text.contains("field") { text.split('`').nth(1).map(str::to_owned) } else { None };
        let field = named.or_else(|| member_before(body, &error)).unwrap_or_default();
        if field.is_empty() {
            return ApiError::new(ErrorType::InvalidRequest, format!("the body is not usable: {text}"));
        }
        let message = format!("`{field}` is not usable: {what}");
        ApiError::field(field, message)
    })
}

/// Dollars as written: at most nine decimal places. Clients write small ones with an exponent.
pub(super) fn limit(field: &'static str, raw: &RawValue) -> Result<NanoUsd, ApiError> {
    let text = raw.get();
    let plain = without_exponent(text);
    let bad = || {
        let message =
            format!("`{field}` must be dollars as a number from 0 on with at most nine decimal places");
        ApiError::field(field, message)
    };
    NanoUsd::parse_usd(plain.as_deref().unwrap_or(text)).map_err(|_| bad())
}

fn expires(text: &str) -> Result<UnixMs, ApiError> {
    UnixMs::parse_iso(text).ok_or_else(|| {
        ApiError::field("expires_at", "`expires_at` must be an instant in UTC such as 2027-01-31T00:00:00Z")
    })
}

/// The four windows of a spending, in the order of the members.
pub(super) fn windows(spend: &SpendWindows) -> [Usd; 4] {
    [spend.total, spend.daily, spend.weekly, spend.monthly].map(Usd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(json: &str) -> Result<Option<u64>, String> {
        let body = format!(r#"{{"name":"a","limit":{json}}}"#);
        let draft =
            KeyCreate::parse(body.as_bytes()).map_err(|e| e.param.unwrap_or_default().into_owned())?;
        Ok(draft.limit.map(|limit| limit.0))
    }

    #[test]
    fn limits_are_exact_or_refused() {
        for (json, want) in [
            ("null", None),
            ("0", Some(0)),
            ("1.5", Some(1_500_000_000)),
            ("1e-06", Some(1_000)),
            ("1.25E+1", Some(12_500_000_000)),
            ("1e-9", Some(1)),
            ("2e3", Some(2_000_000_000_000)),
        ] {
            assert_eq!(limit_of(json), Ok(want), "{json}");
        }
        for json in ["-1", "1e-10", "1e99", "\"1\"", "true", "[]", "{}", "1e400"] {
            assert_eq!(limit_of(json), Err("limit".to_owned()), "{json}");
        }
    }

    #[test]
    fn null_and_absent_are_told_apart() {
        let patch = |body: &str| KeyUpdate::parse(body.as_bytes()).unwrap();
        assert_eq!(patch("{}"), KeyPatch::default());
        let lifted = patch(r#"{"limit":null,"limit_reset":null,"expires_at":null}"#);
        assert_eq!(lifted.limit, Change::Set(None));
        assert_eq!(lifted.limit_reset, Change::Set(LimitReset::Never));
        assert_eq!(lifted.expires, Change::Set(None));
        let set = patch(r#"{"limit":2,"limit_reset":"weekly","disabled":true,"name":"b"}"#);
        assert_eq!(set.limit, Change::Set(Some(NanoUsd::from_usd(2))));
        assert_eq!((set.disabled, set.name), (Change::Set(true), Change::Set("b".to_owned())));
    }

    #[test]
    fn bad_bodies_name_the_field() {
        let param = |body: &str| {
            let error = KeyCreate::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 400, "{error}");
            error.param.map(std::borrow::Cow::into_owned)
        };
        assert_eq!(param(r#"{"name":"a","limmit":1}"#).as_deref(), Some("limmit"));
        assert_eq!(param("{}").as_deref(), Some("name"));
        assert_eq!(param(r#"{"name":"a","expires_at":"soon"}"#).as_deref(), Some("expires_at"));
        for body in ["[]", "[null]", " [\"a\"]", "null", ""] {
            assert_eq!(KeyUpdate::parse(body.as_bytes()).unwrap_err().status(), 400, "{body}");
        }
        for (body, field) in [
            (r#"{"name":1}"#, "name"),
            (r#"{"name":"a","limit_reset":"yearly"}"#, "limit_reset"),
            ("{\n  \"name\": \"a\",\n  \"expires_at\": 5\n}", "expires_at"),
        ] {
            assert_eq!(param(body).as_deref(), Some(field), "{body}");
        }
        let error = KeyUpdate::parse(br#"{"disabled":"yes"}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("disabled"));
        assert_eq!(
            error.message,
            "`disabled` is not usable: invalid type: string \"yes\", expected a boolean"
        );
        for body in ["", "[]", "[\"a\"]", "null", "{"] {
            param(body);
        }
    }
}
