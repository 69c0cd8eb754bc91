//! One open link: jobs in, deltas out, until either side says goodbye.
//!
//! A single task owns both directions, so that nothing has to be locked: it takes frames, hands jobs to
//! tasks of their own, and writes what those put into the outbox, everything that waits in one write. It
//! keeps the books on open jobs: each gets exactly one `Done` or `Failed`, also when its task panics or the
//! engine dies. Jobs beyond the credit are refused as busy, never queued without bound.

use crate::job;
use crate::service::NodeService;
use bourse_link::{FramedLink, LinkError};
use bourse_types::RequestId;
use bourse_wire::node::{Count, Failed, FailureKind, Frame, Job, Load};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// Frames that job tasks may have waiting for the link, over all jobs.
const OUTBOX_FRAMES_MAX: usize = 1024;
/// Bytes waiting to be written above which no more frames are taken from the outbox.
const WRITE_BYTES_HIGH: usize = 1024 * 1024;
/// A changed load is told at most this often.
const LOAD_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// An unchanged load is told at least this often.
const LOAD_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// How a link ended when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEnd {
    /// The gateway said goodbye or closed between frames.
    GatewayLeft,
    /// This node was told to stop and has said goodbye.
    ShutDown,
}

/// How a link ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport or the peer.
    #[error("the link to the gateway failed")]
    Link(#[from] LinkError),
    /// The engine is dead; open jobs were answered as failed.
    #[error("the engine has stopped")]
    EngineStopped,
}

/// Serves an opened link until it ends.
///
/// `shutdown` turns true when the node should leave: new jobs are refused, open ones have `drain` to end and
/// are then cut with what they made, and the gateway reads a goodbye.
pub async fn serve<R, W>(
    link: FramedLink<R, W>,
    service: Arc<NodeService>,
    jobs_in_flight_max: u32,
    shutdown: watch::Receiver<bool>,
    drain: Duration,
) -> Result<ServeEnd, ServeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let load = service.engine().load();
    let jobs_in_flight_max = jobs_in_flight_max.min(service.jobs_in_flight_max()) as usize;
    let serving = Serving {
        link,
        service,
        jobs_in_flight_max,
        outbox,
        open: HashMap::new(),
        tasks: JoinSet::new(),
        by_task: HashMap::new(),
        leaving: None,
        load_told: None,
    };
    serving.run(frames, load, shutdown, drain).await
}

struct Serving<R, W> {
    link: FramedLink<R, W>,
    service: Arc<NodeService>,
    jobs_in_flight_max: usize,
    outbox: mpsc::Sender<Frame>,
    open: HashMap<RequestId, Option<oneshot::Sender<()>>>,
    tasks: JoinSet<()>,
    by_task: HashMap<Id, RequestId>,
    leaving: Option<(ServeEnd, Instant)>,
    load_told: Option<Instant>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Serving<R, W> {
    async fn run(
        mut self,
        mut frames: mpsc::Receiver<Frame>,
        mut load: watch::Receiver<Load>,
        mut shutdown: watch::Receiver<bool>,
        drain: Duration,
    ) -> Result<ServeEnd, ServeError> {
        let mut load_changed = true;
        loop {
            if let Some((end, _)) = self.leaving
                && self.open.is_empty()
            {
                self.link.writer.push(&Frame::Goodbye)?;
                self.link.writer.close().await?;
                return Ok(end);
            }
            let load_due = self.load_due(load_changed);
            let cut_due = self.leaving.map_or_else(Instant::now, |(_, cut)| cut);
            let write_room = self.link.writer.pending_bytes() < WRITE_BYTES_HIGH;
            tokio::select! {
                frame = self.link.reader.next() => match frame? {
                    Some(Frame::Goodbye) => self.leave(ServeEnd::GatewayLeft, drain),
                    Some(frame) => self.take(frame)?,
                    None => return Ok(ServeEnd::GatewayLeft),
                },
                Some(frame) = frames.recv(), if write_room => {
                    self.push(&frame)?;
                    self.push_waiting(&mut frames)?;
                }
                written = self.link.writer.flush(), if self.link.writer.pending_bytes() > 0 => written?,
                alive = load.changed(), if !load_changed => {
                    if alive.is_err() {
                        return self.engine_died(&mut frames).await;
                    }
                    load_changed = true;
                }
                () = tokio::time::sleep_until(load_due) => {
                    self.link.writer.push(&Frame::Load(*load.borrow_and_update()))?;
                    self.load_told = Some(Instant::now());
                    load_changed = false;
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.task_ended(ended.map(|(id, ())| id), &mut frames)?;
                }
                () = told_to_leave(&mut shutdown), if self.leaving.is_none() => {
                    self.leave(ServeEnd::ShutDown, drain);
                }
                () = tokio::time::sleep_until(cut_due), if self.has_to_cut() => {
                    self.cancel_all();
                }
            }
        }
    }

    /// Whether open jobs wait for the end of the drain; once they were cancelled there is nothing to cut.
    fn has_to_cut(&self) -> bool {
        self.leaving.is_some() && self.open.values().any(Option::is_some)
    }

    fn load_due(&self, changed: bool) -> Instant {
        let interval = if changed { LOAD_INTERVAL_MIN } else { LOAD_INTERVAL_MAX };
        self.load_told.map_or_else(Instant::now, |told| told + interval)
    }

    fn take(&mut self, frame: Frame) -> Result<(), ServeError> {
        match frame {
            Frame::Job(job) => self.take_job(job),
            Frame::Count(count) => self.take_count(count),
            Frame::Cancel(request) => {
                if let Some(cancel) = self.open.get_mut(&request).and_then(Option::take) {
                    // An error means that the job is ending by itself in this moment.
                    let _ = cancel.send(());
                }
                Ok(())
            }
            _ => Err(LinkError::Unexpected { expected: "a job, a cancellation or a goodbye" }.into()),
        }
    }

    fn take_job(&mut self, job: Box<Job>) -> Result<(), ServeError> {
        let request = job.request;
        if !self.has_room(request)? {
            return Ok(());
        }
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(request, Some(cancel));
        let task = job::run(Arc::clone(&self.service), job, cancelled, self.outbox.clone());
        let handle = self.tasks.spawn(task);
        self.by_task.insert(handle.id(), request);
        Ok(())
    }

    /// Counting is short and is not cancelled.
    fn take_count(&mut self, count: Box<Count>) -> Result<(), ServeError> {
        let request = count.request;
        if !self.has_room(request)? {
            return Ok(());
        }
        self.open.insert(request, None);
        let task = job::count(Arc::clone(&self.service), count, self.outbox.clone());
        let handle = self.tasks.spawn(task);
        self.by_task.insert(handle.id(), request);
        Ok(())
    }

    /// Whether one more job is taken; the gateway is told when it is not.
    fn has_room(&mut self, request: RequestId) -> Result<bool, ServeError> {
        let refused = if self.open.contains_key(&request) {
            // The open job goes on; a second answer under its name would be a lie about it.
            tracing::warn!(%request, "the gateway sent a job twice");
            return Ok(false);
        } else if self.leaving.is_some() {
            "this node is leaving"
        } else if self.open.len() >= self.jobs_in_flight_max {
            "as many jobs are in flight as this node takes"
        } else {
            return Ok(true);
        };
        let failed = Failed { request, kind: FailureKind::Busy, message: refused.to_owned() };
        self.link.writer.push(&Frame::Failed(failed))?;
        Ok(false)
    }

    /// Queues a frame for writing and closes the book on a job that it ends.
    fn push(&mut self, frame: &Frame) -> Result<(), ServeError> {
        match frame {
            Frame::Done(done) => self.open.remove(&done.statement.statement.request),
            Frame::Failed(failed) => self.open.remove(&failed.request),
            Frame::Counted(counted) => self.open.remove(&counted.request),
            _ => None,
        };
        Ok(self.link.writer.push(frame)?)
    }

    fn push_waiting(&mut self, frames: &mut mpsc::Receiver<Frame>) -> Result<(), ServeError> {
        while self.link.writer.pending_bytes() < WRITE_BYTES_HIGH
            && let Ok(frame) = frames.try_recv()
        {
            self.push(&frame)?;
        }
        Ok(())
    }

    /// A task that ended without a last word (it panicked) is given one.
    fn task_ended(
        &mut self,
        ended: Result<Id, JoinError>,
        frames: &mut mpsc::Receiver<Frame>,
    ) -> Result<(), ServeError> {
        let panicked = ended.as_ref().err().map(JoinError::id);
        let id = panicked.or(ended.ok());
        let request = id.and_then(|id| self.by_task.remove(&id));
        if let (Some(request), true) = (request, panicked.is_some()) {
            tracing::error!(%request, "a job's task failed");
            self.push_waiting(frames)?;
            self.fail(request, "the node failed on this request")?;
        }
        Ok(())
    }

    fn fail(&mut self, request: RequestId, message: &str) -> Result<(), ServeError> {
        if self.open.remove(&request).is_none() {
            return Ok(());
        }
        let failed = Failed { request, kind: FailureKind::Engine, message: message.to_owned() };
        Ok(self.link.writer.push(&Frame::Failed(failed))?)
    }

    fn leave(&mut self, end: ServeEnd, drain: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some((end, Instant::now() + drain));
        }
    }

    fn cancel_all(&mut self) {
        for cancel in self.open.values_mut().filter_map(Option::take) {
            // An error means that the job is ending by itself in this moment.
            let _ = cancel.send(());
        }
    }

    /// Answers what is open, says goodbye and reports the death.
    async fn engine_died(mut self, frames: &mut mpsc::Receiver<Frame>) -> Result<ServeEnd, ServeError> {
        self.tasks.shutdown().await;
        while let Ok(frame) = frames.try_recv() {
            self.push(&frame)?;
        }
        let open: Vec<RequestId> = self.open.keys().copied().collect();
        for request in open {
            self.fail(request, "the engine has stopped")?;
        }
        self.link.writer.push(&Frame::Goodbye)?;
        self.link.writer.close().await?;
        Err(ServeError::EngineStopped)
    }
}

/// Waits until `shutdown` is true; a sender that is gone tells nothing, so the wait goes on for ever.
async fn told_to_leave(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|leave| *leave).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
