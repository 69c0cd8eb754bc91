//! The simulator as a program: sellers on ports, until it is stopped.

use super::config::{FaultScript, Listing, SellerConfig, SpeedLaw};
use super::expectation::Mode;
use super::fault::Fault;
use super::seller::Seller;
use bourse_types::PicoUsdPerToken;
use clap::Parser;
use serde_json::json;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Sellers that one program runs.
const SELLERS_MAX: u16 = 1_024;

/// OpenAI-compatible sellers that fail on request.
#[derive(Debug, Clone, Parser)]
#[command(name = "bourse-upstream-sim", version)]
pub struct Args {
    /// Address of the first seller; each further one takes the next port, or a free one after port 0.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Number of sellers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(SELLERS_MAX)))]
    pub sellers: u16,
    /// Model that each of them sells (repeatable).
    #[arg(long = "model", default_value = "sim/words")]
    pub models: Vec<String>,
    /// Fault that every call meets; a call may override it by the header `x-sim-fault`, by
    /// `metadata.sim_fault`, or by a model name that ends in `@fault-name`.
    #[arg(long)]
    pub fault: Option<Fault>,
    /// Share of calls, in 1,000, that meet a fault drawn from `--seed`.
    #[arg(long, conflicts_with = "fault", value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub fault_permille: Option<u16>,
    /// Seed of what is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Milliseconds before the first token.
    #[arg(long, default_value_t = 0)]
    pub first_token_ms: u64,
    /// Milliseconds before each further token.
    #[arg(long, default_value_t = 0)]
    pub token_ms: u64,
    /// Words in an answer that `max_tokens` does not cut.
    #[arg(long, default_value_t = 16)]
    pub words: usize,
    /// Print one line of JSON when ready.
    #[arg(long)]
    pub json: bool,
    /// Show every fault with what should come of it, and stop.
    #[arg(long)]
    pub list_faults: bool,
}

/// Runs the program until the process is stopped. `ready` receives what it prints.
pub async fn run(args: Args, ready: &mut impl Write) -> io::Result<()> {
    if args.list_faults {
        return list_faults(ready);
    }
    let sellers = start(&args).await?;
    if args.json {
        let line: Vec<_> = sellers.iter().map(describe).collect();
        writeln!(ready, "{}", json!({"sellers": line}))?;
    } else {
        write_config(&sellers, ready)?;
    }
    ready.flush()?;
    std::future::pending().await
}

async fn start(args: &Args) -> io::Result<Vec<Seller>> {
    let mut sellers = Vec::new();
    for index in 0..args.sellers {
        let port = if args.listen.port() == 0 { 0 } else { args.listen.port().saturating_add(index) };
        let address = SocketAddr::new(args.listen.ip(), port);
        sellers.push(Seller::start_at(config(args, index), address).await?);
    }
    Ok(sellers)
}

/// Prices rise by a tenth from seller to seller, so that a market has something to choose.
fn config(args: &Args, index: u16) -> SellerConfig {
    let faults = match (args.fault, args.fault_permille) {
        (Some(fault), _) => FaultScript::Always(fault),
        (None, Some(permille)) => FaultScript::Seeded { seed: args.seed ^ u64::from(index), permille },
        (None, None) => FaultScript::Never,
    };
    let raised = |price: PicoUsdPerToken| PicoUsdPerToken(price.0 / 10 * (10 + u64::from(index)));
    let listings = args.models.iter().map(|model| {
        let base = Listing::new(model.as_str());
        Listing {
            price_prompt: raised(base.price_prompt),
            price_completion: raised(base.price_completion),
            ..base
        }
    });
    SellerConfig {
        listings: listings.collect(),
        speed: SpeedLaw {
            first_token: Duration::from_millis(args.first_token_ms),
            per_token: Duration::from_millis(args.token_ms),
        },
        completion_words: args.words,
        faults,
        ..SellerConfig::new(format!("sim-{index}"), "")
    }
}

fn describe(seller: &Seller) -> serde_json::Value {
    let models: Vec<_> = seller
        .config()
        .listings
        .iter()
        .map(|listing| {
            json!({
                "id": listing.id,
                "price_prompt": listing.price_prompt.to_usd_per_token_string(),
                "price_completion": listing.price_completion.to_usd_per_token_string(),
            })
        })
        .collect();
    json!({"name": seller.config().name, "base_url": seller.base_url(), "models": models})
}

/// Prints the sellers as the tables that `bourse.toml` takes.
fn write_config(sellers: &[Seller], out: &mut impl Write) -> io::Result<()> {
    for seller in sellers {
        let address: IpAddr = seller.address().ip();
        writeln!(out, "# listening on {address}, port {}", seller.address().port())?;
        writeln!(out, "[[provider]]\nname = {:?}\nkind = \"openai\"", seller.config().name)?;
        writeln!(out, "base_url = {:?}\napi_key_env = \"SIM_API_KEY\"", seller.base_url())?;
        for listing in &seller.config().listings {
            writeln!(out, "[[provider.model]]\nid = {:?}\nupstream_id = {:?}", listing.id, listing.id)?;
            writeln!(out, "price_prompt = {:?}", listing.price_prompt.to_usd_per_token_string())?;
            writeln!(out, "price_completion = {:?}", listing.price_completion.to_usd_per_token_string())?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn list_faults(out: &mut impl Write) -> io::Result<()> {
    for fault in Fault::ALL {
        writeln!(out, "{:24}{}", fault.name(), fault.description().trim())?;
        for mode in Mode::ALL {
            writeln!(out, "{:24}  {mode:?}: {:?}", "", fault.expectation(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        assert_eq!(parse("sim --fault gzip-body").unwrap().fault, Some(Fault::GzipBody));
        assert!(parse("sim --fault nonsense").is_err());
        assert!(parse("sim --sellers 0").is_err());
        assert!(parse("sim --sellers 1024").is_ok());
        assert!(parse("sim --sellers 1025").is_err());
        assert!(parse("sim --fault gzip-body --fault-permille 5").is_err());
    }

    #[tokio::test]
    async fn lists_every_fault() {
        let mut out = Vec::new();
        let args = Args::try_parse_from(["sim", "--list-faults"]).unwrap();
        run(args, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(Fault::ALL.iter().all(|fault| text.contains(fault.name())));
    }

    #[tokio::test]
    async fn the_printed_tables_are_toml() {
        let args = Args::try_parse_from(["sim", "--sellers", "2", "--model", "a/b"]).unwrap();
        let sellers = start(&args).await.unwrap();
        let mut out = Vec::new();
        write_config(&sellers, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("[[provider]]").count(), 2);
        assert!(
            text.contains("price_prompt = \"0.0000001\"") && text.contains("price_prompt = \"0.00000011\"")
        );
    }
}
