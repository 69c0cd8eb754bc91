//! What a node serves: one model's engine with its tokenizer and template, under one key.

use crate::engine::Engine;
use bourse_engine::Vocabulary;
use bourse_proof::sign::Signer;
use bourse_tokens::pinned::chat_template;
use bourse_tokens::template::{ChatTemplate, TemplateError};
use bourse_tokens::tokenizer::{BYTES_PER_TOKEN_MIN, Tokenizer, TokenizerError};
use bourse_types::{ModelSlug, UnixMs};
use bourse_wire::node::{ENGINE_NAME_BYTES_MAX, NodeCard};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Jobs that a node takes at once, unless configured otherwise.
pub const JOBS_IN_FLIGHT_DEFAULT: u32 = 64;
/// Tokens beside a plain prompt: the one that may begin it.
const PLAIN_PROMPT_TOKENS: u32 = 1;

/// Why a model's text side cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its vocabulary.
    #[error("the model's tokenizer cannot be used")]
    Tokenizer(#[from] TokenizerError),
    /// Its chat template.
    #[error("the model's chat template cannot be used")]
    Template(#[from] TemplateError),
}

/// Everything that jobs share.
pub struct NodeService {
    model: ModelSlug,
    engine: Arc<dyn Engine>,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    signer: Signer,
    jobs_in_flight_max: u32,
    now: fn() -> UnixMs,
}

impl std::fmt::Debug for NodeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeService")
            .field("model", &self.model)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

impl NodeService {
    /// Puts an engine, the vocabulary of its model file and a key together.
    pub fn new(
        model: ModelSlug,
        engine: Arc<dyn Engine>,
        vocabulary: &Vocabulary,
        signer: Signer,
        jobs_in_flight_max: u32,
    ) -> Result<Self, ServiceError> {
        let tokenizer = Tokenizer::new(vocabulary)?;
        let template = chat_template(&tokenizer, vocabulary)?;
        Ok(Self { model, engine, tokenizer, template, signer, jobs_in_flight_max, now: wall_clock })
    }

    /// What the node shows to a gateway.
    pub fn card(&self) -> NodeCard {
        let capabilities = self.engine.capabilities();
        let mut engine = capabilities.name.clone();
        engine.truncate(engine.floor_char_boundary(ENGINE_NAME_BYTES_MAX));
        NodeCard {
            model: self.model.clone(),
            model_commitment: capabilities.model_commitment,
            context_tokens_max: capabilities.context_tokens_max,
            jobs_in_flight_max: self.jobs_in_flight_max,
            bytes_per_token_min: BYTES_PER_TOKEN_MIN,
            template_tokens_max: self.template_tokens_max(),
            gpus: capabilities.gpus,
            engine,
        }
    }

    /// The model that is sold.
    pub fn model(&self) -> &ModelSlug {
        &self.model
    }

    /// The node's key.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(crate) fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    pub(crate) fn jobs_in_flight_max(&self) -> u32 {
        self.jobs_in_flight_max
    }

    /// Tokens that a prompt may have for each message beyond its bytes: a token is at least a byte, so the
    /// bytes that the template adds bound the tokens that it adds.
    pub(crate) fn template_tokens_max(&self) -> u32 {
        let template = self.template.as_ref().map_or(0, ChatTemplate::overhead_bytes_max);
        template.max(PLAIN_PROMPT_TOKENS)
    }

    pub(crate) fn now(&self) -> UnixMs {
        (self.now)()
    }
}

fn wall_clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
