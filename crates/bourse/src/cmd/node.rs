//! `bourse node`: the supply daemon in a process of its own.
//!
//! `bourse up` starts it as its child with `--supervised`: then it ends with its parent, however that goes.

use crate::cli::Place;
use crate::config::{DEFAULT_MODEL, Environment};
use crate::report::{Failure, Plain};
use crate::{model, runtime, supervise};
use bourse_node::{JOBS_IN_FLIGHT_DEFAULT, KV_BYTES_DEFAULT, Node, NodeConfig, NodeEvent};
use bourse_types::ModelSlug;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long open jobs may go on after a node of its own was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Where the market listens for nodes.
    #[arg(long, value_name = "ADDR")]
    gateway: String,
    /// The model's GGUF file; fetched when left out.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// The name under which the model is sold.
    #[arg(long, value_name = "SLUG", default_value = DEFAULT_MODEL)]
    slug: String,
    /// Compute threads; 0 means every CPU that this process may use.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// End when stdin does: the parent is gone.
    #[arg(long, hide = true)]
    supervised: bool,
}

/// Loads, dials and serves until told to stop.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    runtime::observe(environment, "warn", None);
    let data_dir = args.place.locate(environment)?;
    let model = ModelSlug::parse(&args.slug)
        .map_err(|error| Plain::new(format!("`{}` is not the name of a model", args.slug)).because(error))?;
    // Before the model is fetched, which takes its time.
    is_address(&args.gateway)?;
    let config = NodeConfig {
        gateway: args.gateway.clone(),
        data_dir: data_dir.node(),
        model,
        model_path: model::obtain(&data_dir, &args.slug, args.model.as_deref())?,
        threads: args.threads,
        kv_bytes_max: KV_BYTES_DEFAULT,
        jobs_in_flight_max: JOBS_IN_FLIGHT_DEFAULT,
        // A supervised node ends after the gateway's own drain: nobody is left to read what it would add.
        drain: if args.supervised { Duration::ZERO } else { DRAIN },
        give_up_after: None,
    };
    let reactor = runtime::reactor()?;
    let supervised = args.supervised;
    let ended = reactor.block_on(async {
        let shutdown = async {
            if supervised {
                // A service manager signals the whole group: the parent drains first and then says so.
                let _deaf = signal(SignalKind::terminate());
                supervise::follow_parent().await;
            } else {
                asked().await;
            }
        };
        Node::run(config, Arc::new(move |event| tell(&event, supervised)), shutdown).await
    });
    // Weights that are still being read must not hold up the end.
    reactor.shutdown_background();
    ended.map_err(|error| Plain::new("the node stopped").because(error))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what is no host with a port. Whether somebody listens there shows when it is dialled.
fn is_address(text: &str) -> Result<(), Failure> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    if !host.is_empty() && !host.contains("//") && port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Ok(());
    }
    let problem = Plain::new(format!("`{text}` is not where a market listens for nodes"));
    Err(problem.hint("give a host and a port, such as --gateway 127.0.0.1:8421").boxed())
}

/// Completes at Ctrl-C or SIGTERM.
async fn asked() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Words for a person who started the node; a supervised one leaves them to the log.
fn tell(event: &NodeEvent, supervised: bool) {
    let text = match event {
        NodeEvent::Loading { .. } => return,
        NodeEvent::Loaded { engine, elapsed_ms } => format!("model loaded in {elapsed_ms} ms on {engine}"),
        NodeEvent::Welcomed { node, .. } => format!("selling as node {node}"),
        NodeEvent::LinkLost { reason, redial_ms } => {
            format!("no link ({reason}); dialling in {redial_ms} ms")
        }
    };
    if supervised {
        tracing::info!("{text}");
    } else {
        eprintln!("{text}");
    }
}
