//! Frames through in-memory pipes: borders, bounds, cancellation, coalescing.

use super::*;
use bourse_types::RequestId;
use bourse_wire::node::{Delta, Load};
use std::pin::Pin;
use std::task::{Context, Poll};

fn delta(text: &str) -> Frame {
    Frame::Delta(Delta {
        request: RequestId(3),
        choice: 0,
        text: text.to_owned(),
        tokens: 1,
        logprobs_json: None,
        finish: None,
    })
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

async fn read_all(bytes: &[u8], frame_bytes_max: usize) -> Result<Vec<Frame>, LinkError> {
    let mut reader = FrameReader::new(bytes, frame_bytes_max);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[tokio::test]
async fn frames_cross_whatever_the_size_of_the_pieces() {
    let sent = vec![delta("a"), Frame::Load(Load::default()), delta(&"b".repeat(5000)), Frame::Goodbye];
    for pipe_bytes in [1, 7, 64, 65_536] {
        let (near, far) = tokio::io::duplex(pipe_bytes);
        let mut writer = FrameWriter::new(near);
        let mut reader = FrameReader::new(far, FRAME_BYTES_MAX);
        let write = async {
            for frame in &sent {
                writer.push(frame)?;
            }
            writer.close().await
        };
        let read = async {
            let mut got = Vec::new();
            while let Some(frame) = reader.next().await? {
                got.push(frame);
            }
            Ok::<_, LinkError>(got)
        };
        let (written, got) = tokio::join!(write, read);
        written.unwrap();
        assert_eq!(got.unwrap(), sent);
    }
}

#[tokio::test]
async fn a_frame_is_taken_at_the_limit_and_refused_one_past() {
    let bytes = encoded(&[delta("twelve bytes")]);
    let limit = bytes.len() - LENGTH_PREFIX_BYTES;
    assert_eq!(read_all(&bytes, limit).await.unwrap().len(), 1);
    let refused = read_all(&bytes, limit - 1).await;
    assert!(
        matches!(refused, Err(LinkError::FrameTooLong { bytes, bytes_max }) if bytes == limit && bytes_max == limit - 1)
    );
}

#[tokio::test]
async fn the_protocols_own_limit_holds_whatever_the_caller_asks() {
    let mut head = ((FRAME_BYTES_MAX + 1) as u32).to_le_bytes().to_vec();
    assert!(matches!(read_all(&head, usize::MAX).await, Err(LinkError::FrameTooLong { .. })));
    head = (FRAME_BYTES_MAX as u32).to_le_bytes().to_vec();
    assert!(matches!(read_all(&head, usize::MAX).await, Err(LinkError::Closed(_))));
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_an_error_and_between_frames_is_the_end() {
    let bytes = encoded(&[delta("x"), Frame::Goodbye]);
    assert_eq!(read_all(&bytes, FRAME_BYTES_MAX).await.unwrap().len(), 2);
    for cut in 1..bytes.len() {
        let whole_first = encoded(&[delta("x")]).len();
        let result = read_all(&bytes[..cut], FRAME_BYTES_MAX).await;
        assert_eq!(result.is_ok(), cut == whole_first, "cut at {cut}");
    }
}

#[tokio::test]
async fn malformed_frames_are_named() {
    assert!(matches!(read_all(&[0, 0, 0, 0], 64).await, Err(LinkError::Malformed(_))));
    assert!(matches!(read_all(&[1, 0, 0, 0, 99], 64).await, Err(LinkError::Malformed(_))));
}

#[tokio::test]
async fn our_own_frame_past_the_limit_is_not_sent() {
    let mut writer = FrameWriter::new(Vec::new());
    let long = delta(&"x".repeat(FRAME_BYTES_MAX));
    assert!(matches!(writer.push(&long), Err(LinkError::OwnFrameTooLong(_))));
    assert_eq!(writer.pending_bytes(), 0);
    writer.send(&Frame::Goodbye).await.unwrap();
    assert_eq!(writer.io, encoded(&[Frame::Goodbye]));
}

#[test]
fn a_backlog_beyond_its_bound_is_an_error() {
    let mut writer = FrameWriter::new(Vec::new());
    let large = delta(&"x".repeat(WRITE_PENDING_BYTES_MAX / 4));
    for _ in 0..3 {
        writer.push(&large).unwrap();
    }
    assert!(matches!(writer.push(&large), Err(LinkError::Backlog(_))));
    writer.push(&Frame::Goodbye).unwrap();
}

/// A writer that takes one byte, then waits once, and counts its writes.
#[derive(Default)]
struct Reluctant {
    taken: Vec<u8>,
    ready: bool,
    writes: usize,
}

impl AsyncWrite for Reluctant {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            return Poll::Pending;
        }
        self.writes += 1;
        self.taken.push(bytes[0]);
        Poll::Ready(Ok(1))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_dropped_flush_loses_and_repeats_nothing() {
    let frames = [delta("abc"), Frame::Goodbye];
    let mut writer = FrameWriter::new(Reluctant::default());
    for frame in &frames {
        writer.push(frame).unwrap();
    }
    let bytes = encoded(&frames);
    let mut polls = 0;
    while writer.pending_bytes() > 0 {
        let flush = std::pin::pin!(writer.flush());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = flush.poll(&mut context);
        polls += 1;
        assert!(polls <= 2 * bytes.len());
    }
    assert_eq!(writer.io.taken, bytes);
}
