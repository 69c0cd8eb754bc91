//! `bourse up`: a whole market on this machine.
//!
//! Everything a person needs is printed once the market answers: address, key, a line to paste. With
//! `--json` it is one line for a script. The first Ctrl-C drains, a second ends the streams that are
//! still open, and a third the process.

mod standby;

use super::stop::{Stop, close};
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
use std::process::ExitCode;

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
    /// Let gateways on other machines connect here, such as 0.0.0.0:8421; see `bourse gateway`.
    #[arg(long, value_name = "ADDR")]
    exchange_listen: Option<std::net::SocketAddr>,
    /// Wait until no other exchange writes to the database of these books, and go on where it ended.
    #[arg(long)]
    standby: bool,
}

impl Args {
    fn flags(&self) -> Vec<Flag> {
        let listen = self.listen.map(|address| Flag::new("--listen", "gateway.listen", address.to_string()));
        let no_node = self.no_node.then(|| Flag::new("--no-node", "node.enabled", false));
        let elsewhere = self
            .exchange_listen
            .map(|address| Flag::new("--exchange-listen", "exchange.listen", address.to_string()));
        listen.into_iter().chain(no_node).chain(elsewhere).collect()
    }
}

/// What is known once the market answers. Serialised it is the line that a script waits for.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    #[serde(rename = "api_key")]
    key: &'a str,
    pids: Pids,
    /// Where gateways on other machines connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<std::net::SocketAddr>,
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
        if let Some(address) = self.exchange {
            let _ = write!(text, "  gateways  {address}, with the secret in exchange.secret\n\n");
        }
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
    if !config.gateway.exchange.is_empty() {
        eprintln!(
            "warning: gateway.exchange is for `bourse gateway`; this market has an exchange of its own"
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
        None => return end(market, stop).await,
    };
    if let Err(error) = announced {
        market.shutdown().await?;
        return Err(error);
    }
    let failed = tokio::select! {
        () = stop.asked() => false,
        () = market.failed() => true,
    };
    let code = end(market, stop).await?;
    if failed {
        return Err(Plain::new("the market stopped serving by itself")
            .hint("the log above says why")
            .boxed());
    }
    Ok(code)
}

async fn end(market: RunningMarket, stop: Stop) -> Result<ExitCode, Failure> {
    let gateway = market.gateway().clone();
    close(&gateway, market.shutdown(), stop).await
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
        exchange: market.exchange_address(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_a_line_to_paste_and_a_script_one_line() {
        let mut ready = Ready {
            base_url: "http://127.0.0.1:8420/v1",
            key: "sk-bourse-1",
            pids: Pids { gateway: 7, node: None },
            exchange: None,
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
        ready.exchange = Some(([127, 0, 0, 1], 8421).into());
        assert!(ready.text().contains("  gateways  127.0.0.1:8421, with the secret in exchange.secret"));
        assert!(
            super::super::json(&ready).unwrap_or_default().ends_with(",\"exchange\":\"127.0.0.1:8421\"}")
        );
        ready.model = None;
        assert!(ready.text().contains("Nothing is for sale yet"));
    }
}
