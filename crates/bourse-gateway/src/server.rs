//! The listener: connections, their limits, and a drain that loses no terminal.

use crate::config::{CONNECTIONS_MAX, HEAD_BYTES_MAX};
use crate::gateway::{Gateway, Shared};
use crate::head_clock::{HeadClock, Turns};
use crate::node::hub;
use crate::routes;
use crate::stall::NoStall;
use bourse_link::FramedLink;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Pause after a failed accept, such as when no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// A timer that is always due soon. A runtime that sleeps until a far timer is woken by a system call when a
/// nearer one is set, which an idle gateway would pay for with every request.
const TICK: Duration = Duration::from_millis(500);
/// How often is looked whether the drain is over.
const DRAIN_TICK: Duration = Duration::from_millis(50);
/// Time for a buyer whose head was late to take the answer.
const LATE_GRACE: Duration = Duration::from_secs(1);
/// Time after the drain for streams to write their terminal and for the disk to take it.
const DRAIN_GRACE: Duration = Duration::from_secs(3);

impl Gateway {
    /// Serves buyers until `shutdown` completes, then drains: nothing new is accepted, open answers may
    /// end by themselves for a while, and streams that are left end with an explicit terminal.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (closing, watching) = watch::channel(Phase::Serving);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = tick.tick() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.0.metrics.connections_refused.add(1);
                continue;
            };
            let (gateway, watching) = (self.clone(), watching.clone());
            connections.spawn(async move {
                gateway.connection(stream, peer, watching).await;
                drop(place);
            });
        }
        drop(listener);
        let drain = self.0.config.timeouts.drain;
        self.0.close_within(drain);
        // Nobody listens when there is no connection left, which is just as well.
        let _ = closing.send(Phase::Draining);
        let drained = async { while connections.join_next().await.is_some() {} };
        let ended = async {
            self.0.past_drain().await;
            // Whoever waits for an answer looks up and is told.
            let _ = closing.send(Phase::Drained);
            sleep(DRAIN_GRACE).await;
        };
        tokio::select! {
            () = drained => {}
            () = ended => tracing::warn!("connections were still open after the drain"),
        }
        connections.shutdown().await;
        Ok(())
    }

    /// Serves one buyer.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, mut closing: watch::Receiver<Phase>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        let turns = Turns::default();
        let mut clock = HeadClock::new(turns.clone(), self.0.config.timeouts.head);
        let turns = &turns;
        // In a box: the connection keeps room for the future as long as it lives, and a stream needs it no more.
        let service = service_fn(|request: Request<Incoming>| {
            Box::pin(async move {
                let turn = turns.begin();
                let answer = self.handle_from::<Incoming>(request, Some(peer)).await;
                Ok::<_, Infallible>(answer.map(|body| body.ending(turn)))
            })
        });
        let mut connection = http1::Builder::new()
            // Its own bound of header fields is `HEADERS_READ_MAX`, and it reads into the stack only as long as none is set.
            // As in `upstream`: copying a small answer costs less than a list of buffers.
            .writev(false)
            // What is read ahead is bounded by whole pieces of a buffer only, a head to the byte.
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(NoStall::new(stream, self.0.config.timeouts.stall)), service);
        let mut drained = closing.clone();
        let mut told = pin!(closing.wait_for(|phase| *phase >= Phase::Draining));
        let mut drained = pin!(drained.wait_for(|phase| *phase >= Phase::Drained));
        let (mut is_first, mut is_told, mut is_drained) = (true, false, false);
        let ended = poll_fn(|cx| {
            // The watch needs the waker once; then the flag says whether it is worth a look.
            if !is_told && (is_first || self.0.is_closing()) {
                is_first = false;
                // An error means that the gateway is gone, which is closing too.
                is_told = told.as_mut().poll(cx).is_ready();
                if is_told {
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
            if is_told && !is_drained {
                // To be woken for a last look is all that is wanted.
                is_drained = drained.as_mut().poll(cx).is_ready();
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(ended.map_err(Some)),
                Poll::Pending => clock.poll_late(cx).map(|()| Err(None)),
            }
        })
        .await;
        match ended {
            Ok(()) => {}
            Err(Some(error)) => tracing::debug!(%error, "a connection ended early"),
            Err(None) => {
                let left = connection.into_parts();
                // Who has sent nothing has asked nothing.
                if !left.read_buf.is_empty() {
                    tell_late(left.io.into_inner()).await;
                }
            }
        }
    }

    /// Serves nodes until `shutdown` completes. Dropping the future ends all links.
    pub async fn serve_nodes(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let mut links = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
                Some(_) = links.join_next() => continue,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            if links.len() >= crate::config::NODES_MAX {
                continue;
            }
            let shared = Arc::clone(&self.0);
            links.spawn(async move {
                if let Err(error) = serve_node(&shared, stream).await {
                    tracing::warn!(%peer, %error, "a node's link ended");
                }
            });
        }
        links.shutdown().await;
        Ok(())
    }

    /// Serves one node over any stream of bytes, such as an in-memory pipe.
    pub async fn serve_node<S>(&self, stream: S) -> Result<(), hub::NodeLinkError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
    {
        hub::serve_link(&self.0, FramedLink::over(stream)).await
    }
}

impl Shared {
    /// Completes when the drain is over, whoever may have cut it short.
    async fn past_drain(&self) {
        while !self.is_past_drain() {
            sleep(DRAIN_TICK).await;
        }
    }
}

/// How far the gateway has come on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    /// Nobody is waited for any more.
    Drained,
}

/// Says why the connection is closed to a buyer whose head did not come to its end. It may not listen any more.
async fn tell_late(mut stream: NoStall<TcpStream>) {
    tracing::debug!("a request's head took too long");
    let answer = routes::late_head();
    let told = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    if timeout(LATE_GRACE, told).await.is_err() {
        tracing::debug!("a buyer whose head was late did not take the answer");
    }
}

async fn serve_node(shared: &Shared, stream: TcpStream) -> Result<(), hub::NodeLinkError> {
    hub::serve_link(shared, FramedLink::tcp(stream)?).await
}
