//! Connections to sellers: hyper's HTTP/1 client, driven in line, and a pool.
//!
//! There is no task per connection. Whoever waits for an answer polls the connection and the answer's
//! body together, so everything that one read brought is there in one poll and leaves in one write. An
//! idle connection is not driven at all; it is polled once before it is used again, which notices that
//! the seller has closed it. A connection that was reused and brought not one byte is tried once more on
//! a fresh one: closing an idle connection and writing to it can cross.

use crate::config::{POOL_IDLE_AGE_MAX, POOL_IDLE_MAX};
use crate::deadline;
use crate::gate::Gate;
use crate::io::Io;
use crate::ports::{Connect, Target};
use bytes::Bytes;
use http::{Request, response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes that hyper buffers of a seller's answer.
const READ_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection.
    #[error("no connection: {}", .0.kind())]
    Connect(#[source] io::Error),
    /// No connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The connection ended without an answer.
    #[error("the connection was closed without an answer")]
    Closed,
    /// Nothing more came in time.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The answer is larger than the bound.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

struct Link {
    gate: Arc<Gate>,
    waker: Waker,
    conn: http1::Connection<TokioIo<Io>, Full<Bytes>>,
    sender: http1::SendRequest<Full<Bytes>>,
    idle_since: Instant,
    closed: bool,
}

impl Link {
    /// Lets the connection do what it can do now.
    fn drive(&mut self) {
        // What went wrong is told by the answer's future or body; the connection only says that it ended.
        let mut cx = Context::from_waker(&self.waker);
        self.closed = self.closed || Pin::new(&mut self.conn).poll(&mut cx).is_ready();
    }

    /// Polls `other`, which the connection feeds, and the connection, in turns until neither goes on.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut other: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.gate.close(cx.waker());
        let waker = self.waker.clone();
        let mut inner = Context::from_waker(&waker);
        let polled = loop {
            if let Poll::Ready(polled) = other(&mut inner) {
                break Poll::Ready(polled);
            }
            self.gate.look();
            self.drive();
            let polled = other(&mut inner);
            if polled.is_ready() || self.closed || !self.gate.look() {
                break polled;
            }
        };
        self.gate.open();
        polled
    }
}

/// The pools of all places where sellers are. Sellers at one place share its connections: who asks stands in each
/// request, and a buyer's own key is served by connections that are warm from the market's.
#[derive(Default)]
pub(crate) struct Pools(HashMap<Target, Arc<Pool>>);

impl Pools {
    pub(crate) fn of(&mut self, target: &Target) -> Arc<Pool> {
        Arc::clone(self.0.entry(target.clone()).or_default())
    }
}

/// The idle connections to one place. At most [`POOL_IDLE_MAX`].
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a link is large and moves between here and its exchange")]
    idle: Mutex<Vec<Box<Link>>>,
}

impl Pool {
    async fn take(&self) -> Option<Box<Link>> {
        loop {
            let mut link = self.idle.lock().pop()?;
            if link.idle_since.elapsed() > POOL_IDLE_AGE_MAX {
                continue;
            }
            poll_fn(|cx| {
                // Nothing has been asked yet, so this is never ready; it drives the connection once.
                let _ = link.poll_with(cx, |_| Poll::<()>::Pending);
                Poll::Ready(())
            })
            .await;
            if !link.closed && link.sender.is_ready() {
                return Some(link);
            }
        }
    }

    fn put(&self, mut link: Box<Link>) {
        link.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < POOL_IDLE_MAX {
            idle.push(link);
        }
    }
}

/// Sends a request and waits for the head of its answer. `request` makes it, for each connection anew.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    connect: &dyn Connect,
    target: &Target,
    connect_within: Duration,
    request: impl Fn() -> Request<Full<Bytes>>,
) -> Result<(response::Parts, Exchange), UpstreamError> {
    if let Some(link) = pool.take().await {
        match exchange(pool, link, request()).await {
            Err(error) if nothing_came(&error) => {}
            other => return other,
        }
    }
    let link = open(connect, target, connect_within).await?;
    exchange(pool, link, request()).await
}

/// Whether a reused connection ended before a byte of an answer. Balancers and translators of addresses reset connections
/// that were idle for too long instead of closing them.
fn nothing_came(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Closed => true,
        UpstreamError::Broken(e) => {
            e.is_canceled() || e.is_incomplete_message() || e.is_closed() || is_torn(e)
        }
        _ => false,
    }
}

/// Whether the system says that the other side has torn the connection down.
fn is_torn(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let told = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(told, Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected))
}

async fn open(connect: &dyn Connect, target: &Target, within: Duration) -> Result<Box<Link>, UpstreamError> {
    let opened = timeout(within, connect.connect(target)).await;
    let io = opened.map_err(|_| UpstreamError::ConnectTimeout(within))?.map_err(UpstreamError::Connect)?;
    let (sender, conn) = http1::Builder::new()
        // A request or an event is small: one buffer costs the kernel less than a list of three.
        .writev(false)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(UpstreamError::Broken)?;
    let (gate, waker) = Gate::new();
    Ok(Box::new(Link { gate, waker, conn, sender, idle_since: Instant::now(), closed: false }))
}

async fn exchange(
    pool: &Arc<Pool>,
    mut link: Box<Link>,
    request: Request<Full<Bytes>>,
) -> Result<(response::Parts, Exchange), UpstreamError> {
    let mut answer = pin!(link.sender.send_request(request));
    let answer = poll_fn(|cx| match link.poll_with(cx, |cx| answer.as_mut().poll(cx)) {
        Poll::Pending if link.closed => Poll::Ready(Err(UpstreamError::Closed)),
        other => other.map_err(UpstreamError::Broken),
    })
    .await?;
    let (head, body) = answer.into_parts();
    Ok((head, Exchange { link: Some(link), body, pool: Arc::clone(pool), is_dry: false }))
}

/// The body of an answer. Dropping it before its end closes the connection, which cancels the seller.
pub(crate) struct Exchange {
    /// Taken at the end of the body.
    link: Option<Box<Link>>,
    body: Incoming,
    pool: Arc<Pool>,
    /// The last look found nothing.
    is_dry: bool,
}

impl Exchange {
    /// The next piece of the body; `None` at its end, when the connection has gone back to the pool.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        loop {
            let Some(link) = self.link.as_mut() else { return Poll::Ready(None) };
            // hyper asks for the next piece right after each one; mostly it is not there yet.
            if self.is_dry && link.gate.is_quiet(cx.waker()) {
                return Poll::Pending;
            }
            let body = &mut self.body;
            match link.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx)) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.is_dry = false;
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.link = None;
                    return Poll::Ready(Some(Err(UpstreamError::Broken(error))));
                }
                Poll::Ready(None) => {
                    self.release();
                    return Poll::Ready(None);
                }
                Poll::Pending if link.closed => {
                    self.link = None;
                    return Poll::Ready(Some(Err(UpstreamError::Closed)));
                }
                Poll::Pending => {
                    self.is_dry = true;
                    return Poll::Pending;
                }
            }
        }
    }

    /// The whole rest of the body, with at most `idle` between two reads.
    pub(crate) async fn collect(&mut self, bytes_max: usize, idle: Duration) -> Result<Bytes, UpstreamError> {
        let mut all = Vec::new();
        let Some(first) = self.data_within(idle).await? else { return Ok(Bytes::new()) };
        if self.body.is_end_stream() {
            // A body of known length ends with its last byte; there is nothing more to wait for.
            self.release();
        }
        let mut next = self.data_within(idle).await?;
        if next.is_none() {
            return if first.len() > bytes_max { Err(UpstreamError::TooLarge(bytes_max)) } else { Ok(first) };
        }
        all.extend_from_slice(&first);
        while let Some(data) = next {
            if all.len() + data.len() > bytes_max {
                return Err(UpstreamError::TooLarge(bytes_max));
            }
            all.extend_from_slice(&data);
            next = self.data_within(idle).await?;
        }
        Ok(Bytes::from(all))
    }

    async fn data_within(&mut self, idle: Duration) -> Result<Option<Bytes>, UpstreamError> {
        let data = deadline::within(idle, poll_fn(|cx| self.poll_data(cx))).await;
        data.ok_or(UpstreamError::Idle(idle))?.transpose()
    }

    fn release(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        link.drive();
        if !link.closed && link.sender.is_ready() {
            self.pool.put(link);
        }
    }
}

/// Waits until nothing more is to be read, for callers that want the connection back.
pub(crate) fn poll_drained(exchange: &mut Exchange, cx: &mut Context<'_>) -> Poll<()> {
    while ready!(exchange.poll_data(cx)).is_some_and(|data| data.is_ok()) {}
    Poll::Ready(())
}
