//! Frames as bytes: `u32` little-endian length, a kind byte, the canonical fields in order.
//!
//! The length counts the kind byte and the fields. Writing trusts its input (the link refuses a frame
//! that came out too long); reading trusts nothing: every text has a named bound below, collections are
//! counted before they are read, a float that is not finite is refused, and no byte may be left over.
//! Ranges of sampling parameters are the engine's business, not the codec's.

use super::{
    Count, Counted, Delta, Done, Failed, FailureKind, Frame, Hello, Job, Load, NODE_PROTOCOL_VERSION,
    NodeCard, NodeFinish, Prompt, Sampling, Started, Welcome,
};
use crate::canonical::{CanonicalError, Reader, Writer};
use crate::receipt::{NodeStatement, SignedNodeStatement, read_usage, write_usage};
use bourse_types::{Digest32, ModelSlug, NAME_BYTES_MAX, NodeId, RequestId};

/// Bytes of the length before each frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;
/// Longest messages JSON or plain prompt of a job. A request body is at most 10 MB, this is 10 MiB.
pub const PROMPT_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Longest tools JSON of a job.
pub const TOOLS_JSON_BYTES_MAX: usize = 1024 * 1024;
/// Most stop strings of a job.
pub const STOPS_MAX: usize = 16;
/// Longest stop string, in bytes: a node holds back as much text as the longest one.
pub const STOP_BYTES_MAX: usize = 1024;
/// Most logit biases of a job.
pub const LOGIT_BIASES_MAX: usize = 1024;
/// Longest text of one delta. A node splits what is longer.
pub const DELTA_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest log-probabilities JSON of one delta.
pub const LOGPROBS_JSON_BYTES_MAX: usize = 1024 * 1024;
/// Longest name of an engine and its build.
pub const ENGINE_NAME_BYTES_MAX: usize = 256;
/// Longest message of a failure.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;

/// The kind byte of each frame. Numbers are part of the protocol and never reused.
mod kind {
    pub(super) const CHALLENGE: u8 = 1;
    pub(super) const HELLO: u8 = 2;
    pub(super) const WELCOME: u8 = 3;
    pub(super) const JOB: u8 = 4;
    pub(super) const CANCEL: u8 = 5;
    pub(super) const STARTED: u8 = 6;
    pub(super) const DELTA: u8 = 7;
    pub(super) const DONE: u8 = 8;
    pub(super) const FAILED: u8 = 9;
    pub(super) const LOAD: u8 = 10;
    pub(super) const GOODBYE: u8 = 11;
    pub(super) const COUNT: u8 = 12;
    pub(super) const COUNTED: u8 = 13;
}

impl Frame {
    /// Appends the frame with its length to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut w = Writer { bytes: std::mem::take(out) };
        w.u32(0);
        self.write(&mut w);
        let length = (w.bytes.len() - start - LENGTH_PREFIX_BYTES) as u32;
        w.bytes[start..start + LENGTH_PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
        *out = w.bytes;
    }

    /// Reads one frame from its bytes after the length: the kind byte and all fields, nothing more.
    pub fn decode(payload: &[u8]) -> Result<Self, CanonicalError> {
        let mut r = Reader::new(payload);
        let frame = Self::read(&mut r)?;
        r.finish()?;
        Ok(frame)
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Challenge(bytes) => {
                w.u8(kind::CHALLENGE);
                w.fixed(bytes);
            }
            Self::Hello(hello) => write_hello(w, hello),
            Self::Welcome(welcome) => {
                w.u8(kind::WELCOME);
                w.u32(welcome.version);
                w.u32(welcome.jobs_in_flight_max);
            }
            Self::Job(job) => write_job(w, job),
            Self::Cancel(request) => {
                w.u8(kind::CANCEL);
                w.u128(request.0);
            }
            Self::Started(started) => {
                w.u8(kind::STARTED);
                w.u128(started.request.0);
                w.u64(started.prompt_tokens);
                w.u64(started.cached_tokens);
            }
            Self::Delta(delta) => write_delta(w, delta),
            Self::Done(done) => {
                w.u8(kind::DONE);
                write_usage(w, &done.usage);
                done.statement.statement.write(w);
                w.fixed(&done.statement.signature);
            }
            Self::Failed(failed) => {
                w.u8(kind::FAILED);
                w.u128(failed.request.0);
                w.u8(failed.kind as u8);
                w.text(&failed.message);
            }
            Self::Load(load) => {
                w.u8(kind::LOAD);
                w.u32(load.running);
                w.u32(load.waiting);
                w.u64(load.kv_tokens_used);
                w.u64(load.kv_tokens_max);
            }
            Self::Count(count) => {
                w.u8(kind::COUNT);
                w.u128(count.request.0);
                w.text(count.model.as_str());
                write_prompt(w, &count.prompt);
            }
            Self::Counted(counted) => {
                w.u8(kind::COUNTED);
                w.u128(counted.request.0);
                w.u64(counted.prompt_tokens);
            }
            Self::Goodbye => w.u8(kind::GOODBYE),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CanonicalError> {
        Ok(match r.u8()? {
            kind::CHALLENGE => Self::Challenge(r.array()?),
            kind::HELLO => Self::Hello(read_hello(r)?),
            kind::WELCOME => Self::Welcome(Welcome { version: version(r)?, jobs_in_flight_max: r.u32()? }),
            kind::JOB => Self::Job(Box::new(read_job(r)?)),
            kind::CANCEL => Self::Cancel(RequestId(r.u128()?)),
            kind::STARTED => Self::Started(Started {
                request: RequestId(r.u128()?),
                prompt_tokens: r.u64()?,
                cached_tokens: r.u64()?,
            }),
            kind::DELTA => Self::Delta(read_delta(r)?),
            kind::DONE => Self::Done(Box::new(Done {
                usage: read_usage(r)?,
                statement: SignedNodeStatement { statement: NodeStatement::read(r)?, signature: r.array()? },
            })),
            kind::FAILED => Self::Failed(Failed {
                request: RequestId(r.u128()?),
                kind: failure_kind(r.u8()?)?,
                message: text(r, FAILURE_MESSAGE_BYTES_MAX)?,
            }),
            kind::LOAD => Self::Load(Load {
                running: r.u32()?,
                waiting: r.u32()?,
                kv_tokens_used: r.u64()?,
                kv_tokens_max: r.u64()?,
            }),
            kind::COUNT => Self::Count(Box::new(Count {
                request: RequestId(r.u128()?),
                model: model(r)?,
                prompt: read_prompt(r)?,
            })),
            kind::COUNTED => {
                Self::Counted(Counted { request: RequestId(r.u128()?), prompt_tokens: r.u64()? })
            }
            kind::GOODBYE => Self::Goodbye,
            _ => return Err(CanonicalError::Value("kind")),
        })
    }
}

fn write_hello(w: &mut Writer, hello: &Hello) {
    w.u8(kind::HELLO);
    w.u32(hello.version);
    w.fixed(&hello.node.0);
    w.fixed(&hello.signature);
    let card = &hello.card;
    w.text(card.model.as_str());
    w.fixed(&card.model_commitment.0);
    w.u32(card.context_tokens_max);
    w.u32(card.jobs_in_flight_max);
    w.u32(card.bytes_per_token_min);
    w.u32(card.template_tokens_max);
    w.option(card.gpus, Writer::u32);
    w.text(&card.engine);
}

fn read_hello(r: &mut Reader<'_>) -> Result<Hello, CanonicalError> {
    Ok(Hello {
        version: version(r)?,
        node: NodeId(r.array()?),
        signature: r.array()?,
        card: NodeCard {
            model: model(r)?,
            model_commitment: Digest32(r.array()?),
            context_tokens_max: r.u32()?,
            jobs_in_flight_max: r.u32()?,
            bytes_per_token_min: r.u32()?,
            template_tokens_max: r.u32()?,
            gpus: r.option(Reader::u32)?,
            engine: text(r, ENGINE_NAME_BYTES_MAX)?,
        },
    })
}

fn write_prompt(w: &mut Writer, prompt: &Prompt) {
    match prompt {
        Prompt::Chat { messages_json, tools_json } => {
            w.u8(0);
            w.text(messages_json);
            w.option(tools_json.as_deref(), Writer::text);
        }
        Prompt::Text(prompt) => {
            w.u8(1);
            w.text(prompt);
        }
    }
}

fn read_prompt(r: &mut Reader<'_>) -> Result<Prompt, CanonicalError> {
    Ok(match r.u8()? {
        0 => Prompt::Chat {
            messages_json: text(r, PROMPT_BYTES_MAX)?,
            tools_json: r.option(|r| text(r, TOOLS_JSON_BYTES_MAX))?,
        },
        1 => Prompt::Text(text(r, PROMPT_BYTES_MAX)?),
        _ => return Err(CanonicalError::Value("prompt")),
    })
}

fn write_job(w: &mut Writer, job: &Job) {
    w.u8(kind::JOB);
    w.u128(job.request.0);
    w.text(job.model.as_str());
    write_prompt(w, &job.prompt);
    write_sampling(w, &job.sampling);
    w.u32(job.choices);
    w.fixed(&job.nonce);
    w.u8(u8::from(job.seed_binds_request));
    w.u64(job.deadline_ms);
}

fn read_job(r: &mut Reader<'_>) -> Result<Job, CanonicalError> {
    Ok(Job {
        request: RequestId(r.u128()?),
        model: model(r)?,
        prompt: read_prompt(r)?,
        sampling: read_sampling(r)?,
        choices: r.u32()?,
        nonce: r.array()?,
        seed_binds_request: match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(CanonicalError::Value("seed_binds_request")),
        },
        deadline_ms: r.u64()?,
    })
}

fn write_sampling(w: &mut Writer, sampling: &Sampling) {
    write_f32(w, sampling.temperature);
    write_f32(w, sampling.top_p);
    w.u32(sampling.top_k);
    write_f32(w, sampling.min_p);
    write_f32(w, sampling.repetition_penalty);
    write_f32(w, sampling.presence_penalty);
    write_f32(w, sampling.frequency_penalty);
    w.u32(sampling.logit_bias.len() as u32);
    for (token, bias) in &sampling.logit_bias {
        w.u32(*token);
        write_f32(w, *bias);
    }
    w.option(sampling.logprobs, Writer::u8);
    w.u32(sampling.stop.len() as u32);
    for stop in &sampling.stop {
        w.text(stop);
    }
    w.option(sampling.max_tokens, Writer::u32);
}

fn read_sampling(r: &mut Reader<'_>) -> Result<Sampling, CanonicalError> {
    Ok(Sampling {
        temperature: read_f32(r, "temperature")?,
        top_p: read_f32(r, "top_p")?,
        top_k: r.u32()?,
        min_p: read_f32(r, "min_p")?,
        repetition_penalty: read_f32(r, "repetition_penalty")?,
        presence_penalty: read_f32(r, "presence_penalty")?,
        frequency_penalty: read_f32(r, "frequency_penalty")?,
        logit_bias: list(r, LOGIT_BIASES_MAX, |r| Ok((r.u32()?, read_f32(r, "logit_bias")?)))?,
        logprobs: r.option(Reader::u8)?,
        stop: list(r, STOPS_MAX, |r| text(r, STOP_BYTES_MAX))?,
        max_tokens: r.option(Reader::u32)?,
    })
}

fn write_delta(w: &mut Writer, delta: &Delta) {
    w.u8(kind::DELTA);
    w.u128(delta.request.0);
    w.u32(delta.choice);
    w.text(&delta.text);
    w.u32(delta.tokens);
    w.option(delta.logprobs_json.as_deref(), Writer::text);
    w.option(delta.finish, |w, finish| w.u8(finish as u8));
}

fn read_delta(r: &mut Reader<'_>) -> Result<Delta, CanonicalError> {
    Ok(Delta {
        request: RequestId(r.u128()?),
        choice: r.u32()?,
        text: text(r, DELTA_TEXT_BYTES_MAX)?,
        tokens: r.u32()?,
        logprobs_json: r.option(|r| text(r, LOGPROBS_JSON_BYTES_MAX))?,
        finish: r.option(|r| match r.u8()? {
            0 => Ok(NodeFinish::Stop),
            1 => Ok(NodeFinish::Length),
            2 => Ok(NodeFinish::Cancelled),
            _ => Err(CanonicalError::Value("finish")),
        })?,
    })
}

/// The version stands first in `Hello` and `Welcome`, so that a peer of another version is named as such
/// and not called malformed: what follows may have another shape.
fn version(r: &mut Reader<'_>) -> Result<u32, CanonicalError> {
    match r.u32()? {
        NODE_PROTOCOL_VERSION => Ok(NODE_PROTOCOL_VERSION),
        other => Err(CanonicalError::Version(u8::try_from(other).unwrap_or(u8::MAX))),
    }
}

fn failure_kind(byte: u8) -> Result<FailureKind, CanonicalError> {
    match byte {
        0 => Ok(FailureKind::Invalid),
        1 => Ok(FailureKind::ContextLength),
        2 => Ok(FailureKind::Busy),
        3 => Ok(FailureKind::Engine),
        _ => Err(CanonicalError::Value("failure kind")),
    }
}

fn write_f32(w: &mut Writer, value: f32) {
    w.u32(value.to_bits());
}

fn read_f32(r: &mut Reader<'_>, field: &'static str) -> Result<f32, CanonicalError> {
    let value = f32::from_bits(r.u32()?);
    if value.is_finite() { Ok(value) } else { Err(CanonicalError::Value(field)) }
}

fn text(r: &mut Reader<'_>, bytes_max: usize) -> Result<String, CanonicalError> {
    let n = r.u32()? as usize;
    if n > bytes_max {
        return Err(CanonicalError::Long(n));
    }
    std::str::from_utf8(r.fixed(n)?).map(str::to_owned).map_err(|_| CanonicalError::Value("text"))
}

fn model(r: &mut Reader<'_>) -> Result<ModelSlug, CanonicalError> {
    let name = text(r, NAME_BYTES_MAX)?;
    ModelSlug::parse(&name).map_err(|_| CanonicalError::Value("model"))
}

fn list<T>(
    r: &mut Reader<'_>,
    items_max: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, CanonicalError>,
) -> Result<Vec<T>, CanonicalError> {
    let n = r.u32()? as usize;
    if n > items_max {
        return Err(CanonicalError::Long(n));
    }
    (0..n).map(|_| read(r)).collect()
}

#[cfg(test)]
mod tests;
