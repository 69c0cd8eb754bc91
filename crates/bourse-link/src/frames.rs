//! Frames over a byte stream: a reader with a bounded buffer, a writer that coalesces.
//!
//! The reader grows its buffer by what arrives, never by what a length announces, and gives memory back
//! after a large frame. The writer collects frames with [`FrameWriter::push`] and sends them in one write
//! with [`FrameWriter::flush`], so that the deltas of one engine step cost one system call. Both
//! [`FrameReader::next`] and [`FrameWriter::flush`] are cancellation safe: dropping their future loses
//! no byte and repeats none.

use crate::error::LinkError;
use bourse_wire::canonical::CanonicalError;
use bourse_wire::node::{FRAME_BYTES_MAX, Frame, LENGTH_PREFIX_BYTES, NODE_PROTOCOL_VERSION};
use bytes::{Buf, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Room made for each read.
pub const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Buffers above this are given back once they are empty.
const BUFFER_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Most bytes that may wait to be written: one frame of the largest size and as much again.
pub const WRITE_PENDING_BYTES_MAX: usize = 2 * (FRAME_BYTES_MAX + LENGTH_PREFIX_BYTES);

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `frame_bytes_max` bytes (never above [`FRAME_BYTES_MAX`]) from `io`.
    pub fn new(io: R, frame_bytes_max: usize) -> Self {
        Self { io, buffer: BytesMut::new(), frame_bytes_max: frame_bytes_max.min(FRAME_BYTES_MAX) }
    }

    /// Sets the longest frame to take from now on; applies to what has been read ahead, too.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX);
    }

    /// The next frame; none when the peer closed between frames. Cancellation safe.
    /// After an error the stream has no known frame border any more: drop the link.
    pub async fn next(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            if let Some(frame) = self.take_buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_AHEAD_BYTES);
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(LinkError::Closed("in the middle of a frame"))
                };
            }
        }
    }

    fn take_buffered(&mut self) -> Result<Option<Frame>, LinkError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_PREFIX_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*prefix) as usize;
        if bytes > self.frame_bytes_max {
            return Err(LinkError::FrameTooLong { bytes, bytes_max: self.frame_bytes_max });
        }
        let end = LENGTH_PREFIX_BYTES + bytes;
        let Some(payload) = self.buffer.get(LENGTH_PREFIX_BYTES..end) else { return Ok(None) };
        let frame = Frame::decode(payload).map_err(|error| match error {
            CanonicalError::Version(theirs) => {
                LinkError::Version { theirs: u32::from(theirs), ours: NODE_PROTOCOL_VERSION }
            }
            other => LinkError::Malformed(other),
        })?;
        self.buffer.advance(end);
        if self.buffer.is_empty() && end > BUFFER_KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    pending: Vec<u8>,
    sent: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames to `io`.
    pub fn new(io: W) -> Self {
        Self { io, pending: Vec::new(), sent: 0 }
    }

    /// Adds a frame to the next write. Nothing is kept of a frame that is too long.
    pub fn push(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let start = self.pending.len();
        frame.encode(&mut self.pending);
        let payload = self.pending.len() - start - LENGTH_PREFIX_BYTES;
        if payload > FRAME_BYTES_MAX {
            self.pending.truncate(start);
            return Err(LinkError::OwnFrameTooLong(payload));
        }
        let waiting = self.pending_bytes();
        if waiting > WRITE_PENDING_BYTES_MAX {
            self.pending.truncate(start);
            return Err(LinkError::Backlog(waiting));
        }
        Ok(())
    }

    /// Bytes that wait for [`FrameWriter::flush`].
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - self.sent
    }

    /// Sends everything that was pushed. Cancellation safe: a later call goes on where this one stopped.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        while self.sent < self.pending.len() {
            let n = self.io.write(&self.pending[self.sent..]).await?;
            if n == 0 {
                return Err(LinkError::Io(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.pending.clear();
        self.sent = 0;
        self.pending.shrink_to(BUFFER_KEPT_BYTES_MAX);
        self.io.flush().await?;
        Ok(())
    }

    /// Pushes one frame and sends it.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.push(frame)?;
        self.flush().await
    }

    /// Sends what waits and closes this direction, so that the peer reads a clean end.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        Ok(self.io.shutdown().await?)
    }
}

/// Both directions of a link; take the fields apart to read and write from different tasks.
#[derive(Debug)]
pub struct FramedLink<R, W> {
    /// Frames from the peer.
    pub reader: FrameReader<R>,
    /// Frames to the peer.
    pub writer: FrameWriter<W>,
}

/// A link over TCP.
pub type TcpLink = FramedLink<OwnedReadHalf, OwnedWriteHalf>;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> FramedLink<R, W> {
    /// A link over two halves of a stream.
    pub fn new(reader: R, writer: W) -> Self {
        Self { reader: FrameReader::new(reader, FRAME_BYTES_MAX), writer: FrameWriter::new(writer) }
    }
}

impl<S: AsyncRead + AsyncWrite> FramedLink<ReadHalf<S>, WriteHalf<S>> {
    /// A link over one stream, such as an in-memory pipe or TLS.
    pub fn over(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self::new(reader, writer)
    }
}

impl TcpLink {
    /// A link over a TCP connection. Turns `TCP_NODELAY` on: tokens must not wait for an acknowledgement.
    pub fn tcp(stream: TcpStream) -> Result<Self, LinkError> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self::new(reader, writer))
    }
}

#[cfg(test)]
mod tests;
