//! What the market under test sells: simulated sellers of every dialect and manner, and one of each other kind.
//!
//! A *family* is one simulator program, with its manner of answering; it speaks every dialect, so each family is
//! sold once per dialect under a slug of its own (`simulator/short-gemini`). All dialects of the short family are
//! also sold under one slug by sellers of different names, so that a choice among them can be checked. What is
//! sold and at what price goes to the scripts as JSON, so that they name no slug of their own.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{LOCAL_MODEL, Program};

/// USD per prompt token that every simulated seller asks.
const PRICE_PROMPT: &str = "0.0000001";
/// USD per generated token that every simulated seller asks.
const PRICE_COMPLETION: &str = "0.0000004";
/// The simulator's usual name of its model.
const MODEL: &str = "sim/words";
/// The one slug that sellers of every dialect sell.
const SHARED: &str = "simulator/shared";
/// Another name of it, whose first model nobody sells.
const ALIAS: &str = "~simulator/latest";
/// Variable that holds the market's key at the sellers.
pub(super) const KEY_VARIABLE: &str = "BOURSE_TEST_SELLER_KEY";

/// A way of being asked for text.
struct Dialect {
    name: &'static str,
    /// The word for it in the market's configuration.
    kind: &'static str,
    /// What its base URL ends in behind the origin.
    base_path: &'static str,
    /// What the simulator calls the shapes that such a seller speaks.
    shapes: &'static [&'static str],
    /// The seller's name of the model, where the market tells from the name how the model is spoken to.
    model: &'static str,
    /// What the simulator can do and such a seller's models usually cannot, as a line of its table.
    more: &'static str,
}

const DIALECTS: [Dialect; 6] = [
    Dialect {
        name: "chat",
        kind: "openai-compatible",
        base_path: "/v1",
        shapes: &["chat", "completions"],
        model: MODEL,
        more: "",
    },
    Dialect {
        name: "responses",
        kind: "openai",
        base_path: "/v1",
        shapes: &["responses"],
        model: MODEL,
        more: "",
    },
    Dialect {
        name: "messages",
        kind: "anthropic",
        base_path: "/v1",
        shapes: &["messages"],
        model: MODEL,
        more: "",
    },
    Dialect {
        name: "gemini",
        kind: "gemini",
        base_path: "/v1beta",
        shapes: &["gemini"],
        model: "gemini-3.8-flash",
        more: "",
    },
    Dialect { name: "ollama", kind: "ollama", base_path: "", shapes: &["ollama"], model: MODEL, more: "" },
    Dialect {
        name: "cohere",
        kind: "cohere",
        base_path: "",
        shapes: &["cohere"],
        model: MODEL,
        more: "supports = [\"+media\", \"+reasoning\"]\n",
    },
];

/// A manner of answering.
struct Family {
    name: &'static str,
    /// What follows the model's name at the simulator: the fault that every answer meets.
    fault: &'static str,
    arguments: &'static [&'static str],
}

const FAMILIES: [Family; 5] = [
    // Ends by itself, at once.
    Family { name: "short", fault: "", arguments: &["--words", "12"] },
    // Slow and long enough to be cancelled in the middle.
    Family { name: "long", fault: "", arguments: &["--token-ms", "5", "--words", "400"] },
    // Breaks off after some content.
    Family { name: "dying", fault: "@error-after-tokens", arguments: &["--words", "12"] },
    // Calls two tools at once, where it may.
    Family { name: "parallel", fault: "", arguments: &["--words", "12", "--tool-calls", "2"] },
    // Reasons before it answers.
    Family { name: "thinking", fault: "", arguments: &["--words", "12", "--reasoning-words", "6"] },
];

/// What is sold besides text: its name here and at the simulator, and what it serves at what price.
const OTHERS: [(&str, &str, &str); 5] = [
    ("embeddings", "embeddings", "operations = [\"embeddings\"]\nprice_prompt = \"0.0000001\"\n"),
    ("rerank", "rerank", "operations = [\"rerank\"]\nprice_unit = \"0.001\"\n"),
    ("images", "images", "operations = [\"images\"]\nprice_unit = \"0.01\"\n"),
    ("speech", "speech", "operations = [\"speech\"]\nprice_unit = \"0.000002\"\n"),
    ("transcriptions", "transcriptions", "operations = [\"transcription\"]\nprice_unit = \"0.003\"\n"),
];

/// The running simulators, the market's configuration with them in it, and what it sells.
pub(super) struct Sellers {
    /// Killed when dropped.
    _programs: Vec<Program>,
    pub(super) config: String,
    pub(super) sold: Value,
}

impl Sellers {
    /// Starts one simulator for each family and one for everything but text.
    pub(super) fn start(simulator: &std::path::Path) -> Result<Self> {
        let mut programs = Vec::new();
        let mut config = String::new();
        let mut sold = json!({
            "local": LOCAL_MODEL,
            "shared": SHARED,
            "alias": ALIAS,
            "price_prompt": PRICE_PROMPT,
            "price_completion": PRICE_COMPLETION,
        });
        let shapes: Vec<&str> = DIALECTS.iter().flat_map(|dialect| dialect.shapes.iter().copied()).collect();
        let named: Vec<&str> = DIALECTS.iter().flat_map(|dialect| ["--model", dialect.model]).collect();
        for family in &FAMILIES {
            let program = started(simulator, &[family.arguments, &named].concat(), &shapes)?;
            let origin = program.ready("/sellers/0/origin")?;
            for dialect in &DIALECTS {
                let slug = format!("simulator/{}-{}", family.name, dialect.name);
                let upstream_id = format!("{}{}", dialect.model, family.fault);
                let mut models = vec![text_model(&slug, &upstream_id)];
                let mut name = format!("sim-{}", dialect.name);
                if family.name == "short" {
                    models.push(text_model(SHARED, &upstream_id));
                    sold["sellers"][dialect.name] = json!(name);
                } else {
                    name = format!("{name}-{}", family.name);
                }
                sold[family.name][dialect.name] = json!(slug);
                push_provider(
                    &mut config,
                    &name,
                    dialect.kind,
                    &format!("{origin}{}", dialect.base_path),
                    dialect.more,
                    &models,
                )?;
            }
            programs.push(program);
        }
        let names: Vec<&str> = OTHERS.iter().map(|(_, shape, _)| *shape).collect();
        let program = started(simulator, &["--words", "12"], &names)?;
        let mut models = Vec::new();
        for (name, _, price) in OTHERS {
            let slug = format!("simulator/{name}");
            models.push(offer(&slug, MODEL, price));
            sold[name] = json!(slug);
        }
        let base_url = format!("{}/v1", program.ready("/sellers/0/origin")?);
        push_provider(&mut config, "sim-media", "openai", &base_url, "", &models)?;
        writeln!(config, "[[alias]]\nname = \"{ALIAS}\"\nmodels = [\"simulator/next\", \"{SHARED}\"]")?;
        programs.push(program);
        Ok(Self { _programs: programs, config, sold })
    }
}

fn started(simulator: &std::path::Path, arguments: &[&str], shapes: &[&str]) -> Result<Program> {
    let mut command = Command::new(simulator);
    command.args(["--listen", "127.0.0.1:0", "--json"]).args(arguments);
    for shape in shapes {
        command.args(["--shape", shape]);
    }
    Program::start(&mut command)
}

fn text_model(slug: &str, upstream_id: &str) -> String {
    let prices = format!("price_prompt = \"{PRICE_PROMPT}\"\nprice_completion = \"{PRICE_COMPLETION}\"\n");
    offer(slug, upstream_id, &prices)
}

fn offer(slug: &str, upstream_id: &str, terms: &str) -> String {
    format!("[[provider.model]]\nid = \"{slug}\"\nupstream_id = \"{upstream_id}\"\n{terms}\n")
}

fn push_provider(
    config: &mut String,
    name: &str,
    kind: &str,
    base_url: &str,
    more: &str,
    models: &[String],
) -> Result<()> {
    write!(
        config,
        "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{base_url}\"\n\
         api_key_env = \"{KEY_VARIABLE}\"\n{more}\n{}",
        models.concat()
    )?;
    Ok(())
}
