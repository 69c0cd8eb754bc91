//! Writing a job for a seller: the body of a hosted API, the prompt of a node.

use crate::dialect::chat::{Chat, Manner};
use crate::dialect::neutral::{Notice, Part};
use crate::dialect::{Api, Job, Member, MemberRule, chat, fields, front, messages, passthrough, responses};
use crate::error::ApiError;
use crate::json::{push_string, push_u64};
use crate::node::Prompt;
use bytes::Bytes;

/// Members of a chat whose answers are told by the pieces of a stream as by the whole.
const SAID_BY_STREAMS: [&str; 31] = [
    "messages",
    "stream",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "top_a",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "reasoning_effort",
    "include_reasoning",
    "verbosity",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "cache_control",
];

impl Job {
    /// [`Job::rebuild`] with the content type, where that is not JSON: a transcription is asked for with a form, whatever
    /// the buyer sent. An error names the field that no form can say. A chat is said in the seller's manner.
    pub fn rebuild_typed(
        &self,
        upstream_id: &str,
        max_tokens: Option<u32>,
        manner: Manner,
    ) -> Result<(Option<String>, Bytes), ApiError> {
        if self.api != Api::Transcription {
            return Ok((None, self.rebuild_for(upstream_id, max_tokens, manner)));
        }
        match self.passed.as_ref().and_then(|passed| passed.form.as_ref()) {
            Some(form) => Ok((Some(form.content_type.clone()), form.rebuild(&self.body, upstream_id))),
            None => {
                passthrough::form_of(self, upstream_id).map(|(content_type, body)| (Some(content_type), body))
            }
        }
    }

    /// The body for a seller of the buyer's own grammar: `upstream_id` in place of the model, usage asked for
    /// on streams of OpenAI's older grammars, the answer capped at `max_tokens` when given, our own members
    /// left out.
    pub fn rebuild(&self, upstream_id: &str, max_tokens: Option<u32>) -> Bytes {
        self.rebuild_for(upstream_id, max_tokens, Manner::VERBATIM)
    }

    fn rebuild_for(&self, upstream_id: &str, max_tokens: Option<u32>, manner: Manner) -> Bytes {
        if let Some(form) = self.passed.as_ref().and_then(|passed| passed.form.as_ref()) {
            return form.rebuild(&self.body, upstream_id);
        }
        let mut out = Vec::with_capacity(self.body.len() + 96 + upstream_id.len());
        out.push(b'{');
        let is_strict = self.api == Api::Chat && manner.chat == Chat::Strict;
        let is_gathered = manner.gathers && !self.stream;
        let mut capped = false;
        for member in &self.members {
            let replaces = match member.rule {
                MemberRule::Drop => continue,
                MemberRule::StreamOptions if self.stream || is_gathered => continue,
                MemberRule::Copy if is_gathered && self.text(&member.key) == "stream" => continue,
                // Said below, under the one name that all of its models take.
                MemberRule::MaxTokens if is_strict => continue,
                MemberRule::MaxTokens | MemberRule::Thinking => max_tokens.is_some(),
                MemberRule::Clean => self.is_cleaned(manner),
                MemberRule::Model => true,
                MemberRule::Copy | MemberRule::StreamOptions => false,
            };
            if out.len() > 1 {
                out.push(b',');
            }
            if !replaces {
                out.extend_from_slice(&self.body[member.key.start - 1..member.value.end]);
                continue;
            }
            out.extend_from_slice(&self.body[member.key.start - 1..=member.key.end]);
            out.push(b':');
            match (member.rule, max_tokens) {
                (MemberRule::MaxTokens, Some(cap)) => {
                    push_u64(&mut out, u64::from(cap));
                    capped = true;
                }
                (MemberRule::Clean, _) => {
                    let text = self.text(&member.value);
                    match self.api {
                        Api::Responses => responses::push_clean(text, &mut out),
                        Api::Messages => messages::push_clean(text, &mut out),
                        _ => chat::push_clean(text, manner, &mut out),
                    }
                }
                (MemberRule::Thinking, Some(cap)) => {
                    messages::push_thinking(self.text(&member.value), cap, &mut out);
                }
                _ => push_string(&mut out, upstream_id),
            }
        }
        if !self.members.iter().any(|m| m.rule == MemberRule::Model) {
            push_key(&mut out, "model");
            push_string(&mut out, upstream_id);
        }
        if is_strict {
            if let Some(limit) = max_tokens.into_iter().chain(self.max_tokens).min() {
                push_key(&mut out, "max_completion_tokens");
                push_u64(&mut out, u64::from(limit));
            }
        } else if let (Some(cap), false) = (max_tokens, capped) {
            push_key(&mut out, if self.api == Api::Responses { "max_output_tokens" } else { "max_tokens" });
            push_u64(&mut out, u64::from(cap));
        }
        if self.api == Api::Responses {
            responses::push_rebuilt(self, &mut out);
        }
        self.push_stream(is_gathered, &mut out);
        out.push(b'}');
        Bytes::from(out)
    }

    /// What asks for a stream that an answer in one piece is gathered from, and any stream for its usage.
    fn push_stream(&self, is_gathered: bool, out: &mut Vec<u8>) {
        if is_gathered {
            push_key(out, "stream");
            out.extend_from_slice(b"true");
        }
        if (self.stream || is_gathered) && matches!(self.api, Api::Chat | Api::Text) {
            push_key(out, "stream_options");
            out.extend_from_slice(b"{\"include_usage\":true}");
        }
    }

    /// Whether a stream of the buyer's own grammar says all that the answer in one piece would, as long as the seller's
    /// streams do: nothing is asked for whose answer this house does not know piece by piece.
    pub fn streams_say_all(&self) -> bool {
        let is_known = |member: &Member| match member.rule {
            MemberRule::Drop | MemberRule::Model | MemberRule::MaxTokens | MemberRule::Clean => true,
            MemberRule::StreamOptions | MemberRule::Thinking => false,
            MemberRule::Copy => {
                SAID_BY_STREAMS.contains(&self.text(&member.key)) || self.text(&member.value) == "null"
            }
        };
        self.api == Api::Chat && self.members.iter().all(is_known)
    }

    /// What [`Job::rebuild_typed`] takes out: reasoning that no seller of the grammar could read, or that this one refuses.
    pub fn cleaned(&self, manner: Manner) -> Option<Notice> {
        let member = self.members.iter().find(|member| member.rule == MemberRule::Clean)?;
        let what = match self.api {
            Api::Chat if manner.takes_reasoning && manner.chat == Chat::Server => return None,
            Api::Chat => "reasoning left out, which this seller does not take back",
            _ => "reasoning that another seller signed, or nobody did, left out",
        };
        self.is_cleaned(manner).then(|| Notice::new(self.text(&member.key).to_owned(), what))
    }

    /// Whether what may have to be taken out is taken out. In chats that depends on the seller.
    fn is_cleaned(&self, manner: Manner) -> bool {
        self.api != Api::Chat || manner.changes_reasoning()
    }

    /// The prompt for who only counts its text: the same as for a node, without pictures, sounds and files.
    pub fn prompt_without_media(&self) -> Result<Prompt, ApiError> {
        if self.needs.media_parts == 0 {
            return self.node_prompt();
        }
        let mut request = front::read(self)?;
        request.messages.iter_mut().for_each(|message| Part::leave_out_media(&mut message.parts));
        chat::node_prompt(&request)
    }

    /// The prompt for a node. An error names the field that no chat can say.
    pub fn node_prompt(&self) -> Result<Prompt, ApiError> {
        match self.api {
            Api::Text => {
                let text = serde_json::from_str(self.text(&self.prompt));
                text.map(Prompt::Text)
                    .map_err(|_| fields::wrong("prompt", "text without half surrogate pairs"))
            }
            Api::Chat => Ok(Prompt::Chat {
                messages_json: self.text(&self.prompt).to_owned(),
                tools_json: self.tools.as_ref().map(|span| self.text(span).to_owned()),
            }),
            _ => chat::node_prompt(&front::read(self)?),
        }
    }
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    push_string(out, key);
    out.push(b':');
}
