//! The handshake: challenge, hello, welcome.
//!
//! The gateway sends 32 random bytes; the node answers with its key, its card and a signature over the
//! domain and those bytes; the gateway checks version and signature and says welcome. Until then frames
//! are at most [`HANDSHAKE_FRAME_BYTES_MAX`], so that a stranger costs the gateway next to nothing.
//! The signature proves the key to this gateway now; it does not encrypt and does not bind the link's
//! transport. Each step has its timeout from the caller.

use crate::error::LinkError;
use crate::frames::FramedLink;
use bourse_types::NodeId;
use bourse_wire::node::{
    CHALLENGE_DOMAIN, FRAME_BYTES_MAX, Frame, Hello, NODE_PROTOCOL_VERSION, NodeCard, Welcome,
};
use ed25519_dalek::{Signature, VerifyingKey};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Longest frame before the welcome: a hello with all its names at their bounds is far below.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 * 1024;

/// The bytes that a node signs: the domain, then the challenge.
pub fn challenge_bytes(challenge: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHALLENGE_DOMAIN.len() + challenge.len());
    bytes.extend_from_slice(CHALLENGE_DOMAIN.as_bytes());
    bytes.extend_from_slice(challenge);
    bytes
}

/// Checks a hello's version and its signature over `challenge`.
pub fn verify_hello(hello: &Hello, challenge: &[u8; 32]) -> Result<(), LinkError> {
    if hello.version != NODE_PROTOCOL_VERSION {
        return Err(LinkError::Version { theirs: hello.version, ours: NODE_PROTOCOL_VERSION });
    }
    let key = VerifyingKey::from_bytes(&hello.node.0).map_err(|_| LinkError::Signature)?;
    let signature = Signature::from_bytes(&hello.signature);
    key.verify_strict(&challenge_bytes(challenge), &signature).map_err(|_| LinkError::Signature)
}

/// The gateway's first half: sends `challenge` (32 fresh random bytes) and returns the proven hello.
///
/// A node of another version is told ours before the error comes back, so that its operator reads the
/// reason. Follow with [`welcome_node`], or drop the link to refuse.
pub async fn challenge_node<R, W>(
    link: &mut FramedLink<R, W>,
    challenge: [u8; 32],
    answer_within: Duration,
) -> Result<Hello, LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let exchange = async {
        link.reader.set_frame_bytes_max(HANDSHAKE_FRAME_BYTES_MAX);
        link.writer.send(&Frame::Challenge(challenge)).await?;
        let result = match link.reader.next().await {
            Ok(Some(Frame::Hello(hello))) => verify_hello(&hello, &challenge).map(|()| hello),
            Ok(Some(_)) => Err(LinkError::Unexpected { expected: "hello" }),
            Ok(None) => Err(LinkError::Closed("before its hello")),
            Err(error) => Err(error),
        };
        if let Err(LinkError::Version { .. }) = result {
            let ours = Welcome { version: NODE_PROTOCOL_VERSION, jobs_in_flight_max: 0 };
            link.writer.send(&Frame::Welcome(ours)).await?;
        }
        result
    };
    within("hello", answer_within, exchange).await
}

/// The gateway's second half: opens the link for `jobs_in_flight_max` jobs and for frames of full size.
pub async fn welcome_node<R, W>(
    link: &mut FramedLink<R, W>,
    jobs_in_flight_max: u32,
    answer_within: Duration,
) -> Result<(), LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let welcome = Welcome { version: NODE_PROTOCOL_VERSION, jobs_in_flight_max };
    link.reader.set_frame_bytes_max(FRAME_BYTES_MAX);
    within("room to write the welcome", answer_within, link.writer.send(&Frame::Welcome(welcome))).await
}

/// The node's side: proves to be `node` by a `sign`ed challenge, shows `card`, returns the welcome.
/// `sign` is ed25519 with the node's secret key; the key itself stays with the caller.
pub async fn greet_gateway<R, W>(
    link: &mut FramedLink<R, W>,
    node: NodeId,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
    card: NodeCard,
    answer_within: Duration,
) -> Result<Welcome, LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let exchange = async {
        link.reader.set_frame_bytes_max(HANDSHAKE_FRAME_BYTES_MAX);
        let challenge = match link.reader.next().await? {
            Some(Frame::Challenge(challenge)) => challenge,
            Some(_) => return Err(LinkError::Unexpected { expected: "challenge" }),
            None => return Err(LinkError::Closed("before its challenge")),
        };
        let hello = Hello {
            version: NODE_PROTOCOL_VERSION,
            node,
            signature: sign(&challenge_bytes(&challenge)),
            card,
        };
        link.writer.send(&Frame::Hello(hello)).await?;
        match link.reader.next().await? {
            Some(Frame::Welcome(welcome)) => Ok(welcome),
            Some(Frame::Goodbye) | None => Err(LinkError::Refused),
            Some(_) => Err(LinkError::Unexpected { expected: "welcome" }),
        }
    };
    let welcome = within("welcome", answer_within, exchange).await?;
    link.reader.set_frame_bytes_max(FRAME_BYTES_MAX);
    Ok(welcome)
}

async fn within<T>(
    what: &'static str,
    span: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let late = LinkError::Timeout(what, u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    timeout(span, work).await.unwrap_or(Err(late))
}

#[cfg(test)]
mod tests;
