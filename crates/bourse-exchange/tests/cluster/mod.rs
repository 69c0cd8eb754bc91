//! A PostgreSQL of this test alone: a folder, a server from the machine's own programs, a socket in that folder.

use postgres::{Client, NoTls};
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// The database's own superuser.
const USER: &str = "bourse";

pub(crate) struct Cluster {
    dir: TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// A new server. The tests that need one need PostgreSQL's programs on the machine.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("bourse-pg").tempdir_in("/tmp").unwrap();
        if let Some((user, group)) = server_user() {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let mut init = program("initdb");
        init.args([
            "--no-sync",
            "--auth=trust",
            "--locale=C",
            "--encoding=UTF8",
            "--username",
            USER,
            "--pgdata",
        ]);
        let made = init.arg(dir.path().join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut cluster = Self { dir, server: None };
        cluster.restart();
        cluster
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("host={} user={USER} dbname=postgres", self.dir.path().display())
    }

    pub(crate) fn restart(&mut self) {
        let folder = self.dir.path();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut server = program("postgres");
        server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(server.spawn().unwrap());
        let until = Instant::now() + STARTS_WITHIN;
        while let Err(error) = Client::connect(&self.url(), NoTls) {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "the server does not start: {error}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server and all of its processes, as a power cut would; what it had not synced is the disk's.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().unwrap();
        server.wait().unwrap();
        // Its children notice that it is gone; until then a new one would not start over their memory.
        let _ = fs::remove_file(self.dir.path().join("data/postmaster.pid"));
        while self.has_children() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn sql(&self, text: &str) {
        Client::connect(&self.url(), NoTls).unwrap().simple_query(text).unwrap();
    }

    fn has_children(&self) -> bool {
        let data = self.dir.path().join("data");
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok()).any(|at| at == data)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of PostgreSQL's programs, run as a user that it accepts: it refuses root.
fn program(name: &str) -> Command {
    let mut command = Command::new(folder_of(name).join(name));
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

fn folder_of(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(installed.map(|version| version.path().join("bin")));
    let found =
        folders.into_iter().find(|folder| folder.join(name).is_file() && folder.join("initdb").is_file());
    found.unwrap_or_else(|| {
        panic!("these tests need PostgreSQL's server: install it, such as with `apt install postgresql`")
    })
}

/// Whom the server runs as where the tests run as root: the owner that its package made.
fn server_user() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    is_root.then(|| {
        let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let line =
            line.expect("PostgreSQL refuses to run as root, and its package's user `postgres` is not there");
        let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    })
}
