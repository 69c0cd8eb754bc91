//! From configuration to the connection between gateways and an exchange elsewhere: addresses, and the secret of both.

use super::{WiringError, key};
use crate::config::Config;
use crate::data_dir::DataDir;
use bourse_link::ADDRESSES_MAX;
use bourse_wire::funds::port::PortSecret;
use std::path::PathBuf;

/// Where the exchanges are; an empty list when none is named.
pub fn addresses(config: &Config) -> Result<Vec<String>, WiringError> {
    let unusable = |why: String| WiringError::Unusable { field: "gateway.exchange".to_owned(), why };
    let mut addresses = Vec::new();
    for text in config.gateway.exchange.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let parts = text.rsplit_once(':');
        let is_address = parts.is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !is_address {
            return Err(unusable(format!("`{text}` is no host:port, such as books.internal:8421")));
        }
        addresses.push(text.to_owned());
    }
    if addresses.len() > ADDRESSES_MAX {
        return Err(unusable(format!(
            "it has {} addresses, at most {ADDRESSES_MAX} are possible",
            addresses.len()
        )));
    }
    Ok(addresses)
}

/// The file of the secret, wherever it is.
pub(crate) fn secret_file(config: &Config, data_dir: &DataDir) -> PathBuf {
    config.exchange.secret_file.clone().unwrap_or_else(|| data_dir.exchange_secret_file())
}

/// What exchange and gateways both know.
pub fn secret(config: &Config, data_dir: &DataDir) -> Result<PortSecret, WiringError> {
    let place = "exchange.secret_file";
    let text = key::of_file(place, &secret_file(config, data_dir))?;
    PortSecret::of(&text).ok_or_else(|| WiringError::Unusable {
        field: place.to_owned(),
        why: "a secret has at least 16 bytes: let `bourse up` make one".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn addresses_are_a_host_and_a_port_each_and_have_their_number() {
        let check = |text: &str| {
            let mut config = Config::default();
            config.gateway.exchange = text.to_owned();
            addresses(&config).map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(Vec::new()));
        let two = ["books.internal:8421", "[::1]:9"];
        assert_eq!(check(" books.internal:8421, [::1]:9,"), Ok(two.map(str::to_owned).to_vec()));
        for text in ["books", "books:", ":8421", "books:0", "books:65536", "http://books:8421"] {
            let error = check(text).unwrap_err();
            assert!(error.contains("gateway.exchange") && error.contains("is no host:port"), "{error}");
        }
        let many = |count: usize| vec!["a:1"; count].join(",");
        assert_eq!(check(&many(ADDRESSES_MAX)).unwrap().len(), ADDRESSES_MAX);
        assert!(check(&many(ADDRESSES_MAX + 1)).unwrap_err().contains("at most 8"));
    }

    #[test]
    fn the_secret_is_its_owners_and_not_too_short() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::at(folder.path().to_owned());
        let check = |text: &str, mode: u32| {
            let path = data_dir.exchange_secret_file();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            secret(&Config::default(), &data_dir).map(drop).map_err(|error| crate::report::render(&error))
        };
        assert!(secret(&Config::default(), &data_dir).is_err(), "there is none");
        assert_eq!(check("a canary of 16 b\n", 0o600), Ok(()));
        for (text, mode, why) in
            [("a canary of 16 b", 0o640, "chmod 600"), ("canary of 15 by", 0o600, "16 bytes")]
        {
            let error = check(text, mode).unwrap_err();
            assert!(error.contains(why) && !error.contains("canary"), "{error}");
        }
    }
}
