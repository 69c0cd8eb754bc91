//! The program itself: run to its end, or `up` as a child that is told to stop.

use bourse::client::Client;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// What a command that ended left behind.
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said.
    pub(crate) stderr: String,
}

/// The program with an environment of its own and the data directory given by variable.
pub(crate) fn command(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bourse"));
    command.args(args).env_clear().env("HOME", data_dir).env("BOURSE_DATA_DIR", data_dir);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(data_dir: &Path, args: &[&str]) -> Ended {
    finish(command(data_dir, args))
}

/// Runs a command that was made ready.
pub(crate) fn finish(mut command: Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// What was said by a command that must have failed.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        assert_ne!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stderr
    }

    /// The output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.success()).unwrap()
    }
}

/// A market that runs as a child. Dropping it kills it.
pub(crate) struct Up {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
    /// `http://127.0.0.1:PORT/v1`.
    pub(crate) base_url: String,
    /// The operator's key.
    pub(crate) key: String,
    /// The process of gateway and exchange.
    pub(crate) gateway_pid: u32,
    /// The node's process, if there is one.
    pub(crate) node_pid: Option<u32>,
}

/// Starts `up --json` on a port of the system's choice and waits for its line.
pub(crate) fn up(data_dir: &Path, config: &str, args: &[&str], environment: &[(&str, &str)]) -> Up {
    let config_file = data_dir.join("test.toml");
    std::fs::write(&config_file, config).unwrap();
    let mut command = command(data_dir, &["up", "--json", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&config_file).args(args).envs(environment.iter().copied());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut errors = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    if line.is_empty() {
        let _ = child.kill();
        let _ = child.wait();
        panic!("the market did not start: {}", stderr.join().unwrap());
    }
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    Up {
        base_url: ready["base_url"].as_str().unwrap().to_owned(),
        key: ready["api_key"].as_str().unwrap().to_owned(),
        gateway_pid: u32::try_from(ready["pids"]["gateway"].as_u64().unwrap()).unwrap(),
        node_pid: ready["pids"]["node"].as_u64().map(|pid| u32::try_from(pid).unwrap()),
        child,
        stdout,
        stderr: Some(stderr),
    }
}

impl Up {
    /// A client with the operator's key.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.base_url, Some(self.key.clone())).unwrap()
    }

    /// Asks the process to stop, as Ctrl-C does.
    pub(crate) fn terminate(&self) {
        signal(self.gateway_pid, rustix::process::Signal::TERM);
    }

    /// Waits for the end of a market that was asked to stop; gives back what it printed after its line and
    /// what it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (status, rest, self.stderr.take().unwrap().join().unwrap())
    }

    /// Stops the market in order and checks that it ended well.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.terminate();
        let (status, rest, stderr) = self.ended();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(rest, "", "one line and no more");
    }

    /// Kills the market as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
