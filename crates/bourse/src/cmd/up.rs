//! `bourse up`: a whole market on this machine.
//!
//! Everything a person needs is printed once the market answers: address, key, a line to paste. With
//! `--json` it is one line for a script. The first Ctrl-C drains, a second ends the streams that are
//! still open, and a third the process.

mod standby;

use crate::cli::Place;
use crate::client::Client;
use crate::config::{Config, Environment, Flag};
use crate::data_dir::DataDir;
use crate::market::{Market, MarketConfig, NodeLaunch, RunningMarket};
use crate::report::{Failure, Plain};
use crate::runtime::traces::{self, Traces};
use crate::{market, model, runtime};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a market that was interrupted twice: the shell's word for an interrupt.
const INTERRUPTED: i32 = 130;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Where buyers connect; port 0 lets the system choose [default: 127.0.0.1:8420].
    #[arg(long, value_name = "ADDR")]
    listen: Option<std::net::SocketAddr>,
    /// The configuration file [default: bourse.toml in the data folder, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON line on stdout once the market is ready; logs on stderr.
    #[arg(long)]
    json: bool,
    /// Sell only what the configured providers offer.
    #[arg(long)]
    no_node: bool,
    /// Wait until no other exchange writes to the database of these books, and go on where it ended.
    #[arg(long)]
    standby: bool,
}

impl Args {
    fn flags(&self) -> Vec<Flag> {
        let listen = self.listen.map(|address| Flag::new("--listen", "gateway.listen", address.to_string()));
        let no_node = self.no_node.then(|| Flag::new("--no-node", "node.enabled", false));
        listen.into_iter().chain(no_node).collect()
    }
}

/// What is known once the market answers. Serialised it is the line that a script waits for.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    #[serde(rename = "api_key")]
    key: &'a str,
    pids: Pids,
    /// A model that is for sale, for the line to paste.
    #[serde(skip)]
    model: Option<&'a str>,
}

#[derive(Serialize)]
struct Pids {
    gateway: u32,
    node: Option<u32>,
}

impl Ready<'_> {
    /// The words for a person.
    fn text(&self) -> String {
        let mut text =
            format!("The market is open.\n\n  base URL  {}\n  API key   {}\n\n", self.base_url, self.key);
        match self.model {
            Some(model) => _ = write!(text, "Ask it something:\n\n{}\n\n", self.curl(model)),
            None => text
                .push_str("Nothing is for sale yet: no node is asked for and no provider is configured.\n\n"),
        }
        text.push_str("Ctrl-C stops it; what was earned and spent stays.\n");
        text
    }

    fn curl(&self, model: &str) -> String {
        let Self { base_url, key, .. } = self;
        format!(
            "curl {base_url}/chat/completions -H \"Authorization: Bearer {key}\" \\\n  \
             -H \"Content-Type: application/json\" \\\n  \
             -d '{{\"model\": \"{model}\", \"temperature\": 0, \"max_tokens\": 64,\n       \
             \"messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}'"
        )
    }
}

/// Starts the market, says so, and waits for the end.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.place.locate(environment)?;
    let loaded = super::config::load(args.config.as_deref(), &data_dir, environment, args.flags())?;
    let config = loaded.config;
    // Kept to the end: what is queued leaves when it is dropped.
    let traces = traces::endpoint(&config, environment).map(|to| Traces::start(&to)).transpose()?;
    runtime::observe(environment, if args.json { "info" } else { "warn" }, traces.as_ref());
    let listen = config.gateway.listen;
    if !listen.ip().is_loopback() {
        eprintln!(
            "warning: {listen} is open to other machines and speaks plain HTTP: put TLS in front of it"
        );
    }
    runtime::raise_open_files();
    // Before a model is fetched for a market that cannot open.
    market::probe(listen)?;
    let node = if config.node.enabled { Some(launch(&data_dir, &config)?) } else { None };
    let config = MarketConfig { data_dir, config, environment: environment.clone(), node, exchange: None };
    runtime::reactor()?.block_on(serve(args, config))
}

/// Makes sure of weights and key, so that the node only has to load and dial.
fn launch(data_dir: &DataDir, config: &Config) -> Result<NodeLaunch, Failure> {
    let model = model::obtain(data_dir, &config.node.model, config.node.model_path.as_deref())?;
    data_dir.create()?;
    let signer = bourse_node::identity::load_or_create(&data_dir.node())
        .map_err(|error| Plain::new("the node has no key").because(error))?;
    let program = std::env::current_exe()
        .map_err(|error| Plain::new("the system does not say where this program lies").because(error))?;
    Ok(NodeLaunch { program, model, node: signer.node_id() })
}

async fn serve(args: &Args, mut config: MarketConfig) -> Result<ExitCode, Failure> {
    // Before anything is started, so that an early Ctrl-C closes the books too.
    let mut stop = Stop::new()?;
    if args.standby {
        config.exchange = tokio::select! {
            books = standby::books(&config) => Some(books?),
            () = stop.asked() => return Ok(ExitCode::SUCCESS),
        };
    }
    let local = config.config.node.model.clone();
    let mut market = Market::start(config).await?;
    let ready = tokio::select! {
        ready = market.node_ready() => Some(ready),
        () = stop.asked() => None,
    };
    let announced = match ready {
        Some(Ok(node_pid)) => announce(args, &market, &local, node_pid).await,
        Some(Err(error)) => Err(error.into()),
        None => return close(market, stop).await,
    };
    if let Err(error) = announced {
        market.shutdown().await?;
        return Err(error);
    }
    let failed = tokio::select! {
        () = stop.asked() => false,
        () = market.failed() => true,
    };
    let code = close(market, stop).await?;
    if failed {
        return Err(Plain::new("the market stopped serving by itself")
            .hint("the log above says why")
            .boxed());
    }
    Ok(code)
}

async fn announce(
    args: &Args,
    market: &RunningMarket,
    local: &str,
    node_pid: Option<u32>,
) -> Result<(), Failure> {
    let model = if args.json { None } else { for_sale(market, local).await };
    let ready = Ready {
        base_url: &market.base_url,
        key: &market.key,
        pids: Pids { gateway: std::process::id(), node: node_pid },
        model: model.as_deref(),
    };
    let text = if args.json { format!("{}\n", super::json(&ready)?) } else { ready.text() };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Plain::new("cannot say that the market is ready").because(error).boxed())
}

/// A model to put in the line to paste: the local node's when it sells.
async fn for_sale(market: &RunningMarket, local: &str) -> Option<String> {
    let client = Client::new(&market.base_url, Some(market.key.clone())).ok()?;
    let models = client.get("/models").await.ok()?;
    let ids: Vec<&str> = models["data"].as_array()?.iter().filter_map(|model| model["id"].as_str()).collect();
    ids.iter().find(|id| **id == local).or(ids.first()).map(|id| (*id).to_owned())
}

/// Drains; a Ctrl-C on top ends open streams, one more the process. A second SIGTERM does nothing: service managers
/// and `timeout` send it to process and group, and mean it once.
async fn close(market: RunningMarket, mut stop: Stop) -> Result<ExitCode, Failure> {
    eprintln!("closing: open answers may end; Ctrl-C ends them now");
    let gateway = market.gateway().clone();
    let mut closing = pin!(market.shutdown());
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
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Plain::new("the system does not pass signals on").because(error).boxed())
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Completes at a request to stop.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_a_line_to_paste_and_a_script_one_line() {
        let mut ready = Ready {
            base_url: "http://127.0.0.1:8420/v1",
            key: "sk-bourse-1",
            pids: Pids { gateway: 7, node: None },
            model: Some("a/b"),
        };
        let want = "curl http://127.0.0.1:8420/v1/chat/completions -H \"Authorization: Bearer sk-bourse-1\" \\\n  \
                    -H \"Content-Type: application/json\" \\\n  \
                    -d '{\"model\": \"a/b\", \"temperature\": 0, \"max_tokens\": 64,\n       \
                    \"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}'\n";
        assert!(ready.text().contains(want), "{}", ready.text());
        let want = "{\"base_url\":\"http://127.0.0.1:8420/v1\",\"api_key\":\"sk-bourse-1\",\
                    \"pids\":{\"gateway\":7,\"node\":null}}";
        assert_eq!(super::super::json(&ready).unwrap_or_default(), want);
        ready.model = None;
        assert!(ready.text().contains("Nothing is for sale yet"));
    }
}
