//! Transport between the parts of a market. Node ↔ gateway: frames over a byte stream, and the handshake that opens it.
//!
//! A node dials out, so NAT does not matter. This is the TCP leg, one connection per node with
//! `TCP_NODELAY`; QUIC, which races it and carries jobs on streams of their own, comes with the supply
//! issue and will sit behind the same [`FramedLink`]. Confidentiality towards a gateway on another
//! machine belongs to the transport below; the handshake itself proves the node's key and nothing else.
//!
//! Beside it stands [`RemoteFunds`]: a gateway's connection to an exchange on another machine, over an encrypted
//! [`Channel`].
//!
//! The node's link is generic over [`tokio::io::AsyncRead`] and [`tokio::io::AsyncWrite`], takes its timeouts
//! as arguments, and buffers at most one frame of the agreed size per direction plus what was read ahead.

mod channel;
mod error;
mod frames;
mod funds;
mod handshake;

pub use channel::{BINDING_BYTES, Channel, ChannelAcceptor, ChannelConnector};
pub use error::{LinkError, Side};
pub use frames::{FrameReader, FrameWriter, FramedLink, READ_AHEAD_BYTES, TcpLink, WRITE_PENDING_BYTES_MAX};
pub use funds::{
    ADDRESSES_MAX, CALL_WITHIN, CALLS_MAX, Courier, KEEPS_MAX, KEPT_MAX, LOST_MAX, OPEN_MAX,
    POLICIES_KEPT_MAX, RemoteFunds, RemoteFundsConfig,
};
pub use handshake::{
    HANDSHAKE_FRAME_BYTES_MAX, challenge_bytes, challenge_node, greet_gateway, verify_hello, welcome_node,
};
