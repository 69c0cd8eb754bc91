//! Connected nodes as sellers.
//!
//! A [`NodeHandle`] stands for one open link. A job gets a queue of what the node says about it, and
//! always an end: the node's own `Done` or `Failed`, or [`NodeEvent::Lost`] when the link goes first. A
//! buyer that reads slowly fills its job's queue up to a bound and then loses the job; it never holds up
//! the other jobs of the link.

pub(crate) mod hub;

use crate::config::{JOB_QUEUE_BYTES_MAX, NodeAdmission};
use crate::failure::{Failure, FailureClass};
use bourse_market::{Offer, PromptBound, Quantization, Supports};
use bourse_types::{ModelSlug, NodeId, RequestId, SellerName};
use bourse_wire::funds::GPUS_MAX;
use bourse_wire::node::{Count, Counted, Delta, Done, Failed, FailureKind, Frame, Job, NodeCard, Started};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;

/// What a node's engine can do.
const NODE_SUPPORTS: Supports = Supports::ALL
    .without(Supports::TOOLS)
    .without(Supports::RESPONSE_FORMAT)
    .without(Supports::HIDDEN_REASONING)
    .without(Supports::MEDIA)
    .without(Supports::REASONING)
    .without(Supports::STRUCTURED_OUTPUTS)
    .without(Supports::PARALLEL_TOOLS)
    .without(Supports::VERBOSITY)
    .without(Supports::TOP_A);

/// One thing that was said about a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeEvent {
    /// Admitted.
    Started(Started),
    /// A piece of the answer.
    Delta(Delta),
    /// The end of a count.
    Counted(Counted),
    /// The end.
    Done(Box<Done>),
    /// The end without an answer.
    Failed(Failed),
    /// The end: the link is gone.
    Lost,
    /// The end: the buyer reads too slowly.
    Overflow,
}

impl NodeEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Delta(d) => 64 + d.text.len() + d.logprobs_json.as_ref().map_or(0, String::len),
            _ => 64,
        }
    }

    fn is_end(&self) -> bool {
        !matches!(self, Self::Started(_) | Self::Delta(_))
    }
}

#[derive(Default)]
struct Queue {
    events: VecDeque<NodeEvent>,
    bytes: usize,
    waker: Option<Waker>,
    /// Nothing more is taken: the end was queued, or nobody listens any more.
    is_closed: bool,
}

/// What waits for one job's buyer.
#[derive(Default)]
struct JobCell(Mutex<Queue>);

impl JobCell {
    /// Queues an event. False when the queue is full and the job must be cancelled.
    fn push(&self, event: NodeEvent) -> bool {
        let mut queue = self.0.lock();
        if queue.is_closed {
            return true;
        }
        let fits = event.is_end() || queue.bytes + event.bytes() <= JOB_QUEUE_BYTES_MAX;
        let event = if fits { event } else { NodeEvent::Overflow };
        queue.is_closed = event.is_end();
        queue.bytes += event.bytes();
        queue.events.push_back(event);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        fits
    }
}

struct Jobs {
    open: HashMap<RequestId, Arc<JobCell>>,
    is_lost: bool,
}

/// One open link to a node.
pub(crate) struct NodeHandle {
    pub(crate) node: NodeId,
    pub(crate) seller: SellerName,
    admission: NodeAdmission,
    card: NodeCard,
    frames: mpsc::Sender<Frame>,
    jobs: Mutex<Jobs>,
}

impl NodeHandle {
    /// A handle and the frames that its link must write.
    pub(crate) fn new(admission: NodeAdmission, card: NodeCard) -> (Arc<Self>, mpsc::Receiver<Frame>) {
        // A job is written once and cancelled at most once, so this never fills while the link lives.
        let room = 4 * card.jobs_in_flight_max as usize + 16;
        let (frames, receiver) = mpsc::channel(room);
        let handle = Self {
            node: admission.node,
            seller: admission.seller.clone(),
            admission,
            card,
            frames,
            jobs: Mutex::new(Jobs { open: HashMap::new(), is_lost: false }),
        };
        (Arc::new(handle), receiver)
    }

    /// What the node offers.
    pub(crate) fn offer(&self) -> Offer {
        let (model, seller) = (self.card.model.clone(), self.seller.clone());
        let (prices, context) = (self.admission.prices, u64::from(self.card.context_tokens_max));
        Offer {
            supports: NODE_SUPPORTS,
            capacity: Some(self.card.jobs_in_flight_max),
            prompt_bound: PromptBound {
                bytes_per_token_min: self.card.bytes_per_token_min,
                per_message_tokens: self.card.template_tokens_max,
            },
            quantization: Quantization::Int8,
            data: self.admission.data,
            free: self.admission.free,
            ..Offer::new(model, seller, Some(prices), context)
        }
    }

    /// GPUs that it computes with, as its card says, where that can be.
    pub(crate) fn gpus(&self) -> Option<u32> {
        self.card.gpus.filter(|gpus| *gpus <= GPUS_MAX)
    }

    /// The model that it serves.
    pub(crate) fn model(&self) -> &ModelSlug {
        &self.card.model
    }

    /// Tokens that its cache can hold at most, as far as its card tells: those of all jobs at once.
    pub(crate) fn cache_tokens_max(&self) -> u64 {
        u64::from(self.card.context_tokens_max) * u64::from(self.card.jobs_in_flight_max)
    }

    /// Hands the node a job.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) -> Result<JobHandle, Failure> {
        self.open(job.request, Frame::Job(Box::new(job)))
    }

    /// Hands the node a prompt to count.
    pub(crate) fn count(self: &Arc<Self>, count: Count) -> Result<JobHandle, Failure> {
        self.open(count.request, Frame::Count(Box::new(count)))
    }

    fn open(self: &Arc<Self>, request: RequestId, frame: Frame) -> Result<JobHandle, Failure> {
        let cell = Arc::new(JobCell::default());
        {
            let mut jobs = self.jobs.lock();
            if jobs.is_lost {
                return Err(Failure::broken(0, "its link is gone"));
            }
            if jobs.open.len() >= self.card.jobs_in_flight_max as usize {
                return Err(Failure::new(FailureClass::Overloaded, 503, "it has no room for another job"));
            }
            jobs.open.insert(request, Arc::clone(&cell));
        }
        if self.frames.try_send(frame).is_err() {
            self.jobs.lock().open.remove(&request);
            return Err(Failure::broken(0, "its link does not take more"));
        }
        Ok(JobHandle { node: Arc::clone(self), request, cell })
    }

    /// Hands an event to its job; the end frees the job's place.
    fn route(&self, request: RequestId, event: NodeEvent) {
        let is_end = event.is_end();
        let cell = {
            let mut jobs = self.jobs.lock();
            if is_end { jobs.open.remove(&request) } else { jobs.open.get(&request).cloned() }
        };
        // What is said about a job that ended here already is late, not wrong.
        if cell.is_some_and(|cell| !cell.push(event)) {
            self.cancel(request);
        }
    }

    fn cancel(&self, request: RequestId) {
        // A full queue means that the link is stuck; it will be lost, and the job with it.
        let _ = self.frames.try_send(Frame::Cancel(request));
    }

    /// Ends every open job.
    fn lose(&self) {
        let open = {
            let mut jobs = self.jobs.lock();
            jobs.is_lost = true;
            std::mem::take(&mut jobs.open)
        };
        for cell in open.into_values() {
            cell.push(NodeEvent::Lost);
        }
    }
}

/// One job at a node. Dropping it before its end cancels the job.
pub(crate) struct JobHandle {
    pub(crate) node: Arc<NodeHandle>,
    request: RequestId,
    cell: Arc<JobCell>,
}

impl JobHandle {
    /// The next event. After an end there is none.
    pub(crate) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<NodeEvent> {
        let mut queue = self.cell.0.lock();
        if let Some(event) = queue.events.pop_front() {
            queue.bytes -= event.bytes();
            return Poll::Ready(event);
        }
        if !queue.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        let was_open = !std::mem::replace(&mut self.cell.0.lock().is_closed, true);
        if was_open {
            self.node.cancel(self.request);
        }
    }
}

/// A node's refusal as a failed attempt.
pub(crate) fn failure_of(failed: &Failed) -> Failure {
    let (class, status) = match failed.kind {
        FailureKind::Invalid => (FailureClass::BadRequest, 400),
        FailureKind::ContextLength => (FailureClass::ContextLength, 400),
        FailureKind::Busy => (FailureClass::Overloaded, 503),
        FailureKind::Engine => (FailureClass::Unavailable, 500),
    };
    Failure::new(class, status, failed.message.clone())
}

#[cfg(test)]
mod tests;
