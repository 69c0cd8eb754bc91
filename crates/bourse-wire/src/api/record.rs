//! The record of a generation: its receipt and note in the field's words.

use super::money::Usd;
use crate::funds::{Generation, GenerationNote, NoteText};
use crate::receipt::{Finish, Receipt};
use bourse_types::{SellerName, TokenCount};
use schemars::JsonSchema;
use serde::Serialize;

/// One settled request. Members that the market does not know are null; `total_cost` alone is what was charged.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GenerationRecord {
    /// The generation.
    pub id: String,
    /// What groups several generations of one request; the id where there is one.
    pub request_id: String,
    /// The answer's id at the seller.
    pub upstream_id: Option<String>,
    /// What was asked for.
    pub model: String,
    /// Who answered; null when nobody did.
    pub provider_name: Option<String>,
    /// Everybody who was asked, in order.
    pub provider_responses: Vec<ProviderAttempt>,
    /// The app's address, as it says; empty where it does not.
    pub origin: String,
    /// When it arrived.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// Where it was processed; no request is confined to a region.
    pub data_region: DataRegion,
    /// Whether the buyer's own key at the seller served.
    pub is_byok: bool,
    /// What was charged.
    pub total_cost: Usd,
    /// The same.
    pub usage: Usd,
    /// What the charge consists of: the parts sum to it.
    pub cost_details: CostDetails,
    /// What the buyer's own seller bills it, at list price; null where the market's key served.
    pub upstream_inference_cost: Option<Usd>,
    /// Which kind of endpoint it was.
    pub api_type: Option<String>,
    /// The app's number; apps are not numbered.
    pub app_id: Option<u64>,
    /// Whether it was streamed.
    pub streamed: Option<bool>,
    /// Whether the buyer went away.
    pub cancelled: Option<bool>,
    /// How it ended.
    pub finish_reason: Option<String>,
    /// The same in the seller's own word.
    pub native_finish_reason: Option<String>,
    /// The router that chose the model, where one did.
    pub router: Option<String>,
    /// The preset that was used.
    pub preset_id: Option<String>,
    /// The buyer's session; absent where it named none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub session_id: Option<String>,
    /// The service tier that was used.
    pub service_tier: Option<String>,
    /// The buyer's user.
    pub external_user: Option<String>,
    /// The app's address, as it says.
    pub http_referer: Option<String>,
    /// The app's name, as it says.
    pub app_title: Option<String>,
    /// The buyer's program.
    pub user_agent: Option<String>,
    /// The engine of a web search; the market makes none.
    pub web_search_engine: Option<String>,
    /// An account is one workspace.
    pub workspace_id: Option<String>,
    /// Milliseconds to the first content.
    pub latency: Option<u64>,
    /// Milliseconds from the first content to the end.
    pub generation_time: Option<u64>,
    /// Milliseconds of moderation; there is none.
    pub moderation_latency: Option<u64>,
    /// What caching saved; not computed.
    pub cache_discount: Option<f64>,
    /// Prompt tokens billed.
    pub tokens_prompt: Option<u64>,
    /// Generated tokens billed.
    pub tokens_completion: Option<u64>,
    /// Prompt tokens as the seller counted.
    pub native_tokens_prompt: Option<u64>,
    /// Generated tokens as the seller counted.
    pub native_tokens_completion: Option<u64>,
    /// Tokens of pictures; not counted apart.
    pub native_tokens_completion_images: Option<u64>,
    /// The part of the generated tokens that was reasoning, where the seller said so.
    pub native_tokens_reasoning: Option<u64>,
    /// The part of the prompt that was read from a cache.
    pub native_tokens_cached: Option<u64>,
    /// Media in the prompt; not counted apart.
    pub num_media_prompt: Option<u64>,
    /// Media in the answer; not counted apart.
    pub num_media_completion: Option<u64>,
    /// Audio in the prompt; not counted apart.
    pub num_input_audio_prompt: Option<u64>,
    /// Results of a web search; the market makes none.
    pub num_search_results: Option<u64>,
    /// Pages fetched; the market fetches none.
    pub num_fetches: Option<u64>,
}

/// Where a request was processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum DataRegion {
    /// Anywhere.
    Global,
}

/// What a charge consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CostDetails {
    /// The prompt.
    pub prompt: Usd,
    /// The answer.
    pub completion: Usd,
    /// The request fee.
    pub request: Usd,
    /// Images, seconds, characters or searches.
    pub units: Usd,
    /// What rounding up once added.
    pub rounding: Usd,
}

/// What one seller that was asked gave back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProviderAttempt {
    /// Who was asked.
    pub provider_name: String,
    /// HTTP status or its equivalent; null when nothing came back.
    pub status: Option<u16>,
    /// Milliseconds to the head of the answer or the failure; absent where not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub latency: Option<u32>,
    /// Whether it was asked with the buyer's own key; absent where not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub is_byok: Option<bool>,
}

impl From<&Generation> for GenerationRecord {
    fn from(generation: &Generation) -> Self {
        let Generation { receipt, note } = generation;
        let id = receipt.request.to_string();
        let text = |text: &Option<NoteText>| text.as_ref().map(|text| text.as_str().to_owned());
        let (billed, claimed) = (receipt.usage_billed, receipt.usage_claimed);
        let native =
            |part: fn(&bourse_types::Usage) -> TokenCount| claimed.as_ref().map(|usage| part(usage).0);
        let charge = &receipt.charge;
        Self {
            request_id: text(&note.group_id).unwrap_or_else(|| id.clone()),
            id,
            upstream_id: text(&note.upstream_id),
            model: receipt.model.as_str().to_owned(),
            provider_name: receipt.seller.as_ref().map(|seller| seller.as_str().to_owned()),
            provider_responses: attempts(receipt, note),
            origin: text(&note.app_referer).unwrap_or_default(),
            created_at: receipt.created.to_iso_string(),
            data_region: DataRegion::Global,
            is_byok: note.is_byok(),
            total_cost: Usd(charge.total),
            usage: Usd(charge.total),
            cost_details: CostDetails {
                prompt: Usd(charge.prompt),
                completion: Usd(charge.completion),
                request: Usd(charge.request),
                units: Usd(charge.units),
                rounding: Usd(charge.rounding),
            },
            upstream_inference_cost: note.byok_cost.map(Usd),
            api_type: note.api_type.as_ref().map(|text| api_type(text.as_str()).to_owned()),
            app_id: None,
            streamed: Some(receipt.streamed),
            cancelled: Some(receipt.finish == Finish::Cancelled),
            finish_reason: Some(receipt.finish.as_str().to_owned()),
            native_finish_reason: text(&note.native_finish_reason),
            router: text(&note.router),
            preset_id: text(&note.preset),
            session_id: text(&note.session_id),
            service_tier: text(&note.service_tier),
            external_user: text(&note.external_user),
            http_referer: text(&note.app_referer),
            app_title: text(&note.app_title),
            user_agent: text(&note.user_agent),
            web_search_engine: None,
            workspace_id: None,
            latency: receipt.first_content_ms,
            generation_time: receipt.first_content_ms.map(|first| receipt.total_ms.saturating_sub(first)),
            moderation_latency: None,
            cache_discount: None,
            tokens_prompt: Some(billed.prompt.0),
            tokens_completion: Some(billed.completion.0),
            native_tokens_prompt: native(|usage| usage.prompt),
            native_tokens_completion: native(|usage| usage.completion),
            native_tokens_completion_images: None,
            native_tokens_reasoning: note.reasoning_tokens.map(|tokens| tokens.0),
            native_tokens_cached: native(|usage| usage.cached_prompt),
            num_media_prompt: None,
            num_media_completion: None,
            num_input_audio_prompt: None,
            num_search_results: None,
            num_fetches: None,
        }
    }
}

/// The note knows more of each attempt; where there is none, the receipt names them.
fn attempts(receipt: &Receipt, note: &GenerationNote) -> Vec<ProviderAttempt> {
    let one = |seller: &SellerName, status: u16, latency, is_byok| ProviderAttempt {
        provider_name: seller.as_str().to_owned(),
        status: (status > 0).then_some(status),
        latency,
        is_byok,
    };
    if note.provider_responses.is_empty() {
        return receipt.attempts.iter().map(|a| one(&a.seller, a.status, None, None)).collect();
    }
    let responses = note.provider_responses.iter();
    responses.map(|r| one(&r.seller, r.status, r.latency_ms, Some(r.is_byok))).collect()
}

/// The field's word for a front.
fn api_type(front: &str) -> &str {
    match front {
        "chat" | "responses" | "messages" => "completions",
        "images" => "image",
        "speech" => "tts",
        "transcription" | "transcriptions" => "stt",
        other => other,
    }
}
