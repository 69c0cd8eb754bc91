//! A process of a test: the test's own binary again, as one of its tests and with an order in its environment. It tells on
//! its output how far it is, one line each, and waits on its input where it is to be let go on. A line that a kill cut off
//! was not said.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Before everything that a process says itself. The rest of its output is libtest's.
const OWN: &str = "child ";
/// A process that says nothing for so long is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_mins(1);

pub(crate) struct Child {
    process: process::Child,
    /// What it said itself.
    said: Receiver<String>,
}

impl Child {
    /// Starts it as that test, with the order in that variable.
    pub(crate) fn start(test: &str, variable: &str, order: impl AsRef<OsStr>) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(variable, order)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let (tells, said) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|len| len > 0) && line.ends_with('\n') {
                let own = line.trim_end().strip_prefix(OWN).map(str::to_owned);
                if own.is_some_and(|own| tells.send(own).is_err()) {
                    return;
                }
                line.clear();
            }
        });
        Self { process, said }
    }

    /// The next that it says; disconnected when it has ended.
    pub(crate) fn listen(&self, patience: Duration) -> Result<String, RecvTimeoutError> {
        self.said.recv_timeout(patience)
    }

    /// What it says after a word, such as `address 127.0.0.1:1`; what it says before is not listened to.
    pub(crate) fn hear(&self, word: &str) -> String {
        self.hear_either([word]).1
    }

    /// The first of these words that it says, and what it says after it.
    pub(crate) fn hear_either<'w, const N: usize>(&self, words: [&'w str; N]) -> (&'w str, String) {
        loop {
            let said =
                self.listen(STUCK_AFTER).unwrap_or_else(|why| panic!("it never says {words:?}: {why}"));
            let found = words.iter().find_map(|word| Some((*word, said.strip_prefix(word)?)));
            if let Some((word, rest)) = found {
                return (word, rest.trim().to_owned());
            }
        }
    }

    /// Lets it go on where it waits.
    pub(crate) fn go_on(&mut self) {
        let input = self.process.stdin.as_mut().expect("its input");
        input.write_all(b"\n").expect("it takes it");
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.wait();
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("its end")
    }

    /// Stops it where it is, as a machine that swaps or a virtual one that is moved does, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Ends its input, upon which it ends in order.
    pub(crate) fn close(mut self) {
        drop(self.process.stdin.take());
        let ended = self.wait();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Child {
    /// A test that fails leaves nobody behind.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process says.
pub(crate) fn say(line: &str) {
    println!("\n{OWN}{line}");
}

/// Where the process waits. Whether it is to go on; its end is meant otherwise.
pub(crate) fn waits() -> bool {
    std::io::stdin().read_line(&mut String::new()).expect("its input") > 0
}
