//! What Anthropic's endpoints beside the messages say: which models there are, and how long a prompt is.
//!
//! Sources: Anthropic's references of `GET /v1/models` and `POST /v1/messages/count_tokens`.

use crate::dialect::count::CountForm;
use crate::dialect::lists::{self, ListForm, Listed};
use crate::json::{JsonError, Walk};
use serde_json::Value;

/// How sellers of this grammar list their models, in one page of the most that they give at once.
pub(super) const LIST: ListForm =
    ListForm { path: "/models?limit=1000", models: "data", more: "has_more", entry };

/// How they count a prompt.
pub(super) const COUNT: CountForm =
    CountForm { path: |call| Some(format!("{call}/count_tokens")), body, member: "input_tokens" };

/// What counting takes of a call; anything else is refused there.
const COUNTED_MEMBERS: [&str; 8] =
    ["model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "output_config"];

fn entry(entry: &Value) -> Option<Listed> {
    Some(Listed {
        id: lists::text(entry, "/id")?,
        context_tokens: lists::count(entry, &["/max_input_tokens"]),
        completion_tokens: lists::count(entry, &["/max_tokens"]),
        ..Listed::default()
    })
}

fn body(_upstream_id: &str, call: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(call.len());
    out.push(b'{');
    Walk::new(call)
        .members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            if COUNTED_MEMBERS.contains(&walk.text(key.clone())) {
                out.extend_from_slice(if out.len() > 1 { b"," } else { b"" });
                out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
            }
            Ok(())
        })
        .ok()?;
    out.push(b'}');
    Some(out)
}
