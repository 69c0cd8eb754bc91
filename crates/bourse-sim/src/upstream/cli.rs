//! The simulator as a program: sellers on ports, until it is stopped.

use super::answer_script::{AnswerScript, Say};
use super::cache::CacheLaw;
use super::config::{FaultScript, Listing, SellerConfig, SpeedLaw};
use super::expectation::Mode;
use super::fault::Fault;
use super::models::ModelList;
use super::rate::{RateLaw, RateTelling};
use super::seller::Seller;
use super::shape::Shape;
use bourse_types::PicoUsdPerToken;
use clap::Parser;
use serde_json::json;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Sellers that one program runs.
const SELLERS_MAX: u16 = 1_024;
/// Shortest prefix that is cached, as most vendors have it.
const CACHED_TOKENS_MIN: u64 = 1_024;

/// Sellers of many API shapes that fail on request.
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
    /// Shape that each of them speaks (repeatable): chat, completions, messages, responses, gemini, ollama, cohere,
    /// embeddings, rerank, images, speech or transcriptions. Chat and completions unless told.
    #[arg(long = "shape")]
    pub shapes: Vec<Shape>,
    /// How models are listed: openrouter, openai, vllm or llama-cpp.
    #[arg(long, default_value = "openrouter")]
    pub model_list: ModelList,
    /// What they say.
    #[command(flatten)]
    pub answers: AnswerArgs,
    /// What they take.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Print one line of JSON when ready.
    #[arg(long)]
    pub json: bool,
    /// Show every fault with what should come of it in each `--shape`, and stop.
    #[arg(long)]
    pub list_faults: bool,
}

/// What sellers say.
#[derive(Debug, Clone, clap::Args)]
pub struct AnswerArgs {
    /// Calls that each answer makes of the tools that are offered.
    #[arg(long, conflicts_with = "refuse", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub tool_calls: Option<u16>,
    /// Refuse to answer, in the vendor's own form.
    #[arg(long)]
    pub refuse: bool,
    /// Share of calls, in 1,000, whose tool calls are bad.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub bad_call_permille: u16,
    /// Words of reasoning before an answer, signed for this seller.
    #[arg(long, default_value_t = 0)]
    pub reasoning_words: usize,
    /// Refuse images.
    #[arg(long)]
    pub blind: bool,
}

/// What sellers take and keep.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitArgs {
    /// Seconds for which prefixes of prompts of at least `--cache-tokens` are cached.
    #[arg(long)]
    pub cache_ttl_s: Option<u64>,
    /// Shortest prefix that is cached, in tokens.
    #[arg(long, default_value_t = CACHED_TOKENS_MIN, requires = "cache_ttl_s")]
    pub cache_tokens: u64,
    /// Answers at a time; one more is refused with 429.
    #[arg(long, default_value_t = 1_024)]
    pub capacity: usize,
    /// Calls a second; more are refused with 429.
    #[arg(long)]
    pub calls_per_s: Option<u32>,
    /// Do not tell the rate by header.
    #[arg(long, requires = "calls_per_s")]
    pub hide_rate: bool,
}

/// Runs the program until the process is stopped. `ready` receives what it prints.
pub async fn run(args: Args, ready: &mut impl Write) -> io::Result<()> {
    if args.list_faults {
        return list_faults(&shapes(&args), ready);
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
        shapes: shapes(args),
        answers: answers(&args.answers),
        capacity: args.limits.capacity,
        cache: cache(&args.limits),
        rate: rate(&args.limits),
        takes_images: !args.answers.blind,
        model_list: args.model_list,
        ..SellerConfig::new(format!("sim-{index}"), "")
    }
}

fn shapes(args: &Args) -> Vec<Shape> {
    if args.shapes.is_empty() { SellerConfig::new("", "").shapes } else { args.shapes.clone() }
}

fn answers(args: &AnswerArgs) -> AnswerScript {
    let say = match args.tool_calls {
        _ if args.refuse => Say::Refusal,
        Some(count) => Say::ToolCalls(usize::from(count)),
        None => Say::Natural,
    };
    AnswerScript {
        say,
        reasoning_words: args.reasoning_words,
        bad_call_permille: args.bad_call_permille,
        ..AnswerScript::default()
    }
}

fn cache(args: &LimitArgs) -> Option<CacheLaw> {
    let seconds = args.cache_ttl_s?;
    Some(CacheLaw { ttl: Duration::from_secs(seconds), tokens_min: args.cache_tokens })
}

fn rate(args: &LimitArgs) -> Option<RateLaw> {
    let tells = if args.hide_rate { RateTelling::Hidden } else { RateTelling::Headers };
    Some(RateLaw { calls_per_s: args.calls_per_s?, tells })
}

/// The kind of provider that speaks a shape, in the words of `bourse.toml`.
fn provider_kind(shape: Shape) -> &'static str {
    match shape {
        Shape::Messages => "anthropic",
        Shape::Gemini => "gemini",
        Shape::Ollama => "ollama",
        Shape::Cohere => "cohere",
        _ => "openai",
    }
}

/// One shape of each kind of provider that a seller is.
fn kinds(seller: &Seller) -> Vec<Shape> {
    let mut kinds: Vec<Shape> = Vec::new();
    for shape in &seller.config().shapes {
        if !kinds.iter().any(|known| provider_kind(*known) == provider_kind(*shape)) {
            kinds.push(*shape);
        }
    }
    kinds
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
    let shapes: Vec<_> = seller.config().shapes.iter().map(|shape| shape.name()).collect();
    json!({"name": seller.config().name, "base_url": seller.base_url(), "origin": seller.origin(),
        "shapes": shapes, "models": models})
}

/// Prints the sellers as the tables that `bourse.toml` takes: one for each kind of provider.
fn write_config(sellers: &[Seller], out: &mut impl Write) -> io::Result<()> {
    for seller in sellers {
        let address: IpAddr = seller.address().ip();
        writeln!(out, "# listening on {address}, port {}", seller.address().port())?;
        for (at, shape) in kinds(seller).into_iter().enumerate() {
            let kind = provider_kind(shape);
            let name = &seller.config().name;
            let name = if at == 0 { name.clone() } else { format!("{name}-{kind}") };
            writeln!(out, "[[provider]]\nname = {name:?}\nkind = {kind:?}")?;
            writeln!(out, "base_url = {:?}\napi_key_env = \"SIM_API_KEY\"", seller.base_url_of(shape))?;
            for listing in &seller.config().listings {
                write_listing(listing, out)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn write_listing(listing: &Listing, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "[[provider.model]]\nid = {:?}\nupstream_id = {:?}", listing.id, listing.id)?;
    writeln!(out, "price_prompt = {:?}", listing.price_prompt.to_usd_per_token_string())?;
    writeln!(out, "price_completion = {:?}", listing.price_completion.to_usd_per_token_string())
}

fn list_faults(shapes: &[Shape], out: &mut impl Write) -> io::Result<()> {
    for fault in Fault::ALL {
        writeln!(out, "{:24}{}", fault.name(), fault.description().trim())?;
        for shape in shapes {
            for mode in Mode::ALL.into_iter().filter(|mode| *mode == Mode::Plain || shape.has_events()) {
                let outcome = fault.expectation_in(*shape, mode);
                let text = outcome.map_or_else(|| "no meaning".to_owned(), |outcome| format!("{outcome:?}"));
                writeln!(out, "{:24}  {shape} {mode:?}: {text}", "")?;
            }
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
        assert!(parse("sim --shape soap").is_err());
        assert!(parse("sim --model-list soap").is_err());
        assert!(parse("sim --tool-calls 2 --refuse").is_err());
        assert!(parse("sim --hide-rate").is_err());
        assert!(parse("sim --cache-tokens 8").is_err());
        assert!(parse("sim --tool-calls 129").is_err());
        let told = parse("sim --shape messages --shape gemini --tool-calls 2 --calls-per-s 5").unwrap();
        let config = config(&told, 0);
        assert_eq!(config.shapes, [Shape::Messages, Shape::Gemini]);
        assert_eq!(config.answers.say, Say::ToolCalls(2));
        assert_eq!(config.rate, Some(RateLaw { calls_per_s: 5, tells: RateTelling::Headers }));
        assert_eq!(config.cache, None);
    }

    #[tokio::test]
    async fn lists_every_fault() {
        let mut out = Vec::new();
        let args = Args::try_parse_from(["sim", "--list-faults"]).unwrap();
        run(args, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(Fault::ALL.iter().all(|fault| text.contains(fault.name())));
        assert!(text.contains("chat Stream: BreaksOff") && !text.contains("gemini"));
        let mut out = Vec::new();
        let line = ["sim", "--list-faults", "--shape", "gemini", "--shape", "speech", "--shape", "rerank"];
        run(Args::try_parse_from(line).unwrap(), &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("gemini Stream: no meaning") && text.contains("speech Plain: no meaning"));
        assert!(text.contains("speech Stream: BreaksOff"), "speech can be told in events");
        assert!(!text.contains("rerank Stream"), "a rank is not streamed");
    }

    #[tokio::test]
    async fn a_seller_of_several_kinds_is_several_providers() {
        let line =
            ["sim", "--shape", "chat", "--shape", "responses", "--shape", "messages", "--shape", "ollama"];
        let sellers = start(&Args::try_parse_from(line).unwrap()).await.unwrap();
        let mut out = Vec::new();
        write_config(&sellers, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for (name, kind) in
            [("sim-0", "openai"), ("sim-0-anthropic", "anthropic"), ("sim-0-ollama", "ollama")]
        {
            assert!(text.contains(&format!("name = {name:?}\nkind = {kind:?}\n")), "{text}");
        }
        assert_eq!(text.matches("[[provider]]").count(), 3);
        let shapes = describe(&sellers[0])["shapes"].clone();
        assert_eq!(shapes, json!(["chat", "responses", "messages", "ollama"]));
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
