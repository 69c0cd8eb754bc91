//! Sealed answers: bytes that mean nothing to whoever keeps them.
//!
//! The key follows from the account, the caller's API key and what the caller calls its request. The exchange knows the
//! hash of the API key and nothing of the other, so neither it nor a copy of its disk can open an answer, even where
//! requests are called `1`, `2`, `3`. The price: who repeats a request under another API key of the account gets a
//! conflict that names the receipt instead of the bytes.
//!
//! ChaCha20-Poly1305 (RFC 8439) under a key of its own for each answer, made from that secret and a random salt of 32
//! bytes; so the nonce can be zero. The claim's name and the request are authenticated with it: an answer that was put in
//! another's place does not open. Layout: version, salt, sealed status, headers and body, tag.

use bourse_types::{Digest32, RequestId};
use bourse_wire::canonical::{CanonicalError, Reader, Writer};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const PURPOSE: &str = "bourse 2026 answers for who asks again";

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Kept {
    fn write(&self, w: &mut Writer) {
        w.u32(u32::from(self.status.as_u16()));
        w.u32(self.headers.len() as u32);
        for (name, value) in &self.headers {
            w.text(name.as_str());
            w.u32(value.len() as u32);
            w.fixed(value.as_bytes());
        }
        w.fixed(&self.body);
    }

    fn read(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let wrong = |_| CanonicalError::Value("head");
        let mut r = Reader::new(bytes);
        let status = u16::try_from(r.u32()?).map_err(|_| CanonicalError::Value("status"))?;
        let status = StatusCode::from_u16(status).map_err(|_| CanonicalError::Value("status"))?;
        let mut headers = HeaderMap::new();
        for _ in 0..r.u32()? {
            let name = HeaderName::try_from(r.text()?).map_err(|_| CanonicalError::Value("head"))?;
            let len = r.u32()? as usize;
            headers.append(name, HeaderValue::from_bytes(r.fixed(len)?).map_err(wrong)?);
        }
        let body = Bytes::copy_from_slice(r.rest());
        Ok(Self { status, headers, body })
    }
}

/// Seals and opens the answers of one request.
pub(super) struct Sealer([u8; 32]);

impl Sealer {
    /// `word` is what the caller calls its request.
    pub(super) fn new(account: &Digest32, api_key: &[u8], word: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(PURPOSE);
        hasher.update(&account.0).update(&(api_key.len() as u64).to_le_bytes()).update(api_key).update(word);
        Self(*hasher.finalize().as_bytes())
    }

    fn key(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let key = blake3::keyed_hash(&self.0, salt);
        UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()).ok().map(LessSafeKey::new)
    }

    pub(super) fn seal(
        &self,
        kept: &Kept,
        name: &Digest32,
        first: RequestId,
        salt: &[u8; SALT_BYTES],
    ) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        w.fixed(salt);
        let start = w.bytes.len();
        kept.write(&mut w);
        let mut sealed = w.bytes;
        let key = self.key(salt).expect("a BLAKE3 hash has the length of the cipher's keys");
        let tag = key
            .seal_in_place_separate_tag(nonce(), aad(name, first), &mut sealed[start..])
            .expect("an answer is far shorter than the cipher's bound of 256 GB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// None when it was sealed by somebody else, for another request, or is damaged.
    pub(super) fn open(&self, sealed: &[u8], name: &Digest32, first: RequestId) -> Option<Kept> {
        let (salt, sealed) = sealed.strip_prefix(&[VERSION])?.split_at_checked(SALT_BYTES)?;
        let mut sealed = sealed.to_vec();
        let opened = self.key(salt)?.open_in_place(nonce(), aad(name, first), &mut sealed).ok()?;
        Kept::read(opened).ok()
    }
}

/// Each answer has a key of its own.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn aad(name: &Digest32, first: RequestId) -> Aad<[u8; 48]> {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(&name.0);
    bytes[32..].copy_from_slice(&first.0.to_le_bytes());
    Aad::from(bytes)
}
