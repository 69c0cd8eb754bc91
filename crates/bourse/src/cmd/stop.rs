//! How a process that serves is asked to stop, and how it ends.

use crate::report::{Failure, Plain};
use bourse_gateway::Gateway;
use std::pin::pin;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that was interrupted twice: the shell's word for an interrupt.
const INTERRUPTED: i32 = 130;

/// Drains; a Ctrl-C on top ends open streams, one more the process. A second SIGTERM does nothing: service managers
/// and `timeout` send it to process and group, and mean it once.
pub(super) async fn close(
    gateway: &Gateway,
    shutdown: impl Future<Output = Result<(), Plain>>,
    mut stop: Stop,
) -> Result<ExitCode, Failure> {
    eprintln!("closing: open answers may end; Ctrl-C ends them now");
    let mut closing = pin!(shutdown);
    let mut interrupts = 0;
    loop {
        tokio::select! {
            closed = &mut closing => return closed.map(|()| ExitCode::SUCCESS).map_err(Plain::boxed),
            _ = stop.interrupt.recv() => interrupts += 1,
        }
        if interrupts > 1 {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("ending open answers with a receipt each; Ctrl-C leaves them without one");
        gateway.end_streams();
    }
}

/// The two ways to ask a process to stop.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Plain::new("the system does not pass signals on").because(error).boxed())
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Completes at a request to stop.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
