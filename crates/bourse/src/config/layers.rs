//! Layers and how they meet: defaults, file, variables, flags.
//!
//! Each variable and each flag is a layer of its own, so that a value (or an error) can name the very
//! variable or flag it came from. Variables that start with the name of a section but match no field are
//! refused like unknown fields of the file; other `BOURSE_` variables are left alone, because a provider's
//! key may well live in one.

use super::fields::{FIELDS, Field, Kind};
use super::{Config, Environment};
use bourse_types::{MoneyError, PriceError};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::path::PathBuf;

/// Longest configuration file that is read, in bytes: thousands of providers fit.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    #[diagnostic(help("check the path given with --config; an example stands in examples/config"))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than a configuration can be.
    #[error("the configuration file {} has {bytes} bytes, at most {FILE_BYTES_MAX} are read", path.display())]
    #[diagnostic(help("is this the right file?"))]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A value is missing, unknown or of the wrong type.
    #[error("{message}{} (from {origin})", key_of(path))]
    #[diagnostic(help("`bourse config explain` lists every field with its unit and its origin"))]
    Invalid {
        /// Dotted path of the value.
        path: String,
        /// The layer it came from.
        origin: String,
        /// What is wrong with it.
        message: String,
    },
    /// A variable that looks like ours and is none.
    #[error("the environment variable {name} sets nothing")]
    #[diagnostic(help("did you mean {nearest}? `bourse config explain` lists them all"))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The most similar one that exists.
        nearest: &'static str,
    },
    /// A price that cannot be read.
    #[error("{field} is not a price")]
    #[diagnostic(help(
        "write USD per token as a decimal string, such as \"0.00000015\" for 15 cents per million"
    ))]
    Price {
        /// Which field.
        field: String,
        /// Why.
        #[source]
        source: PriceError,
    },
    /// An amount that cannot be read.
    #[error("{field} is not an amount")]
    #[diagnostic(help("write USD as a decimal string, such as \"10\" or \"0.25\""))]
    Amount {
        /// Which field.
        field: String,
        /// Why.
        #[source]
        source: MoneyError,
    },
}

fn key_of(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(": `{path}`") }
}

/// One value that a flag of the command line set.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// The flag as typed, such as `--listen`.
    pub name: &'static str,
    /// The field it sets.
    pub path: &'static str,
    /// To what.
    pub value: Value,
}

impl Flag {
    /// A flag with a value that serialises.
    pub fn new(name: &'static str, path: &'static str, value: impl Into<Value>) -> Self {
        Self { name, path, value: value.into() }
    }
}

/// What a configuration is made from.
pub struct Layers<'a> {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment of the process.
    pub environment: &'a Environment,
    /// What was typed.
    pub flags: Vec<Flag>,
}

/// A configuration that remembers where each value came from.
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    pub(super) layers: Figment,
}

impl Layers<'_> {
    /// Merges the layers; the first value that is wrong is the error.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut layers = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = &self.file {
            let text = read_file(path)?;
            let origin = path.display().to_string();
            layers = layers.merge(Named { origin, inner: Toml::string(&text) });
        }
        for field in variables(self.environment)? {
            layers = layers.merge(field);
        }
        for flag in self.flags {
            layers = layers.merge(One {
                origin: format!("flag {}", flag.name),
                path: flag.path,
                value: flag.value,
            });
        }
        let config = layers.extract().map_err(invalid)?;
        Ok(Loaded { config, file: self.file, layers })
    }
}

fn read_file(path: &PathBuf) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.clone(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn variables(environment: &Environment) -> Result<Vec<One>, ConfigError> {
    for name in environment.names().filter(|name| is_of_a_section(name)) {
        if !FIELDS.iter().any(|field| field.env == name) {
            return Err(ConfigError::UnknownVariable { name: name.to_owned(), nearest: nearest(name) });
        }
    }
    let set = FIELDS.iter().filter_map(|field| environment.get(field.env).map(|text| (field, text)));
    set.map(|(field, text)| {
        let origin = format!("environment variable {}", field.env);
        Ok(One { value: read(field, text, &origin)?, origin, path: field.path })
    })
    .collect()
}

fn is_of_a_section(name: &str) -> bool {
    ["BOURSE_GATEWAY_", "BOURSE_EXCHANGE_", "BOURSE_NODE_"].iter().any(|prefix| name.starts_with(prefix))
}

fn read(field: &Field, text: &str, origin: &str) -> Result<Value, ConfigError> {
    let wrong = |message: String| ConfigError::Invalid {
        path: field.path.to_owned(),
        origin: origin.to_owned(),
        message,
    };
    match field.kind {
        Kind::Text => Ok(Value::from(text)),
        Kind::Number => {
            text.parse::<u64>().map(Value::from).map_err(|_| wrong(format!("`{text}` is not a whole number")))
        }
        Kind::Switch => text
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| wrong(format!("`{text}` is neither true nor false"))),
    }
}

/// The variable with the longest common start: good enough to point at a slip of the finger.
fn nearest(name: &str) -> &'static str {
    let shared = |field: &&Field| field.env.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    FIELDS.iter().max_by_key(shared).map_or("BOURSE_GATEWAY_LISTEN", |field| field.env)
}

fn invalid(error: figment::Error) -> ConfigError {
    let first = error.into_iter().next();
    let Some(error) = first else {
        return ConfigError::Invalid {
            path: String::new(),
            origin: "the configuration".to_owned(),
            message: "the configuration cannot be read".to_owned(),
        };
    };
    let origin =
        error.metadata.as_ref().map_or_else(|| "defaults".to_owned(), |m| m.name.clone().into_owned());
    ConfigError::Invalid { path: error.path.join("."), origin, message: error.kind.to_string() }
}

/// A layer under the name that explains it.
struct Named<P> {
    origin: String,
    inner: P,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

/// A layer of a single value.
struct One {
    origin: String,
    path: &'static str,
    value: Value,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self
            .path
            .rsplit('.')
            .fold(self.value.clone(), |inner, key| Value::from(Dict::from([(key.to_owned(), inner)])));
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}
