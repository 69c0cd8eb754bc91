//! Chat messages to prompt text, by the model's own template.
//!
//! The template is Jinja as Hugging Face uses it: blocks are trimmed, Python's string methods work,
//! `raise_exception`, `strftime_now` and a `tojson` with Python's spacing are there. Content given as
//! OpenAI's list of parts is flattened to text first, and a tool call's `arguments` string becomes the
//! object that it spells, because templates expect both. Everything else in a message is passed through.
//!
//! A template comes with a model file and is not trusted: rendering burns fuel in proportion to what it
//! executes *and* copies (so doubling a string cannot eat the memory), recursion is bounded, and nothing
//! outside its inputs can be reached.
//!
//! [`ChatTemplate::overhead_bytes_max`] is what the template adds to a message at most, in bytes, hence in
//! tokens: measured on conversations with empty contents, each role alone and in the usual alternations.
//! A template that adds more for other conversations is caught when the prompt is counted.

mod json;
mod messages;

use bourse_types::UnixMs;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Most messages of a conversation.
pub const MESSAGES_MAX: usize = 16 * 1024;
/// Nested calls, loops and includes of a template.
const RECURSION_MAX: usize = 64;
/// Fuel that every rendering gets: instructions and copied bytes.
const FUEL_BASE: u64 = 512 * 1024;
/// Fuel for each byte of input: a template may copy its input about this often.
const FUEL_PER_INPUT_BYTE: u64 = 64;
/// The one template of an environment.
const NAME: &str = "chat";
/// Conversations that measure the overhead, as roles with empty contents.
const PROBES: [&[&str]; 8] = [
    &["user"],
    &["system"],
    &["assistant"],
    &["tool"],
    &["system", "user"],
    &["user", "assistant", "user"],
    &["system", "user", "assistant", "user"],
    &["user", "assistant", "tool", "assistant", "user"],
];

/// Why a chat could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself is unusable.
    #[error("the model's chat template cannot be used: {0}")]
    Template(String),
    /// The messages or tools are not what a chat is made of.
    #[error("{0}")]
    Messages(String),
    /// The template refused the conversation, in its own words.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template failed on this conversation, or burnt its fuel.
    #[error("the model's chat template failed on this conversation: {0}")]
    Render(String),
}

/// Spellings of the tokens that templates name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `bos_token`.
    pub bos: String,
    /// `eos_token`.
    pub eos: String,
    /// `unk_token`.
    pub unknown: String,
    /// `pad_token`.
    pub padding: String,
}

/// One model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: SpecialTokens,
    overhead_bytes_max: u32,
}

impl ChatTemplate {
    /// Compiles a template and measures it.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Template(format!("it is longer than {TEMPLATE_BYTES_MAX} bytes")));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Template(error.to_string()))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_recursion_limit(RECURSION_MAX);
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::Template(describe(&error)))?;
        let mut template = Self { environment, special, overhead_bytes_max: 0 };
        template.overhead_bytes_max = template.measure()?;
        Ok(template)
    }

    /// The prompt for a chat: `messages_json` is a JSON array of messages, `tools_json` one of tools.
    /// `now` is what `strftime_now` tells, in UTC.
    pub fn render(
        &self,
        messages_json: &str,
        tools_json: Option<&str>,
        now: UnixMs,
    ) -> Result<RenderedChat, TemplateError> {
        let messages = messages::parse_messages(messages_json)?;
        let tools = tools_json.map(messages::parse_tools).transpose()?;
        let input_bytes = messages_json.len() + tools_json.map_or(0, str::len);
        let text = self.render_values(&messages, tools, input_bytes, now)?;
        Ok(RenderedChat { text, messages: messages.len() })
    }

    /// Bytes that the template adds for each message at most.
    pub fn overhead_bytes_max(&self) -> u32 {
        self.overhead_bytes_max
    }

    fn render_values(
        &self,
        messages: &[Value],
        tools: Option<Value>,
        input_bytes: usize,
        now: UnixMs,
    ) -> Result<String, TemplateError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL_BASE + FUEL_PER_INPUT_BYTE * input_bytes as u64));
        environment.add_function("strftime_now", move |format: String| json::format_time(&format, now));
        let template =
            environment.get_template(NAME).map_err(|error| TemplateError::Template(describe(&error)))?;
        let rendered = template.render(context! {
            messages => messages.iter().cloned().collect::<Value>(),
            tools => tools.unwrap_or(Value::from(())),
            add_generation_prompt => true,
            bos_token => self.special.bos.as_str(),
            eos_token => self.special.eos.as_str(),
            unk_token => self.special.unknown.as_str(),
            pad_token => self.special.padding.as_str(),
        });
        rendered.map_err(|error| match refusal(&error) {
            Some(words) => TemplateError::Refused(words),
            None => TemplateError::Render(describe(&error)),
        })
    }

    /// The largest overhead for one message over all probes that the template accepts.
    fn measure(&self) -> Result<u32, TemplateError> {
        let mut largest: Option<usize> = None;
        let mut last = TemplateError::Template("it accepts no conversation".to_owned());
        for roles in PROBES {
            let messages: Vec<Value> =
                roles.iter().map(|role| context! { role => *role, content => "" }).collect();
            match self.render_values(&messages, None, 0, UnixMs(0)) {
                Ok(text) => largest = largest.max(Some(text.len().div_ceil(roles.len()))),
                Err(error) => last = error,
            }
        }
        let bytes = largest.ok_or(last)?;
        u32::try_from(bytes).map_err(|_| TemplateError::Template("it adds too much text".to_owned()))
    }
}

/// A chat as the prompt of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedChat {
    /// The prompt.
    pub text: String,
    /// Messages that it was made from.
    pub messages: usize,
}

/// Marks an error of `raise_exception`, whose words are the template's and meant for the caller.
const RAISED: &str = "raised by the template: ";

#[expect(clippy::needless_pass_by_value, reason = "the library hands a function's arguments over by value")]
fn raise_exception(words: String) -> Result<Value, minijinja::Error> {
    let words: String = words.chars().take(512).collect();
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{words}")))
}

fn refusal(error: &minijinja::Error) -> Option<String> {
    error.detail()?.strip_prefix(RAISED).map(str::to_owned)
}

/// What went wrong and where, without any value: those may be the buyer's words.
fn describe(error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!("{} in line {line}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests;
