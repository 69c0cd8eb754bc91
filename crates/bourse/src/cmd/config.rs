//! `bourse config explain`: every value, where it came from, its unit and meaning.

use crate::cli::Place;
use crate::config::{Environment, Explained, Flag, Layers, Loaded};
use crate::data_dir::DataDir;
use crate::report::Failure;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every value with its origin, unit and meaning.
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
struct ExplainArgs {
    #[command(flatten)]
    place: Place,
    /// The configuration file [default: bourse.toml in the data folder, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let Action::Explain(args) = &args.action;
    let (data_dir, origin) = DataDir::locate(args.place.data_dir.as_deref(), environment)?;
    let loaded = load(args.config.as_deref(), &data_dir, environment, Vec::new())?;
    let mut lines = vec![Explained {
        path: "data_dir".to_owned(),
        value: format!("\"{}\"", data_dir.root().display()),
        origin,
        unit: "path",
        doc: "where keys, books, receipts and models live; set by flag or variable only",
        env: Some("BOURSE_DATA_DIR"),
    }];
    lines.extend(loaded.explain());
    if args.json {
        super::tell_line(&json(&lines).to_string())?;
    } else {
        super::tell(&text(&lines, loaded.file.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration as every command does: the named file, else the one in the data folder.
pub fn load(
    named: Option<&Path>,
    data_dir: &DataDir,
    environment: &Environment,
    flags: Vec<Flag>,
) -> Result<Loaded, Failure> {
    let own = || Some(data_dir.config_file()).filter(|path| path.is_file());
    let file = named.map(Path::to_owned).or_else(own);
    Ok(Layers { file, environment, flags }.load()?)
}

fn json(lines: &[Explained]) -> serde_json::Value {
    let object = |line: &Explained| {
        serde_json::json!({
            "path": line.path, "value": line.value, "origin": line.origin,
            "unit": line.unit, "doc": line.doc, "env": line.env,
        })
    };
    lines.iter().map(object).collect()
}

fn text(lines: &[Explained], file: Option<&Path>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    match file {
        Some(file) => _ = writeln!(text, "file: {}\n", file.display()),
        None => text.push_str("file: none\n\n"),
    }
    for line in lines {
        let unit = if line.unit.is_empty() { String::new() } else { format!(" [{}]", line.unit) };
        let _ = writeln!(text, "{} = {}", line.path, line.value);
        let _ = writeln!(text, "    {}{unit}", line.doc);
        let variable = line.env.map_or_else(String::new, |env| format!("; set by {env}"));
        let _ = writeln!(text, "    from: {}{variable}", line.origin);
    }
    text
}
