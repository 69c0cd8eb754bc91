//! The way to the database through TLS: a real server with a certificate of a real authority, both made here.
//!
//! The server is on loopback; `hostaddr` says so, and `host` is the name that its certificate is held against.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::cluster::{Cluster, Network};
use bourse_exchange::PostgresJournal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The server's name in its certificate.
const NAME: &str = "db.test";
const SECRET: &str = "s3cret-word";
/// TLS or nothing: with a password for most, with a certificate for `certified`.
const RULES: &str = "hostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate under that name and its key, in PEM.
fn certificate(authority: &Authority, name: &str, usage: ExtendedKeyUsagePurpose) -> [String; 2] {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    [params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem()]
}

/// A server with TLS, and the files that its clients have.
struct Secured {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Secured {
    fn start() -> Self {
        let (own, other) = (authority(), authority());
        let [server, key] = certificate(&own, NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let [client, client_key] = certificate(&own, "certified", ExtendedKeyUsagePurpose::ClientAuth);
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("own.pem", own.pem()),
            ("other.pem", other.pem()),
            ("client.pem", client),
            ("client.key", client_key),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let network = Network { rules: RULES, tls: Some([server, key, own.pem()]), port: 0 };
        let cluster = Cluster::start_on(network);
        cluster.sql(&format!("CREATE ROLE writer SUPERUSER LOGIN PASSWORD '{SECRET}'"));
        cluster.sql("CREATE ROLE certified SUPERUSER LOGIN");
        drop(PostgresJournal::open(&cluster.url(), Duration::ZERO).unwrap());
        Self { cluster, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens the books as `writer` through the port.
    fn told(&self, host: &str, options: &str) -> Result<PostgresJournal, String> {
        self.told_as(&format!("user=writer password='{SECRET}'"), host, options)
    }

    fn told_as(&self, who: &str, host: &str, options: &str) -> Result<PostgresJournal, String> {
        let port = self.cluster.port();
        let options = options.replace("DIR", &self.dir.path().display().to_string());
        let address = format!("host={host} hostaddr=127.0.0.1 port={port} dbname=postgres {who} {options}");
        PostgresJournal::open_read_only(&address).map_err(|error| {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(SECRET), "{told}");
            error.to_string()
        })
    }

    /// It opens, encrypted.
    fn opens(&self, host: &str, options: &str) {
        let open = self.told(host, options).unwrap_or_else(|why| panic!("{options}: {why}"));
        assert_eq!(self.encrypted().as_deref(), Some("1"), "{options}");
        drop(open);
        // The server takes notice of an end when it likes.
        while self.encrypted().as_deref() != Some("0") {}
    }

    fn encrypted(&self) -> Option<String> {
        self.cluster.sql("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl")
    }

    fn refused(&self, host: &str, options: &str, why: &str) {
        let told = self.told(host, options).expect_err(options);
        assert!(told.contains(why), "{options}: {told}");
    }
}

#[test]
fn a_server_is_believed_as_far_as_the_address_asks() {
    let server = Secured::start();
    server.opens(NAME, "sslmode=verify-full sslrootcert=DIR/own.pem");
    server.opens(NAME, "sslrootcert=DIR/own.pem");
    server.opens("other.test", "sslmode=verify-ca sslrootcert=DIR/own.pem");
    server.opens("other.test", "sslmode=require");
    server.opens("other.test", "sslmode=prefer");
    server.opens("other.test", "");

    let name = "the address must name the host as its certificate does";
    server.refused("other.test", "sslmode=verify-full sslrootcert=DIR/own.pem", name);
    let authority = "`sslrootcert=FILE` names the certificate of the authority";
    server.refused(NAME, "sslmode=verify-full sslrootcert=DIR/other.pem", authority);
    server.refused(NAME, "sslmode=verify-ca sslrootcert=DIR/other.pem", authority);
    // As libpq has it: with an authority at hand, `require` looks at the chain.
    server.refused(NAME, "sslmode=require sslrootcert=DIR/other.pem", authority);
    server.refused(NAME, "sslmode=verify-full", authority);
    server.refused(NAME, "sslmode=verify-full sslrootcert=system", authority);
    server.refused(NAME, "sslmode=disable", "no encryption");
    server.refused(NAME, "sslrootcert=DIR/client.key", "there is no certificate in it");
}

#[test]
fn the_password_is_bound_to_the_certificate() {
    let server = Secured::start();
    server.opens(NAME, "sslrootcert=DIR/own.pem channel_binding=require");
    let wrong = server.told_as("user=writer password=an0ther-word", NAME, "sslmode=require").unwrap_err();
    assert!(wrong.contains("password authentication failed") && !wrong.contains("an0ther"), "{wrong}");
}

#[test]
fn a_client_may_show_a_certificate_instead_of_a_password() {
    let server = Secured::start();
    let open = |options: &str| server.told_as("user=certified", NAME, options);
    open("sslrootcert=DIR/own.pem sslcert=DIR/client.pem sslkey=DIR/client.key").unwrap();
    let without = open("sslrootcert=DIR/own.pem").unwrap_err();
    assert!(without.contains("certificate"), "{without}");
    let key: &Path = &server.file("client.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let readable = open("sslmode=require sslcert=DIR/client.pem sslkey=DIR/client.key").unwrap_err();
    assert!(readable.contains("others can read it"), "{readable}");
}

#[test]
fn a_server_without_tls_is_refused_where_it_was_asked_for() {
    let rules = "host all all 127.0.0.1/32 trust\n";
    let cluster = Cluster::start_on(Network { rules, tls: None, port: 0 });
    drop(PostgresJournal::open(&cluster.url(), Duration::ZERO).unwrap());
    let open = |options: &str| {
        let port = cluster.port();
        let address =
            format!("postgres://bourse:{SECRET}@{NAME}:{port}/postgres?hostaddr=127.0.0.1{options}");
        PostgresJournal::open_read_only(&address).map(drop).map_err(|error| error.to_string())
    };
    for options in ["", "&sslmode=prefer", "&sslmode=disable"] {
        assert_eq!(open(options), Ok(()), "{options}");
    }
    for options in ["&sslmode=require", "&sslmode=verify-full", "&sslrootcert=system"] {
        let told = open(options).unwrap_err();
        assert!(told.contains("the server must have `ssl = on`") && !told.contains(SECRET), "{told}");
    }
}
