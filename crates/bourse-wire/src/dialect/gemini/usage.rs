//! What a seller says it used.

use crate::dialect::SellerUsage;
use serde::Deserialize;

#[derive(Deserialize)]
struct Counts {
    #[serde(rename = "promptTokenCount")]
    prompt: Option<u64>,
    #[serde(rename = "cachedContentTokenCount")]
    cached: Option<u64>,
    #[serde(rename = "candidatesTokenCount")]
    candidates: Option<u64>,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: Option<u64>,
    #[serde(rename = "toolUsePromptTokenCount")]
    results_of_tools: Option<u64>,
    #[serde(rename = "totalTokenCount")]
    total: Option<u64>,
}

/// Reads `usageMetadata`. `None` when the prompt's count is missing, the answer's can neither be read nor be told from
/// the total, or one is no whole number: an unknown count is not zero.
pub(super) fn read(raw: &str) -> Option<SellerUsage> {
    let counts: Counts = serde_json::from_str(raw).ok()?;
    let reasoning = counts.thoughts.unwrap_or(0);
    let prompt = counts.prompt?.checked_add(counts.results_of_tools.unwrap_or(0))?;
    let completion = match counts.candidates {
        Some(said) => said.checked_add(reasoning)?,
        None => counts.total?.checked_sub(prompt)?.max(reasoning),
    };
    let cached = counts.cached.unwrap_or(0);
    Some(SellerUsage { prompt, cached, cache_write: 0, completion, reasoning })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, want: Option<[u64; 4]>) {
        let read = read(raw).map(|u| [u.prompt, u.cached, u.completion, u.reasoning]);
        assert_eq!(read, want, "{raw}");
    }

    #[test]
    fn thoughts_and_results_of_tools_are_added() {
        check(
            r#"{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":7,"toolUsePromptTokenCount":3,"totalTokenCount":25,"promptTokensDetails":[{"modality":"TEXT","tokenCount":10}]}"#,
            Some([13, 4, 12, 7]),
        );
        check(r#"{"promptTokenCount":10,"candidatesTokenCount":5}"#, Some([10, 0, 5, 0]));
    }

    #[test]
    fn a_count_that_is_left_out_is_told_from_the_total() {
        check(r#"{"promptTokenCount":10,"thoughtsTokenCount":7,"totalTokenCount":17}"#, Some([10, 0, 7, 7]));
        check(r#"{"promptTokenCount":10,"totalTokenCount":10}"#, Some([10, 0, 0, 0]));
        check(r#"{"promptTokenCount":10}"#, None);
        check(r#"{"promptTokenCount":10,"totalTokenCount":9}"#, None);
    }

    #[test]
    fn unknown_counts_are_not_zero() {
        check(r#"{"candidatesTokenCount":5,"totalTokenCount":5}"#, None);
        check(r#"{"promptTokenCount":-1,"candidatesTokenCount":5}"#, None);
        check(r#"{"promptTokenCount":1.5,"candidatesTokenCount":5}"#, None);
        check(
            r#"{"promptTokenCount":18446744073709551615,"toolUsePromptTokenCount":1,"candidatesTokenCount":5}"#,
            None,
        );
        check("[]", None);
        check("null", None);
    }
}
