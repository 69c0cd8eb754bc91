//! `bourse models`: what the running market sells, and for how much.

use crate::cli::Place;
use crate::config::Environment;
use crate::report::Failure;
use crate::{attach, runtime};
use serde_json::Value;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// The market's own JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Prints the models.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let client = attach::public(&args.place.locate(environment)?, environment)?;
    let models = runtime::small_reactor()?.block_on(client.get("/models"))?;
    if args.json {
        super::tell_line(&models.to_string())?;
    } else {
        super::tell(&table(&models))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line per model: slug, context, prices per million tokens and per unit.
fn table(models: &Value) -> String {
    let mut rows = vec![["MODEL", "CONTEXT", "PROMPT $/M", "COMPLETION $/M", "UNIT"].map(str::to_owned)];
    for model in models["data"].as_array().into_iter().flatten() {
        let context = model["context_length"].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
        let id = model["id"].as_str().unwrap_or("?");
        let id = match model["alias_target"]["slug"].as_str() {
            Some(slug) => format!("{id} = {slug}"),
            None => id.to_owned(),
        };
        let pricing = &model["pricing"];
        let unit = per_unit(pricing);
        // Where units are sold and tokens are not, the tokens are not free.
        let tokens = |price: &Value| match per_million(price) {
            price if price == "$0" && !unit.is_empty() => "-".to_owned(),
            price => price,
        };
        let (prompt, completion) = (tokens(&pricing["prompt"]), tokens(&pricing["completion"]));
        rows.push([id, context, prompt, completion, unit]);
    }
    if rows.len() == 1 {
        return "nothing is for sale yet: no node has joined and no provider is configured\n".to_owned();
    }
    super::columns(&rows)
}

/// What an image, a second, a character or a search costs; empty where none is sold.
fn per_unit(pricing: &Value) -> String {
    const UNITS: [(&str, &str); 4] =
        [("image_output", "image"), ("audio", "second"), ("character", "character"), ("search", "search")];
    let sold = |(member, unit): (&str, &str)| {
        let price =
            pricing[member].as_str().filter(|price| price.bytes().any(|b| matches!(b, b'1'..=b'9')))?;
        Some(format!("${price}/{unit}"))
    };
    UNITS.into_iter().filter_map(sold).collect::<Vec<_>>().join(", ")
}

/// Dollars per token, as the API writes them, as dollars per million.
fn per_million(price: &Value) -> String {
    let parsed = price.as_str().map(bourse_types::PicoUsdPerToken::parse_usd_per_token);
    match parsed {
        // Pico-dollars per token are micro-dollars per million.
        Some(Ok(price)) => bourse_types::NanoUsd(price.0.saturating_mul(1_000)).to_string(),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_well() {
        let models = serde_json::json!({"data": [
            {"id": "a/b", "context_length": 2048, "pricing": {"prompt": "0.00000002", "completion": "0.00000006"}},
            {"id": "a/much-longer", "context_length": null, "pricing": {"prompt": "?"}},
            {"id": "a/draws", "context_length": 9, "pricing": {"prompt": "0", "completion": "0", "image_output": "0.04", "search": "0"}},
            {"id": "~a/latest", "alias_target": {"slug": "a/b"}, "context_length": 2048, "pricing": {"prompt": "?"}},
        ]});
        let want = "MODEL            CONTEXT  PROMPT $/M  COMPLETION $/M  UNIT\n\
                    a/b              2048     $0.02       $0.06\n\
                    a/much-longer    ?        ?           ?\n\
                    a/draws          9        -           -               $0.04/image\n\
                    ~a/latest = a/b  2048     ?           ?\n";
        assert_eq!(table(&models), want);
        assert!(table(&serde_json::json!({"data": []})).contains("nothing is for sale"));
    }
}
