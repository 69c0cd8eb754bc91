//! The process around a role: reactor, logs, traces, limits of the system.
//!
//! One allowed CPU gets a single-threaded reactor, because a second thread on it only adds switches; more
//! get one worker each, up to a bound past which a gateway is limited by the network instead. Logs go to
//! stderr, so that stdout carries data only.

pub mod traces;

use crate::config::Environment;
use std::io::IsTerminal as _;
use std::num::NonZero;
use tokio::runtime::{Builder, Runtime};
use traces::Traces;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Most worker threads of a reactor.
pub const WORKERS_MAX: usize = 16;

/// The system refused what the reactor needs.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the system refused threads or files that this command needs")]
#[diagnostic(help("check the limits of this shell: `ulimit -a`"))]
pub struct NoReactor(#[source] std::io::Error);

/// Builds the reactor for the CPUs that this process may use.
pub fn reactor() -> Result<Runtime, NoReactor> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = if cpus == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if cpus > 1 {
        builder.worker_threads(cpus.min(WORKERS_MAX));
    }
    builder.enable_all().build().map_err(NoReactor)
}

/// Builds the reactor of a gateway whose exchange is elsewhere. Its calls block a thread until they are answered, so there
/// are two workers at least, and as many threads that may take a blocked one's place as there may be calls.
pub fn waiting_reactor() -> Result<Runtime, NoReactor> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cpus.clamp(2, WORKERS_MAX)).max_blocking_threads(bourse_link::CALLS_MAX);
    builder.enable_all().build().map_err(NoReactor)
}

/// A reactor for a command that makes a call or two.
pub fn small_reactor() -> Result<Runtime, NoReactor> {
    Builder::new_current_thread().enable_all().build().map_err(NoReactor)
}

/// Sends logs to stderr, as `BOURSE_LOG` filters them (`warn` by default, `info` with `verbose`), and spans to their
/// collector, if there is one.
/// A filter that cannot be read falls back to the default, which is better than no logs.
pub fn observe(environment: &Environment, default: &str, traces: Option<&Traces>) {
    let filter = environment.get("BOURSE_LOG").and_then(|text| text.parse::<EnvFilter>().ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    // A second call (tests) finds the subscriber set and leaves it.
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let _ = tracing_subscriber::registry().with(logs).with(traces.map(Traces::layer)).try_init();
}

/// Raises the number of files this process may open to what the system allows it: every open request
/// holds two sockets. A refusal leaves the limit as it was.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
