//! The program itself: run to its end, or `up` as a child that is told to stop.

use bourse::client::Client;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

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

/// A program that was started and has not said yet that it serves. Dropping it kills it.
pub(crate) struct Begun {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: Option<std::thread::JoinHandle<String>>,
    said: Mutex<Receiver<String>>,
}

/// Starts a program with nothing on its stdin.
pub(crate) fn begin(mut command: Command) -> Begun {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let (tell, said) = channel();
    let stderr = std::thread::spawn(move || {
        let (mut text, mut line) = (String::new(), Vec::new());
        while errors.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            let one = String::from_utf8_lossy(&line).into_owned();
            text.push_str(&one);
            // Whoever listened may have gone.
            let _ = tell.send(one);
            line.clear();
        }
        text
    });
    Begun { child, stdout, stderr: Some(stderr), said: Mutex::new(said) }
}

impl Begun {
    /// Waits until it says something on stderr that begins so.
    pub(crate) fn hear(&self, start: &str) {
        let heard = self.said.lock().unwrap().iter().any(|line| line.starts_with(start));
        assert!(heard, "it ended and never said `{start}`");
    }

    /// Waits for its line on stdout.
    pub(crate) fn ready(mut self) -> Up {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let _ = self.child.kill();
            let stderr = self.stderr.take().unwrap().join().unwrap();
            panic!("it did not start: {stderr}");
        }
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let pid = |name: &str| ready["pids"][name].as_u64().map(|pid| u32::try_from(pid).unwrap());
        Up {
            base_url: text("base_url"),
            key: text("api_key"),
            exchange: text("exchange"),
            gateway_pid: pid("gateway").unwrap(),
            node_pid: pid("node"),
            begun: self,
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A market or a gateway that runs as a child. Dropping it kills it.
pub(crate) struct Up {
    begun: Begun,
    /// `http://127.0.0.1:PORT/v1`.
    pub(crate) base_url: String,
    /// The operator's key; a gateway without books has none.
    pub(crate) key: String,
    /// Where gateways elsewhere connect; empty where they may not.
    pub(crate) exchange: String,
    /// The process of gateway and exchange.
    pub(crate) gateway_pid: u32,
    /// The node's process, if there is one.
    pub(crate) node_pid: Option<u32>,
}

/// Starts `up --json` on a port of the system's choice and waits for its line.
pub(crate) fn up(data_dir: &Path, config: &str, args: &[&str], environment: &[(&str, &str)]) -> Up {
    begin(serving("up", data_dir, config, args, environment)).ready()
}

/// A command that serves, with a configuration and on a port of the system's choice.
pub(crate) fn serving(
    name: &str,
    data_dir: &Path,
    config: &str,
    args: &[&str],
    environment: &[(&str, &str)],
) -> Command {
    let config_file = data_dir.join("test.toml");
    std::fs::write(&config_file, config).unwrap();
    let mut command = command(data_dir, &[name, "--json", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&config_file).args(args).envs(environment.iter().copied());
    command
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
        let begun = &mut self.begun;
        begun.stdout.read_to_string(&mut rest).unwrap();
        let status = begun.child.wait().unwrap();
        (status, rest, begun.stderr.take().unwrap().join().unwrap())
    }

    /// Stops the market in order and checks that it ended well.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.terminate();
        let (status, rest, stderr) = self.ended();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(rest, "", "one line and no more");
    }

    /// Kills the process as a power cut would.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What async calls of a test run on.
pub(crate) fn reactor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
