//! The funds port as bytes: what gateways and an exchange on another machine say to each other.
//!
//! A frame is a length (u32, little-endian), the number of the call that it belongs to (u64), a kind (u8) and a body in
//! canonical values. Many calls are under way on one connection; answers carry the number of their call and may come in
//! any order. Number [`NO_CALL`] is the connection's own: the handshake, and [`Reply::Durable`] that nobody asked for.
//!
//! Handshake: the exchange sends a challenge, the gateway a hello that proves the shared secret over it, the exchange a
//! welcome that proves it over the gateway's own nonce and tells the exchange's clock, by which the gateway dates what it says. The secret itself never travels, and an old hello is worth
//! nothing later. Both proofs cover the *binding*, which only the two ends of one encrypted channel share: whoever stands
//! between two channels has two bindings, and what it passes on proves nothing. The welcome names the exchange's
//! *incarnation*, a number drawn at each opening: a [`CommitTicket`] has a meaning within its incarnation only, because a
//! later one may give the same group number to other content.
//!
//! What is off the hot path ([`Question`]: the past, and keys as their owners administer them) travels in the same
//! connection; its [`Answer`] may be large and comes in parts between which everything else has its turn.
//!
//! Limits: a frame has at most [`FRAME_BYTES_MAX`] bytes after its length, a hello at most [`HELLO_BYTES_MAX`]; error
//! texts are clipped at [`ERROR_TEXT_BYTES_MAX`]; a gateway has at most [`QUESTIONS_MAX`] questions under way, and an
//! answer at most [`ANSWER_BYTES_MAX`] bytes in parts of [`PART_BYTES_MAX`].

use super::{
    Attendance, CommitTicket, FundsError, HoldExtension, HoldRequest, KeyGrant, Settled, Settlement,
};
use crate::canonical::{CanonicalError, Reader, Writer};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use std::fmt;

mod answer;
mod body;
mod limits;
mod question;
pub use answer::Answer;
pub use question::{KeptPart, Question};

/// Version of the frames; in every hello.
pub const PORT_VERSION: u8 = 4;
/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;
/// Longest frame after its length. The longest is a new key with a policy at its bound; a settlement with every text at
/// its bound has a third of it.
pub const FRAME_BYTES_MAX: usize = 24 * 1024;
/// Longest frame that an exchange takes from somebody who has not proven the secret.
pub const HELLO_BYTES_MAX: usize = 128;
/// Longest text of an error.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;
/// Questions of one gateway that have no answer yet, at most.
pub const QUESTIONS_MAX: usize = 64;
/// Longest part of an answer.
pub const PART_BYTES_MAX: usize = 8 * 1024;
/// Longest answer. The activity of a busy account, every name at its bound, has about two thirds of it.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest part of a sealed answer that is given to be kept: a frame of it is no longer than any other.
pub const KEEP_PART_BYTES_MAX: usize = 16 * 1024;
/// The number of no call.
pub const NO_CALL: u64 = 0;
/// Shortest text that a secret is made from, in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

const SECRET_CONTEXT: &str = "bourse funds port 1: shared secret";
const CALL_BYTES: usize = 8;

/// What gateways and exchange both know.
#[derive(Clone, Copy)]
pub struct PortSecret([u8; 32]);

impl PortSecret {
    /// From a text of at least [`SECRET_BYTES_MIN`] bytes; none from a shorter one.
    pub fn of(text: &str) -> Option<Self> {
        (text.len() >= SECRET_BYTES_MIN).then(|| Self(blake3::derive_key(SECRET_CONTEXT, text.as_bytes())))
    }

    /// The proof that `side` knows the secret, over what both have drawn for this connection and, on the exchange's
    /// side, the incarnation. Comparing hashes takes the same time wherever they differ.
    pub fn proof(&self, side: Side, drawn: &Drawn, incarnation: u128) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[PORT_VERSION, side as u8]);
        hasher.update(&drawn.challenge).update(&drawn.nonce).update(&drawn.binding);
        hasher.update(&incarnation.to_le_bytes());
        hasher.finalize()
    }
}

/// Without the secret.
impl fmt::Debug for PortSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortSecret").finish_non_exhaustive()
    }
}

/// Whose proof it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The gateway's, in its hello.
    Gateway = 1,
    /// The exchange's, in its welcome.
    Exchange = 2,
}

/// What the two sides have drawn for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// By the exchange.
    pub challenge: [u8; 32],
    /// By the gateway.
    pub nonce: [u8; 32],
    /// What only the two ends of the channel below share.
    pub binding: [u8; 32],
}

/// What a gateway sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Once, in answer to the challenge.
    Hello {
        /// See [`PORT_VERSION`].
        version: u8,
        /// 32 fresh random bytes.
        nonce: [u8; 32],
        /// See [`PortSecret::proof`]; over incarnation 0, which the gateway does not know yet.
        proof: [u8; 32],
    },
    /// [`Funds::authenticate`](super::Funds::authenticate).
    Authenticate {
        /// SHA-256 of the key.
        key: KeyHash,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Funds::hold`](super::Funds::hold).
    Hold(HoldRequest),
    /// [`Funds::extend`](super::Funds::extend).
    Extend(HoldExtension),
    /// [`Funds::byok_fee`](super::Funds::byok_fee).
    ByokFee {
        /// Whose.
        grant: KeyGrant,
        /// List price.
        list: NanoUsd,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Funds::settle`](super::Funds::settle).
    Settle(Box<Settlement>),
    /// [`Funds::metered`](super::Funds::metered).
    Metered(Box<Settlement>),
    /// [`Funds::attended`](super::Funds::attended).
    Attended {
        /// Of which node, when.
        attendance: Attendance,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Funds::durable`](super::Funds::durable), of a ticket of this connection's incarnation.
    Durable(CommitTicket),
    /// Something off the hot path.
    Ask(Box<Question>),
}

/// What an exchange sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// First of all: 32 fresh random bytes.
    Challenge([u8; 32]),
    /// The connection is open.
    Welcome {
        /// Drawn at the opening of the exchange.
        incarnation: u128,
        /// See [`PortSecret::proof`].
        proof: [u8; 32],
        /// The exchange's clock.
        wall: UnixMs,
    },
    /// To an authentication.
    Granted(KeyGrant),
    /// To a hold, to an extension, to what was metered and to an attendance.
    Done,
    /// To a question for a fee.
    Fee(Option<NanoUsd>),
    /// To a settlement.
    Settled(Settled),
    /// Everything up to this ticket is on disk: to a call, or told by itself.
    Durable(CommitTicket),
    /// To any call.
    Refused(FundsError),
    /// To a question: the next part of its [`Answer`].
    Part {
        /// At most [`PART_BYTES_MAX`] of its bytes, in order.
        bytes: Vec<u8>,
        /// Whether the answer is whole with it.
        is_last: bool,
    },
}

/// A request or a reply.
pub trait Message: Sized {
    /// Its kind.
    fn kind(&self) -> u8;
    /// Writes the body.
    fn put(&self, w: &mut Writer);
    /// Reads the body of a kind.
    fn read(kind: u8, r: &mut Reader<'_>) -> Result<Self, CanonicalError>;
}

/// Appends a frame. Nothing is appended of one that is too long.
pub fn encode(call: u64, message: &impl Message, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    let start = out.len();
    let mut w = Writer { bytes: std::mem::take(out) };
    w.u32(0);
    w.u64(call);
    w.u8(message.kind());
    message.put(&mut w);
    *out = w.bytes;
    let len = out.len() - start - LENGTH_BYTES;
    if len > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(CanonicalError::Long(len));
    }
    out[start..start + LENGTH_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Gives a frame that [`encode`] wrote another call number.
pub fn renumber(frame: &mut [u8], call: u64) {
    if let Some(place) = frame.get_mut(LENGTH_BYTES..LENGTH_BYTES + CALL_BYTES) {
        place.copy_from_slice(&call.to_le_bytes());
    }
}

/// A frame taken from the front of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<M> {
    /// Which call.
    pub call: u64,
    /// What was said.
    pub message: M,
    /// How many bytes of the buffer it took.
    pub bytes: usize,
}

/// Takes the next frame of at most `frame_bytes_max` bytes; none when it is not all there yet. After an error the
/// borders of frames are lost: drop the connection.
pub fn decode<M: Message>(buffer: &[u8], frame_bytes_max: usize) -> Result<Option<Taken<M>>, CanonicalError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    if len > frame_bytes_max.min(FRAME_BYTES_MAX) {
        return Err(CanonicalError::Long(len));
    }
    let Some(frame) = buffer.get(LENGTH_BYTES..LENGTH_BYTES + len) else { return Ok(None) };
    let mut r = Reader::new(frame);
    let call = r.u64()?;
    let message = M::read(r.u8()?, &mut r)?;
    r.finish()?;
    Ok(Some(Taken { call, message, bytes: LENGTH_BYTES + len }))
}

#[cfg(test)]
mod tests;
