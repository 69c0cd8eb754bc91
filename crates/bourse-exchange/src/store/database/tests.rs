//! Addresses, read; connections are made in `tests/database.rs`.

use super::*;

fn mode_of(address: &str) -> Result<(SslMode, Option<String>), AddressError> {
    Database::at(address).map(|database| (database.mode, database.exposed))
}

fn check(address: &str, mode: SslMode, exposed: Option<&str>) {
    assert_eq!(mode_of(address), Ok((mode, exposed.map(str::to_owned))), "{address}");
}

#[test]
fn where_nothing_is_written_only_this_machine_is_reached_unseen() {
    check("host=/run/postgresql user=bourse", SslMode::Disable, None);
    check("postgres:///books?host=/run/postgresql&sslmode=verify-full", SslMode::Disable, None);
    check("postgres://bourse@localhost/books", SslMode::Prefer, None);
    check("postgres://bourse@127.0.0.1,[::1]/books", SslMode::Prefer, None);
    check("host=db.internal hostaddr=127.0.0.1", SslMode::Prefer, None);
    check("postgres://bourse@db.internal/books", SslMode::VerifyFull, None);
    check("host=localhost hostaddr=10.1.2.3", SslMode::VerifyFull, None);
    check("postgres://bourse@127.0.0.1,db.internal/books", SslMode::VerifyFull, None);
    check("host=localhost sslrootcert=system", SslMode::VerifyFull, None);
}

#[test]
fn what_is_written_holds_and_what_others_may_read_is_told() {
    for (name, mode) in [("disable", SslMode::Disable), ("prefer", SslMode::Prefer)] {
        let url = format!("postgres://bourse:s3cret@db.internal:5433/books?sslmode={name}");
        check(&url, mode, Some("db.internal"));
        check(&format!("host=db.internal sslmode = '{name}'"), mode, Some("db.internal"));
        check(&format!("host=127.0.0.1 sslmode={name}"), mode, None);
    }
    check("host=10.1.2.3 sslmode=require connect_timeout=5", SslMode::Require, None);
    check("postgres://h/b?sslmode=disable&sslmode=verify%2Dfull", SslMode::VerifyFull, None);
}

#[test]
fn the_rest_is_left_to_the_client() {
    let rest = |address: &str| Options::split(address).unwrap_or_default().rest;
    let url = "postgres://u:p%3F@h:1/b?connect_timeout=3&sslmode=require&application_name=x%26y";
    assert_eq!(rest(url), "postgres://u:p%3F@h:1/b?connect_timeout=3&application_name=x%26y");
    assert_eq!(rest("postgres://u:p?sslmode=q@h/b"), "postgres://u:p?sslmode=q@h/b");
    let words = r"host = h sslmode='require'  password='it\'s a \\ secret' user=a\ b";
    assert_eq!(rest(words), r" host = h password='it\'s a \\ secret' user=a\ b");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |address: &str| mode_of(address).unwrap_err();
    assert_eq!(refused("user=bourse dbname=books"), AddressError::NoHost);
    assert_eq!(refused("host=h sslmode=allow"), AddressError::Mode);
    assert_eq!(refused("host=h sslmode=verify-ca"), AddressError::NoAuthority { mode: "verify-ca" });
    assert_eq!(refused("host=h sslmode=require sslrootcert=system"), AddressError::WeakSystem);
    assert_eq!(refused("host=h sslmode=require sslcert=/c"), AddressError::HalfIdentity);
    assert_eq!(refused("host=h sslrootcert=ca.pem"), AddressError::RelativePath { option: "sslrootcert" });
    assert_eq!(refused("postgres://h/b?service=x"), AddressError::NotTaken("service"));
    let missing = refused("host=h sslrootcert=/nowhere/ca.pem").to_string();
    assert!(missing.starts_with("sslrootcert: /nowhere/ca.pem cannot be used: "), "{missing}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    std::fs::write(&key, "no key").unwrap();
    for (mode, why) in [(0o604, "others can read it"), (0o622, "others can read it"), (0o600, "")] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let told = tls::key_of(key.to_str().unwrap()).unwrap_err().to_string();
        assert!(told.contains(why) && told.contains("others") == (mode != 0o600), "{mode:o}: {told}");
    }
}

/// However an address is broken, what it holds is not told.
#[test]
fn no_password_is_told_whatever_is_wrong_with_its_address() {
    let broken = [
        "postgres://u:s3cr@et@h/b",
        "postgres://u:s3cret@h/b?s3cret",
        "postgres://u:s3cret@h/b?s3cret=1",
        "postgres://u:x@s3c:s3cret@h/b",
        "postgres://u:s3cret@h:port/b",
        "postgres://u:s3cret@/b",
        "postgres://u:s3cret@h/b?sslmode=s3cret",
        "postgres://u:s3cret@h/b?sslrootcert=s3cret",
        "postgres://u:s3cret@h/b?connect_timeout=s3cret",
        "postgres://u:s3cret%ff@%ff/b",
        "host=h password=my s3cret",
        "host=h password=my s3cret=x",
        "host=h password='s3cret",
        "host=s3cret@h",
        "s3cret",
        "postgresql:/u:s3cret@h/b",
    ];
    for address in broken {
        let error = Database::at(address).unwrap_err();
        let told = format!("{error} {error:?} {} {:?}", JournalError::from(error.clone()), error);
        assert!(!told.contains("s3c") && !told.contains("et@"), "{address}: {told}");
    }
    let good = Database::at("postgres://u:s3cret@127.0.0.1/b?sslmode=require").unwrap();
    assert!(!format!("{good:?}").contains("s3cret"));
}
