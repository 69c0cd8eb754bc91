//! An encrypted channel between a gateway and an exchange, without certificates.
//!
//! TLS 1.3 with a raw public key (RFC 7250) that the exchange draws at its start and nobody pins. That alone keeps
//! listeners out, and not somebody who stands between: who it is at the other end is proven inside the channel, by the
//! secret that both ends know, over the channel's *binding* (RFC 9266, `tls-exporter`'s idea under a label of our own).
//! Both ends of one channel derive the same binding; two channels have two. So there is no authority to trust, no file
//! to renew and no name to check, and a proof cannot be carried from one channel into another.
//!
//! Limits: until the proofs are exchanged an end does not know whom it speaks to, so nothing but they may be said.
//! Sessions are not resumed: a connection lives for days.

use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use tokio_rustls::rustls::server::AlwaysResolvesServerRawPublicKeys;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Bytes of a binding.
pub const BINDING_BYTES: usize = 32;

const BINDING_LABEL: &[u8] = b"EXPORTER-bourse-funds-port";
/// An ed25519 private key in PKCS #8, but for the key.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An open channel.
pub struct Channel<S> {
    /// What goes in at one end comes out at the other.
    pub stream: TlsStream<S>,
    /// What only the two ends of this channel share.
    pub binding: [u8; BINDING_BYTES],
}

/// The exchange's end of channels.
#[derive(Clone)]
pub struct ChannelAcceptor(TlsAcceptor);

impl ChannelAcceptor {
    /// With a key that is drawn now.
    pub fn new() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let key = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &seed].concat());
        let key = ring::sign::any_eddsa_type(&key).map_err(io::Error::other)?;
        let public = key.public_key().ok_or_else(|| io::Error::other("an ed25519 key has a public key"))?;
        let public = CertificateDer::from(public.to_vec());
        let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::new(CertifiedKey::new(vec![public], key)));
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(resolver));
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Opens a channel over a connection that was accepted.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Channel<S>> {
        let stream = self.0.accept(stream).await?;
        let binding = stream.get_ref().1.export_keying_material([0; BINDING_BYTES], BINDING_LABEL, None);
        Ok(Channel { binding: binding.map_err(io::Error::other)?, stream: stream.into() })
    }
}

/// The gateway's end of channels.
#[derive(Clone)]
pub struct ChannelConnector(TlsConnector, ServerName<'static>);

impl ChannelConnector {
    /// Ready to connect.
    pub fn new() -> io::Result<Self> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.dangerous();
        let config = config.with_custom_certificate_verifier(Arc::new(AnyKey(algorithms)));
        let mut config = config.with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        let name = ServerName::try_from("exchange").map_err(io::Error::other)?;
        Ok(Self(TlsConnector::from(Arc::new(config)), name))
    }

    /// Opens a channel over a connection that was dialled.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Channel<S>> {
        let stream = self.0.connect(self.1.clone(), stream).await?;
        let binding = stream.get_ref().1.export_keying_material([0; BINDING_BYTES], BINDING_LABEL, None);
        Ok(Channel { binding: binding.map_err(io::Error::other)?, stream: stream.into() })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes whatever key the other end shows, and sees that it has it: whose it is, the secret proves later.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    async fn open(acceptor: &ChannelAcceptor) -> (Channel<DuplexStream>, Channel<DuplexStream>) {
        let (near, far) = duplex(64 * 1024);
        let connector = ChannelConnector::new().unwrap();
        let (near, far) = tokio::join!(connector.connect(near), acceptor.accept(far));
        (near.unwrap(), far.unwrap())
    }

    #[tokio::test]
    async fn both_ends_of_a_channel_share_a_binding_and_no_other_channel_does() {
        let acceptor = ChannelAcceptor::new().unwrap();
        let (mut near, mut far) = open(&acceptor).await;
        near.stream.write_all(b"hold").await.unwrap();
        near.stream.flush().await.unwrap();
        let mut heard = [0; 4];
        far.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hold");
        assert_eq!(near.binding, far.binding);
        let (again, other) = open(&acceptor).await;
        assert_eq!(again.binding, other.binding);
        assert_ne!(near.binding, again.binding, "even with the same key");
    }

    #[tokio::test]
    async fn what_is_said_in_a_channel_cannot_be_read_from_outside_and_whoever_says_no_tls_is_refused() {
        let acceptor = ChannelAcceptor::new().unwrap();
        let (mut stranger, far) = duplex(1_024);
        stranger.write_all(&[9; 512]).await.unwrap();
        assert!(acceptor.accept(far).await.is_err());

        let (near, mut outside) = duplex(64 * 1024);
        let (mut inside, far) = duplex(64 * 1024);
        let connector = ChannelConnector::new().unwrap();
        let carry = async {
            let mut seen = Vec::new();
            let mut chunks = ([0; 4_096], [0; 4_096]);
            loop {
                tokio::select! {
                    n = outside.read(&mut chunks.0) => match n.unwrap() {
                        0 => return seen,
                        n => {
                            seen.extend_from_slice(&chunks.0[..n]);
                            inside.write_all(&chunks.0[..n]).await.unwrap();
                        }
                    },
                    n = inside.read(&mut chunks.1) => {
                        let n = n.unwrap();
                        outside.write_all(&chunks.1[..n]).await.unwrap();
                    }
                }
            }
        };
        let talk = async {
            let (near, far) = tokio::join!(connector.connect(near), acceptor.accept(far));
            let (mut near, mut far) = (near.unwrap().stream, far.unwrap().stream);
            near.write_all(b"a word that is a secret").await.unwrap();
            near.flush().await.unwrap();
            let mut heard = [0; 23];
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"a word that is a secret");
            drop(near);
        };
        let (seen, ()) = tokio::join!(carry, talk);
        assert!(!seen.windows(6).any(|window| window == b"secret"));
    }
}
