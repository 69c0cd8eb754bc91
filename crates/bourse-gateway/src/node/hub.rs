//! Where nodes connect: handshake, admission, and one task per link.

use super::{NodeEvent, NodeHandle};
use crate::config::{NODES_MAX, NodeAdmission};
use crate::gateway::Shared;
use bourse_link::{FrameReader, FrameWriter, FramedLink, LinkError, challenge_node, welcome_node};
use bourse_types::{NodeId, UnixMs};
use bourse_wire::funds::{ATTENDED_MS_MAX, Attendance, FundsError};
use bourse_wire::node::Frame;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// How often the exchange is told that a node is here: what a crash of the gateway forgets.
pub(crate) const ATTENDANCE_EVERY: Duration = Duration::from_mins(15);

/// Nodes that may connect and nodes that have.
#[derive(Default)]
pub(crate) struct Hub {
    admitted: Mutex<HashMap<NodeId, NodeAdmission>>,
    connected: Mutex<HashMap<NodeId, Arc<NodeHandle>>>,
    /// How many sell, for those who wait for one.
    pub(crate) selling: watch::Sender<usize>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeLinkError {
    /// The transport or the protocol.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The node's key is not admitted.
    #[error("node {0} is not admitted")]
    NotAdmitted(NodeId),
    /// [`NODES_MAX`] are connected.
    #[error("{NODES_MAX} nodes are connected already")]
    Full,
    /// Its offer collides with another seller's.
    #[error("its offer is not usable: {0}")]
    Offer(#[from] bourse_market::SnapshotError),
}

impl Hub {
    pub(crate) fn admit(&self, admission: NodeAdmission) {
        self.admitted.lock().insert(admission.node, admission);
    }

    pub(crate) fn connected_count(&self) -> usize {
        self.connected.lock().len()
    }
}

/// Serves one link from its handshake to its end.
pub(crate) async fn serve_link<R, W>(shared: &Shared, mut link: FramedLink<R, W>) -> Result<(), NodeLinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let within = shared.config.timeouts.handshake;
    let hello = challenge_node(&mut link, shared.ports.entropy.draw(), within).await?;
    let admission = shared.hub.admitted.lock().get(&hello.node).cloned();
    let admission = match admission {
        None => Err(NodeLinkError::NotAdmitted(hello.node)),
        Some(_) if shared.hub.connected_count() >= NODES_MAX => Err(NodeLinkError::Full),
        Some(admission) => Ok(admission),
    };
    if admission.is_err() {
        link.writer.send(&Frame::Goodbye).await?;
    }
    let admission = admission?;
    welcome_node(&mut link, hello.card.jobs_in_flight_max, within).await?;
    let (handle, frames) = NodeHandle::new(admission, hello.card);
    let presence = Presence::enter(shared, Arc::clone(&handle))?;
    tracing::info!(node = %handle.node, seller = %handle.seller, "node joined");
    let ended = tokio::select! {
        read = read_frames(&presence, &mut link.reader) => read,
        written = write_frames(frames, &mut link.writer) => written,
        never = presence.keep_attendance() => match never {},
    };
    drop(presence);
    tracing::info!(node = %handle.node, seller = %handle.seller, "node left");
    ended.map_err(NodeLinkError::from)
}

/// A node's place among the connected ones; given up when dropped, however the link ends.
struct Presence<'a> {
    shared: &'a Shared,
    handle: Arc<NodeHandle>,
    /// From when on nobody was told that it is here.
    untold: Mutex<UnixMs>,
}

impl<'a> Presence<'a> {
    /// Takes the place, also from an older link of the same node.
    fn enter(shared: &'a Shared, handle: Arc<NodeHandle>) -> Result<Self, NodeLinkError> {
        let older = shared.hub.connected.lock().insert(handle.node, Arc::clone(&handle));
        if let Some(older) = older {
            older.lose();
        }
        let untold = Mutex::new(shared.ports.clock.now());
        let presence = Self { shared, handle, untold };
        presence.publish()?;
        Ok(presence)
    }

    /// Tells every [`ATTENDANCE_EVERY`] that the node is here.
    async fn keep_attendance(&self) -> Infallible {
        loop {
            tokio::time::sleep(ATTENDANCE_EVERY).await;
            self.tell_attendance();
        }
    }

    /// Tells the exchange since when the node is here, as far as nobody was told. What could not be told goes with the next
    /// one; a stretch that is longer than one attendance may be is told from its end, and the rest is not known.
    fn tell_attendance(&self) {
        let now = self.shared.ports.clock.now();
        let mut untold = self.untold.lock();
        let from = (*untold).max(UnixMs(now.0.saturating_sub(ATTENDED_MS_MAX)));
        let attendance = Attendance {
            node: self.handle.node,
            seller: self.handle.seller.clone(),
            from,
            until: now,
            gpus: self.handle.gpus(),
        };
        if !attendance.is_plausible() {
            return;
        }
        match self.shared.ports.funds.attended(attendance, now) {
            Ok(()) => *untold = now,
            // Its exchange goes with it.
            Err(FundsError::Closing) => {}
            Err(error) => {
                tracing::warn!(node = %self.handle.node, %error, "that a node is here was not noted");
            }
        }
    }

    /// Takes the node out of the market; its jobs go on.
    fn retire(&self) {
        let mut connected = self.shared.hub.connected.lock();
        if connected.get(&self.handle.node).is_some_and(|h| Arc::ptr_eq(h, &self.handle)) {
            connected.remove(&self.handle.node);
        }
        drop(connected);
        if let Err(error) = self.publish() {
            tracing::error!(%error, "the market could not be rebuilt after a node left");
        }
    }

    fn publish(&self) -> Result<(), NodeLinkError> {
        // The lock is held while the book is swapped, so that two changes cannot overtake each other.
        let connected = self.shared.hub.connected.lock();
        let nodes: Vec<_> = connected.values().cloned().collect();
        self.shared.market.set_nodes(&nodes)?;
        self.shared.hub.selling.send_replace(nodes.len());
        Ok(())
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.retire();
        self.handle.lose();
        self.tell_attendance();
    }
}

async fn read_frames<R: AsyncRead + Unpin>(
    presence: &Presence<'_>,
    reader: &mut FrameReader<R>,
) -> Result<(), LinkError> {
    let handle = &presence.handle;
    while let Some(frame) = reader.next().await? {
        match frame {
            Frame::Started(started) => handle.route(started.request, NodeEvent::Started(started)),
            Frame::Counted(counted) => handle.route(counted.request, NodeEvent::Counted(counted)),
            Frame::Delta(delta) => handle.route(delta.request, NodeEvent::Delta(delta)),
            Frame::Done(done) => {
                handle.route(done.statement.statement.request, NodeEvent::Done(done));
            }
            Frame::Failed(failed) => handle.route(failed.request, NodeEvent::Failed(failed)),
            Frame::Load(_) => {}
            Frame::Goodbye => presence.retire(),
            _ => return Err(LinkError::Unexpected { expected: "a word on a job" }),
        }
    }
    Ok(())
}

/// Writes what is queued, everything that is there at once.
async fn write_frames<W: AsyncWrite + Unpin>(
    mut frames: mpsc::Receiver<Frame>,
    writer: &mut FrameWriter<W>,
) -> Result<(), LinkError> {
    while let Some(frame) = frames.recv().await {
        writer.push(&frame)?;
        while let Ok(frame) = frames.try_recv() {
            writer.push(&frame)?;
        }
        writer.flush().await?;
    }
    Ok(())
}
