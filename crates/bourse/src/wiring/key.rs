//! Keys at sellers: from a variable or from a file that nobody else may read, and nowhere else.

use super::WiringError;
use crate::config::Environment;
use crate::data_dir::SMALL_FILE_BYTES_MAX;
use bourse_gateway::Secret;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Bits of a file's mode that let others read or write it.
const OTHERS: u32 = 0o077;

/// The key that `api_key_env` or `api_key_file` names; none when neither is given.
pub(super) fn read(
    place: &str,
    variable: Option<&str>,
    file: Option<&Path>,
    environment: &Environment,
) -> Result<Option<Secret>, WiringError> {
    match (variable, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(WiringError::TwoKeys { place: place.to_owned() }),
        (Some(variable), None) => {
            let missing = || WiringError::NoKey { place: place.to_owned(), variable: shown(variable) };
            Ok(Some(Secret::new(environment.get(variable).ok_or_else(missing)?)))
        }
        (None, Some(path)) => of_file(place, path).map(|key| Some(Secret::new(key))),
    }
}

/// A variable as an error shows it. Who writes the key itself where its variable should be named reads it in no log.
fn shown(variable: &str) -> String {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if variable.bytes().all(is_name) {
        variable.to_owned()
    } else {
        "that api_key_env names (not shown: it may be the key itself)".to_owned()
    }
}

/// The secret that a file holds, which nobody but its owner may read.
pub(super) fn of_file(place: &str, path: &Path) -> Result<String, WiringError> {
    let (place, shown) = (place.to_owned(), path.display().to_string());
    let unusable =
        |why: &'static str| WiringError::KeyFile { place: place.clone(), path: shown.clone(), why };
    let file = std::fs::File::open(path).map_err(|_| unusable("cannot be read"))?;
    let metadata = file.metadata().map_err(|_| unusable("cannot be read"))?;
    if !metadata.is_file() {
        return Err(unusable("is no file"));
    }
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(unusable("may be read by others: chmod 600 it"));
    }
    let mut text = String::new();
    let read = file.take(SMALL_FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|_| unusable("cannot be read as text"))?;
    if bytes as u64 > SMALL_FILE_BYTES_MAX {
        return Err(unusable("is too long for a key"));
    }
    match text.trim() {
        "" => Err(unusable("is empty")),
        key => Ok(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = read("provider `p`", None, Some(&path), &Environment::default());
            read.map(|key| key == Some(Secret::new("sk-canary"))).map_err(|error| {
                let text = crate::report::render(&error);
                assert!(!text.contains("canary"), "{text}");
                let line = text.lines().next().unwrap_or_default();
                line.split_once("with its key ").map_or(String::new(), |(_, why)| why.to_owned())
            })
        };
        assert_eq!(check("sk-canary\n", 0o600), Ok(true));
        assert_eq!(check("sk-canary", 0o400), Ok(true));
        for mode in [0o640, 0o604, 0o620, 0o602] {
            assert_eq!(check("sk-canary", mode), Err("may be read by others: chmod 600 it".to_owned()));
        }
        assert_eq!(check(" \n", 0o600), Err("is empty".to_owned()));
        let long = |bytes: u64| check(&"k".repeat(usize::try_from(bytes).unwrap()), 0o600);
        assert_eq!(long(SMALL_FILE_BYTES_MAX), Ok(false));
        assert_eq!(long(SMALL_FILE_BYTES_MAX + 1), Err("is too long for a key".to_owned()));
        assert!(read("p", None, Some(&folder.path().join("none")), &Environment::default()).is_err());
        assert!(read("p", None, Some(folder.path()), &Environment::default()).is_err());
    }

    #[test]
    fn a_key_stands_in_one_place() {
        let environment = Environment::of(&[("A", "sk-a")]);
        assert_eq!(read("p", Some("A"), None, &environment).unwrap(), Some(Secret::new("sk-a")));
        assert!(matches!(read("p", Some("B"), None, &environment), Err(WiringError::NoKey { .. })));
        assert!(matches!(
            read("p", Some("A"), Some(Path::new("x")), &environment),
            Err(WiringError::TwoKeys { .. })
        ));
        assert_eq!(read("p", None, None, &environment).unwrap(), None);
    }
}
