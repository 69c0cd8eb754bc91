//! Phase 1: the body, within its bounds of size and time. What it says is [`resolve`](super::resolve)'s to find out.

use crate::deadline;
use bourse_wire::dialect::openai;
use bourse_wire::error::{ApiError, ErrorType};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use std::time::Duration;

/// Reads a body of at most `bytes_max`.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    mut body: B,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let encoding = headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    if encoding.is_some_and(|e| !e.eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(
            ErrorType::InvalidRequest,
            "compressed bodies are not read: send the body as it is",
        ));
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(openai::body_too_large());
    }
    let late = || {
        let seconds = within.as_secs();
        ApiError::new(
            ErrorType::RequestTimeout,
            format!("the body did not arrive within {seconds} s: send it again"),
        )
    };
    deadline::within(within, collect(&mut body, bytes_max)).await.unwrap_or_else(|| Err(late()))
}

async fn collect<B>(body: &mut B, bytes_max: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let cut = |_| ApiError::new(ErrorType::InvalidRequest, "the body ended before its announced length");
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > bytes_max {
            return Err(openai::body_too_large());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use std::convert::Infallible;

    async fn read_full(n: usize, bytes_max: usize) -> Result<Bytes, ApiError> {
        let body = Full::new(Bytes::from(vec![b' '; n]));
        read(&HeaderMap::new(), body, bytes_max, Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn a_body_is_bounded() {
        assert_eq!(read_full(100, 100).await.unwrap().len(), 100);
        assert_eq!(read_full(101, 100).await.unwrap_err().status(), 413);
    }

    /// A body of that many pieces of five bytes.
    struct Pieces(usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            let more = self.0.checked_sub(1);
            self.0 = more.unwrap_or(0);
            std::task::Poll::Ready(more.map(|_| Ok(http_body::Frame::data(Bytes::from_static(b"12345")))))
        }
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_bounded_too() {
        let within = Duration::from_secs(1);
        assert_eq!(read(&HeaderMap::new(), Pieces(4), 20, within).await.unwrap(), "12345123451234512345");
        assert_eq!(read(&HeaderMap::new(), Pieces(5), 20, within).await.unwrap_err().status(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_times_out() {
        struct Never;
        impl Body for Never {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
                std::task::Poll::Pending
            }
        }
        let error = read(&HeaderMap::new(), Never, 10, Duration::from_mins(1)).await.unwrap_err();
        assert_eq!(error.status(), 408);
    }

    #[tokio::test]
    async fn compressed_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
        let error = read(&headers, Full::new(Bytes::new()), 10, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.status(), 400);
    }
}
