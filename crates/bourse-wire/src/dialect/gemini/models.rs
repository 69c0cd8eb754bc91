//! Models in addresses and lists: the name stands in the path, and may have a beginning.
//!
//! Sources: Google's references of `models.list`, `models.generateContent` and `models.countTokens`.

use crate::dialect::count::CountForm;
use crate::dialect::lists::{self, ListForm, Listed};
use crate::json::push_string;
use serde_json::Value;

/// Beginning of a name.
const PREFIX: &str = "models/";

/// How sellers of this grammar list their models, in one page of the most that they give at once.
pub(super) const LIST: ListForm =
    ListForm { path: "/models?pageSize=1000", models: "models", more: "nextPageToken", entry };

/// How they count a prompt: by the whole of a call, in a member of its own.
pub(super) const COUNT: CountForm = CountForm {
    path: |call| call.rsplit_once(':').map(|(model, _)| format!("{model}:countTokens")),
    body,
    member: "totalTokens",
};

/// The path of a call.
pub(super) fn path(upstream_id: &str, stream: bool) -> String {
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    format!("/models/{}:{method}", upstream_id.trim_start_matches(PREFIX))
}

fn entry(entry: &Value) -> Option<Listed> {
    let methods = entry.get("supportedGenerationMethods").and_then(Value::as_array)?;
    methods.iter().find(|method| *method == "generateContent")?;
    let name = lists::text(entry, "/name")?;
    Some(Listed {
        id: name.strip_prefix(PREFIX).unwrap_or(&name).to_owned(),
        context_tokens: lists::count(entry, &["/inputTokenLimit"]),
        completion_tokens: lists::count(entry, &["/outputTokenLimit"]),
        ..Listed::default()
    })
}

fn body(upstream_id: &str, call: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(call.len() + 64);
    out.extend_from_slice(b"{\"generateContentRequest\":{\"model\":");
    push_string(&mut out, &format!("{PREFIX}{}", upstream_id.trim_start_matches(PREFIX)));
    let inner = call.trim_ascii().strip_prefix('{')?;
    out.extend_from_slice(if inner.trim_start().starts_with('}') { b"" } else { b"," });
    out.extend_from_slice(inner.as_bytes());
    out.push(b'}');
    Some(out)
}
