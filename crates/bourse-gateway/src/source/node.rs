//! A node's stream: deltas that the market writes as the buyer's dialect.
//!
//! The node counts its own tokens, frame by frame, and swears to the total at the end. What is written
//! here is counted as it goes out, so a job that breaks off is billed by what was delivered.

use super::{Out, Progress, SourceEnd};
use crate::failure::{Failure, FailureClass};
use crate::node::{JobHandle, NodeEvent, failure_of};
use crate::recount::Gauge;
use bourse_market::{ClaimedUsage, Meter};
use bourse_types::{NodeId, RequestId};
use bourse_wire::dialect::grammar::EventWriter;
use bourse_wire::dialect::neutral::StreamEvent;
use bourse_wire::node::{Delta, Done, NodeFinish, Started};
use bourse_wire::receipt::Finish;
use std::borrow::Cow;
use std::task::{Context, Poll, ready};

/// One stream of a node.
pub(crate) struct NodeSource {
    job: JobHandle,
    request: RequestId,
    pub(super) writer: Box<dyn EventWriter>,
    /// Choices that have said something.
    spoken: Vec<bool>,
    finish: Option<Finish>,
    has_started: bool,
    done: Option<Box<Done>>,
    line: Vec<u8>,
}

impl NodeSource {
    pub(crate) fn new(
        job: JobHandle,
        request: RequestId,
        writer: Box<dyn EventWriter>,
        choices: u32,
    ) -> Self {
        let spoken = vec![false; choices as usize];
        Self { job, request, writer, spoken, finish: None, has_started: false, done: None, line: Vec::new() }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.finish.is_some()
    }

    pub(super) fn take_done(&mut self) -> Option<Box<Done>> {
        self.done.take()
    }

    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        gauge: &mut Gauge,
    ) -> Poll<Progress> {
        let event = ready!(self.job.poll_event(cx));
        Poll::Ready(self.event(event, out, gauge))
    }

    fn event(&mut self, event: NodeEvent, out: &mut Out, gauge: &mut Gauge) -> Progress {
        match event {
            NodeEvent::Started(started) => {
                self.has_started = true;
                on_started(&started, &mut gauge.meter);
            }
            NodeEvent::Delta(delta) => {
                if delta.choice as usize >= self.spoken.len() {
                    return broken("the node answered for a choice that was not asked for");
                }
                self.delta(&delta, out, gauge);
            }
            NodeEvent::Done(done) => return self.on_done(done, &mut gauge.meter),
            NodeEvent::Failed(failed) => return Progress::End(SourceEnd::Failed(failure_of(&failed))),
            NodeEvent::Counted(_) => return broken("the node counted where an answer was asked for"),
            NodeEvent::Lost => return broken("the node's link was lost"),
            NodeEvent::Overflow => {
                let slow = Failure::new(FailureClass::Timeout, 200, "the answer was read too slowly");
                return Progress::End(SourceEnd::Failed(slow));
            }
        }
        Progress::More
    }

    fn delta(&mut self, delta: &Delta, out: &mut Out, gauge: &mut Gauge) {
        gauge.meter.on_tokens(u64::from(delta.tokens), delta.text.len() as u64);
        gauge.on_text(delta.choice, &delta.text);
        let is_first = !std::mem::replace(&mut self.spoken[delta.choice as usize], true);
        let finish = delta.finish.map(finish_of);
        self.finish = finish.or(self.finish);
        self.line.clear();
        if !delta.text.is_empty() || delta.logprobs_json.is_some() || is_first {
            let logprobs_json = delta.logprobs_json.as_deref().map(Cow::Borrowed);
            let text = Cow::Borrowed(delta.text.as_str());
            let text = StreamEvent::Text { choice: delta.choice, text, logprobs_json };
            self.writer.event(&text, &mut self.line);
        }
        if let Some(finish) = finish {
            let end = StreamEvent::Finish { choice: delta.choice, finish, native: None };
            self.writer.event(&end, &mut self.line);
        }
        if !self.line.is_empty() {
            out.extend(&self.line);
        }
    }

    fn on_done(&mut self, done: Box<Done>, meter: &mut Meter) -> Progress {
        if let Verdict::Refused(why) = check_statement(&done, self.job.node.node, self.request) {
            return broken(why);
        }
        on_claim(&done, meter);
        self.done = Some(done);
        Progress::End(match self.finish {
            Some(finish) => SourceEnd::Complete(finish),
            None => SourceEnd::Failed(Failure::broken(200, "the node ended the job without a finish reason")),
        })
    }
}

/// Counts the prompt.
fn on_started(started: &Started, meter: &mut Meter) {
    meter.on_prompt(started.prompt_tokens, started.cached_tokens);
}

/// Notes what the node claims.
fn on_claim(done: &Done, meter: &mut Meter) {
    meter.on_claim(ClaimedUsage {
        prompt: done.usage.prompt.0,
        cached: done.usage.cached_prompt.0,
        cache_write: done.usage.cache_write.0,
        completion: done.usage.completion.0,
        reasoning: 0,
    });
}

/// Whether a node's statement can stand in a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It can.
    Accepted,
    /// It cannot.
    Refused(&'static str),
}

/// Checks that a statement is by that node, about that request and signed.
fn check_statement(done: &Done, node: NodeId, request: RequestId) -> Verdict {
    let statement = &done.statement.statement;
    if statement.node != node || statement.request != request || statement.usage != done.usage {
        return Verdict::Refused("the node's statement is about something else");
    }
    match bourse_proof::sign::verify_statement(&done.statement) {
        Ok(()) => Verdict::Accepted,
        Err(_) => Verdict::Refused("the node's statement is not signed by its key"),
    }
}

fn finish_of(finish: NodeFinish) -> Finish {
    match finish {
        NodeFinish::Stop => Finish::Stop,
        NodeFinish::Length => Finish::Length,
        NodeFinish::Cancelled => Finish::Cancelled,
    }
}

fn broken(reason: &'static str) -> Progress {
    Progress::End(SourceEnd::Failed(Failure::broken(200, reason)))
}
