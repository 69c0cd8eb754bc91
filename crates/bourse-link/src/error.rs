//! Why a link ended or never opened, and at whose door that lies.

use bourse_types::{Fault, Retry};
use bourse_wire::canonical::CanonicalError;

/// Milliseconds that a node waits at least before it dials again after a lost link.
const REDIAL_AFTER_MS: u64 = 250;

/// Which end of the link is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gateway: its peer is a seller.
    Gateway,
    /// The node: its peer is the market.
    Node,
}

/// Why a link ended or never opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection failed below the frames.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The peer closed in the middle of a frame, or before the handshake was done.
    #[error("the peer closed the link {0}")]
    Closed(&'static str),
    /// Nothing came in time.
    #[error("no {0} within {1} ms")]
    Timeout(&'static str, u64),
    /// A frame announced more bytes than this link takes.
    #[error("a frame of {bytes} bytes exceeds the bound of {bytes_max}")]
    FrameTooLong {
        /// Bytes announced.
        bytes: usize,
        /// Most that are taken.
        bytes_max: usize,
    },
    /// A frame of ours came out longer than any peer would take. Nothing of it was sent.
    #[error("our own frame of {0} bytes is too long to send")]
    OwnFrameTooLong(usize),
    /// More was waiting to be written than the bound allows: the peer does not read.
    #[error("the peer does not read: {0} bytes wait to be written")]
    Backlog(usize),
    /// A frame whose bytes cannot be read.
    #[error("a frame could not be read")]
    Malformed(#[source] CanonicalError),
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks version {theirs} of the node protocol, this house speaks {ours}")]
    Version {
        /// Version of the peer.
        theirs: u32,
        /// Version of this house.
        ours: u32,
    },
    /// The node did not prove the key that it named.
    #[error("the signature does not prove the node's key")]
    Signature,
    /// A frame that has no place here.
    #[error("expected {expected}, got another frame")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
    },
    /// The gateway said goodbye instead of welcome.
    #[error("the gateway refused this node")]
    Refused,
}

impl LinkError {
    /// At whose door the failure lies, as `side` sees it: what came from the peer is the peer's fault.
    pub fn fault(&self, side: Side) -> Fault {
        let (own, peer) = match side {
            Side::Gateway => (Fault::Bourse, Fault::Seller),
            Side::Node => (Fault::Seller, Fault::Bourse),
        };
        match self {
            Self::OwnFrameTooLong(_) => own,
            Self::Refused => Fault::Seller,
            _ => peer,
        }
    }

    /// Whether dialling again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Version { .. } | Self::Signature | Self::OwnFrameTooLong(_) => Retry::Never,
            _ => Retry::AfterMs(REDIAL_AFTER_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_the_peer_is_the_peers_fault() {
        assert_eq!(LinkError::Signature.fault(Side::Gateway), Fault::Seller);
        assert_eq!(LinkError::Closed("early").fault(Side::Node), Fault::Bourse);
        assert_eq!(LinkError::OwnFrameTooLong(1).fault(Side::Gateway), Fault::Bourse);
        assert_eq!(LinkError::OwnFrameTooLong(1).fault(Side::Node), Fault::Seller);
    }

    #[test]
    fn only_what_can_change_is_retried() {
        assert_eq!(LinkError::Version { theirs: 2, ours: 1 }.retry(), Retry::Never);
        assert_eq!(LinkError::Closed("early").retry(), Retry::AfterMs(REDIAL_AFTER_MS));
    }
}
