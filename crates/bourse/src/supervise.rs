//! Keeps the node process alive, and never outlives it being wanted.
//!
//! The node is a child because an engine that crashes must not take the books with it. It is started again
//! after a pause that doubles up to a bound and starts over once a child has lived for a while; it is never
//! given up, since a market without its node still sells what its providers offer. The child ends with its
//! parent in three ways, each enough alone: the parent closes the pipe that is the child's stdin, the
//! child's own death signal (`PR_SET_PDEATHSIG`, set by the child, so no code runs between fork and exec),
//! and, in an orderly stop, a wait with a bound and then a kill.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Shortest pause before a child is started again.
pub const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause before a child is started again.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A child that lived this long did not fail at its start: the pause is short again.
pub const LIVED: Duration = Duration::from_secs(30);
/// How long a child gets to end by itself once it is not wanted.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How to start the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProcess {
    /// The `bourse` program.
    pub program: PathBuf,
    /// Where the gateway listens for nodes.
    pub gateway: SocketAddr,
    /// The market's data directory, in which the node has its folder.
    pub data_dir: PathBuf,
    /// The slug that it sells.
    pub slug: String,
    /// The weights.
    pub model: PathBuf,
    /// Compute threads; 0 means every CPU.
    pub threads: u32,
}

/// What is known about the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildState {
    /// The living process, if there is one.
    pub pid: Option<u32>,
    /// How many have ended.
    pub ended: u32,
}

/// The owner of the child.
pub struct Supervisor {
    state: watch::Receiver<ChildState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl NodeProcess {
    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg("node").arg("--supervised");
        command.arg("--gateway").arg(self.gateway.to_string());
        command.arg("--data-dir").arg(&self.data_dir);
        command.arg("--slug").arg(&self.slug);
        command.arg("--model").arg(&self.model);
        command.arg("--threads").arg(self.threads.to_string());
        // Stdout belongs to the one line that a script waits for, so the child speaks on stderr.
        let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
        command.stdin(Stdio::piped()).stdout(Stdio::from(stderr)).stderr(Stdio::inherit());
        // Ctrl-C in a terminal goes to the whole group; the node must outlive it until the streams are done.
        command.process_group(0).kill_on_drop(true);
        Ok(command)
    }
}

impl Supervisor {
    /// Starts the child and the task that watches it. Must be called within a runtime.
    pub fn start(process: NodeProcess) -> Self {
        let (changes, state) = watch::channel(ChildState::default());
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(keep_alive(process, changes, stopping));
        Self { state, stop, task }
    }

    /// What is known about the child, now and later.
    pub fn state(&self) -> watch::Receiver<ChildState> {
        self.state.clone()
    }

    /// Ends the child and waits for it.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// The pause before the next start, after `failures` children that did not live.
fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX)
}

async fn keep_alive(
    process: NodeProcess,
    changes: watch::Sender<ChildState>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut failures = 0_u32;
    loop {
        let started = Instant::now();
        match process.command().and_then(|mut command| command.spawn()) {
            Ok(mut child) => {
                changes.send_modify(|state| state.pid = child.id());
                let stdin = child.stdin.take();
                tokio::select! {
                    ended = child.wait() => tracing::warn!(status = ?ended.ok(), "the node process ended"),
                    () = wanted_no_more(&mut stopping) => return end(child, stdin).await,
                }
            }
            Err(error) => tracing::error!(%error, "the node process cannot be started"),
        }
        changes.send_modify(|state| *state = ChildState { pid: None, ended: state.ended + 1 });
        failures = if started.elapsed() >= LIVED { 0 } else { failures + 1 };
        tokio::select! {
            () = tokio::time::sleep(pause(failures.saturating_sub(1))) => {}
            () = wanted_no_more(&mut stopping) => return,
        }
    }
}

/// Completes when the child should end, or when nobody is left who could say so.
async fn wanted_no_more(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Asks by closing the pipe, then insists.
async fn end(mut child: Child, stdin: Option<ChildStdin>) {
    drop(stdin);
    if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Called by the child: ends this process when its parent is gone. Returns a future that completes once
/// the parent closed the pipe.
pub fn follow_parent() -> impl Future<Output = ()> {
    // Where the system has no such signal, the pipe alone does it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let (gone, parent_gone) = tokio::sync::oneshot::channel::<()>();
    let watch = move || {
        // Nothing is ever sent: the copy ends when the pipe does.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(gone);
    };
    let watching = std::thread::Builder::new().name("parent-watch".to_owned()).spawn(watch).is_ok();
    async move {
        if watching {
            let _ = parent_gone.await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let check =
            |failures: u32, want_ms: u64| assert_eq!(pause(failures).as_millis(), u128::from(want_ms));
        check(0, 200);
        check(1, 400);
        check(5, 6_400);
        check(6, 10_000);
        check(u32::MAX, 10_000);
    }

    fn process(program: &str) -> NodeProcess {
        NodeProcess {
            program: PathBuf::from(program),
            gateway: SocketAddr::from(([127, 0, 0, 1], 9)),
            data_dir: PathBuf::from("d"),
            slug: "a/b".to_owned(),
            model: PathBuf::from("m"),
            threads: 0,
        }
    }

    #[tokio::test]
    async fn a_child_that_ends_is_started_again_until_it_is_not_wanted() {
        let supervisor = Supervisor::start(process("/bin/true"));
        let mut state = supervisor.state();
        state.wait_for(|state| state.ended >= 2).await.unwrap();
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_no_panic() {
        let supervisor = Supervisor::start(process("/nowhere/bourse"));
        supervisor.state().wait_for(|state| state.ended >= 1).await.unwrap();
        supervisor.stop().await;
    }
}
