//! A PostgreSQL of this test alone: a folder, a server from the machine's own programs, a socket in that folder, and on
//! wish a port of loopback with or without TLS.

use postgres::{Client, NoTls, SimpleQueryMessage};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// The database's own superuser.
const USER: &str = "bourse";
/// The one that every server has.
const OWN_DATABASE: &str = "postgres";

pub(crate) struct Cluster {
    dir: TempDir,
    server: Option<Child>,
    network: Option<Network>,
}

/// How a server is reached besides by its socket.
#[derive(Clone)]
pub(crate) struct Network {
    /// The lines of `pg_hba.conf` for connections through it.
    pub(crate) rules: &'static str,
    /// The certificate of the server, its key, and the authority that clients' certificates are held against, all in
    /// PEM. None: no TLS.
    pub(crate) tls: Option<[String; 3]>,
    /// Of 127.0.0.1; found when the server starts.
    pub(crate) port: u16,
}

impl Cluster {
    /// A new server. The tests that need one need PostgreSQL's programs on the machine.
    pub(crate) fn start() -> Self {
        Self::start_in(None)
    }

    /// The same with a port.
    pub(crate) fn start_on(network: Network) -> Self {
        Self::start_in(Some(network))
    }

    fn start_in(network: Option<Network>) -> Self {
        let dir = tempfile::Builder::new().prefix("bourse-pg").tempdir_in("/tmp").expect("a folder");
        if let Some((user, group)) = server_user() {
            chown(dir.path(), Some(user), Some(group)).expect("the folder is given away");
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
        let made = init.arg(dir.path().join("data")).output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut cluster = Self { dir, server: None, network };
        if let Some(network) = &cluster.network {
            cluster.write("data/pg_hba.conf", &format!("local all all trust\n{}", network.rules));
            for (name, text) in
                ["server.pem", "server.key", "ca.pem"].iter().zip(network.tls.iter().flatten())
            {
                cluster.write(&format!("data/{name}"), text);
            }
        }
        cluster.restart();
        cluster
    }

    /// A file of the server's own.
    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        if let Some((user, group)) = server_user() {
            chown(&path, Some(user), Some(group)).expect("the file is given away");
        }
    }

    /// The port of 127.0.0.1 that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.network.as_ref().expect("a server with a port").port
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        self.url_of(OWN_DATABASE)
    }

    /// The same for another of its databases.
    pub(crate) fn url_of(&self, database: &str) -> String {
        let port = self.network.as_ref().map_or(String::new(), |network| format!(" port={}", network.port));
        format!("host={} user={USER} dbname={database}{port}", self.dir.path().display())
    }

    /// Ends the lease on the books, so that nobody waits for what a dead writer left of it.
    pub(crate) fn end_lease(&self) {
        self.sql("UPDATE bourse.lease SET expires_at = clock_timestamp()");
    }

    /// Starts the server. After a kill it refuses as long as a process of the one before is left; then it is tried again.
    pub(crate) fn restart(&mut self) {
        let until = Instant::now() + STARTS_WITHIN;
        while self.server.is_none() {
            if let Some(network) = &mut self.network {
                // Whoever takes it meanwhile makes the server end at once; then it is tried again with another.
                let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
                network.port = free.expect("a free port").port();
            }
            let (server, said) = self.spawn();
            self.server = server;
            assert!(Instant::now() < until, "the server does not start: {said}");
        }
    }

    /// One try: the server when it takes connections, and what it said.
    fn spawn(&self) -> (Option<Child>, String) {
        let folder = self.dir.path();
        let mut server = program("postgres");
        server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
        match &self.network {
            None => drop(server.args(["-c", "listen_addresses="])),
            Some(network) => {
                server.args(["-c", "listen_addresses=127.0.0.1", "-p", &network.port.to_string()]);
                if network.tls.is_some() {
                    server.args(["-c", "ssl=on", "-c", "ssl_cert_file=server.pem"]);
                    server.args(["-c", "ssl_key_file=server.key", "-c", "ssl_ca_file=ca.pem"]);
                }
            }
        }
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = server.spawn().expect("postgres runs");
        let mut lines = BufReader::new(server.stderr.take().expect("its log"));
        let mut said = String::new();
        while !said.contains("ready to accept connections") {
            if lines.read_line(&mut said).expect("a line of its log") == 0 {
                server.wait().expect("it has ended");
                return (None, said);
            }
        }
        // Somebody must read on, or it would wait for that.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        (Some(server), said)
    }

    /// Kills the server, as the system does when memory runs out. Its other processes end when they notice, and may end
    /// what they are at before; when this returns they are gone.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let children = children_of(server.id());
        server.kill().expect("it can be killed");
        server.wait().expect("it has ended");
        let until = Instant::now() + ENDS_WITHIN;
        while children.iter().any(|child| is_running(child)) {
            assert!(Instant::now() < until, "a process of the dead server lives on");
            std::thread::yield_now();
        }
    }

    pub(crate) fn sql(&self, text: &str) -> Option<String> {
        let mut client = Client::connect(&self.url(), NoTls).expect("a connection");
        let told = client.simple_query(text).expect("good SQL");
        told.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

impl Drop for Cluster {
    /// Killed, it would leave its shared memory behind.
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let quit = Command::new("sh").args(["-c", &format!("kill -QUIT {}", server.id())]).status();
        if !quit.is_ok_and(|quit| quit.success()) {
            let _ = server.kill();
        }
        let _ = server.wait();
    }
}

fn children_of(process: u32) -> Vec<String> {
    let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    listed.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Whether it is there, and more than a dead one that nobody has asked about.
fn is_running(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
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
        let users = fs::read_to_string("/etc/passwd").expect("the list of users");
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let line =
            line.expect("PostgreSQL refuses to run as root, and its package's user `postgres` is not there");
        let mut numbers = line.split(':').skip(2).map(|number| number.parse().expect("a number"));
        (numbers.next().expect("a user"), numbers.next().expect("a group"))
    })
}
