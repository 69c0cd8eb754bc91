//! From a job to token ids, limits and seeds. Plain computation, checked before anything is submitted.

use crate::engine::{Generation, SamplingParams, SubmitError};
use crate::service::NodeService;
use bourse_proof::trace::{choice_nonce, run_seed};
use bourse_tokens::template::TemplateError;
use bourse_tokens::tokenizer::BYTES_PER_TOKEN_MIN;
use bourse_types::{Digest32, ModelSlug, RequestId};
use bourse_wire::node::{
    Count, FAILURE_MESSAGE_BYTES_MAX, FailureKind, Job, LOGIT_BIASES_MAX, Prompt, STOP_BYTES_MAX, STOPS_MAX,
    Sampling,
};

/// Most answers to one prompt.
pub(crate) const CHOICES_MAX: u32 = 128;
/// Most alternatives reported with a token.
pub(crate) const TOP_LOGPROBS_MAX: u8 = 20;

/// Bytes of a piece for each token of the context: twice what ordinary text has, so that most prompts are
/// one piece and are encoded once.
const PIECE_BYTES_PER_TOKEN: usize = 8;
/// More tokens than a cut in a text can add to its count.
const CUT_TOKENS_MAX: usize = 256;

/// Why a job is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// At whose door it lies.
    pub(crate) kind: FailureKind,
    /// In words, without content of the prompt.
    pub(crate) message: String,
}

impl Refusal {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(FAILURE_MESSAGE_BYTES_MAX));
        Self { kind, message }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    pub(crate) fn engine(message: &str) -> Self {
        Self::new(FailureKind::Engine, message)
    }
}

impl From<&SubmitError> for Refusal {
    fn from(error: &SubmitError) -> Self {
        let kind = match error {
            SubmitError::QueueFull { .. } => FailureKind::Busy,
            SubmitError::PromptTooLong { .. } | SubmitError::KvBudget { .. } => FailureKind::ContextLength,
            _ => FailureKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TemplateError> for Refusal {
    fn from(error: TemplateError) -> Self {
        let kind = match error {
            TemplateError::Template(_) => FailureKind::Engine,
            TemplateError::Messages(_) | TemplateError::Refused(_) | TemplateError::Render(_) => {
                FailureKind::Invalid
            }
        };
        Self::new(kind, error.to_string())
    }
}

/// A job that can be submitted.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) request: RequestId,
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: u32,
    pub(crate) sampling: SamplingParams,
    pub(crate) logprobs: Option<u8>,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_tokens: Vec<u32>,
    /// One for each choice.
    pub(crate) run_seeds: Vec<Digest32>,
}

impl Prepared {
    pub(crate) fn generation(&self, choice: usize) -> Generation {
        Generation {
            prompt: self.prompt.clone(),
            max_tokens: self.max_tokens,
            sampling: self.sampling.clone(),
            run_seed: self.run_seeds[choice].0,
            stop_tokens: self.stop_tokens.clone(),
            logprobs: self.logprobs,
        }
    }
}

/// Tokens of a prompt, as a job for it would be counted. One that does not fit the context is refused as such.
pub(crate) fn count(service: &NodeService, count: &Count) -> Result<u64, Refusal> {
    check_model(service, &count.model)?;
    Ok(encode_prompt(service, &count.prompt)?.len() as u64)
}

fn check_model(service: &NodeService, model: &ModelSlug) -> Result<(), Refusal> {
    if model == service.model() {
        return Ok(());
    }
    Err(Refusal::invalid(format!("this node serves {}, not {model}", service.model())))
}

/// Renders, encodes and checks a job.
pub(crate) fn prepare(service: &NodeService, job: &Job) -> Result<Prepared, Refusal> {
    check_model(service, &job.model)?;
    let sampling = checked_sampling(service, &job.sampling)?;
    if job.choices == 0 || job.choices > CHOICES_MAX {
        return Err(Refusal::invalid(format!("n must be between 1 and {CHOICES_MAX}")));
    }
    let prompt = encode_prompt(service, &job.prompt)?;
    let context = service.engine().capabilities().context_tokens_max as usize;
    if prompt.len() >= context {
        return Err(too_long(prompt.len(), context));
    }
    let room = (context - prompt.len()) as u32;
    Ok(Prepared {
        request: job.request,
        max_tokens: job.sampling.max_tokens.unwrap_or(room).min(room),
        sampling,
        logprobs: job.sampling.logprobs,
        stop: job.sampling.stop.clone(),
        stop_tokens: service.tokenizer().end_tokens().to_vec(),
        run_seeds: run_seeds(service, job),
        prompt,
    })
}

fn run_seeds(service: &NodeService, job: &Job) -> Vec<Digest32> {
    let commitment = &service.engine().capabilities().model_commitment;
    let request = if job.seed_binds_request { job.request } else { RequestId(0) };
    // A choice's number is below 128, so it fits a byte.
    let nonces = (0..job.choices).map(|choice| choice_nonce(&job.nonce, choice as u8));
    nonces.map(|nonce| run_seed(&nonce, request, commitment)).collect()
}

fn checked_sampling(service: &NodeService, sampling: &Sampling) -> Result<SamplingParams, Refusal> {
    if sampling.max_tokens == Some(0) {
        return Err(Refusal::invalid("max_tokens must be at least 1"));
    }
    if sampling.logprobs.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
        return Err(Refusal::invalid(format!("top_logprobs must be at most {TOP_LOGPROBS_MAX}")));
    }
    if sampling.stop.len() > STOPS_MAX || sampling.logit_bias.len() > LOGIT_BIASES_MAX {
        return Err(Refusal::invalid(format!(
            "at most {STOPS_MAX} stop strings and {LOGIT_BIASES_MAX} biases are taken"
        )));
    }
    if sampling.stop.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        return Err(Refusal::invalid(format!("a stop string has 1 to {STOP_BYTES_MAX} bytes")));
    }
    let params = SamplingParams {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        logit_bias: sampling.logit_bias.clone(),
    };
    let vocab_size = service.engine().capabilities().vocab_size;
    params.validate(vocab_size).map_err(|error| Refusal::invalid(error.to_string()))?;
    Ok(params)
}

fn encode_prompt(service: &NodeService, prompt: &Prompt) -> Result<Vec<u32>, Refusal> {
    let (tokens, bytes, messages) = match prompt {
        Prompt::Chat { messages_json, tools_json } => {
            let template = service
                .template()
                .ok_or_else(|| Refusal::invalid("this model has no chat template; use /v1/completions"))?;
            let chat = template.render(messages_json, tools_json.as_deref(), service.now())?;
            check_length(service, &chat.text)?;
            let tokens = service.tokenizer().encode(&chat.text);
            (tokens, messages_json.len() + tools_json.as_ref().map_or(0, String::len), chat.messages)
        }
        Prompt::Text(text) => {
            check_length(service, text)?;
            (service.tokenizer().encode_prompt(text), text.len(), 1)
        }
    };
    let tokens = tokens.map_err(|error| Refusal::engine(&error.to_string()))?;
    if tokens.is_empty() {
        return Err(Refusal::invalid("the prompt is empty; send at least one character"));
    }
    // What the gateway holds money for; a prompt beyond it would be served for less than it costs.
    let bound = bytes / BYTES_PER_TOKEN_MIN as usize + messages * service.template_tokens_max() as usize;
    if tokens.len() > bound {
        return Err(Refusal::invalid("the model's chat template expands this conversation beyond its bound"));
    }
    Ok(tokens)
}

/// Refuses a text that cannot fit before much time is spent on it: first by its length alone, then piece by
/// piece, so that a long text costs no more than a context's worth of encoding and one piece.
fn check_length(service: &NodeService, text: &str) -> Result<(), Refusal> {
    let context = service.engine().capabilities().context_tokens_max as usize;
    let tokens_min = text.len().div_ceil(service.tokenizer().token_bytes_max());
    if tokens_min > context {
        return Err(too_long(tokens_min, context));
    }
    let piece_bytes = context * PIECE_BYTES_PER_TOKEN;
    let (mut rest, mut tokens, mut room) = (text, 0, context);
    while rest.len() > piece_bytes {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(piece_bytes));
        let encoded = service.tokenizer().encode(piece);
        tokens += encoded.map_err(|error| Refusal::engine(&error.to_string()))?.len();
        room += CUT_TOKENS_MAX;
        if tokens > room {
            return Err(too_long(context, context));
        }
        rest = after;
    }
    Ok(())
}

fn too_long(tokens: usize, context: usize) -> Refusal {
    let message =
        format!("the prompt has at least {tokens} tokens; the context holds {context} with the answer");
    Refusal::new(FailureKind::ContextLength, message)
}
