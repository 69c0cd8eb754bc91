//! An address taken apart: the options of TLS, and the rest, which the client reads by itself.
//!
//! Both forms of libpq's addresses are read: `postgres://USER@HOST/DATABASE?OPTION=VALUE&…` and `OPTION=VALUE …` with
//! quotes and backslashes. Of an option that comes twice the last counts.

use super::AddressError;
use percent_encoding::percent_decode_str;

/// The value of `sslrootcert` that stands for the public authorities.
pub(super) const SYSTEM: &str = "system";

/// libpq's options that the client would not know. Others that it does not know may be the end of a password.
const NOT_TAKEN: [&str; 22] = [
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslcompression",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "sslkeylogfile",
    "requirepeer",
    "requiressl",
    "require_auth",
    "gssencmode",
    "gsslib",
    "gssdelegation",
    "krbsrvname",
    "service",
    "passfile",
    "replication",
    "fallback_application_name",
    "client_encoding",
    "scram_client_key",
];

/// How much a connection is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// Plain.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, to whomever.
    Require,
    /// The same, to whomever the authority vouches for.
    VerifyCa,
    /// The same, under the host's own name.
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Files with a client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// An address in parts.
#[derive(Default)]
pub(super) struct Options {
    /// The address without the options below.
    pub(super) rest: String,
    pub(super) mode: Option<SslMode>,
    /// A file's path, or [`SYSTEM`].
    pub(super) root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Options {
    pub(super) fn split(address: &str) -> Result<Self, AddressError> {
        let address = address.trim();
        if ["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme)) {
            Self::of_url(address)
        } else {
            Self::of_words(address)
        }
    }

    /// The client's certificate, if there is one.
    pub(super) fn identity(&self) -> Result<Option<Identity>, AddressError> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(Identity { certificate: certificate.clone(), key: key.clone() }))
            }
            _ => Err(AddressError::HalfIdentity),
        }
    }

    fn of_url(address: &str) -> Result<Self, AddressError> {
        // What stands before the first `@` is user and password.
        let start = address.find('@').unwrap_or(0);
        let Some(at) = address[start..].find('?').map(|at| start + at) else {
            return Ok(Self { rest: address.to_owned(), ..Self::default() });
        };
        let mut options = Self::default();
        let mut kept = Vec::new();
        for pair in address[at + 1..].split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AddressError::Unreadable)?;
            let plain = |text| percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Unreadable);
            if !options.take(&plain(name)?, &plain(value)?)? {
                kept.push(pair);
            }
        }
        let mark = if kept.is_empty() { "" } else { "?" };
        options.rest = format!("{}{mark}{}", &address[..at], kept.join("&"));
        Ok(options)
    }

    fn of_words(address: &str) -> Result<Self, AddressError> {
        let mut options = Self::default();
        let mut left = address.trim_start();
        while !left.is_empty() {
            let start = left;
            let (name, behind) = left.split_once('=').ok_or(AddressError::Unreadable)?;
            let (value, behind) = word(behind.trim_start()).ok_or(AddressError::Unreadable)?;
            if !options.take(name.trim_end(), &value)? {
                let kept = &start[..start.len() - behind.len()];
                options.rest = format!("{} {}", options.rest, kept.trim_end());
            }
            left = behind.trim_start();
        }
        Ok(options)
    }

    /// Whether the option is one of those here.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, AddressError> {
        if let Some(known) = NOT_TAKEN.iter().find(|known| **known == name) {
            return Err(AddressError::NotTaken(known));
        }
        let owned = Some(value.to_owned());
        match name {
            "sslmode" => {
                let mode = SslMode::ALL.into_iter().find(|mode| mode.name() == value);
                self.mode = Some(mode.ok_or(AddressError::Mode)?);
            }
            "sslrootcert" if value == SYSTEM => self.root = owned,
            "sslrootcert" => self.root = absolute("sslrootcert", value)?,
            "sslcert" => self.certificate = absolute("sslcert", value)?,
            "sslkey" => self.key = absolute("sslkey", value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn absolute(option: &'static str, path: &str) -> Result<Option<String>, AddressError> {
    if !path.starts_with('/') {
        return Err(AddressError::RelativePath { option });
    }
    Ok(Some(path.to_owned()))
}

/// The value at the beginning of `text`, without its quotes and backslashes, and what follows.
fn word(text: &str) -> Option<(String, &str)> {
    let (is_quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Some((value, &body[at + 1..])),
            c if !is_quoted && c.is_whitespace() => return Some((value, &body[at..])),
            c => value.push(c),
        }
    }
    (!is_quoted).then_some((value, ""))
}
