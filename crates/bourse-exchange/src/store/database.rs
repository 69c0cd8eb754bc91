//! The database that holds the books: from its address to a connection.
//!
//! The address is what libpq's users write, as a URL or as words, with `sslmode`, `sslrootcert`, `sslcert` and `sslkey`
//! ([`options`]); they mean what libpq's manual says. Where no `sslmode` is written the house decides by where the bytes
//! go: a socket and loopback are plain or as the server likes, every other host must show a certificate of its name, by
//! `sslrootcert` or by the public authorities. Who writes `disable` or `prefer` for another host gets it, and a warning
//! in the log each time. SCRAM binds the password to the certificate (`SCRAM-SHA-256-PLUS`) where the server can.
//!
//! An address may hold a password: nothing of its text goes into a log or an error, but the host's name, and that only
//! when it can be none but a host's.
//!
//! A connection whose other end has vanished is given up by the system after some seconds, with libpq's options
//! `connect_timeout`, `tcp_user_timeout` and `keepalives_*` as they are set here where the address does not set them.
//!
//! Limits: TLS 1.2 or later; a host's name must stand in the certificate's `subjectAltName`, its common name does not
//! count; a certificate that signed itself as an authority is none of a server; keys are not encrypted; revocation lists,
//! `PG*` variables, service and password files are not read.

mod options;
mod tls;

use super::LEASE_TTL;
use bourse_ledger::JournalError;
use options::{Options, SslMode};
use postgres::config::{Host, SslMode as Encrypt};
use postgres::{Client, Config};
use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tls::{Connector, Trust};

/// The client's keepalive when the address names none; as good as none.
const CLIENTS_OWN_IDLE: Duration = Duration::from_hours(2);
/// Between two probes of a silent connection.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
/// Probes without an answer until it is given up.
const KEEPALIVES: u32 = 3;

/// Why an address is no place for books. Nothing of its text is in here: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(
        "the database's address cannot be read (it is not shown: it may hold a password); write \
         postgres://USER@HOST/DATABASE or `host=HOST user=USER dbname=DATABASE`; in a URL, @ : / ? and % of a password \
         are %40 %3A %2F %3F and %25"
    )]
    Unreadable,
    #[error("the database's address names no host; a socket's is its folder, such as `host=/run/postgresql`")]
    NoHost,
    #[error("the database's address has the option `{0}`, which is not taken here; leave it out")]
    NotTaken(&'static str),
    #[error("sslmode is none of disable, prefer, require, verify-ca and verify-full")]
    Mode,
    #[error(
        "sslmode={mode} needs `sslrootcert=FILE`, the certificate of the authority that signed the server's"
    )]
    NoAuthority { mode: &'static str },
    #[error("sslrootcert=system takes certificates of any public authority, so it needs sslmode=verify-full")]
    WeakSystem,
    #[error("sslcert and sslkey go together; one of them is missing")]
    HalfIdentity,
    #[error("{option} is no absolute path; the address is kept and read from other folders, too")]
    RelativePath { option: &'static str },
    #[error("{option}: {path} cannot be used: {why}")]
    File { option: &'static str, path: String, why: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl From<AddressError> for JournalError {
    fn from(error: AddressError) -> Self {
        Self::Store(error.to_string())
    }
}

/// A database and how it is reached.
pub(crate) struct Database {
    config: Config,
    connector: Connector,
    mode: SslMode,
    /// The first host that others may listen on the way to.
    exposed: Option<String>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Database {
    /// Reads an address and the files that it names.
    pub(crate) fn at(address: &str) -> Result<Self, AddressError> {
        let options = Options::split(address)?;
        let mut config: Config = options.rest.parse().map_err(|_| AddressError::Unreadable)?;
        bound_silence(&mut config);
        let remote = remote_host(&config)?;
        let is_socket = config.get_hosts().iter().all(is_folder) && config.get_hostaddrs().is_empty();
        let mode = match options.mode {
            // As with libpq: nothing is encrypted, and no certificate read, on the way to a folder.
            _ if is_socket => SslMode::Disable,
            Some(SslMode::Require) if options.root.is_some() => SslMode::VerifyCa,
            Some(mode) => mode,
            None if options.root.is_none() && remote.is_none() => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        config.ssl_mode(match mode {
            SslMode::Disable => Encrypt::Disable,
            SslMode::Prefer => Encrypt::Prefer,
            _ => Encrypt::Require,
        });
        let trust = trust(mode, options.root.as_deref())?;
        let identity = options.identity()?.filter(|_| mode != SslMode::Disable);
        let connector = tls::connector(trust, identity)?;
        let exposed = remote.filter(|_| matches!(mode, SslMode::Disable | SslMode::Prefer));
        Ok(Self { config, connector, mode, exposed })
    }

    /// A new connection. Blocks: not for a thread that runs futures.
    pub(crate) fn connect(&self) -> Result<Client, postgres::Error> {
        if let Some(host) = &self.exposed {
            tracing::warn!(
                %host,
                sslmode = self.mode.name(),
                "the database is on another host and its connection may be plain: others on the way can read and change \
                 the books; sslmode=verify-full keeps them out"
            );
        }
        self.config.connect(self.connector.clone())
    }
}

/// Has the system give a connection up whose other end has vanished, as far as the address says nothing of it: bytes
/// that nobody takes in, and silence. An end that is there and does not answer is for whoever waits to give up.
fn bound_silence(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(LEASE_TTL);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(LEASE_TTL);
    }
    if config.get_keepalives_idle() == CLIENTS_OWN_IDLE {
        config.keepalives_idle(LEASE_TTL);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_EVERY);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVES);
    }
}

/// What a server's certificate is held against.
fn trust(mode: SslMode, root: Option<&str>) -> Result<Trust, AddressError> {
    let is_system = root == Some(options::SYSTEM);
    match (mode, root) {
        (SslMode::Disable | SslMode::Prefer | SslMode::Require, None) | (SslMode::Disable, _) => {
            Ok(Trust::Anybody)
        }
        (SslMode::VerifyFull, _) if is_system || root.is_none() => Ok(Trust::name_by(tls::public_roots())),
        (_, _) if is_system => Err(AddressError::WeakSystem),
        (_, None) => Err(AddressError::NoAuthority { mode: mode.name() }),
        (SslMode::VerifyFull, Some(path)) => Ok(Trust::name_by(tls::roots_of(path)?)),
        // libpq does not look at the certificate under `prefer`, whatever the file says.
        (SslMode::Prefer, Some(_)) => Ok(Trust::Anybody),
        (_, Some(path)) => Ok(Trust::authority(tls::roots_of(path)?)),
    }
}

/// The first host that is not this machine. Its name can be shown: it has no character that a password could have hidden.
fn remote_host(config: &Config) -> Result<Option<String>, AddressError> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let is_shown = |host: &Host| match host {
        Host::Tcp(name) => {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c))
        }
        Host::Unix(_) => true,
    };
    if !hosts.iter().all(is_shown) {
        return Err(AddressError::Unreadable);
    }
    if hosts.is_empty() && addresses.is_empty() {
        return Err(AddressError::NoHost);
    }
    // Where both are given, the number says where the bytes go.
    if !addresses.is_empty() {
        return Ok(addresses.iter().find(|address| !address.is_loopback()).map(ToString::to_string));
    }
    let name = |host: &Host| match host {
        Host::Tcp(name) if !is_this_machine(name) => Some(name.clone()),
        _ => None,
    };
    Ok(hosts.iter().find_map(name))
}

fn is_folder(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}

fn is_this_machine(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The same of a journal.
pub(crate) fn failed(error: &postgres::Error) -> JournalError {
    JournalError::Store(told(error))
}

/// What went wrong, without the address: the server's own words, or the client's with their causes.
pub(crate) fn told(error: &postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        return told.message().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if let Some(mend) = tls::mend(&text) {
        text = format!("{text}; {mend}");
    }
    text
}

#[cfg(test)]
mod tests;
