//! What a server must show, and what the client shows.
//!
//! Chains and names are checked by rustls; the only thing that is the house's own is to check *less*, where the address
//! says so: `require` takes any certificate, `verify-ca` any name. Signatures of the handshake are checked always, so
//! that whoever answers has the key of the certificate that he shows.

use super::AddressError;
use super::options::Identity;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What the client is given.
pub(super) type Connector = MakeRustlsConnect;

/// How PostgreSQL's protocol is called within TLS.
const ALPN: &[u8] = b"postgresql";

/// Whose certificates are good.
pub(super) enum Trust {
    /// Everybody's.
    Anybody,
    /// Those that one of these signed, whatever the name in them.
    Authority(Arc<RootCertStore>),
    /// The same under the host's name.
    Name(Arc<RootCertStore>),
}

impl Trust {
    pub(super) fn authority(roots: RootCertStore) -> Self {
        Self::Authority(Arc::new(roots))
    }

    pub(super) fn name_by(roots: RootCertStore) -> Self {
        Self::Name(Arc::new(roots))
    }
}

/// The authorities that everybody trusts, as compiled in.
pub(super) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The authorities in a file.
pub(super) fn roots_of(path: &str) -> Result<RootCertStore, AddressError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("sslrootcert", path)? {
        roots.add(certificate).map_err(|error| unusable("sslrootcert", path, &error))?;
    }
    Ok(roots)
}

fn certificates(option: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, AddressError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| unusable(option, path, &error))?;
    if found.is_empty() {
        return Err(unusable(option, path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn unusable(option: &'static str, path: &str, why: &dyn Display) -> AddressError {
    AddressError::File { option, path: path.to_owned(), why: why.to_string() }
}

pub(super) fn connector(trust: Trust, identity: Option<Identity>) -> Result<Connector, AddressError> {
    let setup = |error: Error| AddressError::Setup(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(setup)?;
    let lenient = |roots| Arc::new(Lenient { roots, algorithms });
    let config = match trust {
        Trust::Name(roots) => config.with_root_certificates(roots),
        Trust::Authority(roots) => config.dangerous().with_custom_certificate_verifier(lenient(Some(roots))),
        Trust::Anybody => config.dangerous().with_custom_certificate_verifier(lenient(None)),
    };
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates("sslcert", &identity.certificate)?;
            let key = key_of(&identity.key)?;
            let shown = config.with_client_auth_cert(chain, key);
            shown.map_err(|error| unusable("sslkey", &identity.key, &error))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// A key that others on the machine can read is none; as with libpq, one of root may be read by its group.
pub(super) fn key_of(path: &str) -> Result<PrivateKeyDer<'static>, AddressError> {
    let file = std::fs::metadata(path).map_err(|error| unusable("sslkey", path, &error))?;
    let forbidden = if file.uid() == 0 { 0o037 } else { 0o077 };
    if file.mode() & forbidden != 0 {
        return Err(unusable("sslkey", path, &"others can read it; `chmod 600` it"));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable("sslkey", path, &error))
}

/// What to do about what a handshake failed of.
pub(super) fn mend(text: &str) -> Option<&'static str> {
    const AUTHORITY: &str =
        "`sslrootcert=FILE` names the certificate of the authority that signed the server's";
    let mends = [
        ("UnknownIssuer", AUTHORITY),
        // Another authority of the same name.
        ("BadSignature", AUTHORITY),
        (
            "not valid for",
            "the address must name the host as its certificate does; `hostaddr` may say where it is",
        ),
        (
            "CaUsedAsEndEntity",
            "the server shows an authority's certificate; let the authority sign one of the server's",
        ),
        (
            "does not support TLS",
            "the server must have `ssl = on` and a certificate, or the address `sslmode=disable`",
        ),
    ];
    mends.into_iter().find(|(what, _)| text.contains(what)).map(|(_, mend)| mend)
}

/// Looks at the chain or at nothing, and never at the name.
#[derive(Debug)]
struct Lenient {
    roots: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let known = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, known)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
