//! `bourse gateway`: serves buyers with exchanges elsewhere.
//!
//! Run as many as there is load for, before the same sellers, with the same configuration: they share nothing but the
//! exchange. Several addresses are the active exchange and its standbys; the gateway finds the one that serves.

use super::stop::{Stop, close};
use crate::cli::Place;
use crate::config::{Environment, Flag};
use crate::remote::{RemoteGateway, RemoteGatewayConfig};
use crate::report::{Failure, Plain};
use crate::runtime;
use crate::runtime::traces::{self, Traces};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Where the active exchange and its standbys listen (`exchange.listen` there), with commas between them.
    #[arg(long, value_name = "HOST:PORT,…")]
    exchange: Option<String>,
    /// A copy of the exchange's secret, for its owner only [default: exchange.secret in the data folder].
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Where buyers connect; port 0 lets the system choose [default: 127.0.0.1:8420].
    #[arg(long, value_name = "ADDR")]
    listen: Option<std::net::SocketAddr>,
    /// The configuration file, with the sellers [default: bourse.toml in the data folder, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON line on stdout once it listens; logs on stderr.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn flags(&self) -> Result<Vec<Flag>, Failure> {
        let exchange = self.exchange.clone().map(|text| Flag::new("--exchange", "gateway.exchange", text));
        let listen = self.listen.map(|address| Flag::new("--listen", "gateway.listen", address.to_string()));
        let secret = self.secret_file.as_ref().map(|path| {
            let text =
                path.to_str().ok_or_else(|| Plain::new("the path of the secret is no text").boxed())?;
            Ok::<_, Failure>(Flag::new("--secret-file", "exchange.secret_file", text))
        });
        Ok(exchange.into_iter().chain(listen).chain(secret.transpose()?).collect())
    }
}

/// The line that a script waits for.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    pids: Pids,
}

#[derive(Serialize)]
struct Pids {
    gateway: u32,
}

/// Starts the gateway, says so, and waits for the end.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.place.locate(environment)?;
    let config = super::config::load(args.config.as_deref(), &data_dir, environment, args.flags()?)?.config;
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
    let config = RemoteGatewayConfig { data_dir, config, environment: environment.clone() };
    runtime::waiting_reactor()?.block_on(serve(args, config))
}

async fn serve(args: &Args, config: RemoteGatewayConfig) -> Result<ExitCode, Failure> {
    let mut stop = Stop::new()?;
    let mut running = RemoteGateway::start(config).await?;
    let ready = Ready { base_url: &running.base_url, pids: Pids { gateway: std::process::id() } };
    let text = if args.json {
        super::json(&ready)?
    } else {
        format!("The gateway is open.\n\n  base URL  {}\n\nCtrl-C stops it.", running.base_url)
    };
    super::tell_line(&text)?;
    let failed = tokio::select! {
        () = stop.asked() => false,
        () = running.failed() => true,
    };
    let gateway = running.gateway().clone();
    let code = close(&gateway, running.shutdown(), stop).await?;
    if failed {
        return Err(Plain::new("the gateway stopped serving by itself")
            .hint("the log above says why")
            .boxed());
    }
    Ok(code)
}
