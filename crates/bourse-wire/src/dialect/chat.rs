//! The grammar of OpenAI's `chat/completions`, and of legacy `completions`, in the neutral form.
//!
//! [`openai`](super::openai) reads what buyers send in one pass; here are the whole reading of a chat, the
//! writing of one for sellers, and answers both ways. `/completions` is passed through to sellers that have it
//! and is translated to nothing: raw text to be continued is not a conversation.
//!
//! Sources: OpenAI's API reference (2026-10); vLLM's, llama.cpp's and LiteLLM's servers for the variants of
//! thoughts and errors; reference, router §1.2, §1.12 to §1.14.

mod answer;
mod clean;
mod details;
mod errors;
mod passage;
mod read;
mod reader;
mod text;
mod write;
mod writer;

pub(super) use passage::on_one_line;

pub use clean::Manner;
pub(super) use clean::{is_reasoning, push_clean};

pub(super) use answer::push_answer;
pub(super) use read::read;
pub(super) use reader::made_id;

use super::answer::push_usage_claimed;
use super::grammar::{
    Billed, Call, Dialect, EventReader, EventWriter, Facts, Framing, Head, Passage, SellerError, Shape,
    Written,
};
use super::neutral::{Answer, Request};
use super::{Api, Job, lists};
use crate::error::ApiError;
use crate::node::Prompt;

/// The grammar as sellers speak it. The families take the same core and differ at the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chat {
    /// OpenAI itself, and who takes nothing beyond its page: `developer`, `max_completion_tokens`, marks on the
    /// cache for models that know them.
    Strict,
    /// Servers of open weights (vLLM, llama.cpp, SGLang, …): more sampling, `system` for developers,
    /// `reasoning_content` taken back.
    Server,
    /// Routers (OpenRouter, LiteLLM, other markets): `reasoning`, `reasoning_details`, `cache_control`.
    Router,
}

const FACTS: Facts = Facts {
    shape: Shape::Chat,
    framing: Framing::Sse,
    path: |_, _| "/chat/completions".to_owned(),
    list: lists::OPENAI,
    count: None,
    #[cfg(test)]
    mirror: None,
};

impl Dialect for Chat {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
        write::write(*self, request, call)
    }

    fn read_answer(&self, body: &str) -> Result<Answer, SellerError> {
        answer::read(body)
    }

    fn reader(&self) -> Box<dyn EventReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, status: u16, body: &[u8]) -> SellerError {
        errors::read(status, body)
    }
}

/// Raw text to be continued is not a conversation.
pub(super) fn read_text(_job: &Job) -> Result<Request, ApiError> {
    Err(ApiError::field(
        "prompt",
        "this model's sellers speak only chats: send `messages` to /v1/chat/completions",
    ))
}

pub(super) fn writer(api: Api, head: &Head) -> Box<dyn EventWriter> {
    Box::new(writer::StreamWriter::new(api, head))
}

pub(super) fn passage(api: Api, head: &Head) -> Box<dyn Passage> {
    Box::new(passage::ChatPassage::new(api, head))
}

pub(super) fn push_usage(billed: &Billed<'_>, out: &mut Vec<u8>) {
    push_usage_claimed(out, billed.usage, billed.charge, billed.claim, billed.raw);
    out.pop();
    out.extend_from_slice(if billed.is_byok { b",\"is_byok\":true}" } else { b",\"is_byok\":false}" });
}

/// The prompt of a conversation for a node, whatever grammar it was said in: messages and tools as the
/// templates of open models read them.
pub(crate) fn node_prompt(request: &Request) -> Result<Prompt, ApiError> {
    let mut messages = write::Writer::new(Chat::Server);
    write::push_messages(&mut messages, &request.messages)?;
    let mut tools = write::Writer::new(Chat::Server);
    write::push_tool_list(&mut tools, &request.tools);
    let text = |w: write::Writer| String::from_utf8(w.out).unwrap_or_default();
    let tools_json = (!request.tools.is_empty()).then(|| text(tools));
    Ok(Prompt::Chat { messages_json: text(messages), tools_json })
}
