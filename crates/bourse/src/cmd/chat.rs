//! `bourse chat`: one question to the running market, streamed to the terminal.
//!
//! The answer goes to stdout as it comes; what it cost and who gave it goes to stderr, so that a pipe gets
//! the words only. Amounts are read as the exact text that the market sent, never through a float.

use crate::cli::Place;
use crate::client::{Client, Lines};
use crate::config::Environment;
use crate::report::{Failure, Plain};
use crate::{attach, runtime};
use bourse_gateway::RECEIPT_HEADER;
use bourse_types::NanoUsd;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

/// Longest question read from stdin, in bytes.
pub const QUESTION_BYTES_MAX: u64 = 1024 * 1024;
/// How freely tokens are drawn when nobody says: calmly, for a small model rambles at the API's own default of 1.
pub const TEMPERATURE_DEFAULT: f64 = 0.2;
/// The most that the API takes.
const TEMPERATURE_MAX: f64 = 2.0;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// What to say; read from stdin when left out.
    text: Vec<String>,
    /// Which model [default: the first that the market lists].
    #[arg(long, value_name = "SLUG")]
    model: Option<String>,
    /// Most tokens of the answer.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// How freely tokens are drawn, from 0 (always the likeliest) to 2; some hosted models take 1 alone.
    #[arg(long, value_name = "T", default_value_t = TEMPERATURE_DEFAULT, value_parser = temperature)]
    temperature: f64,
    /// One JSON document at the end instead of text.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// What is asked of the market.
    fn body(&self, model: &str, question: &str) -> serde_json::Value {
        let mut body = serde_json::json!({
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.temperature,
            "stream": true,
        });
        if let Some(max_tokens) = self.max_tokens {
            body["max_tokens"] = max_tokens.into();
        }
        body
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=TEMPERATURE_MAX).contains(number));
    number.ok_or_else(|| format!("it must be a number from 0 to {TEMPERATURE_MAX}"))
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let client = attach::public(&args.place.locate(environment)?, environment)?;
    let question = if args.text.is_empty() { from_stdin()? } else { args.text.join(" ") };
    runtime::small_reactor()?.block_on(ask(args, &client, &question))
}

fn from_stdin() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        eprintln!("say something, then press Ctrl-D:");
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(QUESTION_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Plain::new("cannot read the question from stdin").because(error).boxed())?;
    if text.len() as u64 > QUESTION_BYTES_MAX {
        return Err(Plain::new(format!("the question is longer than {QUESTION_BYTES_MAX} bytes")).boxed());
    }
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(Plain::new("there is no question").hint("for example: bourse chat \"hello\"").boxed());
    }
    Ok(text)
}

async fn ask(args: &Args, client: &Client, question: &str) -> Result<ExitCode, Failure> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => first_model(client).await?,
    };
    let lines = client.stream("/chat/completions", &args.body(&model, question)).await?;
    let receipt = lines.header(RECEIPT_HEADER.as_str()).unwrap_or_default().to_owned();
    let mut answer = follow(lines, !args.json).await?;
    answer.seller = seller(client, &receipt).await;
    answer.receipt = receipt;
    if args.json {
        super::tell_line(&answer.json().to_string())?;
    } else {
        super::tell_line("")?;
        eprintln!("{}", answer.summary());
    }
    match &answer.error {
        None => Ok(ExitCode::SUCCESS),
        Some(message) => Err(Plain::new(format!("the answer broke off: {message}"))
            .hint("what was delivered is charged, the rest is not; `bourse ledger statement` shows it")
            .boxed()),
    }
}

/// Who sold the answer, as the books have it: a stream that is passed on as it came does not say.
async fn seller(client: &Client, receipt: &str) -> Option<String> {
    let generation = client.get(&format!("/generation?id={receipt}")).await.ok()?;
    generation.pointer("/data/provider_name")?.as_str().map(str::to_owned)
}

async fn first_model(client: &Client) -> Result<String, Failure> {
    first_of(&client.get("/models").await?).ok_or_else(|| {
        Plain::new("nothing is for sale yet")
            .hint("the node may still be loading; `bourse models` lists what is for sale")
            .boxed()
    })
}

/// The first that is no alias.
fn first_of(models: &serde_json::Value) -> Option<String> {
    let mut models = models.get("data")?.as_array()?.iter();
    let first = models.find(|model| model.get("alias_target").is_none())?;
    first.get("id")?.as_str().map(str::to_owned)
}

/// One event of the stream, as far as it matters here.
#[derive(Deserialize)]
struct Chunk {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
    usage: Option<ChunkUsage>,
    error: Option<ChunkError>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    delta: Option<ChunkDelta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ChunkDelta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct ChunkUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    cost: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ChunkError {
    message: String,
}

/// What a stream added up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    receipt: String,
    model: String,
    seller: Option<String>,
    text: String,
    finish_reason: Option<String>,
    usage: Option<(u64, u64)>,
    cost: Option<NanoUsd>,
    error: Option<String>,
    done: bool,
}

impl Answer {
    /// Takes one line of the stream in; gives back the text to show.
    fn take(&mut self, line: &str) -> Option<String> {
        let data = line.strip_prefix("data:")?.trim_start();
        if data == "[DONE]" {
            self.done = true;
            return None;
        }
        let Ok(chunk) = serde_json::from_str::<Chunk>(data) else {
            self.error = Some("an event of the stream is not JSON".to_owned());
            return None;
        };
        if let Some(model) = chunk.model {
            self.model = model;
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some((usage.prompt_tokens, usage.completion_tokens));
            self.cost = usage.cost.and_then(|cost| NanoUsd::parse_usd(cost.get()).ok());
        }
        self.error = chunk.error.map(|error| error.message).or(self.error.take());
        let choice = chunk.choices.into_iter().next()?;
        self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        let text = choice.delta?.content?;
        self.text.push_str(&text);
        Some(text)
    }

    fn summary(&self) -> String {
        let tokens = self.usage.map_or_else(
            || "tokens unknown".to_owned(),
            |(prompt, completion)| format!("{prompt} + {completion} tokens"),
        );
        let cost = self.cost.map_or_else(|| "cost unknown".to_owned(), |cost| cost.to_string());
        let seller = self.seller.as_deref().unwrap_or("an unnamed seller");
        format!("{tokens}, {cost}, sold by {seller}, receipt {}", self.receipt)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "receipt": self.receipt,
            "model": self.model,
            "seller": self.seller,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.usage.map(|usage| usage.0),
            "completion_tokens": self.usage.map(|usage| usage.1),
            "cost_usd": self.cost.map(NanoUsd::to_usd_string),
            "error": self.error,
        })
    }
}

/// What a terminal may be given: a model's words must not move its cursor or change its title.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

async fn follow(mut lines: Lines, show: bool) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    let to_terminal = std::io::stdout().is_terminal();
    while !answer.done {
        let Some(line) = lines.next().await? else { break };
        if let Some(text) = answer.take(&line).filter(|_| show) {
            let mut stdout = std::io::stdout().lock();
            let text = if to_terminal { printable(&text) } else { text };
            // A reader that went away (`| head`) ends the program like any other tool.
            let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            written.map_err(|error| Plain::new("cannot write the answer").because(error).boxed())?;
        }
    }
    if !answer.done && answer.error.is_none() {
        answer.error = Some("the stream ended without its end marker".to_owned());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str]) -> Answer {
        let mut answer = Answer::default();
        for line in lines {
            let _ = answer.take(line);
        }
        answer
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(words: &[&str]) -> Result<serde_json::Value, String> {
        let typed = <Typed as clap::Parser>::try_parse_from([&["chat"][..], words].concat());
        typed.map(|typed| typed.args.body("a/b", "hi")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_chat_is_calm_unless_it_is_told_otherwise() {
        let calm = typed(&["hi"]).unwrap();
        assert_eq!((&calm["temperature"], calm.get("max_tokens")), (&serde_json::json!(0.2), None));
        let told = typed(&["--temperature", "1", "--max-tokens", "9", "hi"]).unwrap();
        assert_eq!((told["temperature"].as_f64(), told["max_tokens"].as_u64()), (Some(1.0), Some(9)));
        assert!(typed(&["--temperature", "0"]).is_ok() && typed(&["--temperature", "2"]).is_ok());
        for wrong in ["2.01", "-1", "NaN", "warm"] {
            let told = typed(&[format!("--temperature={wrong}").as_str()]).unwrap_err();
            assert!(told.contains("a number from 0 to 2"), "{told}");
        }
        let help = <Typed as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.contains("--temperature <T>") && help.contains("[default: 0.2]"), "{help}");
    }

    #[test]
    fn aliases_are_not_asked_unless_they_are_named() {
        let first = |data: serde_json::Value| first_of(&serde_json::json!({ "data": data }));
        let (alias, model) = (
            serde_json::json!({"id": "a", "alias_target": {"slug": "b/c"}}),
            serde_json::json!({"id": "b/c"}),
        );
        assert_eq!(first(serde_json::json!([alias, model])).as_deref(), Some("b/c"));
        assert_eq!(first(serde_json::json!([alias])), None);
    }

    #[test]
    fn a_stream_adds_up() {
        let mut answer = check(&[
            ": waiting",
            "data: {\"model\":\"a/b\",\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}",
            "",
            "data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"cost\":0.000000181}}",
            "data: [DONE]",
        ]);
        (answer.seller, answer.receipt) = (Some("local".to_owned()), "gen-1".to_owned());
        assert_eq!(answer.text, "Hello");
        assert_eq!(answer.summary(), "3 + 2 tokens, $0.000000181, sold by local, receipt gen-1");
        assert_eq!(answer.json()["cost_usd"], "0.000000181");
        assert!(answer.done && answer.error.is_none());
    }

    #[test]
    fn a_terminal_gets_words_only() {
        assert_eq!(printable("a\u{1b}[2Jb\n\tc\u{7}"), "a[2Jb\n\tc");
    }

    #[test]
    fn an_error_in_mid_stream_is_kept() {
        let line = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}],\"error\":{\"message\":\"gone\"}}";
        assert_eq!(check(&[line, "data: [DONE]"]).error.as_deref(), Some("gone"));
        assert!(check(&["data: <html>"]).error.is_some());
    }
}
